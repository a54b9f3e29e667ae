// Package generic receives JSON from any sender, proved as its document says.
//
// Each request is one event. Without a key two equal requests are two events. Sources are immutable and safe for
// concurrent use.
package generic

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

type spec struct {
	Secrets   []source.SecretRef `yaml:"secrets,omitempty" doc:"keys of the signature; several while rotating"`
	Signature *signature         `yaml:"signature,omitempty" doc:"where and how the sender signs the raw body"`
	Auth      *source.Auth       `yaml:"auth,omitempty" doc:"a bearer token or basic authentication; beside a signature, both are needed"`
	Insecure  bool               `yaml:"insecure,omitempty" doc:"true: anyone who reaches the address may send"`
	Key       *key               `yaml:"key,omitempty" doc:"what makes two deliveries one event; without it each is an event of its own"`
	EventType string             `yaml:"eventType,omitempty" expr:"always" doc:"expression over event.data and event.headers that gives the event's type; where it gives no text, and without it, the type is event"`
	Headers   []string           `yaml:"headers,omitempty" doc:"request headers to keep in event.headers; never those that prove identity"`
}

type signature struct {
	Header    string `yaml:"header" required:"true" doc:"header that holds the signature"`
	Algorithm string `yaml:"algorithm,omitempty" default:"sha256" enum:"sha256,sha512,sha1" doc:"hash of the HMAC; sha1 only for senders that know no better"`
	Encoding  string `yaml:"encoding,omitempty" default:"hex" enum:"hex,base64" doc:"how the signature is written"`
	Prefix    string `yaml:"prefix,omitempty" doc:"what stands before it, such as sha256="`
}

type key struct {
	Header     string `yaml:"header,omitempty" doc:"header that names the delivery; a request without it is an event of its own"`
	Expression string `yaml:"expression,omitempty" expr:"always" doc:"expression over event.data and event.headers that gives a text or a number; where it gives none, the request is an event of its own"`
}

// Type describes the preset.
func Type() source.Type {
	return source.Type{
		Name: "generic",
		Doc: "Any sender of JSON, proved by an HMAC in a header, a bearer token or basic authentication. Without any of them insecure: true must be written. " +
			"Two equal bodies are two events, unless key names what makes them one.",
		Spec:   &spec{},
		Fields: "* = *", // any type and body, and no view
		New:    build,
	}
}

type generic struct {
	env       source.Env
	spec      spec
	hmac      source.HMAC
	eventType func(*event.Event) (any, error)
	key       func(*event.Event) (any, error)
}

func build(decode func(any) error, env source.Env) (source.Source, error) {
	g := &generic{env: env}
	if err := decode(&g.spec); err != nil {
		return nil, err
	}
	if err := errors.Join(g.checkProof(), g.checkHeaders(), g.compile()); err != nil {
		return nil, err
	}
	return g, nil
}

// checkProof demands a way for the sender to prove itself.
func (g *generic) checkProof() error {
	s := &g.spec
	switch proved := s.Signature != nil || s.Auth != nil; {
	case proved && s.Insecure:
		return errors.New("insecure: leave it out where there is a signature or auth")
	case !proved && !s.Insecure:
		return errors.New("give signature with secrets, or auth; or write insecure: true if anyone may send")
	case s.Signature == nil && len(s.Secrets) > 0:
		return errors.New("secrets: they are the keys of a signature, and no signature is described")
	}
	var errs []error
	if s.Auth != nil {
		errs = append(errs, s.Auth.Check(&g.env))
	}
	if s.Signature != nil {
		errs = append(errs, g.checkSignature(), g.env.Check("secrets", s.Secrets...))
	}
	return errors.Join(errs...)
}

func (g *generic) checkSignature() (err error) {
	s := g.spec.Signature
	if !isToken(s.Header) {
		return fmt.Errorf("signature.header: %q is no name of a header", s.Header)
	}
	if g.hmac, err = source.NewHMAC(s.Algorithm, s.Encoding, s.Prefix); err != nil {
		return fmt.Errorf("signature.%w", err)
	}
	return nil
}

