// Package sourcetest is the conformance suite of presets: what each of them must refuse and keep, whatever its sender.
// A preset's own test runs it, and its fuzz target, with a request of its sender.
package sourcetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// SecretName is the only secret that a Case's Spec may use.
const SecretName = "the-secret"

// Case is one way to configure a preset, with a request that it must accept.
type Case struct {
	Name   string
	Spec   string // YAML of the document's spec
	Secret string // value of the secret
	Header http.Header
	Body   string
	// Sign puts the proof into a request.
	Sign func(r *source.Request, secret string)
	// Proof is the header that Sign sets.
	Proof string
	// List says that the proof is a list, in which a wrong one beside a right one does no harm.
	List bool
	// SignsBody says that the proof is void for another body.
	SignsBody bool
	// Events is how many events the request holds.
	Events int
	// Compile is Env.Compile; nil where Spec has no expressions.
	Compile func(string) (func(*event.Event) (any, error), error)
}

// Now is the clock of the suite's sources.
func Now() time.Time { return time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC) }

// Decode returns what reads a spec strictly, as a document's loader does.
func Decode(spec string) func(any) error {
	return func(into any) error {
		d := yaml.NewDecoder(strings.NewReader(spec))
		d.KnownFields(true)
		return d.Decode(into)
	}
}

// Env returns an environment in which the secrets have these values, and no other resolves.
func Env(secrets map[string]string) source.Env {
	return source.Env{
		Name: "test",
		Secret: func(ref source.SecretRef) ([]byte, error) {
			v, ok := secrets[ref.Secret]
			if !ok {
				return nil, fmt.Errorf("%w: secret %s does not resolve", source.ErrUnavailable, ref.Secret)
			}
			return []byte(v), nil
		},
		CheckSecret: func(ref source.SecretRef) error {
			if _, ok := secrets[ref.Secret]; !ok {
				return fmt.Errorf("secret %s is not declared", ref.Secret)
			}
			return nil
		},
		Now: Now,
	}
}

// New builds a source, and fails the test where that fails.
func New(t testing.TB, typ source.Type, spec string, env source.Env) source.Source {
	t.Helper()
	s, err := typ.New(Decode(spec), env)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return s
}

func (c *Case) build(t testing.TB, typ source.Type, secret string, resolves bool) source.Source {
	t.Helper()
	env := Env(map[string]string{SecretName: secret})
	env.Compile = c.Compile
	if !resolves {
		env.Secret = Env(nil).Secret
	}
	return New(t, typ, c.Spec, env)
}

func (c *Case) request(body string) *source.Request {
	r := &source.Request{Method: http.MethodPost, Header: c.Header.Clone(), Body: []byte(body), ReceivedAt: Now()}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	c.Sign(r, c.Secret)
	return r
}

// Run checks a preset against the contract of package source.
func Run(t *testing.T, typ source.Type, cases []Case) {
	t.Helper()
	t.Run("type", func(t *testing.T) { checkType(t, typ) })
	if len(cases) > 0 { // there are none of a source that nobody sends to
		t.Run("examples", func(t *testing.T) { checkExamples(t, typ, cases[0]) })
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Run("accepts", func(t *testing.T) { c.accepts(t, typ) })
			t.Run("refuses", func(t *testing.T) { c.refuses(t, typ) })
			t.Run("secrets", func(t *testing.T) { c.secrets(t, typ) })
			t.Run("unparsable", func(t *testing.T) { c.unparsable(t, typ) })
			t.Run("normalises anything", func(t *testing.T) { c.normalises(t, typ) })
		})
	}
}

func checkType(t *testing.T, typ source.Type) {
	if typ.Name == "" || typ.Doc == "" || typ.Spec == nil {
		t.Error("Name, Doc or Spec is missing")
	}
	for _, h := range typ.Headers {
		if h != http.CanonicalHeaderKey(h) {
			t.Errorf("header %s is not in its canonical form, %s", h, http.CanonicalHeaderKey(h))
		}
	}
	if _, err := typ.New(Decode("{}"), Env(nil)); err == nil {
		t.Error("a source that proves nothing is built")
	}
	if _, err := typ.New(Decode("{misspelled: true}"), Env(nil)); err == nil {
		t.Error("an unknown field is accepted")
	}
}

