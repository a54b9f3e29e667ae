package forge

import (
	"context"
	"errors"

	"github.com/riposte-dev/riposte/pkg/action"
	hosts "github.com/riposte-dev/riposte/pkg/forge"
)

// IssueParams are the parameters of issue.open.
type IssueParams struct {
	Repo  string `yaml:"repo,omitempty" doc:"path of the repository on its host: acme/shop; default: the event's"`
	Host  string `yaml:"host,omitempty" doc:"host of the repository: git.example.com; default: the event's"`
	Key   string `yaml:"key" required:"true" doc:"names the matter among those of the rule: while its issue is open, that gets a comment instead of a second issue"`
	Title string `yaml:"title" required:"true" doc:"one line"`
	Body  string `yaml:"body,omitempty" doc:"text, in Markdown"`
	Code  string `yaml:"code,omitempty" doc:"what is shown below it as it is, in a code block: a plan, a log"`
}

// IssueOutputs are the outputs of issue.open.
type IssueOutputs struct {
	Number int64  `yaml:"number" doc:"number of the issue"`
	URL    string `yaml:"url" doc:"of the issue, or of the comment that it got"`
	New    bool   `yaml:"new" doc:"the issue was opened; otherwise it got a comment"`
}

func (s *speaker) issueOpen() action.Definition {
	return action.Definition{
		Name:             "issue.open",
		Doc:              "Opens an issue. While the rule's issue with the same key is open, that gets the text as a comment instead.",
		Params:           &IssueParams{},
		Outputs:          IssueOutputs{},
		Changes:          true,
		Tells:            true,
		RetryInterrupted: true,
		Causes:           causes([]string{"issues", "issue_comment"}, []string{"issue", "note"}, []string{"issues", "issue_comment"}, byCommenter),
		Fenced:           fencedByKey,
		Check: func(params any) error {
			p := params.(*IssueParams)
			return errors.Join(checkPlace(p.Repo, 0), checkKey(p.Key))
		},
		Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			p := call.Params.(*IssueParams)
			return s.on(ctx, call, p.Host, p.Repo, "open an issue", func(ctx context.Context, a at) (action.Outputs, error) {
				if err := needKey(p.Key); err != nil {
					return nil, err
				}
				made, err := a.OpenIssue(ctx, a.repo, a.key(p.Key), hosts.Text{Title: p.Title, Body: p.Body, Code: p.Code})
				if err != nil {
					return nil, err
				}
				a.say("issue #%d of %s: %s", made.Number, a.repo, made.URL)
				return action.Outputs{"number": made.Number, "url": made.URL, "new": made.New}, nil
			})
		},
	}
}

func needKey(key string) error {
	if key == "" {
		return action.Permanent(errors.New("key: is empty"))
	}
	if err := checkKey(key); err != nil {
		return action.Permanent(err)
	}
	return nil
}

// IssueCommentParams are the parameters of issue.comment.
type IssueCommentParams struct {
	Repo   string `yaml:"repo,omitempty" doc:"path of the repository on its host: acme/shop; default: the event's"`
	Host   string `yaml:"host,omitempty" doc:"host of the repository: git.example.com; default: the event's"`
	Number int64  `yaml:"number" required:"true" doc:"number of the issue"`
	Key    string `yaml:"key,omitempty" doc:"the rule's comment with this key is edited; without one each run writes a comment"`
	Body   string `yaml:"body" required:"true" doc:"text, in Markdown"`
	Code   string `yaml:"code,omitempty" doc:"what is shown below it as it is, in a code block: a plan, a log"`
}

