// Package prometheus holds the action prometheus.query, which asks Prometheus, or what speaks its API (Thanos, Mimir,
// VictoriaMetrics), for values of now.
//
// Guarantees. Values of expressions can't change what a query asks for. An answer that proves nothing proves nothing to
// conditions either: without a series, with several, with NaN or infinity the output value is missing, so that a condition
// on it is absent and neither true nor false; an answer of which the server says that it is incomplete fails the step. The
// server of the configuration is asked with its credential wherever it stands; any other address is checked when it is
// dialled, and gets no credential but one that the step names. Answers are bounded.
package prometheus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

const (
	defaultTimeout = 30 * time.Second
	// maxSeries and maxLabels bound the output values, in series and in bytes of labels.
	maxSeries = 100
	maxLabels = 64 << 10
	maxText   = 500 // bytes of what a server says
)

// Options configure the action.
type Options struct {
	// Server is the one of the configuration; its URL is empty where there is none. Its client may connect to anywhere.
	Server outbound.API
	// Client makes the connections to other servers.
	Client *outbound.Client
}

// Params are the parameters of prometheus.query.
type Params struct {
	Query   string            `yaml:"query" required:"true" doc:"PromQL; the value of an expression is escaped within quotes, stands for itself within a regular expression, and must be a number, duration or name elsewhere"`
	Time    string            `yaml:"time,omitempty" doc:"instant that is asked for, as RFC 3339 or in seconds since 1970; default: the server's now"`
	URL     string            `yaml:"url,omitempty" doc:"another server than prometheus.url of the configuration"`
	Bearer  *action.SecretRef `yaml:"bearer,omitempty" doc:"secret that the server of url gets as a bearer token"`
	Timeout time.Duration     `yaml:"timeout,omitempty" default:"30s" doc:"of the query"`
}

// Outputs are the outputs of prometheus.query.
type Outputs struct {
	Value    float64 `yaml:"value,omitempty" doc:"the value, where there is exactly one series and it is a finite number; else absent"`
	Empty    bool    `yaml:"empty" doc:"there is no series"`
	Count    int64   `yaml:"count" doc:"series there are"`
	Values   []any   `yaml:"values" doc:"list of {labels, value, text} of the first 100 series; value is left out where text is NaN, +Inf or -Inf"`
	Warnings []any   `yaml:"warnings" doc:"what the server warns of"`
}

// Definitions lists the actions.
func Definitions(o Options) []action.Definition {
	a := asker{o}
	return []action.Definition{{
		Name:             "prometheus.query",
		NoDir:            true,
		Doc:              "Asks Prometheus for the values of an instant. Without a series, or with several, there is no output `value`, so that `probe.outputs.value < 0.01` is absent and verifies nothing.",
		Params:           &Params{},
		Outputs:          Outputs{},
		RetryInterrupted: true,
		Quote:            map[string]func(before, value string) (string, error){"query": quote},
		Check:            check,
		Run:              a.run,
	}}
}

func check(params any) error {
	p := params.(*Params)
	var errs []error
	if p.Timeout < 0 {
		errs = append(errs, errors.New("timeout is negative"))
	}
	if p.URL != "" {
		if _, err := outbound.ParseURL(p.URL); err != nil {
			errs = append(errs, fmt.Errorf("url: %w", err))
		}
	}
	if _, err := instant(p.Time); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// instant returns a time as the API takes it.
func instant(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC().Format(time.RFC3339Nano), nil
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return strconv.FormatFloat(f, 'f', -1, 64), nil
	}
	return "", fmt.Errorf("time: %q is neither a time of RFC 3339 nor a number of seconds", text)
}

type asker struct{ Options }

func (a asker) run(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*Params)
	if err := check(p); err != nil {
		return nil, action.Permanent(err)
	}
	if strings.TrimSpace(p.Query) == "" {
		return nil, action.Permanent(errors.New("query is empty"))
	}
	server, err := a.server(p, call)
	if err != nil {
		return nil, action.Permanent(err)
	}
	timeout := cmp.Or(p.Timeout, defaultTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errors.New("the query's timeout has passed"))
	defer cancel()
	// Thanos answers with a part of the data unless it is told not to; the others don't know the parameter.
	form := url.Values{"query": {p.Query}, "timeout": {strconv.FormatFloat(timeout.Seconds(), 'f', 3, 64)}, "partial_response": {"false"}}
	if at, _ := instant(p.Time); at != "" {
		form.Set("time", at)
	}
	answer, err := server.Do(ctx, http.MethodPost, "/api/v1/query", "application/x-www-form-urlencoded", []byte(form.Encode()))
	if err != nil {
		return nil, outcome(err)
	}
	out, err := read(answer, call.Log)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return out, nil
}

// outcome marks what no retry cures.
func outcome(err error) error {
	if errors.Is(err, outbound.ErrForbidden) || errors.Is(err, outbound.ErrTooLarge) {
		return action.Permanent(err)
	}
	return err
}