// checkExamples demands that each example is one delivery or more that the preset can read.
func checkExamples(t *testing.T, typ source.Type, c Case) {
	if typ.Examples == nil {
		return
	}
	s := c.build(t, typ, c.Secret, true)
	for _, example := range typ.Examples() {
		header := http.Header{}
		for name, value := range example.Headers {
			header.Set(name, value)
		}
		deliveries, err := s.Split(&source.Request{Method: http.MethodPost, Header: header, Body: example.Body, ReceivedAt: Now()})
		if err != nil || len(deliveries) == 0 {
			t.Errorf("example %s: %d events, %v", example.Name, len(deliveries), err)
		}
		for _, d := range deliveries {
			e := Event(d)
			s.Normalise(e)
			CheckEvent(t, e)
			if e.Type == "unknown" || e.Git == nil && e.Alert == nil && e.Time.IsZero() {
				t.Errorf("example %s: type %q, and nothing else is read of it", example.Name, e.Type)
			}
		}
	}
}

func (c *Case) accepts(t *testing.T, typ source.Type) {
	s := c.build(t, typ, c.Secret, true)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := s.Verify(c.request(c.Body)); err != nil {
				t.Errorf("Verify: %v", err)
			}
		})
	}
	all.Wait()
	r := c.request(c.Body)
	deliveries, err := s.Split(r)
	if err != nil || len(deliveries) != c.Events {
		t.Fatalf("Split: %d events, %v, want %d", len(deliveries), err, c.Events)
	}
	again, _ := s.Split(c.request(c.Body))
	keys := map[string]bool{}
	for i, d := range deliveries {
		if d.Type == "" || d.Key != again[i].Key {
			t.Errorf("type %q, key %q and then %q", d.Type, d.Key, again[i].Key)
		}
		if d.Key != "" && keys[d.Key] {
			t.Errorf("two events of the request have the key %q", d.Key)
		}
		keys[d.Key] = true
		c.keepsNoProof(t, typ, r, d)
		e := Event(d)
		s.Normalise(e)
		CheckEvent(t, e)
	}
}

func (c *Case) keepsNoProof(t *testing.T, typ source.Type, r *source.Request, d source.Delivery) {
	proof := r.Header.Get(c.Proof)
	for name, value := range d.Headers {
		if name == http.CanonicalHeaderKey(c.Proof) || value == proof || strings.Contains(value, c.Secret) {
			t.Errorf("header %s, which proves identity, is kept", name)
		}
		if len(typ.Headers) > 0 && !slices.Contains(typ.Headers, name) {
			t.Errorf("header %s is kept, and not in the type's list", name)
		}
	}
	if strings.Contains(d.Key, c.Secret) || strings.Contains(string(d.Body), c.Secret) {
		t.Error("the secret is kept")
	}
}

func (c *Case) refuses(t *testing.T, typ source.Type) {
	s := c.build(t, typ, c.Secret, true)
	name := http.CanonicalHeaderKey(c.Proof)
	tests := map[string]func(h http.Header){
		"missing":       func(h http.Header) { delete(h, name) },
		"no value":      func(h http.Header) { h[name] = nil },
		"empty":         func(h http.Header) { h[name] = []string{""} },
		"doubled":       func(h http.Header) { h[name] = append(h[name], h[name][0]) },
		"empty, right":  func(h http.Header) { h[name] = append([]string{""}, h[name]...) },
		"right, wrong":  func(h http.Header) { h[name] = append(h[name], "x") },
		"joined":        func(h http.Header) { h[name] = []string{h[name][0] + ", " + h[name][0]} },
		"truncated":     func(h http.Header) { h[name] = []string{h[name][0][:len(h[name][0])-2]} },
		"half":          func(h http.Header) { h[name] = []string{h[name][0][:len(h[name][0])/2]} },
		"longer":        func(h http.Header) { h[name] = []string{h[name][0] + "00"} },
		"wrong at end":  func(h http.Header) { h[name] = []string{altered(h[name][0], len(h[name][0])-3)} },
		"first word":    func(h http.Header) { h[name] = []string{strings.FieldsFunc(h[name][0], separator)[0]} },
		"not encoded":   func(h http.Header) { h[name] = []string{"\xff\x00"} },
		"other secret":  func(h http.Header) { c.resign(h, "b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcg==") },
		"empty secret":  func(h http.Header) { c.resign(h, "") },
		"prefix of all": func(h http.Header) { h[name] = []string{h[name][0][:1]} },
	}
	for what, change := range tests {
		t.Run(what, func(t *testing.T) {
			r := c.request(c.Body)
			right := r.Header.Get(c.Proof)
			change(r.Header)
			if values := r.Header[name]; len(values) == 1 && values[0] == right || c.List && what == "joined" {
				t.Skip("this changes nothing here")
			}
			c.refused(t, s.Verify(r))
		})
	}
	if c.SignsBody {
		r := c.request(c.Body)
		r.Body = append(r.Body, ' ')
		c.refused(t, s.Verify(r))
		r.Body = nil
		c.refused(t, s.Verify(r))
	}
}

