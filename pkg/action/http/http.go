// Package http holds the action http.request.
//
// Guarantees. What is dialled is checked after names are resolved, redirects too. A request carries one idempotency key
// for all attempts at a step, so that a receiver that knows it acts once. No credential, and no query of an address,
// appears in an error.
package http

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

// maxBody is what of an answer fits into a step's outputs.
const maxBody = 64 << 10

// Options configure the action.
type Options struct {
	// Client makes the connections; without one every call fails.
	Client *outbound.Client
	// Version of the server, for the User-Agent.
	Version string
}

// Params are the parameters of http.request.
type Params struct {
	Method          string                      `yaml:"method,omitempty" doc:"default: POST with a body, else GET"`
	URL             string                      `yaml:"url" required:"true" doc:"http or https address"`
	Headers         map[string]string           `yaml:"headers,omitempty" doc:"headers of the request"`
	Body            any                         `yaml:"body,omitempty" doc:"text as it is, or a value that is sent as JSON"`
	Bearer          *action.SecretRef           `yaml:"bearer,omitempty" doc:"secret that is sent as a bearer token"`
	SecretHeaders   map[string]action.SecretRef `yaml:"secretHeaders,omitempty" doc:"headers whose values are secrets"`
	ExpectStatus    []string                    `yaml:"expectStatus,omitempty" doc:"statuses that are a success: 404, 2xx or 200-204; default: 2xx"`
	Timeout         time.Duration               `yaml:"timeout,omitempty" default:"30s" doc:"of the whole request, with its redirects"`
	Target          string                      `yaml:"target,omitempty" doc:"names what the request changes: two steps with the same target never overlap, cluster-wide"`
	FollowRedirects bool                        `yaml:"followRedirects,omitempty" doc:"follow at most five redirects; none from https to http"`
}

// Outputs are the outputs of http.request.
type Outputs struct {
	Status  int64          `yaml:"status" doc:"status of the answer"`
	Headers map[string]any `yaml:"headers" doc:"headers of the answer, names in lower case; values of one name are joined with a comma; without cookies"`
	Body    string         `yaml:"body" doc:"the answer's text, its first 64 KiB"`
	JSON    any            `yaml:"json" doc:"the body as a value, where it is a JSON object or list; else null"`
}

// Definitions lists the actions.
func Definitions(o Options) []action.Definition {
	r := &requester{o.Client, "riposte"}
	if o.Version != "" {
		r.agent += "/" + o.Version
	}
	return []action.Definition{{
		Name:    "http.request",
		Doc:     "Sends an HTTP request. Private addresses are refused unless the server's configuration allows them. Network errors and the statuses 408, 429 and 5xx can be retried.",
		Params:  &Params{},
		Outputs: Outputs{},
		Changes: true,

		Target:    func(call *action.Call) string { return call.Params.(*Params).Target },
		TargetDoc: "`target`",
		Fenced:    "by the header Idempotency-Key (run and step), where the receiver knows it",
		Check:     check,
		Run:       r.run,
	}}
}

// check looks at what is literal: a templated field is zero.
func check(params any) error {
	p := params.(*Params)
	var errs []error
	if p.Timeout < 0 {
		errs = append(errs, errors.New("timeout is negative"))
	}
	for _, text := range p.ExpectStatus {
		if _, _, err := statuses(text); text != "" && err != nil {
			errs = append(errs, err)
		}
	}
	if p.URL != "" {
		_, err := parse(p.URL)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// parse never quotes the address: it may hold a credential.
func parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("url: is no address")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("url: must begin with http:// or https://")
	case u.Host == "":
		return nil, errors.New("url: names no host")
	}
	return u, nil
}

// statuses reads 404, 2xx or 200-204.
func statuses(text string) (from, to int, err error) {
	wrong := fmt.Errorf("expectStatus: %q is no status: write 404, 2xx or 200-204", text)
	if class, ok := strings.CutSuffix(strings.ToLower(text), "xx"); ok {
		n, err := strconv.Atoi(class)
		if err != nil || n < 1 || n > 5 {
			return 0, 0, wrong
		}
		return n * 100, n*100 + 99, nil
	}
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, err = strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return 0, 0, wrong
	}
	to, err = strconv.Atoi(strings.TrimSpace(last))
	if err != nil || from < 100 || to > 599 || from > to {
		return 0, 0, wrong
	}
	return from, to, nil
}

type requester struct {
	client *outbound.Client
	agent  string
}

