// Package forgetest is the conformance suite of forges: what every kind of host must do. It is for tests alone.
package forgetest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/riposte-dev/riposte/pkg/forge"
)

// Suite says what the host's API looks like.
type Suite struct {
	Type forge.Type
	// Path is where the status of commit abc123 of acme/rules is posted, below the address of the pages.
	Path string
	// Authorization is the header for the token "the-token".
	Authorization string
	// Fields are the body's: of the state, its name, its description and its address.
	State, Context, Description, TargetURL string
	// States are the host's words.
	States map[forge.State]string
	// MaxDescription is the longest description in characters.
	MaxDescription int
	// Refusal is what the host answers where it refuses, with an error in words.
	Refusal, RefusalText string
}

const token = "the-token"

// server answers as a test wants, and keeps what it was sent.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	seen   []*http.Request
	bodies []map[string]any
}

func serve(t *testing.T, answer http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		var body map[string]any
		_ = json.Unmarshal(text, &body)
		s.mu.Lock()
		s.seen, s.bodies = append(s.seen, r), append(s.bodies, body)
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func created(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, `{"id": 1}`)
}

func (s Suite) open(t *testing.T, o forge.Options) forge.Forge {
	t.Helper()
	if o.Token == nil {
		o.Token = func() (string, error) { return token, nil }
	}
	o.HTTP = &http.Client{}
	f, err := s.Type.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	t.Run("request", s.request)
	t.Run("address of the API", s.api)
	t.Run("bounds", s.bounds)
	t.Run("refusals", s.refusals)
	t.Run("redirects", s.redirects)
	t.Run("tokens", s.tokens)
	t.Run("options", s.options)
	t.Run("cancelling", s.cancelling)
}

func (s Suite) request(t *testing.T) {
	srv := serve(t, created)
	f := s.open(t, forge.Options{Web: srv.URL})
	for state, word := range s.States {
		err := f.SetStatus(t.Context(), "acme/rules", "abc123", forge.Status{State: state, Context: "riposte/rules", Description: "2 rules", TargetURL: "https://x.example/rules"})
		if err != nil {
			t.Fatal(err)
		}
		r, body := srv.seen[len(srv.seen)-1], srv.bodies[len(srv.bodies)-1]
		if r.Method != http.MethodPost || r.URL.EscapedPath() != s.Path || r.Header.Get("Authorization") != s.Authorization || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
			t.Errorf("%s %s, %v", r.Method, r.URL.EscapedPath(), r.Header)
		}
		for field, want := range map[string]string{s.State: word, s.Context: "riposte/rules", s.Description: "2 rules", s.TargetURL: "https://x.example/rules"} {
			if body[field] != want {
				t.Errorf("%s: %s = %v, want %q", state, field, body[field], want)
			}
		}
	}
}

func (s Suite) api(t *testing.T) {
	srv := serve(t, created)
	f := s.open(t, forge.Options{Web: "https://pages.example", API: srv.URL + "/elsewhere/"})
	if err := f.SetStatus(t.Context(), "acme/rules", "abc123", forge.Status{State: forge.Success}); err != nil {
		t.Fatal(err)
	}
	if got := srv.seen[0].URL.EscapedPath(); !strings.HasPrefix(got, "/elsewhere/") || strings.Contains(got, "//") {
		t.Error(got)
	}
}

func (s Suite) bounds(t *testing.T) {
	srv := serve(t, created)
	f := s.open(t, forge.Options{Web: srv.URL})
	if err := f.SetStatus(t.Context(), "acme/rules", "abc123", forge.Status{State: forge.Failure, Description: strings.Repeat("ä", 1000) + "\n"}); err != nil {
		t.Fatal(err)
	}
	text, _ := srv.bodies[0][s.Description].(string)
	if n := utf8.RuneCountInString(text); n != s.MaxDescription || !strings.HasSuffix(text, "…") {
		t.Errorf("%d characters: %s", n, text)
	}
	for _, repo := range []string{"", "rules"} {
		_ = f.SetStatus(t.Context(), repo, "../../abc", forge.Status{State: forge.Failure})
	}
	for _, r := range srv.seen[1:] {
		if strings.Contains(r.URL.EscapedPath(), "/../") {
			t.Errorf("the path can be left: %s", r.URL.EscapedPath())
		}
	}
}

