package git

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/riposte-dev/riposte/pkg/action"
)

// BranchParams are the parameters of git.branch.
type BranchParams struct {
	URL    string `yaml:"url" required:"true" doc:"repository, as of git.pull"`
	Branch string `yaml:"branch" required:"true" doc:"branch to ask for; its short name"`
}

// BranchOutputs are the outputs of git.branch.
type BranchOutputs struct {
	Exists bool   `yaml:"exists" doc:"the repository has the branch"`
	Commit string `yaml:"commit" doc:"full id of the commit that it is at; empty where there is none"`
	Branch string `yaml:"branch" doc:"the branch"`
	URL    string `yaml:"url" doc:"repository, without credentials"`
}

func (p *puller) branchDefinition(invalid error) action.Definition {
	return action.Definition{
		Name: "git.branch",
		Doc: "Asks a repository where a branch is now, without a checkout. That there is none is an answer too: it fails only " +
			"where the repository can't be asked.",
		Params:           &BranchParams{},
		Outputs:          BranchOutputs{},
		RetryInterrupted: true,
		Check:            func(params any) error { return p.checkBranchParams(params.(*BranchParams)) },
		Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			if invalid != nil {
				return nil, action.Permanent(invalid)
			}
			out, err := p.runBranch(ctx, call.Params.(*BranchParams))
			if err != nil {
				return nil, err
			}
			return action.Outputs{"exists": out.Exists, "commit": out.Commit, "branch": out.Branch, "url": out.URL}, nil
		},
	}
}

// checkBranchParams validates literal parameters; templated ones are empty here.
func (p *puller) checkBranchParams(params *BranchParams) error {
	var errs []error
	if params.URL != "" {
		if _, err := p.parse(params.URL); err != nil {
			errs = append(errs, fmt.Errorf("url: %w", err))
		}
	}
	if params.Branch != "" {
		errs = append(errs, checkBranch(params.Branch))
	}
	return errors.Join(errs...)
}

func (p *puller) runBranch(ctx context.Context, params *BranchParams) (BranchOutputs, error) {
	addr, err := p.parse(params.URL)
	if err != nil {
		err = fmt.Errorf("url: %w", err)
	}
	if err := errors.Join(err, checkBranch(params.Branch)); err != nil {
		return BranchOutputs{}, action.Permanent(fmt.Errorf("git.branch: %w", err))
	}
	r := p.remote("git.branch", addr)
	defer r.close()
	var tip plumbing.Hash
	err = p.timed(ctx, func(ctx context.Context) error {
		refs, err := r.advertise(ctx) // a repository without any commit is an error here: it has nothing to say
		if err != nil {
			return fmt.Errorf("ask for its references: %w", err)
		}
		tip = refs.References["refs/heads/"+params.Branch]
		return nil
	})
	if err != nil {
		return BranchOutputs{}, r.explain(ctx, err)
	}
	return BranchOutputs{Exists: !tip.IsZero(), Commit: text(tip), Branch: params.Branch, URL: addr.String()}, nil
}
