// Package alertmanager holds the action alertmanager.silence, which silences alerts in Alertmanager for a while.
//
// Guarantees. What has the same key is one silence: a step that is done again extends it, and never shortens it. Only
// silences of this action are changed, known by who created them. Alerts that an event names are matched by equality, and
// a silence that would match every alert, or every alert that lacks a label, is refused. Answers are bounded.
package alertmanager

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

const (
	timeout = 30 * time.Second
	maxKey  = 200 // bytes
	maxSaid = 300 // bytes of what Alertmanager says
)

// broadSilence is the reason of runs that were refused for a silence that would hide too much.
const broadSilence = "BroadSilence"

// Options configure the action.
type Options struct {
	// Server is the Alertmanager of the configuration; its URL is empty where there is none.
	Server outbound.API
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Params are the parameters of alertmanager.silence.
type Params struct {
	Matchers      map[string]string `yaml:"matchers,omitempty" doc:"labels and the values that alerts must have, all of them"`
	MatchersRegex map[string]string `yaml:"matchersRegex,omitempty" doc:"labels and the regular expressions that must match their whole values; the value of an expression stands for itself"`
	Duration      time.Duration     `yaml:"duration,omitempty" doc:"how long from now; needed unless it expires"`
	Comment       string            `yaml:"comment,omitempty" doc:"why, for people; default: the rule and the run"`
	Key           string            `yaml:"key,omitempty" doc:"what makes it the same silence, also for other rules: its matchers are replaced and its end moves on; default: the rule with the matchers"`
	Expire        bool              `yaml:"expire,omitempty" doc:"end the silence instead; where there is none, nothing is done"`
}

// Outputs are the outputs of alertmanager.silence.
type Outputs struct {
	ID      string `yaml:"id" doc:"the silence's id; empty where there was none to expire"`
	EndsAt  string `yaml:"endsAt" doc:"when it ends, as RFC 3339; empty where there was none to expire"`
	Existed bool   `yaml:"existed" doc:"there was one of this key"`
}

// Definitions lists the actions.
func Definitions(o Options) []action.Definition {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &silencer{o}
	return []action.Definition{{
		Name:             "alertmanager.silence",
		NoDir:            true,
		Doc:              "Silences alerts in the Alertmanager of the server's configuration, extends the silence of the same key, or ends it. A silence that would match every alert is refused.",
		Params:           &Params{},
		Outputs:          Outputs{},
		Changes:          true,
		RetryInterrupted: true,
		Fenced:           "none: a stale owner may extend a silence once more; by its key it is never made twice",
		Quote:            map[string]func(before, value string) (string, error){"matchersRegex": quote},
		Check:            func(params any) error { return params.(*Params).check() },
		Run:              s.run,
	}}
}

// quote lets a value stand for itself in a regular expression.
func quote(_, value string) (string, error) { return regexp.QuoteMeta(value), nil }

// check looks at what is literal: a templated field is zero.
func (p *Params) check() error {
	var errs []error
	if p.Duration < 0 {
		errs = append(errs, errors.New("duration is negative"))
	}
	if len(p.Key) > maxKey {
		errs = append(errs, fmt.Errorf("key has %d bytes, more than %d", len(p.Key), maxKey))
	}
	for _, name := range slices.Sorted(maps.Keys(p.MatchersRegex)) {
		if _, err := whole(p.MatchersRegex[name]); err != nil {
			errs = append(errs, fmt.Errorf("matchersRegex.%s: %w", name, err))
		}
		if _, both := p.Matchers[name]; both {
			errs = append(errs, fmt.Errorf("%s stands in matchers and in matchersRegex", name))
		}
	}
	return errors.Join(errs...)
}

// whole compiles an expression as Alertmanager anchors it.
func whole(text string) (*regexp.Regexp, error) { return regexp.Compile("^(?:" + text + ")$") }

// matcher is one of the API (prometheus/alertmanager, api/v2/openapi.yaml).
type matcher struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	IsRegex bool   `json:"isRegex"`
	IsEqual bool   `json:"isEqual"`
}

// matchers returns the parameters' in a fixed order.
func (p *Params) matchers() []matcher {
	var list []matcher
	for _, name := range slices.Sorted(maps.Keys(p.Matchers)) {
		list = append(list, matcher{name, p.Matchers[name], false, true})
	}
	for _, name := range slices.Sorted(maps.Keys(p.MatchersRegex)) {
		list = append(list, matcher{name, p.MatchersRegex[name], true, true})
	}
	return list
}

// narrow refuses what would match every alert, and what matches alerts for what they lack.
func narrow(list []matcher) error {
	tells := false
	for _, m := range list {
		if strings.TrimSpace(m.Name) == "" {
			return errors.New("a matcher has no name")
		}
		if m.Value == "" {
			return fmt.Errorf("the matcher of %s is empty: it would match every alert without that label", m.Name)
		}
		if !m.IsRegex {
			tells = true
			continue
		}
		re, err := whole(m.Value)
		if err != nil {
			return fmt.Errorf("the matcher of %s: %w", m.Name, err)
		}
		if re.MatchString("") {
			return fmt.Errorf("the matcher of %s also matches the empty text: it would match every alert without that label", m.Name)
		}
		tells = tells || !universal(re)
	}
	if !tells {
		return errors.New("the matchers match every alert: name at least one label with a value")
	}
	return nil
}

// universal reports whether an expression matches texts that have nothing in common.
func universal(re *regexp.Regexp) bool {
	for _, probe := range []string{"q", "Zebra", "7", "kube-system/x_y.z", "10.1.2.3:9100", "été 42!"} {
		if !re.MatchString(probe) {
			return false
		}
	}
	return true
}