func (r *requester) run(ctx context.Context, call *action.Call) (action.Outputs, error) {
	if r.client == nil {
		return nil, action.Permanent(errors.New("http: Options.Client is nil"))
	}
	p := call.Params.(*Params)
	ctx, cancel := context.WithTimeoutCause(ctx, cmp.Or(p.Timeout, 30*time.Second), errors.New("the request's timeout has passed"))
	defer cancel()
	if err := check(p); err != nil {
		return nil, action.Permanent(err)
	}
	req, err := request(ctx, p, call)
	if err != nil {
		return nil, action.Permanent(err)
	}
	if req.UserAgent() == "" {
		req.Header.Set("User-Agent", r.agent+" ("+call.RunID+")")
	}
	name := req.Method + " " + redacted(req.URL)
	client := *r.client.HTTPClient()
	client.Timeout = 0 // the context's deadline counts
	if !p.FollowRedirects {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, failure(ctx, name, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, failure(ctx, name, err)
	}
	fmt.Fprintf(call.Log, "%s: %s\n", name, resp.Status) //nolint:errcheck // the log is best effort
	if err := judge(p.ExpectStatus, resp.StatusCode); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return outputs(resp, body), nil
}

func request(ctx context.Context, p *Params, call *action.Call) (*http.Request, error) {
	u, err := parse(p.URL)
	if err != nil {
		return nil, err
	}
	body, isJSON, err := encode(p.Body)
	if err != nil {
		return nil, err
	}
	method := strings.ToUpper(p.Method)
	if method == "" {
		method = http.MethodGet
		if body != nil {
			method = http.MethodPost
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("method or url cannot be sent")
	}
	req.Header.Set("Idempotency-Key", call.RunID+"-"+call.StepID)
	if isJSON {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range p.Headers {
		set(req, name, value)
	}
	for name, ref := range p.SecretHeaders {
		value, err := call.Secret(ref)
		if err != nil {
			return nil, fmt.Errorf("secretHeaders.%s: %w", name, err)
		}
		set(req, name, value)
	}
	if p.Bearer != nil {
		value, err := call.Secret(*p.Bearer)
		if err != nil {
			return nil, fmt.Errorf("bearer: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+value)
	}
	return req, checkHeaders(req.Header)
}

func set(req *http.Request, name, value string) {
	if strings.EqualFold(name, "Host") { // net/http takes it from a field, not from the headers
		req.Host = value
		return
	}
	req.Header.Set(name, value)
}

// checkHeaders refuses line breaks itself: net/http's error would quote the value.
func checkHeaders(h http.Header) error {
	for name, values := range h {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
			return fmt.Errorf("headers: %q is no name of a header", name)
		}
		if slices.ContainsFunc(values, func(v string) bool {
			return strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
		}) {
			return fmt.Errorf("headers: the value of %s has a line break or a control character", name)
		}
	}
	return nil
}

func encode(v any) (body []byte, isJSON bool, err error) {
	switch v := v.(type) {
	case nil:
		return nil, false, nil
	case string:
		return []byte(v), false, nil
	}
	body, err = json.Marshal(v)
	if err != nil {
		return nil, false, fmt.Errorf("body: %w", err)
	}
	return body, true, nil
}

// redacted is an address without what may be a credential.
func redacted(u *url.URL) string { return u.Scheme + "://" + u.Host + u.EscapedPath() }

// failure says why a request got no answer. net/http's own error quotes the address with its query.
func failure(ctx context.Context, name string, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	err = fmt.Errorf("%s: %w", name, err)
	if errors.Is(err, outbound.ErrForbidden) {
		return action.Permanent(err)
	}
	return err
}

func judge(expected []string, status int) error {
	if len(expected) == 0 {
		expected = []string{"2xx"}
	}
	for _, text := range expected {
		if from, to, err := statuses(text); err == nil && from <= status && status <= to {
			return nil
		}
	}
	err := fmt.Errorf("answered %d %s", status, http.StatusText(status))
	if status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout {
		return err
	}
	if status >= 300 && status < 400 {
		err = fmt.Errorf("%w; followRedirects: true follows it", err)
	}
	return action.Permanent(err)
}

func outputs(resp *http.Response, body []byte) action.Outputs {
	headers := map[string]any{}
	for name, values := range resp.Header {
		if name != "Set-Cookie" { // a session is a credential
			headers[strings.ToLower(name)] = strings.ToValidUTF8(strings.Join(values, ", "), "�")
		}
	}
	out := action.Outputs{"status": int64(resp.StatusCode), "headers": headers, "json": nil}
	if t := bytes.TrimSpace(body); len(body) <= maxBody && len(t) > 0 && (t[0] == '{' || t[0] == '[') {
		if v, err := event.Decode(t); err == nil {
			out["json"] = v
		}
	}
	out["body"] = strings.ToValidUTF8(string(body[:min(len(body), maxBody)]), "�")
	return out
}