func separator(r rune) bool { return r == ' ' || r == '=' || r == ',' }

// altered changes one character of a text.
func altered(s string, i int) string {
	b := []byte(s)
	if b[i]++; b[i]|0x20 > 'e' || b[i] < '0' {
		b[i] = '0'
	}
	if s[i] == '0' && b[i] == '0' {
		b[i] = '1'
	}
	return string(b)
}

func (c *Case) resign(h http.Header, secret string) {
	r := &source.Request{Method: http.MethodPost, Header: h, Body: []byte(c.Body), ReceivedAt: Now()}
	c.Sign(r, secret)
}

func (c *Case) refused(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, source.ErrUnauthenticated) || errors.Is(err, source.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnauthenticated", err)
	}
	if err != nil && strings.Contains(err.Error(), c.Secret) {
		t.Errorf("the error tells the secret: %v", err)
	}
}

func (c *Case) secrets(t *testing.T, typ source.Type) {
	for what, s := range map[string]source.Source{"unresolvable": c.build(t, typ, c.Secret, false), "empty": c.build(t, typ, "", true)} {
		if err := s.Verify(c.request(c.Body)); !errors.Is(err, source.ErrUnavailable) || errors.Is(err, source.ErrUnauthenticated) {
			t.Errorf("%s secret: got %v, want ErrUnavailable", what, err)
		}
	}
	env := Env(nil)
	env.Compile = c.Compile
	if _, err := typ.New(Decode(c.Spec), env); err == nil {
		t.Error("a secret that is not declared is no error at load")
	}
	if _, err := typ.New(Decode(strings.ReplaceAll(c.Spec, "{secret: "+SecretName+"}", "{}")), Env(nil)); err == nil {
		t.Error("a reference that names no secret is no error at load")
	}
}

func (c *Case) unparsable(t *testing.T, typ source.Type) {
	s := c.build(t, typ, c.Secret, true)
	for _, body := range []string{`{`, `{"a":1}x`, "\"\xff\"", `[1,]`, `nothing`, "\x00", strings.Repeat("[", 10_000)} {
		if deliveries, err := s.Split(c.request(body)); !errors.Is(err, source.ErrUnparsable) || len(deliveries) > 0 {
			t.Errorf("%.20q: %d events, %v, want ErrUnparsable", body, len(deliveries), err)
		}
	}
}

func (c *Case) normalises(t *testing.T, typ source.Type) {
	s := c.build(t, typ, c.Secret, true)
	deliveries, err := s.Split(c.request(c.Body))
	if err != nil {
		t.Fatal(err)
	}
	deliveries = append(deliveries, source.Delivery{Type: "push"}, source.Delivery{})
	for _, d := range deliveries {
		for _, body := range append(odd(d.Body), nil, []byte("{"), []byte("\xff"), []byte(`"`)) {
			e := Event(d)
			e.Body = body
			s.Normalise(e)
			CheckEvent(t, e)
		}
	}
}

// odd returns variants of a JSON body: each of its members gone, null, or of another kind, and bodies without any.
func odd(body []byte) [][]byte {
	out := [][]byte{[]byte(`null`), []byte(`[]`), []byte(`{}`), []byte(`1e999`), []byte(`"x"`), []byte(`[[{}]]`)}
	var v any
	if json.Unmarshal(body, &v) != nil {
		return out
	}
	vary(v, func(any) {
		if text, err := json.Marshal(v); err == nil {
			out = append(out, text)
		}
	})
	return out
}

