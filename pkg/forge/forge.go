// Package forge is the contract with the hosts that repositories live on: what Riposte tells people there. Each kind of
// host is a leaf package below this one that exports one Type; the wiring lists the Types in a Registry, and adding a kind
// edits no other package.
//
// A Forge reaches its host through the HTTP client it is given, and so only addresses that the client allows. Its token
// goes to that host alone and is in no error. It is safe for concurrent use.
package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// State is what a commit status says.
type State string

// States.
const (
	Pending State = "pending"
	Success State = "success"
	Failure State = "failure"
)

// Status is a commit status: a line under a commit, replaced by the next of the same Context.
type Status struct {
	State       State
	Context     string // its name: "riposte/rules"
	Description string // one line; what is too long for the host is cut off
	TargetURL   string // where there is more; may be empty
	// Ref is a full reference that holds the commit, for hosts that must be told where no branch does; may be empty.
	Ref string
}

// Forge is one host's API.
type Forge interface {
	// SetStatus sets the status of a commit of the repository, which is named by its path on the host: "acme/rules".
	SetStatus(ctx context.Context, repo, commit string, s Status) error
}

// Options say where a host is and how to be let in.
type Options struct {
	Web   string                 // address of its pages: https://github.com
	API   string                 // address of its API, where it is not where Web says
	Token func() (string, error) // asked at each call
	HTTP  *http.Client
}

// Validate reports what is missing.
func (o Options) Validate() error {
	for _, address := range []string{o.Web, o.API} {
		u, err := url.Parse(address)
		if address != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "") {
			return errors.New("the address of the API is not like https://git.example.com/api")
		}
	}
	if o.Web == "" || o.Token == nil || o.HTTP == nil {
		return errors.New("forge: options Web, Token and HTTP are required")
	}
	return nil
}

// Type is a kind of host.
type Type struct {
	Name string // "github"
	// Hosts are those that are known to be of the kind.
	Hosts []string
	New   func(Options) (Forge, error)
}

// Registry holds the types by name.
type Registry map[string]Type

// NewRegistry makes a registry.
func NewRegistry(types ...Type) Registry {
	r := Registry{}
	for _, t := range types {
		r[t.Name] = t
	}
	return r
}

// Names lists the types.
func (r Registry) Names() []string { return slices.Sorted(maps.Keys(r)) }

// Of finds the type of a host that is known.
func (r Registry) Of(web string) (Type, bool) {
	u, err := url.Parse(web)
	if err != nil {
		return Type{}, false
	}
	for _, t := range r {
		if slices.Contains(t.Hosts, strings.ToLower(u.Hostname())) {
			return t, true
		}
	}
	return Type{}, false
}

// Error is a host's answer other than success.
type Error struct {
	Status  int
	Message string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("the host answered %d %s", e.Status, http.StatusText(e.Status))
	if e.Status/100 == 2 {
		text += " where it makes something new"
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound: // hosts hide what a token may not see
		text += "; the token must be allowed to set commit statuses of the repository"
	}
	return text
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 10

// Post makes something of a value, sent as JSON, at an address of the host, for APIs that need no more. header holds what proves who we are,
// and secret is the part of it that no error may show.
func Post(ctx context.Context, client *http.Client, address string, header http.Header, secret string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header = header.Clone()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return errors.New(Hide(err.Error(), secret))
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode == http.StatusCreated {
		return nil // a success of another kind is that of a GET, which a redirect made of the request
	}
	if err != nil {
		answer = nil // the status says enough
	}
	return &Error{resp.StatusCode, Hide(message(answer), secret)}
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
	return Clip(strings.Join(strings.Fields(text), " "), 200)
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
