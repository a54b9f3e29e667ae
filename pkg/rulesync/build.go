package rulesync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/rule"
)

var errSlow = errors.New("the rules take too long to build")

// builder checks commits and makes sets of their files.
type builder struct {
	verify  func(object []byte) (signer string, err error) // nil accepts any commit
	load    Load
	timeout time.Duration
	log     *slog.Logger
}

// build returns what is wrong with the commit, or the end of ctx.
func (b builder) build(ctx context.Context, c Commit) (*rule.Set, error) {
	if b.verify != nil {
		signer, err := b.verify(c.Object)
		if err != nil {
			return nil, err
		}
		b.log.Info("the commit of the rules is signed", "commit", c.ID, "signer", signer)
	}
	if c.Problem != nil {
		return nil, c.Problem
	}
	if len(c.Files) == 0 {
		return nil, errors.New("there are no rules: no file ends in .yaml or .yml")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.timeout, fmt.Errorf("%w: over %s", errSlow, b.timeout))
	defer cancel()
	set, err := b.load(ctx, c.Files, c.ID)
	return set, bounded(err)
}

// maxProblems is how many problems of a commit are kept: they are held in memory, and shown as they are.
const maxProblems = 100

func bounded(err error) error {
	var all document.Problems
	if !errors.As(err, &all) || len(all) <= maxProblems {
		return err
	}
	rest := document.Problem{Msg: fmt.Sprintf("and %d more problems", len(all)-maxProblems)}
	return append(all[:maxProblems:maxProblems], rest)
}