// silence is one of the API.
type silence struct {
	ID        string    `json:"id,omitempty"`
	Matchers  []matcher `json:"matchers"`
	StartsAt  time.Time `json:"startsAt"`
	EndsAt    time.Time `json:"endsAt"`
	CreatedBy string    `json:"createdBy"`
	Comment   string    `json:"comment"`
	Status    *struct {
		State string `json:"state"`
	} `json:"status,omitempty"`
}

type silencer struct{ Options }

func (s *silencer) run(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*Params)
	if err := p.check(); err != nil {
		return nil, action.Permanent(err)
	}
	list := p.matchers()
	switch {
	case s.Server.URL == "":
		return nil, action.Permanent(errors.New("there is no Alertmanager: set alertmanager.url in the server's configuration"))
	case p.Expire && p.Key == "" && len(list) == 0:
		return nil, action.Permanent(errors.New("name the silence to expire by its key, or by the matchers it was made with"))
	case !p.Expire && p.Duration == 0:
		return nil, action.Permanent(errors.New("duration is missing"))
	}
	if !p.Expire {
		if err := narrow(list); err != nil {
			return nil, action.Refused(broadSilence, err)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errors.New("the time to answer in has passed"))
	defer cancel()
	mark := marker(p, call, list)
	found, err := s.find(ctx, mark)
	if err != nil {
		return nil, err
	}
	if p.Expire {
		return s.expire(ctx, call, found)
	}
	return s.extend(ctx, call, found, silence{Matchers: list, CreatedBy: mark, Comment: comment(p, call)}, p.Duration)
}

// marker is who a silence is created by: this program, and the key.
func marker(p *Params, call *action.Call, list []matcher) string {
	key := oneLine(p.Key)
	if key == "" {
		text, _ := json.Marshal(list) // it can't fail
		sum := sha256.Sum256(text)
		key = call.Rule + "/" + hex.EncodeToString(sum[:8])
	}
	return "riposte: " + key
}

func comment(p *Params, call *action.Call) string {
	if text := oneLine(p.Comment); text != "" {
		return text
	}
	return fmt.Sprintf("rule %s, run %s", call.Rule, call.RunID)
}

// oneLine drops line breaks and what is no text.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return strings.Join(strings.Fields(text), " ")
}

// find returns the silences of a marker that have not ended.
func (s *silencer) find(ctx context.Context, mark string) ([]silence, error) {
	var all []silence
	if err := s.ask(ctx, http.MethodGet, "/api/v2/silences", nil, &all); err != nil {
		return nil, fmt.Errorf("list the silences: %w", err)
	}
	return slices.DeleteFunc(all, func(x silence) bool {
		return x.CreatedBy != mark || x.Status == nil || x.Status.State == "expired"
	}), nil
}

func (s *silencer) expire(ctx context.Context, call *action.Call, found []silence) (action.Outputs, error) {
	out := action.Outputs{"id": "", "endsAt": "", "existed": len(found) > 0}
	for _, x := range found {
		if err := s.ask(ctx, http.MethodDelete, "/api/v2/silence/"+url.PathEscape(x.ID), nil, nil); err != nil {
			return nil, fmt.Errorf("expire silence %s: %w", x.ID, err)
		}
		fmt.Fprintf(call.Log, "silence %s has ended\n", x.ID) //nolint:errcheck // the log is best effort
		out["id"], out["endsAt"] = x.ID, s.Now().UTC().Format(time.RFC3339)
	}
	return out, nil
}

// extend makes the silence, or moves the end of the one there is. Alertmanager keeps the id where the start stays.
func (s *silencer) extend(ctx context.Context, call *action.Call, found []silence, want silence, d time.Duration) (action.Outputs, error) {
	now := s.Now().UTC()
	want.StartsAt, want.EndsAt = now, now.Add(d)
	if len(found) > 0 {
		last := slices.MaxFunc(found, func(a, b silence) int { return a.EndsAt.Compare(b.EndsAt) })
		want.ID, want.StartsAt = last.ID, last.StartsAt
		if last.EndsAt.After(want.EndsAt) {
			want.EndsAt = last.EndsAt
		}
	}
	var answer struct {
		ID string `json:"silenceID"`
	}
	if err := s.ask(ctx, http.MethodPost, "/api/v2/silences", want, &answer); err != nil {
		return nil, fmt.Errorf("make the silence: %w", err)
	}
	ends := want.EndsAt.UTC().Format(time.RFC3339)
	fmt.Fprintf(call.Log, "silence %s until %s\n", answer.ID, ends) //nolint:errcheck // the log is best effort
	return action.Outputs{"id": answer.ID, "endsAt": ends, "existed": len(found) > 0}, nil
}

// ask sends a request and reads the answer into a value, unless that is nil.
func (s *silencer) ask(ctx context.Context, method, path string, body, into any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return action.Permanent(err)
		}
	}
	answer, err := s.Server.Do(ctx, method, path, "application/json", text)
	switch {
	case errors.Is(err, outbound.ErrForbidden) || errors.Is(err, outbound.ErrTooLarge):
		return action.Permanent(err)
	case err != nil:
		return err
	case answer.Status < 200 || answer.Status > 299:
		return judge(answer)
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(answer.Body, into); err != nil {
		return action.Permanent(errors.New("what it answered is not of Alertmanager's API: is alertmanager.url right?"))
	}
	return nil
}

func judge(answer outbound.Answer) error {
	said := oneLine(strings.Trim(strings.TrimSpace(string(answer.Body)), `"`))
	if len(said) > maxSaid {
		said = strings.ToValidUTF8(said[:maxSaid], "") + "…"
	}
	err := fmt.Errorf("answered %d %s: %s", answer.Status, http.StatusText(answer.Status), said)
	if outbound.Passing(answer.Status) {
		return err
	}
	return action.Permanent(err)
}
