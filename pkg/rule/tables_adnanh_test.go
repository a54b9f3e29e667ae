package rule_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// hookRule is a rule of adnanh/webhook.
type hookRule struct {
	And   []hookRule
	Or    []hookRule
	Not   *hookRule
	Match *hookMatch
}

type hookMatch struct {
	Type, Secret, Regex string
	Value               any
	Parameter           struct{ Source, Name string }
}

type hookCase struct {
	ID, Group string
	Rule      *hookRule
	Hook      struct {
		Trigger *hookRule `json:"trigger-rule"`
	}
	Request struct {
		Method, Body string
		ContentType  string `json:"content_type"`
		Headers      map[string]string
		Payload      any
	}
	Path, Payload, Secret, Signature string
	Document                         json.RawMessage
	Expected                         struct {
		Matched, Error, OK, Found, Triggered bool
		Value                                string
		Log                                  string `json:"log_regex"`
	}
}

// hookProof is what a Source of ours verifies before any rule is asked.
type hookProof struct {
	header, algorithm string
	secrets           []string
	other             bool // something that ours has not
}

// condition writes the rule as an expression, and moves the signatures to the proof.
func (r *hookRule) condition(p *hookProof) string {
	switch {
	case r == nil:
		return "true"
	case r.Match != nil:
		return r.Match.condition(p)
	case r.Not != nil:
		return "not (" + r.Not.condition(p) + ")"
	case r.Or != nil:
		return joined(" || ", r.Or, func(r hookRule) string { return r.condition(p) })
	}
	return joined(" && ", r.And, func(r hookRule) string { return r.condition(p) })
}

func joined[T any](operator string, list []T, text func(T) string) string {
	var parts []string
	for _, one := range list {
		parts = append(parts, text(one))
	}
	return "(" + strings.Join(parts, operator) + ")"
}

func (m *hookMatch) condition(p *hookProof) string {
	subject := dotted("event.data", m.Parameter.Name)
	if m.Parameter.Source == "header" {
		subject = "event.headers[" + quoted(m.Parameter.Name) + "]"
	} else if rest, ok := strings.CutPrefix(m.Parameter.Name, "payload."); ok {
		subject = dotted("event.data", rest) // a form's JSON is the body here
	}
	switch {
	case m.Type == "value":
		return "string(" + subject + ") == " + quoted(fmt.Sprint(m.Value))
	case m.Type == "regex":
		return subject + " matches " + quoted(m.Regex)
	case strings.HasPrefix(m.Type, "payload-"):
		p.header, p.algorithm = m.Parameter.Name, m.Type[strings.LastIndex(m.Type, "-")+1:]
		p.secrets = append(p.secrets, m.Secret)
		return "true"
	}
	p.other = true
	return "false"
}

// verify checks a signature as a Source does; the prefix is the sender's habit, which the Source's document states.
func (p *hookProof) verify(signature, body string) error {
	prefix := p.algorithm + "="
	if !strings.HasPrefix(signature, prefix) {
		prefix = ""
	}
	h, err := source.NewHMAC(p.algorithm, "hex", prefix)
	if err != nil {
		return err
	}
	var refs []source.SecretRef
	for _, s := range p.secrets {
		refs = append(refs, source.SecretRef{Secret: s})
	}
	env := &source.Env{Secret: func(ref source.SecretRef) ([]byte, error) {
		if ref.Secret == "" {
			return nil, source.ErrUnavailable
		}
		return []byte(ref.Secret), nil
	}}
	return h.Verify(env, refs, signature, []byte(body))
}

func (c *hookCase) play() error {
	switch kind, _, _ := strings.Cut(c.Group, "-"); {
	case kind == "ip" || c.Group == "signature-scalr":
		return errUnsaid
	case kind == "signature":
		p := hookProof{algorithm: strings.TrimPrefix(c.Group, "signature-"), secrets: []string{c.Secret}}
		return wanted(p.verify(c.Signature, c.Payload) == nil, c.Expected.OK)
	case kind == "extract":
		return c.extract()
	case kind == "e2e":
		return c.receive()
	}
	body, err := json.Marshal(c.Request.Payload)
	if err != nil {
		return err
	}
	var p hookProof
	when := c.Rule.condition(&p)
	if p.other {
		return errUnsaid
	}
	if p.header != "" {
		return wanted(p.verify(c.header(p.header), c.Request.Body) == nil, c.Expected.Matched)
	}
	return decided(when, &event.Event{Body: body, Headers: c.Request.Headers}, c.Expected.Matched, c.Expected.Error)
}

func (c *hookCase) header(name string) string {
	return c.Request.Headers[http.CanonicalHeaderKey(name)]
}

func wanted[T comparable](got, want T) error {
	if got != want {
		return fmt.Errorf("%v, want %v", got, want)
	}
	return nil
}

func (c *hookCase) extract() error {
	got, err := value(dotted("event.data", c.Path), &event.Event{Body: c.Document})
	switch {
	case err != nil && !c.Expected.Found:
		return nil
	case err != nil:
		return err
	}
	text, ok := got.(string)
	if !ok {
		list, err := json.Marshal(got)
		if err != nil {
			return err
		}
		text = string(list)
	}
	return wanted(text, c.Expected.Value)
}

// receive plays a whole request. Only whether it triggers is compared: Riposte answers before a rule runs.
func (c *hookCase) receive() error {
	if c.Request.Method != http.MethodPost { // what is no POST reaches no Source
		return wanted(false, c.Expected.Triggered)
	}
	var p hookProof
	when := c.Hook.Trigger.condition(&p)
	if p.header != "" && p.verify(c.header(p.header), c.Request.Body) != nil {
		return wanted(false, c.Expected.Triggered)
	}
	body, err := source.FormPayload(http.Header{"Content-Type": {c.Request.ContentType}}, []byte(c.Request.Body))
	if err = errors.Join(err, source.ParseJSON(body)); err != nil {
		return wanted(false, c.Expected.Triggered)
	}
	return decided(when, &event.Event{Body: body, Headers: c.Request.Headers}, c.Expected.Triggered, c.Expected.Log == "parameter node not found")
}

func TestCasesOfAdnanhWebhook(t *testing.T) {
	compare(t, "adnanh-webhook", func(c hookCase) string { return c.ID }, `
		ip-01 ip-03 ip-04 match-16 match-20 match-21 match-22 match-26
		sig-scalr-00 sig-scalr-01 sig-scalr-03 e2e-02 e2e-06 e2e-09`,
		func(c hookCase) error { return c.play() })
}
