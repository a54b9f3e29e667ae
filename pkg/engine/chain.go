package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// Loops bound what runs cause in a circle.
type Loops struct {
	// MaxDepth is how many runs may stand above another in a chain in which each caused the event that started the next;
	// default 3.
	MaxDepth int
	// Accounts are our own, in lower case, at the hosts: what they do, and no run is known to have caused, starts nothing.
	Accounts []string
}

// unknownDepth is how deep a run counts that caused an event and is not on record any more, or is another server's.
const unknownDepth = 1

// cause is how an event came about: its place in a chain of runs.
type cause struct {
	run    string // that caused it; empty where none did
	depth  int    // of the runs that it starts
	refuse string // why it may start none
}

// causeOf finds out whether an event, whose views are made, is our own doing.
func (p *partition) causeOf(ctx context.Context, e *event.Event) cause {
	id := e.CausingRun()
	switch {
	case id == "" && e.CausedBy == "" && e.Git != nil && slices.Contains(p.e.Loops.Accounts, strings.ToLower(e.Git.Pusher)):
		return cause{refuse: fmt.Sprintf("%s, one of our own accounts (loops.accounts), caused the event, and it names no run", e.Git.Pusher)}
	case id == "":
		return cause{}
	}
	c := cause{run: id, depth: unknownDepth + 1}
	above, known := p.recorded(ctx, id)
	if known {
		c.depth = above.Depth + 1
	}
	if c.depth > p.e.Loops.MaxDepth {
		c.refuse = fmt.Sprintf("runs cause one another in a circle: %s; a chain may hold %d runs (loops.maxDepth is %d)",
			p.chain(ctx, above, id), p.e.Loops.MaxDepth+1, p.e.Loops.MaxDepth)
	}
	return c
}

// chain names the runs above an event, the first one first.
func (p *partition) chain(ctx context.Context, r run.Run, id string) string {
	var names []string
	for known := true; len(names) <= p.e.Loops.MaxDepth; {
		if !known || r.ID == "" {
			names = append(names, "run "+id)
			break
		}
		names = append(names, fmt.Sprintf("%s (run %s)", r.Rule, r.ID))
		if id = r.CausedBy; id == "" {
			break
		}
		r, known = p.recorded(ctx, id)
	}
	slices.Reverse(names)
	return strings.Join(names, " → ")
}

// recorded returns the record of a run, wherever it is.
func (p *partition) recorded(ctx context.Context, id string) (run.Run, bool) {
	if a := p.runs[id]; a != nil {
		return *a.run, true
	}
	var r run.Run
	err := patiently(ctx, func() (err error) {
		r, err = p.e.Store.Run(ctx, id)
		return err
	})
	return r, err == nil && r.ID == id // an id could be shortened
}

// place gives a run its place in the chain, and refuses it where that is too deep.
func (c cause) place(r *run.Created) {
	r.Depth, r.CausedBy = c.depth, c.run
	if c.refuse != "" && r.State == "" {
		r.State, r.Reason, r.Message = run.Refused, run.ReasonLoop, c.refuse
	}
}

// last returns the event on whose account a window fires, with its views; read is the event that was read, if any. It returns
// nil where that can't be read.
func (p *partition) last(ctx context.Context, f fired, read *event.Event) *event.Event {
	id := f.Event().ID
	if read != nil && read.ID == id {
		return read
	}
	var en event.Entry
	err := patiently(ctx, func() (err error) {
		en, err = p.e.Log.Read(ctx, id, f.Event().Pos)
		return err
	})
	if err == nil {
		err = normalise(p.set, en.Record.Event)
	}
	if err != nil {
		p.log.Warn("the last event of a window can't be read: its run counts as one that another caused", "rule", f.rule.Name, "event", id, "error", err)
		return nil
	}
	return en.Record.Event
}

// causeOfFired finds out how the event came about on whose account a window fires; nil is one that can't be read.
func (p *partition) causeOfFired(ctx context.Context, last *event.Event) cause {
	if last == nil {
		return cause{depth: unknownDepth + 1}
	}
	return p.causeOf(ctx, last)
}
