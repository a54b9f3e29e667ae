// Package gitlab receives from GitLab: project, group and system hooks.
//
// Each request is one event, whose key is the delivery's id (signed where the hook signs); hooks of versions that send no
// id make an event of each request. Sources are immutable and safe for concurrent use.
package gitlab

import (
	"errors"
	"fmt"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Facts, from gitlab-org/gitlab app/services/web_hook_service.rb, merge requests 230944 and 231325, and GitLab's webhook
// documentation: the old way is a plain token; since 19.0 a hook can sign as Standard Webhooks, and both may be set.
// webhook-id equals Idempotency-Key and is kept when a delivery is sent again; X-Gitlab-Webhook-UUID is new each time.
const (
	tokenHeader = "X-Gitlab-Token" //nolint:gosec // the name of a header
	keyHeader   = "Idempotency-Key"
	typeHeader  = "X-Gitlab-Event"
)

type spec struct {
	Secrets        []source.SecretRef `yaml:"secrets,omitempty" doc:"the hook's secret token; several while rotating"`
	SigningSecrets []source.SecretRef `yaml:"signingSecrets,omitempty" doc:"the hook's signing token (whsec_ and base64); several while rotating. A request that carries a signature must carry a right one; one without passes only if secrets are given too and its token is right"`
}

// Type describes the preset.
func Type() source.Type {
	return source.Type{
		Name: "gitlab",
		Doc: "Webhooks of GitLab, with a secret token, a signing token, or both. The event's type is the body's object_kind (push, merge_request, pipeline, job, …). " +
			"GitLab waits 10 seconds; a hook that fails four times in a row is switched off for a while, and after 40 failures for good. " +
			"A push of more than three branches sends no event.",
		Headers:    []string{typeHeader, keyHeader, source.StandardID, "X-Gitlab-Event-Uuid", "X-Gitlab-Webhook-Uuid", "X-Gitlab-Instance"},
		Redelivers: true,
		Examples:   examples,
		Spec:       &spec{},
		Fields:     fields,
		New:        build,
	}
}

type gitlab struct {
	env     source.Env
	spec    spec
	headers []string
}

func build(decode func(any) error, env source.Env) (source.Source, error) {
	g := &gitlab{env: env, headers: Type().Headers}
	if err := decode(&g.spec); err != nil {
		return nil, err
	}
	if len(g.spec.Secrets)+len(g.spec.SigningSecrets) == 0 {
		return nil, errors.New("secrets: name the hook's secret token here, or its signing token under signingSecrets, or anyone could send")
	}
	var errs []error
	if len(g.spec.Secrets) > 0 {
		errs = append(errs, env.Check("secrets", g.spec.Secrets...))
	}
	if len(g.spec.SigningSecrets) > 0 {
		errs = append(errs, env.Check("signingSecrets", g.spec.SigningSecrets...))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return g, nil
}

// Verify checks the signature where there is one that can be checked, and the token otherwise.
func (g *gitlab) Verify(r *source.Request) error {
	if len(g.spec.SigningSecrets) > 0 && len(r.Header.Values(source.StandardSignature)) > 0 {
		return source.VerifyStandard(&g.env, g.spec.SigningSecrets, r)
	}
	if len(g.spec.Secrets) == 0 {
		return fmt.Errorf("%w: header %s is missing", source.ErrUnauthenticated, source.StandardSignature)
	}
	given, err := source.One(r.Header, tokenHeader)
	if err != nil {
		return err
	}
	return g.env.Any(g.spec.Secrets, "the token", func(secret []byte) (bool, error) {
		return source.Equal([]byte(given), secret), nil
	})
}

// Split returns the request's event.
func (g *gitlab) Split(r *source.Request) ([]source.Delivery, error) {
	if err := source.ParseJSON(r.Body); err != nil {
		return nil, err
	}
	id := source.Or(r.Header.Get(source.StandardID), r.Header.Get(keyHeader))
	return []source.Delivery{{
		Key:        id,
		Type:       typeOf(r),
		DeliveryID: source.Or(id, r.Header.Get("X-Gitlab-Event-Uuid")),
		Headers:    source.Pick(r.Header, g.headers),
		Body:       r.Body,
	}}, nil
}

// typeOf returns what the body says it is. The header only says which kind of hook it is ("System Hook"), and serves
// where the body says nothing.
func typeOf(r *source.Request) string {
	kind := text(r.Body, "object_kind")
	if kind == "" { // system hooks
		kind = text(r.Body, "event_name")
	}
	if kind == "" {
		hook := strings.TrimSuffix(r.Header.Get(typeHeader), " Hook")
		kind = strings.ReplaceAll(strings.ToLower(hook), " ", "_")
	}
	if kind == "build" { // the older word for a job
		return "job"
	}
	return source.Or(kind, "unknown")
}

func text(body []byte, key string) string {
	raw, _ := event.Field(body, key)
	return event.Text(raw)
}

// Normalise fills the git view of every event of a project, and the merge request's as a pull request.
func (g *gitlab) Normalise(e *event.Event) { normalise(e) }