// vary changes one value after the other inside v, calling visit at each change.
func vary(v any, visit func(any)) {
	others := []any{nil, "", "x", -1.5, true, []any{}, []any{map[string]any{}, nil, 1.0}, map[string]any{}}
	switch v := v.(type) {
	case map[string]any:
		for k, old := range v {
			for _, other := range others {
				v[k] = other
				visit(v)
			}
			delete(v, k)
			visit(v)
			v[k] = old
			vary(old, visit)
		}
	case []any:
		for i, old := range v {
			for _, other := range others {
				v[i] = other
				visit(v)
			}
			v[i] = old
			vary(old, visit)
		}
	}
}

// Event returns the event of a delivery, as it is read back from the log.
func Event(d source.Delivery) *event.Event {
	return &event.Event{
		ID: "0", Source: "test", Type: d.Type, Subject: d.Subject, Time: d.Time, DeliveryID: d.DeliveryID, Headers: d.Headers, Body: d.Body, ReceivedAt: Now(),
	}
}

// CheckEvent checks what holds for every normalised event, whatever its body.
func CheckEvent(t testing.TB, e *event.Event) {
	t.Helper()
	body := e.Body
	if event.Validate(body) != nil {
		e.Body = nil
	}
	if _, err := json.Marshal(e); err != nil {
		t.Errorf("the event has no form in JSON: %v", err)
	}
	e.Body = body
	if g := e.Git; g != nil {
		checkGit(t, g)
	}
	if p := e.PullRequest; p != nil && e.Git == nil {
		t.Error("there is a pull request without a repository")
	}
	if a := e.Alert; a != nil && (a.Labels == nil || a.Annotations == nil) {
		t.Error("labels or annotations are nil")
	}
}

func checkGit(t testing.TB, g *event.Git) {
	t.Helper()
	zero := func(oid string) bool { return oid != "" && strings.Trim(oid, "0") == "" }
	switch {
	case g.Repo == "":
		t.Error("the repository has no name")
	case zero(g.Commit) || zero(g.Before):
		t.Errorf("an object id of zeros is kept: %q, %q", g.Commit, g.Before)
	case g.Branch != "" && g.Tag != "":
		t.Errorf("the ref is both branch %q and tag %q", g.Branch, g.Tag)
	case !slices.IsSorted(g.Paths) || len(slices.Compact(slices.Clone(g.Paths))) != len(g.Paths):
		t.Errorf("paths are not sorted, each once: %q", g.Paths)
	case g.PathsComplete && len(g.Paths) == 0:
		t.Error("a complete list of paths is empty")
	}
}

// Fuzz gives a preset any proof, event type and body: it accepts the right proof alone, splits into JSON or ErrUnparsable,
// and normalises whatever is in the log.
func Fuzz(f *testing.F, typ source.Type, c Case, types ...string) {
	s := c.build(f, typ, c.Secret, true)
	right := c.request(c.Body)
	f.Add(right.Header.Get(c.Proof), "", []byte(c.Body))
	for _, kind := range types {
		f.Add("", kind, []byte(c.Body))
	}
	f.Fuzz(func(t *testing.T, proof, kind string, body []byte) {
		r := c.request(string(body))
		want := r.Header.Get(c.Proof)
		r.Header.Set(c.Proof, proof)
		err := s.Verify(r)
		if err == nil && !strings.Contains(strings.ToLower(proof), strings.ToLower(want)) {
			t.Fatalf("proof %q is accepted, and %q is right", proof, want)
		}
		if err != nil && !errors.Is(err, source.ErrUnauthenticated) {
			t.Fatalf("Verify: %v", err)
		}
		deliveries, err := s.Split(r)
		if err != nil && !errors.Is(err, source.ErrUnparsable) {
			t.Fatalf("Split: %v", err)
		}
		for _, d := range append(deliveries, source.Delivery{Type: kind, Body: body}) {
			e := Event(d)
			s.Normalise(e)
			CheckEvent(t, e)
		}
		for _, d := range deliveries {
			if err := event.Validate(d.Body); err != nil && len(d.Body) > 0 {
				t.Fatalf("a delivery's body is not JSON: %v", err)
			}
		}
	})
}