func (s Suite) refusals(t *testing.T) {
	for status, want := range map[int]string{401: "must be allowed to set", 403: "must be allowed to set", 404: "must be allowed to set", 422: s.RefusalText, 500: s.RefusalText, 200: "200"} {
		srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, s.Refusal)
		})
		err := s.open(t, forge.Options{Web: srv.URL}).SetStatus(t.Context(), "acme/rules", "abc123", forge.Status{State: forge.Success})
		var refused *forge.Error
		if !errors.As(err, &refused) || refused.Status != status || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v, want %q", status, err, want)
		}
	}
	for name, answer := range map[string]string{"no JSON": "<html>nginx</html>", "nothing": "", "endless": strings.Repeat("x", 1<<20)} {
		srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, answer)
		})
		err := s.open(t, forge.Options{Web: srv.URL}).SetStatus(t.Context(), "acme/rules", "abc123", forge.Status{State: forge.Success})
		if err == nil || !strings.Contains(err.Error(), "502") || len(err.Error()) > 1000 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// redirects must not carry the token to another host.
func (s Suite) redirects(t *testing.T) {
	other := serve(t, created)
	away := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	for _, status := range []int{http.StatusMovedPermanently, http.StatusTemporaryRedirect} {
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, away+r.URL.Path, status) //nolint:gosec // that is what is tested
		})
		_ = s.open(t, forge.Options{Web: srv.URL}).SetStatus(t.Context(), "acme/rules", "abc123", forge.Status{State: forge.Success})
	}
	for _, r := range other.seen {
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, " "), token) {
				t.Errorf("%s went to another host", name)
			}
		}
	}
	got := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			http.Redirect(w, r, r.URL.Path, http.StatusFound) //nolint:gosec // that is what is tested
		}
	})
	if err := s.open(t, forge.Options{Web: got.URL}).SetStatus(t.Context(), "acme/rules", "abc123", forge.Status{State: forge.Success}); err == nil {
		t.Error("a GET that succeeded counts as a status that was set")
	}
}

func (s Suite) tokens(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": "you sent " + r.Header.Get("Authorization")})
	})
	err := s.open(t, forge.Options{Web: srv.URL}).SetStatus(t.Context(), "acme/rules", "abc123", forge.Status{State: forge.Success})
	if err == nil || strings.Contains(err.Error(), token) {
		t.Error(err)
	}
	err = s.open(t, forge.Options{Web: "http://127.0.0.1:1"}).SetStatus(t.Context(), "acme/rules", "abc123", forge.Status{State: forge.Success})
	if err == nil || strings.Contains(err.Error(), token) {
		t.Error(err)
	}
	errNone := errors.New("no token")
	f := s.open(t, forge.Options{Web: srv.URL, Token: func() (string, error) { return "", errNone }})
	if err := f.SetStatus(t.Context(), "acme/rules", "abc123", forge.Status{State: forge.Success}); !errors.Is(err, errNone) {
		t.Error(err)
	}
}

func (s Suite) options(t *testing.T) {
	good := forge.Options{Web: "https://x", Token: func() (string, error) { return "", nil }, HTTP: &http.Client{}}
	for name, change := range map[string]func(*forge.Options){
		"no address":  func(o *forge.Options) { o.Web = "" },
		"no token":    func(o *forge.Options) { o.Token = nil },
		"no client":   func(o *forge.Options) { o.HTTP = nil },
		"a file":      func(o *forge.Options) { o.API = "file:///etc" },
		"a password":  func(o *forge.Options) { o.API = "https://a:b@x" },
		"no address ": func(o *forge.Options) { o.API = "x y" },
	} {
		o := good
		change(&o)
		if _, err := s.Type.New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := s.Type.New(good); err != nil {
		t.Error(err)
	}
}

func (s Suite) cancelling(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if err := s.open(t, forge.Options{Web: srv.URL}).SetStatus(ctx, "acme/rules", "abc123", forge.Status{State: forge.Success}); err == nil {
		t.Error("no error")
	}
}
