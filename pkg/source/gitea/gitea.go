// Package gitea receives from Gitea and Forgejo.
//
// Each request is one event. The signature covers the JSON alone, so the event's key is that JSON's hash; its type and
// delivery id are headers that nothing protects but the connection. Sources are immutable and safe for concurrent use.
package gitea

import (
	"fmt"
	"net/http"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Facts, from go-gitea/gitea services/webhook/deliver.go and Forgejo's API documentation: the signature is the
// hexadecimal HMAC-SHA256 of the JSON, also where that travels in a form; without a secret the headers are there but
// empty. X-Gitea-Event is a class (pull_request), X-Gitea-Event-Type exact (pull_request_label).
const (
	forgejoSignature = "X-Forgejo-Signature"
	giteaSignature   = "X-Gitea-Signature"
	hubSignature     = "X-Hub-Signature-256"
	hubPrefix        = "sha256="
)

type spec struct {
	Secrets []source.SecretRef `yaml:"secrets" required:"true" doc:"the webhook's secret; several while rotating"`
}

// Type describes the preset.
func Type() source.Type {
	return source.Type{
		Name: "gitea",
		Doc: "Webhooks of Gitea and Forgejo, sent as POST. The signature covers the body alone, so the event's key is the body's hash. " +
			"They wait 5 seconds and never repeat by themselves. The event's type is X-Gitea-Event; event.headers has the exact X-Gitea-Event-Type.",
		Headers: []string{
			"X-Gitea-Event", "X-Gitea-Event-Type", "X-Gitea-Delivery", "X-Forgejo-Event", "X-Forgejo-Event-Type", "X-Forgejo-Delivery",
		},
		Spec:     &spec{},
		Fields:   fields,
		New:      build,
		Examples: examples,
	}
}

type gitea struct {
	env     source.Env
	spec    spec
	headers []string
}

func build(decode func(any) error, env source.Env) (source.Source, error) {
	g := &gitea{env: env, headers: Type().Headers}
	if err := decode(&g.spec); err != nil {
		return nil, err
	}
	if err := env.Check("secrets", g.spec.Secrets...); err != nil {
		return nil, err
	}
	return g, nil
}

// Verify checks the first of the signature headers that is there.
func (g *gitea) Verify(r *source.Request) error {
	if r.Method == http.MethodGet {
		return fmt.Errorf("%w: a GET carries nothing that is signed; choose POST for the webhook", source.ErrUnauthenticated)
	}
	name, hmac := giteaSignature, source.SHA256Hex("")
	switch {
	case len(r.Header.Values(forgejoSignature)) > 0:
		name = forgejoSignature
	case len(r.Header.Values(giteaSignature)) == 0 && len(r.Header.Values(hubSignature)) > 0:
		name, hmac = hubSignature, source.SHA256Hex(hubPrefix)
	}
	given, err := source.One(r.Header, name)
	if err != nil {
		return err
	}
	signed, err := source.FormPayload(r.Header, r.Body)
	if err != nil {
		return fmt.Errorf("%w: the form holds nothing that is signed", source.ErrUnauthenticated)
	}
	return hmac.Verify(&g.env, g.spec.Secrets, given, signed)
}

// Split returns the request's event.
func (g *gitea) Split(r *source.Request) ([]source.Delivery, error) {
	body, err := source.FormPayload(r.Header, r.Body)
	if err != nil {
		return nil, err
	}
	if err := source.ParseJSON(body); err != nil {
		return nil, err
	}
	return []source.Delivery{{
		Key:        source.BodyKey(body),
		Type:       source.Or(r.Header.Get("X-Gitea-Event"), r.Header.Get("X-Forgejo-Event"), "unknown"),
		DeliveryID: source.Or(r.Header.Get("X-Gitea-Delivery"), r.Header.Get("X-Forgejo-Delivery")),
		Headers:    source.Pick(r.Header, g.headers),
		Body:       body,
	}}, nil
}

// Normalise fills the git view of every event of a repository, and the pull request's.
func (g *gitea) Normalise(e *event.Event) { normalise(e) }
