// Package github receives from GitHub: repository, organisation and app webhooks.
//
// Each request is one event, except ping, which is none. The signature covers the raw body alone, so the event's key is
// that body's hash; its type and delivery id are headers that nothing protects but the connection. Sources are immutable
// and safe for concurrent use.
package github

import (
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Facts, from docs.github.com "Validating webhook deliveries" and "Webhook events and payloads".
const (
	signatureHeader = "X-Hub-Signature-256" // sha256= and the hexadecimal HMAC of the raw body, also of a form
	signaturePrefix = "sha256="
	typeHeader      = "X-Github-Event"
	deliveryHeader  = "X-Github-Delivery" // kept by a redelivery
)

type spec struct {
	Secrets []source.SecretRef `yaml:"secrets" required:"true" doc:"the webhook's secret; several while rotating"`
}

// Type describes the preset.
func Type() source.Type {
	return source.Type{
		Name: "github",
		Doc: "Webhooks of GitHub and GitHub Enterprise Server. The signature covers the body alone, so the event's key is the body's hash. " +
			"GitHub waits 10 seconds and never repeats by itself; a redelivery by hand adds an attempt to a failed run.",
		Headers: []string{
			typeHeader, deliveryHeader, "X-Github-Hook-Id", "X-Github-Hook-Installation-Target-Id", "X-Github-Hook-Installation-Target-Type",
		},
		Redelivers: true,
		Examples:   examples,
		Spec:       &spec{},
		Fields:     fields,
		New:        build,
	}
}

type github struct {
	env     source.Env
	spec    spec
	hmac    source.HMAC
	headers []string
}

func build(decode func(any) error, env source.Env) (source.Source, error) {
	g := &github{env: env, hmac: source.SHA256Hex(signaturePrefix), headers: Type().Headers}
	if err := decode(&g.spec); err != nil {
		return nil, err
	}
	if err := env.Check("secrets", g.spec.Secrets...); err != nil {
		return nil, err
	}
	return g, nil
}

// Verify checks the SHA-256 signature; the SHA-1 one beside it counts for nothing.
func (g *github) Verify(r *source.Request) error {
	given, err := source.One(r.Header, signatureHeader)
	if err != nil {
		return err
	}
	return g.hmac.Verify(&g.env, g.spec.Secrets, given, r.Body)
}

// Split returns the request's event.
func (g *github) Split(r *source.Request) ([]source.Delivery, error) {
	body, err := source.FormPayload(r.Header, r.Body)
	if err != nil {
		return nil, err
	}
	if err := source.ParseJSON(body); err != nil {
		return nil, err
	}
	kind := r.Header.Get(typeHeader)
	if kind == "ping" {
		return nil, nil
	}
	return []source.Delivery{{
		Key:        source.BodyKey(r.Body),
		Type:       source.Or(kind, "unknown"),
		DeliveryID: r.Header.Get(deliveryHeader),
		Headers:    source.Pick(r.Header, g.headers),
		Body:       body,
	}}, nil
}

// Normalise fills the git view of every event of a repository, and the pull request's.
func (g *github) Normalise(e *event.Event) { normalise(e) }
