// Package notify holds the action notify.send, which sends a message to a Target.
//
// Guarantees. A message is sent at least once: a step that a crash cut off sends it again. Messages above a target's rate
// are collected in memory into a digest of bounded size, which is sent when the window allows, or by Close; a crash loses
// that digest, and so does a time in which neither the target nor a fallback can be reached. Event text addresses nobody
// and becomes no markup of the target. Neither an address nor a secret appears in an error.
//
// Every connection is made by outbound.Client, which checks the address that is dialled; what can't send through it is no
// type of target. Redirects are not followed. A cancelled step stops sending before it returns.
package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

// maxChain bounds a target and its fallbacks together.
const maxChain = 5

// Options configure a Sender.
type Options struct {
	// Client makes the connections; without one only targets of type log work.
	Client *outbound.Client
	// Logger takes the messages of targets of type log, and what went wrong with digests; default slog.Default.
	Logger *slog.Logger
	// Now is the clock of the rates; default time.Now.
	Now func() time.Time
}

// Params are the parameters of notify.send.
type Params struct {
	To       string `yaml:"to" required:"true" ref:"target" doc:"name of the Target"`
	Text     string `yaml:"text" required:"true" doc:"the message"`
	Title    string `yaml:"title,omitempty" doc:"one line above it"`
	Severity string `yaml:"severity,omitempty" doc:"how bad it is; pagerduty knows critical, error, warning and info"`
	DedupKey string `yaml:"dedupKey,omitempty" doc:"messages with the same key are one incident, where the target knows that"`
}

// Outputs are the outputs of notify.send.
type Outputs struct {
	Target   string `yaml:"target" doc:"the target that got the message, or whose digest will hold it"`
	Fallback bool   `yaml:"fallback" doc:"the message went to a fallback"`
	Digested bool   `yaml:"digested" doc:"the message waits for the target's next digest"`
}

// Sender sends messages and keeps the rates of targets. It is safe for concurrent use.
type Sender struct {
	opts    Options
	sending sync.WaitGroup // digests

	mu     sync.Mutex
	closed bool // digests are not collected any more
	gates  map[string]*gate
}

// New makes a Sender; Close it.
func New(o Options) *Sender {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Sender{opts: o, gates: map[string]*gate{}}
}

// Definitions lists the actions.
func (s *Sender) Definitions() []action.Definition {
	return []action.Definition{{
		Name:             "notify.send",
		Doc:              "Sends a message to a Target. Above the target's rate, messages are collected into a digest. A target that cannot be reached is replaced by its fallback.",
		Params:           &Params{},
		Outputs:          Outputs{},
		Changes:          true,
		Tells:            true,
		RetryInterrupted: true,
		Fenced:           "none: a message may be sent twice; dedupKey makes it one incident where the target knows that",
		CheckTarget:      CheckTarget,
		Run:              s.run,
	}}
}

// message is what is sent, before it is written as a target's type needs it.
type message struct {
	title, text, severity, dedupKey string
	run, rule, event                string
}

// meantFor notes in a message to a fallback which target it was for.
func (m message) meantFor(name string, fallbacks int) message {
	if fallbacks > 0 {
		m.text += "\n(for target " + name + ", which could not be reached)"
	}
	return m
}

// destination is a target with its secret.
type destination struct {
	action.Target
	url string
}

func (s *Sender) run(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*Params)
	if p.Text == "" {
		return nil, action.Permanent(errors.New("text is empty"))
	}
	m := message{title: oneLine(clean(p.Title)), text: cut(clean(p.Text), maxText), severity: p.Severity, dedupKey: p.DedupKey, run: call.RunID, rule: call.Rule}
	if call.Event != nil {
		m.event = call.Event.ID
	}
	chain, err := resolve(call, p.To)
	if err != nil {
		return nil, action.Permanent(err)
	}
	var errs []error
	for i, d := range chain {
		digested, err := s.pass(ctx, chain[i:], m.meantFor(chain[0].Name, i), call.Log)
		if err == nil {
			return action.Outputs{"target": d.Name, "fallback": i > 0, "digested": digested}, nil
		}
		errs = append(errs, fmt.Errorf("target %s: %w", d.Name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, verdict(errs)
}

// verdict is permanent only when every target's failure is.
func verdict(errs []error) error {
	all := errors.Join(errs...)
	for _, err := range errs {
		if !action.IsPermanent(err) {
			return errors.New(all.Error()) // none of the marks within counts for the whole
		}
	}
	return action.Permanent(all)
}

// resolve returns a target and its fallbacks, each once. A fallback that cannot be had is left out, and logged.
func resolve(call *action.Call, name string) ([]destination, error) {
	var chain []destination
	seen := map[string]bool{}
	for name != "" && !seen[name] && len(chain) < maxChain {
		seen[name] = true
		d, err := destinationOf(call, name)
		if err != nil {
			if len(chain) == 0 {
				return nil, err
			}
			logf(call.Log, "fallback %s is left out: %v", name, err)
			break
		}
		chain = append(chain, d)
		name = d.Fallback
	}
	return chain, nil
}

func destinationOf(call *action.Call, name string) (destination, error) {
	target, err := call.Target(name)
	if err != nil {
		return destination{}, fmt.Errorf("target %s: %w", name, err)
	}
	target.Name = cmp.Or(target.Name, name)
	d := destination{Target: target}
	if target.Type == typeLog {
		return d, nil
	}
	if d.url, err = call.Secret(target.URL); err != nil {
		return d, fmt.Errorf("target %s: url: %w", name, err)
	}
	return d, nil
}

// pass sends the message to the first of the chain, or leaves it to that target's digest.
func (s *Sender) pass(ctx context.Context, chain []destination, m message, log io.Writer) (digested bool, err error) {
	d := chain[0]
	if s.admit(chain, m) {
		logf(log, "target %s is above its rate: the message waits for the next digest", d.Name)
		return true, nil
	}
	return false, s.send(ctx, d, m)
}

func logf(w io.Writer, format string, args ...any) {
	if w != nil {
		fmt.Fprintf(w, format+"\n", args...) //nolint:errcheck // the log is best effort
	}
}