// checkHeaders refuses to store what proves identity.
func (g *generic) checkHeaders() error {
	proofs := []string{"Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key", "X-Gitlab-Token"}
	if g.spec.Signature != nil {
		proofs = append(proofs, http.CanonicalHeaderKey(g.spec.Signature.Header))
	}
	names := make([]string, len(g.spec.Headers))
	for i, name := range g.spec.Headers {
		names[i] = http.CanonicalHeaderKey(name)
		switch {
		case !isToken(name):
			return fmt.Errorf("headers: %q is no name of a header", name)
		case slices.Contains(proofs, names[i]):
			return fmt.Errorf("headers: %s proves identity, which is never stored", name)
		}
	}
	g.spec.Headers = names
	if k := g.spec.Key; k != nil && slices.Contains(proofs, http.CanonicalHeaderKey(k.Header)) {
		return fmt.Errorf("key.header: %s proves identity, which is never stored", k.Header)
	}
	return nil
}

// isToken says whether a text can be a header's name (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	const punctuation = "!#$%&'*+-.^_`|~"
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune(punctuation, r)
	}) < 0
}

func (g *generic) compile() error {
	var errs []error
	compile := func(field, expression string) func(*event.Event) (any, error) {
		if expression == "" {
			return nil
		}
		if g.env.Compile == nil {
			errs = append(errs, fmt.Errorf("%s: expressions are not available here", field))
			return nil
		}
		f, err := g.env.Compile(expression)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
		return f
	}
	g.eventType = compile("eventType", g.spec.EventType)
	if k := g.spec.Key; k != nil {
		if (k.Header == "") == (k.Expression == "") {
			errs = append(errs, errors.New("key: give header or expression, one of them"))
		}
		g.key = compile("key.expression", k.Expression)
	}
	return errors.Join(errs...)
}

// Verify checks the signature, the Authorization header, or both.
func (g *generic) Verify(r *source.Request) error {
	if g.spec.Auth != nil {
		if err := g.spec.Auth.Verify(&g.env, r); err != nil {
			return err
		}
	}
	if g.spec.Signature == nil {
		return nil // Auth was checked, or the document says insecure
	}
	given, err := source.One(r.Header, g.spec.Signature.Header)
	if err != nil {
		return err
	}
	return g.hmac.Verify(&g.env, g.spec.Secrets, given, r.Body)
}

// Split returns the request's event. An absent body is no error: its data is nil.
func (g *generic) Split(r *source.Request) ([]source.Delivery, error) {
	body := r.Body
	if len(bytes.TrimSpace(body)) == 0 {
		body = nil
	} else if err := source.ParseJSON(body); err != nil {
		return nil, err
	}
	d := source.Delivery{Type: "event", Headers: source.Pick(r.Header, g.spec.Headers), Body: body}
	e := &event.Event{Source: g.env.Name, Headers: d.Headers, Body: body, ReceivedAt: r.ReceivedAt, Time: r.ReceivedAt}
	if kind, ok := evaluate(g.eventType, e).(string); ok && kind != "" {
		d.Type = kind
	}
	d.Key = keyText(evaluate(g.key, e))
	if k := g.spec.Key; k != nil && k.Header != "" {
		if values := r.Header.Values(k.Header); len(values) == 1 { // of two, none is the key
			d.Key, d.DeliveryID = values[0], values[0]
		}
	}
	return []source.Delivery{d}, nil
}

// evaluate returns what an expression gives; nil where there is none, or it fails or is absent.
func evaluate(f func(*event.Event) (any, error), e *event.Event) any {
	if f == nil {
		return nil
	}
	v, err := f(e)
	if err != nil {
		return nil
	}
	return v
}

func keyText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case event.Integer:
		return string(v)
	}
	return ""
}

// Normalise fills nothing: what the body means is the rules' business.
func (g *generic) Normalise(*event.Event) {}
