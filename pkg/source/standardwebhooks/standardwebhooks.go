// Package standardwebhooks receives from any sender that signs as Standard Webhooks specifies.
//
// Each request is one event, whose key is the signed id; a request that was signed more than five minutes ago, or that
// far ahead, is refused. Sources are immutable and safe for concurrent use.
package standardwebhooks

import (
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

type spec struct {
	Secrets []source.SecretRef `yaml:"secrets" required:"true" doc:"keys: whsec_ and base64, or whpk_ and base64 for ed25519; several while rotating"`
}

// Type describes the preset.
func Type() source.Type {
	return source.Type{
		Name: "standardwebhooks",
		Doc: "Senders that follow Standard Webhooks. Id and time are signed; a time more than five minutes off is refused. " +
			"The event's type is the body's type. They repeat for about three days and heed 429 with Retry-After.",
		Headers:      []string{source.StandardID, source.StandardTimestamp},
		RetriesOn429: true,
		SignsID:      true,
		Examples:     examples,
		Spec:         &spec{},
		Fields:       "* = *", // any type and body, and no view
		New:          build,
	}
}

type standard struct {
	env     source.Env
	spec    spec
	headers []string
}

func build(decode func(any) error, env source.Env) (source.Source, error) {
	s := &standard{env: env, headers: Type().Headers}
	if err := decode(&s.spec); err != nil {
		return nil, err
	}
	if err := env.Check("secrets", s.spec.Secrets...); err != nil {
		return nil, err
	}
	return s, nil
}

// Verify checks signature and time.
func (s *standard) Verify(r *source.Request) error {
	return source.VerifyStandard(&s.env, s.spec.Secrets, r)
}

// Split returns the request's event.
func (s *standard) Split(r *source.Request) ([]source.Delivery, error) {
	if err := source.ParseJSON(r.Body); err != nil {
		return nil, err
	}
	id := r.Header.Get(source.StandardID)
	kind, _ := event.Field(r.Body, "type")
	return []source.Delivery{{
		Key:        id,
		Type:       source.Or(event.Text(kind), "unknown"),
		DeliveryID: id,
		Headers:    source.Pick(r.Header, s.headers),
		Body:       r.Body,
	}}, nil
}

// Normalise fills the time: the body's timestamp is when it happened, the header's when it was sent.
func (s *standard) Normalise(e *event.Event) {
	source.SetTime(e, source.Body(e.Body).At("timestamp"))
}
