package outbound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// API is a program's HTTP interface at one address, with what proves who asks. It is safe for concurrent use.
type API struct {
	Client *Client
	// URL is the address that paths are added to: https://prometheus.example.com/prefix.
	URL string
	// Username, where there is one, makes Token the password of basic authentication; else it is a bearer token.
	Username string
	// Token returns the secret; nil for an API that asks for none.
	Token func() (string, error)
}

// Answer is what an API answered.
type Answer struct {
	Status int
	Body   []byte
}

// ParseURL reads an address of http or https. Its error does not quote the address, which may hold a credential.
func ParseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("is no address")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("must begin with http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("names no host")
	}
	return u, nil
}

// Do sends a request and returns the whole answer, whatever its status. Redirects are not followed: they would carry the
// credential to where nobody meant it to go. Errors name the host, and hold neither the rest of the address nor a secret;
// one wraps ErrForbidden where no retry helps.
func (a API) Do(ctx context.Context, method, path, contentType string, body []byte) (Answer, error) {
	base, err := ParseURL(a.URL)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: the address %w", ErrForbidden, err)
	}
	path, query, _ := strings.Cut(path, "?")
	base.Path, base.RawPath, base.RawQuery = strings.TrimSuffix(base.Path, "/")+path, "", query
	req, err := http.NewRequestWithContext(ctx, method, base.String(), bytes.NewReader(body))
	if err != nil {
		return Answer{}, fmt.Errorf("%w: the address can't be sent to", ErrForbidden)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Accept", "application/json")
	if err := a.prove(req); err != nil {
		return Answer{}, err
	}
	client := *a.Client.HTTPClient()
	client.Timeout = 0 // the context's deadline counts
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, Unanswered(ctx, base.Host, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, Unanswered(ctx, base.Host, err)
	}
	return Answer{resp.StatusCode, answer}, nil
}

func (a API) prove(req *http.Request) error {
	if a.Token == nil {
		return nil
	}
	token, err := a.Token()
	if err != nil {
		return fmt.Errorf("the token for %s: %w", req.URL.Host, err)
	}
	token = strings.TrimSpace(token)
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("the token for %s is empty or has a control character", req.URL.Host)
	}
	if a.Username != "" {
		req.SetBasicAuth(a.Username, token)
	} else {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return nil
}

// Unanswered says why a request to a host got no answer. It leaves out the address, which net/http's error quotes.
func Unanswered(ctx context.Context, host string, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%s can't be reached: %w", host, err)
}

// Passing reports whether a status may be another one next time: too many requests, a time-out, or the server's own fault.
func Passing(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}
