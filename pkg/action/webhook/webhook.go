// Package webhook holds the action webhook.forward, which sends the event on to other receivers, signed as Standard
// Webhooks specifies.
//
// Guarantees. A message is delivered at least once to each receiver, under an id that is the same for every try, so that one
// that follows Standard Webhooks takes it once. Each receiver is tried on its own, within bounds; one that took the message
// is not sent it again by the same attempt at the step. Every connection is checked by the address that is dialled, and
// redirects are not followed. Neither a secret nor more of an address than its host appears in an error, output or log.
package webhook

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

const (
	maxReceivers    = 50
	parallel        = 8 // receivers that are sent to at once
	maxAttempts     = 10
	defaultAttempts = 4
	defaultTimeout  = 15 * time.Second // the specification asks for 15 to 30
	firstPause      = time.Second
	longestPause    = 30 * time.Second
	// longestAsked is the longest Retry-After that a step waits for; the step's own retry is for what takes longer.
	longestAsked = 2 * time.Minute
)

// Options configure the action.
type Options struct {
	// Client makes the connections; without one every call fails.
	Client *outbound.Client
	// Now is the clock of signatures; default time.Now.
	Now func() time.Time
	// Wait waits between tries, or until the context ends; default a timer.
	Wait func(ctx context.Context, d time.Duration) error
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	return o
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Params are the parameters of webhook.forward.
type Params struct {
	To       []Receiver    `yaml:"to" required:"true" doc:"receivers, at most 50"`
	Data     any           `yaml:"data,omitempty" doc:"what is sent as JSON instead of the event"`
	Attempts int64         `yaml:"attempts,omitempty" default:"4" doc:"tries for each receiver, at most 10, with pauses that double from 1s or are as long as Retry-After says"`
	Timeout  time.Duration `yaml:"timeout,omitempty" default:"15s" doc:"of one try"`
}

// Receiver is where the event goes.
type Receiver struct {
	URL    string           `yaml:"url" required:"true" doc:"http or https address"`
	Secret action.SecretRef `yaml:"secret" required:"true" doc:"key that the message is signed with: whsec_ and base64"`
}

// Outputs are the outputs of webhook.forward.
type Outputs struct {
	Results []any `yaml:"results" doc:"list of {host, id, status, attempts}, one for each receiver"`
}

// Definitions lists the actions.
func Definitions(o Options) []action.Definition {
	f := &forwarder{o.withDefaults()}
	return []action.Definition{{
		Name:             "webhook.forward",
		Doc:              "Sends the event, as the API shows it, to other receivers, signed as Standard Webhooks specifies. Network errors and the statuses 408, 429 and 5xx are tried again, for each receiver on its own; the step fails where one did not take it.",
		Params:           &Params{},
		Outputs:          Outputs{},
		Changes:          true,
		Tells:            true,
		RetryInterrupted: true,
		Fenced:           "by webhook-id, which is the same for every try of an event and address, where the receiver follows Standard Webhooks",
		Check:            check,
		Run:              f.run,
	}}
}

// check looks at what is literal: a templated field is zero.
func check(params any) error {
	p := params.(*Params)
	var errs []error
	if len(p.To) > maxReceivers {
		errs = append(errs, fmt.Errorf("to has %d receivers, more than %d", len(p.To), maxReceivers))
	}
	seen := map[string]bool{}
	for i, r := range p.To {
		if r.URL == "" {
			continue
		}
		if _, err := outbound.ParseURL(r.URL); err != nil {
			errs = append(errs, fmt.Errorf("to[%d].url: %w", i, err))
		}
		if seen[r.URL] {
			errs = append(errs, fmt.Errorf("to[%d].url stands twice", i))
		}
		seen[r.URL] = true
	}
	if p.Attempts < 0 || p.Attempts > maxAttempts {
		errs = append(errs, fmt.Errorf("attempts: %d is not between 1 and %d", p.Attempts, maxAttempts))
	}
	if p.Timeout < 0 {
		errs = append(errs, errors.New("timeout is negative"))
	}
	return errors.Join(errs...)
}

type forwarder struct{ Options }

// message is what one receiver is sent.
type message struct {
	to   *url.URL
	key  []byte
	id   string
	body []byte

	run      string
	attempts int
	timeout  time.Duration
}

// delivery is what became of a message.
type delivery struct {
	status, attempts int
	err              error // names the host
}

func (f *forwarder) run(ctx context.Context, call *action.Call) (action.Outputs, error) {
	messages, err := f.messages(call)
	if err != nil {
		return nil, action.Permanent(err)
	}
	done := make([]delivery, len(messages))
	slots := make(chan struct{}, parallel)
	var senders sync.WaitGroup
	for i, m := range messages {
		slots <- struct{}{}
		senders.Go(func() {
			done[i] = f.deliver(ctx, m)
			<-slots
		})
	}
	senders.Wait()
	var failed []error
	results := make([]any, len(messages))
	for i, d := range done {
		m := messages[i]
		if d.err != nil {
			failed = append(failed, d.err)
		}
		results[i] = map[string]any{"host": m.to.Host, "id": m.id, "status": int64(d.status), "attempts": int64(d.attempts)}
		fmt.Fprintf(call.Log, "%s: message %s, attempts %d, %s\n", m.to.Host, m.id, d.attempts, ending(d)) //nolint:errcheck // the log is best effort
	}
	if len(failed) > 0 {
		return nil, verdict(failed, len(messages))
	}
	return action.Outputs{"results": results}, nil
}

func ending(d delivery) string {
	if d.err != nil {
		return "failed: " + d.err.Error()
	}
	return fmt.Sprintf("answered %d", d.status)
}

// verdict is permanent only where every failure is.
func verdict(failed []error, of int) error {
	err := fmt.Errorf("%d of %d receivers did not take the message: %s", len(failed), of, strings.ReplaceAll(errors.Join(failed...).Error(), "\n", "; "))
	for _, e := range failed {
		if !action.IsPermanent(e) {
			return err
		}
	}
	return action.Permanent(err)
}

func (f *forwarder) messages(call *action.Call) ([]message, error) {
	p := call.Params.(*Params)
	switch {
	case f.Client == nil:
		return nil, errors.New("webhook: Options.Client is nil")
	case len(p.To) == 0:
		return nil, errors.New("to names no receiver")
	}
	if err := check(p); err != nil {
		return nil, err
	}
	body, about, err := content(p, call)
	if err != nil {
		return nil, err
	}
	list := make([]message, len(p.To))
	for i, r := range p.To {
		to, err := outbound.ParseURL(r.URL)
		if err != nil {
			return nil, fmt.Errorf("to[%d].url: %w", i, err)
		}
		key, err := keyOf(call, r.Secret)
		if err != nil {
			return nil, fmt.Errorf("to[%d].secret: %w", i, err)
		}
		list[i] = message{
			to: to, key: key, id: messageID(about, r.URL), body: body,
			run: call.RunID, attempts: int(cmp.Or(p.Attempts, defaultAttempts)), timeout: cmp.Or(p.Timeout, defaultTimeout),
		}
	}
	return list, nil
}

// content returns the body, and what makes it the same message: of an event its id, so that two steps that forward it to
// one receiver are one message there; of other data the step, and the data, which a loop may change.
func content(p *Params, call *action.Call) (body []byte, about string, err error) {
	if p.Data != nil {
		if body, err = json.Marshal(p.Data); err != nil {
			return nil, "", fmt.Errorf("data: %w", err)
		}
		return body, "data\x00" + call.RunID + "\x00" + call.StepID + "\x00" + string(body), nil
	}
	if call.EventJSON == nil || call.Event == nil {
		return nil, "", errors.New("the run has no event to forward: give data")
	}
	if body, err = call.EventJSON(); err != nil {
		return nil, "", fmt.Errorf("read the event: %w", err)
	}
	return body, "event\x00" + call.Event.ID, nil
}

func messageID(about, address string) string {
	sum := sha256.Sum256([]byte(about + "\x00" + address))
	return "msg_" + hex.EncodeToString(sum[:16])
}

// keyOf reads a secret; its errors don't show it.
func keyOf(call *action.Call, ref action.SecretRef) ([]byte, error) {
	text, err := call.Secret(ref)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(text), "whsec_"))
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("secret %q is not whsec_ and base64, which Standard Webhooks needs: openssl rand -base64 32 makes one", ref.Secret)
	}
	return key, nil
}

// sign is the signature of Standard Webhooks, version 1 (pkg/source knows the specification's facts).
func sign(key []byte, id, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// pause is the time before the try that follows the n-th: it doubles, and is anywhere in its upper half, so that receivers
// that failed together are not sent to together.
func pause(n int) time.Duration {
	d := min(firstPause<<(n-1), longestPause)
	return d/2 + rand.N(d/2) //nolint:gosec // it spreads load and hides nothing
}
