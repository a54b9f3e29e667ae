package forge

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	maxAnswer  = 16 << 20 // bytes read of an answer
	maxRefusal = 16 << 10 // and of one that is no success
	maxHops    = 5
	// selfAge is how long the token's account is believed: an account can be renamed.
	selfAge = 10 * time.Minute
)

// Client sends the requests of a leaf. It gives the token to the API's origin alone, follows no redirect that leaves it or
// changes the method, and says who asks.
type Client struct {
	o     Options
	api   *url.URL
	proof func(token string) string
	http  *http.Client

	mu    sync.Mutex
	self  string
	asked time.Time
	token [sha256.Size]byte // whose account self is
}

// NewClient makes a client for the API at an address. proof makes the header Authorization of a token.
func NewClient(o Options, api string, proof func(token string) string) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	u, err := url.Parse(strings.TrimRight(api, "/") + "/")
	if err != nil {
		return nil, fmt.Errorf("read the API's address: %w", err)
	}
	c := &Client{o: o, api: u, proof: proof, http: &http.Client{Timeout: o.HTTP.Timeout}}
	c.http.Transport = door{c, o.HTTP.Transport}
	c.http.CheckRedirect = c.redirect
	return c, nil
}

// API is the address that paths are below, with a slash at its end.
func (c *Client) API() *url.URL { return c.api }

// HTTP is for libraries that send requests themselves; none needs to know the token.
func (c *Client) HTTP() *http.Client { return c.http }

func (c *Client) redirect(req *http.Request, via []*http.Request) error {
	switch first := via[0]; {
	case len(via) > maxHops:
		return errors.New("too many redirects")
	case req.Method != first.Method:
		return fmt.Errorf("the host redirects the %s, which would make a %s of it: was the repository renamed?", first.Method, req.Method)
	case !c.ours(req.URL):
		return errors.New("the host redirects to another one, which gets no token")
	}
	return nil
}

func (c *Client) ours(u *url.URL) bool { return u.Scheme == c.api.Scheme && u.Host == c.api.Host }

// door is what every request goes through.
type door struct {
	c    *Client
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (d door) RoundTrip(req *http.Request) (*http.Response, error) {
	if !d.c.ours(req.URL) {
		return nil, fmt.Errorf("%s is not the API's host", req.URL.Host)
	}
	token, err := d.c.o.Token()
	if err != nil {
		return nil, err
	}
	if token == "" {
		return nil, errors.New("the token for the host's API is empty")
	}
	req = req.Clone(req.Context()) // a RoundTripper must not change the caller's request
	req.Header.Set("Authorization", d.c.proof(token))
	req.Header.Set("User-Agent", cmp.Or(agentOf(req.Context()), "riposte"))
	next := d.next
	if next == nil {
		next = http.DefaultTransport
	}
	return next.RoundTrip(req)
}

type agentKey struct{}

// WithAgent makes the requests of a context say in User-Agent what sends them, such as the run: what Riposte causes can be
// known again by it.
func WithAgent(ctx context.Context, agent string) context.Context {
	return context.WithValue(ctx, agentKey{}, agent)
}

func agentOf(ctx context.Context) string {
	agent, _ := ctx.Value(agentKey{}).(string)
	return agent
}

// Request is one call of an API that speaks JSON.
type Request struct {
	Method string
	Path   string // below the API's address, its segments escaped
	Query  url.Values
	In     any // sent; nil for no body
	Out    any // pointer to what the answer is read into; nil where it does not matter
	Want   int // status of success; 0 for 200
	// Right is what the token must be allowed, for errors: "write comments of the repository".
	Right string
}

// Do sends a request, and returns the headers of an answer that is a success. A success of another kind is none: it may be
// that of a GET which a proxy made of the request.
func (c *Client) Do(ctx context.Context, q Request) (http.Header, error) {
	req, err := c.request(ctx, q)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req) //nolint:gosec // the address is the operator's, and is checked when it is dialled
	if err != nil {
		return nil, c.Hidden(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != cmp.Or(q.Want, http.StatusOK) {
		answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)) // the status says enough where this fails
		return nil, c.Refusal(resp, message(answer), q.Right)
	}
	if q.Out != nil {
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(q.Out); err != nil {
			return nil, fmt.Errorf("read the host's answer: %w", c.Hidden(err))
		}
	}
	return resp.Header, nil
}