func (a asker) server(p *Params, call *action.Call) (outbound.API, error) {
	if p.URL == "" || p.URL == a.Server.URL {
		switch {
		case a.Server.URL == "":
			return outbound.API{}, errors.New("there is no server to ask: set prometheus.url in the server's configuration, or url here")
		case p.Bearer != nil:
			return outbound.API{}, errors.New("bearer is only for another server: that of the configuration has prometheus.token")
		}
		return a.Server, nil
	}
	if a.Client == nil {
		return outbound.API{}, errors.New("prometheus: Options.Client is nil")
	}
	server := outbound.API{Client: a.Client, URL: p.URL}
	if p.Bearer != nil {
		server.Token = func() (string, error) { return call.Secret(*p.Bearer) }
	}
	return server, nil
}

// response is the form of answers (prometheus.io/docs/prometheus/latest/querying/api). VictoriaMetrics says isPartial.
type response struct {
	Status    string   `json:"status"`
	ErrorType string   `json:"errorType"`
	Error     string   `json:"error"`
	Warnings  []string `json:"warnings"`
	IsPartial bool     `json:"isPartial"`
	Data      struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

type series struct {
	Metric    map[string]string `json:"metric"`
	Value     *sample           `json:"value"`
	Histogram json.RawMessage   `json:"histogram"`
}

// sample is a time and a value as text.
type sample struct{ text string }

func (s *sample) UnmarshalJSON(data []byte) error {
	pair := [2]any{nil, &s.text}
	return json.Unmarshal(data, &pair)
}

// read turns an answer into outputs.
func read(answer outbound.Answer, log io.Writer) (action.Outputs, error) {
	var r response
	if err := json.Unmarshal(answer.Body, &r); err != nil || r.Status == "" {
		return nil, judge(answer.Status, "what it answered is not of Prometheus's API: is the address right?")
	}
	if answer.Status != http.StatusOK || r.Status != "success" {
		return nil, judge(answer.Status, clean(r.ErrorType+": "+r.Error))
	}
	if r.IsPartial {
		return nil, errors.New("the server says that its answer is incomplete: one of its stores did not answer")
	}
	found, err := seriesOf(r)
	if err != nil {
		return nil, action.Permanent(err)
	}
	out, err := outputs(found, r.Warnings)
	if err != nil {
		return nil, action.Permanent(err)
	}
	_, one := out["value"]
	if !one {
		fmt.Fprintf(log, "%d series: there is no output value\n", len(found)) //nolint:errcheck // the log is best effort
	}
	for _, v := range out["values"].([]any) {
		if m := v.(map[string]any); m["value"] == nil {
			fmt.Fprintf(log, "%v is %s, which is no number to compare with\n", m["labels"], m["text"]) //nolint:errcheck // likewise
		}
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(log, "warning: "+clean(w)) //nolint:errcheck // likewise
	}
	return out, nil
}

// judge says what a status other than success means. 400 and 422 blame the query.
func judge(status int, said string) error {
	err := fmt.Errorf("answered %d %s: %s", status, http.StatusText(status), said)
	if outbound.Passing(status) {
		return err
	}
	return action.Permanent(err)
}

func seriesOf(r response) ([]series, error) {
	switch r.Data.ResultType {
	case "vector":
		var list []series
		if err := json.Unmarshal(r.Data.Result, &list); err != nil {
			return nil, errors.New("the answer's vector can't be read")
		}
		return list, nil
	case "scalar":
		var s sample
		if err := json.Unmarshal(r.Data.Result, &s); err != nil {
			return nil, errors.New("the answer's scalar can't be read")
		}
		return []series{{Value: &s}}, nil
	}
	return nil, fmt.Errorf("it yields a %s, not the values of an instant: for a range, ask with a function such as rate or avg_over_time", clean(cmp.Or(r.Data.ResultType, "nothing")))
}

func outputs(found []series, warnings []string) (action.Outputs, error) {
	values, size := []any{}, 0
	var only *float64
	for _, s := range found {
		if s.Value == nil {
			if s.Histogram != nil {
				return nil, errors.New("it yields native histograms: ask with histogram_quantile, histogram_avg or the like")
			}
			return nil, errors.New("a series of the answer has no value")
		}
		v, err := strconv.ParseFloat(s.Value.text, 64)
		if err != nil {
			return nil, errors.New("a value of the answer is no number")
		}
		finite := !math.IsNaN(v) && !math.IsInf(v, 0)
		if finite && len(found) == 1 {
			only = &v
		}
		labels := map[string]any{}
		for name, value := range s.Metric {
			labels[name], size = value, size+len(name)+len(value)
		}
		if len(values) == maxSeries || size > maxLabels {
			break
		}
		entry := map[string]any{"labels": labels, "text": s.Value.text}
		if finite {
			entry["value"] = v
		}
		values = append(values, entry)
	}
	said := []any{}
	for _, w := range warnings[:min(len(warnings), 10)] {
		said = append(said, clean(w))
	}
	out := action.Outputs{"empty": len(found) == 0, "count": int64(len(found)), "values": values, "warnings": said}
	if only != nil {
		out["value"] = *only
	}
	return out, nil
}

// clean is what a server said, on one line and bounded.
func clean(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