func (s *speaker) issueComment() action.Definition {
	return action.Definition{
		Name:             "issue.comment",
		Doc:              "Comments on an issue, or edits the comment of the same key.",
		Params:           &IssueCommentParams{},
		Outputs:          CommentOutputs{},
		Changes:          true,
		Tells:            true,
		RetryInterrupted: true,
		Causes:           causes([]string{"issue_comment"}, []string{"note"}, []string{"issue_comment"}, byCommenter),
		Fenced:           fencedByKey,
		Check: func(params any) error {
			p := params.(*IssueCommentParams)
			return errors.Join(checkPlace(p.Repo, p.Number), checkKey(p.Key))
		},
		Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			p := call.Params.(*IssueCommentParams)
			return s.on(ctx, call, p.Host, p.Repo, "comment on an issue", func(ctx context.Context, a at) (action.Outputs, error) {
				if p.Number <= 0 {
					return nil, action.Permanent(errors.New("number: is no number of an issue"))
				}
				return a.comment(ctx, hosts.Thread{Repo: a.repo, Kind: hosts.KindIssue, Number: p.Number}, p.Key, hosts.Text{Body: p.Body, Code: p.Code})
			})
		},
	}
}

// CloseParams are the parameters of issue.close.
type CloseParams struct {
	Repo   string `yaml:"repo,omitempty" doc:"path of the repository on its host: acme/shop; default: the event's"`
	Host   string `yaml:"host,omitempty" doc:"host of the repository: git.example.com; default: the event's"`
	Number int64  `yaml:"number,omitempty" doc:"number of the issue; or rule and key"`
	Key    string `yaml:"key,omitempty" doc:"key that issue.open gave it; where no such issue is open, nothing is closed"`
	Rule   string `yaml:"rule,omitempty" doc:"rule that opened it, beside key; default: this one"`
	Body   string `yaml:"body,omitempty" doc:"comment to write before, in Markdown"`
}

// CloseOutputs are the outputs of issue.close.
type CloseOutputs struct {
	Number int64  `yaml:"number" doc:"number of the issue; 0 where none was open"`
	URL    string `yaml:"url" doc:"for people"`
	Closed bool   `yaml:"closed" doc:"false where no issue with the key was open"`
}

func (s *speaker) issueClose() action.Definition {
	return action.Definition{
		Name:             "issue.close",
		Doc:              "Closes an issue, named by its number or by the key that issue.open gave it.",
		Params:           &CloseParams{},
		Outputs:          CloseOutputs{},
		Changes:          true,
		Tells:            true,
		RetryInterrupted: true,
		Causes:           causes([]string{"issues", "issue_comment"}, []string{"issue", "note"}, []string{"issues", "issue_comment"}, byCommenter, "event.data.action"),
		Fenced:           "none, but closing twice is closing once",
		Check: func(params any) error {
			p := params.(*CloseParams)
			return errors.Join(checkPlace(p.Repo, p.Number), checkKey(p.Key))
		},
		Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			p := call.Params.(*CloseParams)
			return s.on(ctx, call, p.Host, p.Repo, "close an issue", func(ctx context.Context, a at) (action.Outputs, error) {
				return a.close(ctx, p)
			})
		},
	}
}

func (a at) close(ctx context.Context, p *CloseParams) (action.Outputs, error) {
	number := p.Number
	if number <= 0 {
		if err := needKey(p.Key); err != nil {
			return nil, action.Permanent(errors.New("give number or key"))
		}
		k := a.key(p.Key)
		if p.Rule != "" {
			k.Rule = p.Rule
		}
		found, err := a.FindIssue(ctx, a.repo, k)
		if err != nil {
			return nil, err
		}
		if found == nil {
			a.say("no issue with key %q is open in %s", p.Key, a.repo)
			return action.Outputs{"number": int64(0), "url": "", "closed": false}, nil
		}
		number = found.Number
	}
	if p.Body != "" {
		if _, err := a.comment(ctx, hosts.Thread{Repo: a.repo, Kind: hosts.KindIssue, Number: number}, "", hosts.Text{Body: p.Body}); err != nil {
			return nil, err
		}
	}
	closed, err := a.Forge.CloseIssue(ctx, a.repo, number)
	if err != nil {
		return nil, err
	}
	a.say("closed #%d of %s", number, a.repo)
	return action.Outputs{"number": number, "url": closed.URL, "closed": true}, nil
}