func (c *Client) request(ctx context.Context, q Request) (*http.Request, error) {
	var body io.Reader
	if q.In != nil {
		text, err := json.Marshal(q.In)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	address := c.api.String() + q.Path
	if len(q.Query) > 0 {
		address += "?" + q.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, q.Method, address, body)
	if err != nil {
		return nil, err
	}
	if q.In != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	return req, nil
}

// More says whether a list has a further page, by the header Link (RFC 8288).
func More(h http.Header) bool { return strings.Contains(h.Get("Link"), `rel="next"`) }

// Self returns the account of Options, or what ask finds out, which it remembers for a while, and for that token only.
func (c *Client) Self(ctx context.Context, ask func(context.Context) (string, error)) (string, error) {
	if c.o.Account != "" {
		return c.o.Account, nil
	}
	token, err := c.o.Token()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(token))
	c.mu.Lock()
	known := c.self
	if c.token != sum || time.Since(c.asked) >= selfAge {
		known = ""
	}
	c.mu.Unlock()
	if known != "" {
		return known, nil
	}
	name, err := ask(ctx)
	if err == nil && name == "" {
		err = errors.New("the host does not say")
	}
	if err != nil {
		return "", fmt.Errorf("find out whose the token is (or set `account` beside it in the server's configuration): %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.self, c.asked, c.token = name, time.Now(), sum
	return name, nil
}

// Hidden is an error without the token. What it wraps can still be found.
func (c *Client) Hidden(err error) error {
	if token, _ := c.o.Token(); token != "" && strings.Contains(err.Error(), token) {
		return errors.New(Hide(err.Error(), token))
	}
	return err
}

// Error is a host's answer other than success.
type Error struct {
	Status  int
	Message string
	Limited bool   // too many requests
	Again   string // when to try again, where the host says so: "in 60 s"
	Right   string // what the token must be allowed
}

func (e *Error) Error() string {
	text := fmt.Sprintf("the host answered %d %s", e.Status, http.StatusText(e.Status))
	if e.Status/100 == 2 {
		text += ", which is not its answer to that"
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	switch {
	case e.Limited:
		text += "; the token has used up its rate limit"
		if e.Again != "" {
			text += ", try again " + e.Again
		}
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden, e.Status == http.StatusNotFound:
		text += "; the token must be allowed to " + e.Right // hosts hide what a token may not see
	}
	return text
}

// Passing says that the same request may be answered otherwise later.
func (e *Error) Passing() bool {
	return e.Limited || e.Status >= 500 || e.Status == http.StatusRequestTimeout
}

// Refusal is the error of an answer.
func (c *Client) Refusal(resp *http.Response, said, right string) *Error {
	token, _ := c.o.Token()
	e := &Error{Status: resp.StatusCode, Message: Clip(Hide(said, token), 200), Right: right}
	wait, reset := resp.Header.Get("Retry-After"), cmp.Or(resp.Header.Get("X-RateLimit-Reset"), resp.Header.Get("RateLimit-Reset"))
	spent := resp.Header.Get("X-RateLimit-Remaining") == "0" || resp.Header.Get("RateLimit-Remaining") == "0"
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		e.Limited = true
	case http.StatusForbidden: // docs.github.com, "Rate limits for the REST API"
		e.Limited = wait != "" || spent || strings.Contains(strings.ToLower(said), "rate limit")
	}
	if n, err := strconv.ParseInt(wait, 10, 32); err == nil {
		e.Again = fmt.Sprintf("in %d s", n)
	} else if n, err := strconv.ParseInt(reset, 10, 64); err == nil && n > 1e9 {
		e.Again = "at " + time.Unix(n, 0).UTC().Format(time.RFC3339)
	}
	return e
}

// message is what an answer says in words.
func message(answer []byte) string {
	var said struct {
		Message json.RawMessage `json:"message"`
		Error   json.RawMessage `json:"error"`
	}
	text := string(answer)
	if json.Unmarshal(answer, &said) == nil {
		for _, raw := range []json.RawMessage{said.Message, said.Error} {
			var s string
			if len(raw) == 0 {
				continue
			}
			if text = string(raw); json.Unmarshal(raw, &s) == nil {
				text = s
			}
			break
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// Hide removes a secret from a text, which a hostile or broken host can send back.
func Hide(text, secret string) string {
	if secret == "" {
		return text
	}
	return strings.ReplaceAll(text, secret, "***")
}

// Clip makes one line of a text, of at most n characters.
func Clip(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return strings.TrimSpace(string([]rune(text)[:n-1])) + "…"
}

// OwnerName splits the path of a repository on a host that has no groups of groups, and refuses what would leave it.
func OwnerName(repo string) (owner, name string, err error) {
	owner, name, ok := strings.Cut(repo, "/")
	if !ok || !plain(owner) || !plain(name) {
		return "", "", errors.New("a repository is called OWNER/NAME here")
	}
	return owner, name, nil
}

func plain(segment string) bool {
	return segment != "" && segment != "." && segment != ".." && !strings.ContainsFunc(segment, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}
