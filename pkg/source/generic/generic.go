// Package generic receives JSON from any sender, proved as its document says.
package generic

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

type spec struct {
	Secrets   []source.SecretRef `yaml:"secrets,omitempty" doc:"keys of the signature; several while rotating"`
	Signature *signature         `yaml:"signature,omitempty" doc:"where and how the sender signs the body"`
	Auth      *source.Auth       `yaml:"auth,omitempty" doc:"a bearer token or basic authentication, where the sender signs nothing"`
	Insecure  bool               `yaml:"insecure,omitempty" doc:"true: anyone who reaches the address may send"`
	Key       *keySpec           `yaml:"key,omitempty" doc:"what makes two deliveries one event; without it each is an event of its own"`
	EventType string             `yaml:"eventType,omitempty" expr:"always" doc:"expression over event.data and event.headers that gives the event's type; default: the type is event"`
	Headers   []string           `yaml:"headers,omitempty" doc:"request headers to keep in event.headers"`
}

type signature struct {
	Header    string `yaml:"header" required:"true" doc:"header that holds the signature"`
	Algorithm string `yaml:"algorithm,omitempty" default:"sha256" enum:"sha256,sha512,sha1" doc:"hash of the HMAC"`
	Encoding  string `yaml:"encoding,omitempty" default:"hex" enum:"hex,base64" doc:"how the signature is written"`
	Prefix    string `yaml:"prefix,omitempty" doc:"what stands before it, such as sha256="`
}

type keySpec struct {
	Header string `yaml:"header" required:"true" doc:"header that names the delivery"`
}

// Type describes the preset.
func Type() source.Type {
	return source.Type{
		Name: "generic",
		Doc: "Any sender of JSON, proved by an HMAC in a header, a bearer token or basic authentication. Without any of them insecure: true must be written. " +
			"Two equal bodies are two events, unless key names what makes them one.",
		Spec: &spec{},
		New:  build,
	}
}

type generic struct {
	spec      spec
	env       source.Env
	hmac      source.HMAC
	eventType func(*event.Event) (any, error)
}

func build(decode func(any) error, env source.Env) (source.Source, error) {
	g := &generic{env: env}
	if err := decode(&g.spec); err != nil {
		return nil, err
	}
	errs := []error{g.checkProof(), g.checkHeaders()}
	if g.spec.EventType != "" {
		var err error
		if g.eventType, err = env.Compile(g.spec.EventType); err != nil {
			errs = append(errs, fmt.Errorf("eventType: %w", err))
		}
	}
	return g, errors.Join(errs...)
}

// checkProof demands exactly one way for a sender to prove itself.
func (g *generic) checkProof() (err error) {
	s := &g.spec
	ways := 0
	for _, given := range []bool{s.Signature != nil, s.Auth != nil, s.Insecure} {
		if given {
			ways++
		}
	}
	switch {
	case ways == 0:
		return errors.New("give signature with secrets, or auth, or write insecure: true if anyone may send")
	case ways > 1:
		return errors.New("signature, auth and insecure exclude each other")
	case s.Signature == nil && len(s.Secrets) > 0:
		return errors.New("secrets: they are the keys of a signature, and none is given")
	case s.Auth != nil:
		return s.Auth.Check(&g.env)
	case s.Insecure:
		return nil
	case s.Signature.Header == "":
		return errors.New("signature: header is empty")
	}
	if g.hmac, err = source.NewHMAC(s.Signature.Algorithm, s.Signature.Encoding); err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	return g.env.Check(s.Secrets, "secrets")
}

// checkHeaders refuses to store what proves identity.
func (g *generic) checkHeaders() error {
	secret := []string{"Authorization", "Cookie", "Proxy-Authorization"}
	if g.spec.Signature != nil {
		secret = append(secret, http.CanonicalHeaderKey(g.spec.Signature.Header))
	}
	for i, name := range g.spec.Headers {
		g.spec.Headers[i] = http.CanonicalHeaderKey(name)
		if slices.Contains(secret, g.spec.Headers[i]) {
			return fmt.Errorf("headers: %s proves identity and is never stored", name)
		}
	}
	return nil
}

func (g *generic) Verify(r *source.Request) error {
	switch {
	case g.spec.Insecure:
		return nil
	case g.spec.Auth != nil:
		return g.spec.Auth.Verify(&g.env, r)
	}
	given, err := source.One(r.Header, g.spec.Signature.Header)
	if err != nil {
		return err
	}
	keys, err := g.env.Resolve(g.spec.Secrets)
	if err != nil {
		return err
	}
	return source.VerifyPrefixed(g.hmac, g.spec.Signature.Prefix, keys, given, r.Body)
}

func (g *generic) Split(r *source.Request) ([]source.Delivery, error) {
	if len(r.Body) > 0 {
		if err := source.ParseJSON(r.Body); err != nil {
			return nil, err
		}
	}
	d := source.Delivery{Type: "event", Headers: source.Pick(r.Header, g.spec.Headers), Body: r.Body}
	if g.spec.Key != nil {
		d.Key = r.Header.Get(g.spec.Key.Header)
		d.DeliveryID = d.Key
	}
	if g.eventType != nil {
		v, err := g.eventType(&event.Event{Body: d.Body, Headers: d.Headers, ReceivedAt: r.ReceivedAt})
		if name, ok := v.(string); err == nil && ok && name != "" {
			d.Type = name
		}
	}
	return []source.Delivery{d}, nil
}

func (g *generic) Normalise(*event.Event) {}
