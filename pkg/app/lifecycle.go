package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// teardown collects what must be undone, in the order it was done; each entry is registered right after what it undoes.
type teardown struct {
	log   *slog.Logger
	steps []teardownStep
}

type teardownStep struct {
	name  string
	limit time.Duration
	undo  func(ctx context.Context) error
}

func (t *teardown) add(name string, limit time.Duration, undo func(ctx context.Context) error) {
	t.steps = append(t.steps, teardownStep{name, limit, undo})
}

// run undoes the last thing first, each within its limit, and joins the errors. A second call does nothing.
func (t *teardown) run() error {
	var errs []error
	for len(t.steps) > 0 {
		s := t.steps[len(t.steps)-1]
		t.steps = t.steps[:len(t.steps)-1]
		ctx, cancel := context.WithTimeout(context.Background(), s.limit)
		began := time.Now()
		if err := s.undo(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.name, err))
		}
		cancel()
		t.log.Debug("stopped", "part", s.name, "took", time.Since(began))
	}
	return errors.Join(errs...)
}

// group runs parts of the server until one of them ends or the context does, and then waits for the rest.
type group struct {
	ctx    context.Context
	cancel context.CancelFunc
	errs   chan error
	n      int
}

func newGroup(ctx context.Context) (*group, context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	return &group{ctx: ctx, cancel: cancel, errs: make(chan error, 16)}, ctx
}

// start runs part in a goroutine of the group's. A part that ends before it is told to ends all of them: a server that
// receives and no longer decides is worse than none.
func (g *group) start(name string, part func() error) {
	g.n++
	go func() {
		err := part()
		switch {
		case g.ctx.Err() != nil && errors.Is(err, context.Canceled):
			err = nil
		case g.ctx.Err() == nil && err == nil:
			err = fmt.Errorf("%s ended though nobody told it to", name)
		case err != nil:
			err = fmt.Errorf("%s: %w", name, err)
		}
		if err != nil {
			g.cancel()
		}
		g.errs <- err
	}()
}

func (g *group) wait() error {
	defer g.cancel()
	var errs []error
	for range g.n {
		errs = append(errs, <-g.errs)
	}
	return errors.Join(errs...)
}
