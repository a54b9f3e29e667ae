package forge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/action"
	hosts "github.com/riposte-dev/riposte/pkg/forge"
)

// OpenParams are the parameters of pullrequest.open.
type OpenParams struct {
	Repo  string `yaml:"repo,omitempty" doc:"path of the repository on its host: acme/shop; default: the event's"`
	Host  string `yaml:"host,omitempty" doc:"host of the repository: git.example.com; default: the event's"`
	Head  string `yaml:"head" required:"true" doc:"branch to merge; it must be there"`
	Base  string `yaml:"base" required:"true" doc:"branch to merge it into"`
	Title string `yaml:"title" required:"true" doc:"one line"`
	Body  string `yaml:"body,omitempty" doc:"text, in Markdown"`
	Code  string `yaml:"code,omitempty" doc:"what is shown below it as it is, in a code block: a plan, a log"`
	Draft bool   `yaml:"draft,omitempty" doc:"open it as a draft"`
}

// OpenOutputs are the outputs of pullrequest.open.
type OpenOutputs struct {
	Number int64  `yaml:"number" doc:"number of the pull request"`
	URL    string `yaml:"url" doc:"for people"`
	Commit string `yaml:"commit" doc:"tip of its branch, for pullrequest.merge"`
	New    bool   `yaml:"new" doc:"it was opened, not found"`
}

func (s *speaker) pullOpen() action.Definition {
	return action.Definition{
		Name:             "pullrequest.open",
		Doc:              "Opens a pull request (GitLab: merge request) between two branches of a repository. Where one is open already it is edited if a rule of this server opened it, and left alone otherwise.",
		Params:           &OpenParams{},
		Outputs:          OpenOutputs{},
		Changes:          true,
		Tells:            true,
		RetryInterrupted: true,
		Causes:           causes([]string{"pull_request"}, []string{"merge_request"}, []string{"pull_request"}, "event.pullRequest.action", "event.pullRequest.author"),
		Fenced:           "by the host, which allows one open pull request between two branches",
		Check: func(params any) error {
			p := params.(*OpenParams)
			err := checkPlace(p.Repo, 0)
			if p.Head != "" && p.Head == p.Base {
				err = errors.Join(err, errors.New("head: is the branch base, too"))
			}
			return err
		},
		Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			p := call.Params.(*OpenParams)
			return s.on(ctx, call, p.Host, p.Repo, "open a pull request", func(ctx context.Context, a at) (action.Outputs, error) {
				made, isNew, err := a.OpenPull(ctx, a.repo, a.key(""), hosts.NewPull{Head: p.Head, Base: p.Base, Draft: p.Draft}, hosts.Text{Title: p.Title, Body: p.Body, Code: p.Code})
				if err != nil {
					return nil, err
				}
				a.say("pull request #%d of %s: %s", made.Number, a.repo, made.URL)
				return action.Outputs{"number": made.Number, "url": made.URL, "commit": made.Commit, "new": isNew}, nil
			})
		},
	}
}

// CommentParams are the parameters of pullrequest.comment.
type CommentParams struct {
	Repo   string `yaml:"repo,omitempty" doc:"path of the repository on its host: acme/shop; default: the event's"`
	Host   string `yaml:"host,omitempty" doc:"host of the repository: git.example.com; default: the event's"`
	Number int64  `yaml:"number,omitempty" doc:"number of the pull request; default: the event's"`
	Key    string `yaml:"key,omitempty" doc:"the rule's comment with this key is edited; without one each run writes a comment"`
	Body   string `yaml:"body" required:"true" doc:"text, in Markdown"`
	Code   string `yaml:"code,omitempty" doc:"what is shown below it as it is, in a code block: a plan, a log"`
}

// CommentOutputs are the outputs of comments.
type CommentOutputs struct {
	Number int64  `yaml:"number" doc:"number of the pull request or issue"`
	ID     int64  `yaml:"id" doc:"id of the comment"`
	URL    string `yaml:"url" doc:"for people"`
	New    bool   `yaml:"new" doc:"it was written, not edited"`
}

func (s *speaker) pullComment() action.Definition {
	return action.Definition{
		Name:             "pullrequest.comment",
		Doc:              "Comments on a pull request (GitLab: merge request), or edits the comment of the same key.",
		Params:           &CommentParams{},
		Outputs:          CommentOutputs{},
		Changes:          true,
		Tells:            true,
		RetryInterrupted: true,
		Causes:           causes([]string{"issue_comment"}, []string{"note"}, []string{"issue_comment", "pull_request_comment"}, byCommenter),
		Fenced:           fencedByKey,
		Check: func(params any) error {
			p := params.(*CommentParams)
			return errors.Join(checkPlace(p.Repo, p.Number), checkKey(p.Key))
		},
		Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			p := call.Params.(*CommentParams)
			return s.on(ctx, call, p.Host, p.Repo, "comment on a pull request", func(ctx context.Context, a at) (action.Outputs, error) {
				number, err := a.pull(p.Number)
				if err != nil {
					return nil, err
				}
				return a.comment(ctx, hosts.Thread{Repo: a.repo, Kind: hosts.KindPull, Number: number}, p.Key, hosts.Text{Body: p.Body, Code: p.Code})
			})
		},
	}
}

