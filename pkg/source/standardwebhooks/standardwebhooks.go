// Package standardwebhooks receives from any sender that signs as Standard Webhooks specifies.
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
		Doc: "Senders that follow Standard Webhooks (standard-webhooks/spec). Id and time are signed; a time more than five minutes off is refused. " +
			"They repeat for about three days and heed 429 with Retry-After.",
		Headers:      []string{"Webhook-Id", "Webhook-Timestamp"},
		RetriesOn429: true, SignsID: true,
		Spec: &spec{},
		New: func(decode func(any) error, env source.Env) (source.Source, error) {
			s := &standard{env: env}
			if err := decode(&s.spec); err != nil {
				return nil, err
			}
			return s, env.Check(s.spec.Secrets, "secrets")
		},
	}
}

type standard struct {
	spec spec
	env  source.Env
}

func (s *standard) Verify(r *source.Request) error {
	keys, err := s.env.Resolve(s.spec.Secrets)
	if err != nil {
		return err
	}
	_, err = source.VerifyStandard(&s.env, keys, r)
	return err
}

func (s *standard) Split(r *source.Request) ([]source.Delivery, error) {
	if err := source.ParseJSON(r.Body); err != nil {
		return nil, err
	}
	e := &event.Event{Body: r.Body}
	id := r.Header.Get("Webhook-Id")
	return []source.Delivery{{
		Key: id, Type: source.Or(source.Body(e).At("type").Str(), "unknown"), DeliveryID: id,
		Headers: source.Pick(r.Header, Type().Headers), Body: r.Body,
	}}, nil
}

func (s *standard) Normalise(e *event.Event) { e.Time = source.Body(e).At("timestamp").Time() }