func (a at) comment(ctx context.Context, on hosts.Thread, key string, text hosts.Text) (action.Outputs, error) {
	if err := checkKey(key); err != nil {
		return nil, action.Permanent(err)
	}
	c, err := a.Comment(ctx, on, a.key(key), text)
	if err != nil {
		return nil, fmt.Errorf("#%d: %w", on.Number, err)
	}
	a.say("comment on #%d of %s: %s", on.Number, a.repo, c.URL)
	return action.Outputs{"number": c.Number, "id": c.ID, "url": c.URL, "new": c.New}, nil
}

// MergeParams are the parameters of pullrequest.merge.
type MergeParams struct {
	Repo       string `yaml:"repo,omitempty" doc:"path of the repository on its host: acme/shop; default: the event's"`
	Host       string `yaml:"host,omitempty" doc:"host of the repository: git.example.com; default: the event's"`
	Number     int64  `yaml:"number,omitempty" doc:"number of the pull request; default: the event's"`
	Commit     string `yaml:"commit,omitempty" doc:"full id of the commit that its branch must be at; default: the event's"`
	Method     string `yaml:"method,omitempty" doc:"merge, squash or rebase (not on GitLab); default: the host's"`
	Title      string `yaml:"title,omitempty" doc:"first line of the merge's message; default: the host's"`
	Message    string `yaml:"message,omitempty" doc:"the rest of it"`
	AllowForks bool   `yaml:"allowForks,omitempty" doc:"merge what comes from a fork; otherwise the run is refused"`
}

// MergeOutputs are the outputs of pullrequest.merge.
type MergeOutputs struct {
	Number int64  `yaml:"number" doc:"number of the pull request"`
	URL    string `yaml:"url" doc:"for people"`
	Commit string `yaml:"commit" doc:"commit that the merge made, where the host says so"`
}

// full is the shortest full id of a commit.
const full = 40

func (s *speaker) pullMerge() action.Definition {
	return action.Definition{
		Name:             "pullrequest.merge",
		Doc:              "Merges a pull request (GitLab: merge request) if its branch is still at the commit that was decided on. If it has moved on, or the pull request was closed, the run ends as superseded. What keeps a merge back (a missing review, a check that runs) can be retried.",
		Params:           &MergeParams{},
		Outputs:          MergeOutputs{},
		Changes:          true,
		RetryInterrupted: true,
		Causes:           causes([]string{"pull_request", "push"}, []string{"merge_request", "push"}, []string{"pull_request", "push"}, "event.pullRequest.action", "event.pullRequest.merged", "event.git.pusher", "event.git.branch"),
		Fenced:           "by the expected commit, which the host compares",
		Check: func(params any) error {
			p := params.(*MergeParams)
			return errors.Join(checkPlace(p.Repo, p.Number), checkMerge(p))
		},
		Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			p := call.Params.(*MergeParams)
			return s.on(ctx, call, p.Host, p.Repo, "merge a pull request", func(ctx context.Context, a at) (action.Outputs, error) {
				return a.merge(ctx, p)
			})
		},
	}
}

func checkMerge(p *MergeParams) error {
	var errs []error
	if p.Method != "" && !slices.Contains([]string{"merge", "squash", "rebase"}, p.Method) {
		errs = append(errs, fmt.Errorf("method: %q is none of merge, squash and rebase", p.Method))
	}
	if p.Commit != "" && !isCommit(p.Commit) {
		errs = append(errs, errors.New("commit: is no full id of a commit"))
	}
	return errors.Join(errs...)
}

func isCommit(id string) bool {
	return len(id) >= full && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'f') && (r < 'A' || r > 'F')
	})
}

func (a at) merge(ctx context.Context, p *MergeParams) (action.Outputs, error) {
	number, err := a.pull(p.Number)
	if err != nil {
		return nil, err
	}
	commit := p.Commit
	if commit == "" && a.event != nil && a.event.PullRequest == number {
		commit = a.event.Commit
	}
	if commit == "" {
		return nil, action.Permanent(errors.New("the event does not say which commit was decided on: give commit"))
	}
	if err := checkMerge(&MergeParams{Method: p.Method, Commit: commit}); err != nil {
		return nil, action.Permanent(err)
	}
	if !p.AllowForks {
		pr, err := a.Forge.Pull(ctx, a.repo, number)
		if err != nil {
			return nil, fmt.Errorf("#%d: %w", number, err)
		}
		if pr.Fork {
			return nil, action.Refused("ForkedCommit", fmt.Errorf("#%d comes from a fork, which anybody can write to: set allowForks where that is meant", number))
		}
	}
	done, err := a.Merged(ctx, a.repo, number, hosts.Merge{Commit: commit, Method: p.Method, Title: p.Title, Message: p.Message})
	if err != nil {
		return nil, fmt.Errorf("#%d: %w", number, err)
	}
	a.say("merged #%d of %s at %s: %s", number, a.repo, commit, done.MergeCommit)
	return action.Outputs{"number": number, "url": done.URL, "commit": done.MergeCommit}, nil
}
