package forge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/riposte-dev/riposte/pkg/action"
	hosts "github.com/riposte-dev/riposte/pkg/forge"
)

// StatusParams are the parameters of status.set.
type StatusParams struct {
	Repo        string `yaml:"repo,omitempty" doc:"path of the repository on its host: acme/shop; default: the event's"`
	Host        string `yaml:"host,omitempty" doc:"host of the repository: git.example.com; default: the event's"`
	Commit      string `yaml:"commit,omitempty" doc:"full id of the commit; default: the event's"`
	Context     string `yaml:"context" required:"true" doc:"its name, such as riposte/plan: a later status of the same name replaces it; riposte/rules and riposte/backtest are the server's own"`
	State       string `yaml:"state" required:"true" doc:"pending, success or failure"`
	Description string `yaml:"description,omitempty" doc:"one line; what the host does not take is cut off"`
	URL         string `yaml:"url,omitempty" doc:"where there is more"`
}

// StatusOutputs are the outputs of status.set.
type StatusOutputs struct {
	Commit string `yaml:"commit" doc:"commit that has the status"`
}

// reserved are the statuses by which the server says what it made of rules: a rule must not speak for it.
var reserved = []string{"riposte/rules", "riposte/backtest"}

const maxContext = 255

func (s *speaker) statusSet() action.Definition {
	return action.Definition{
		Name:             "status.set",
		Doc:              "Sets a commit's status, which a host shows beside the commit and its pull request, and may ask for before a merge.",
		Params:           &StatusParams{},
		Outputs:          StatusOutputs{},
		Changes:          true,
		Tells:            true,
		RetryInterrupted: true,
		Causes:           causes([]string{"status"}, nil, []string{"status"}, "event.data.context"),
		Fenced:           "none: the last one counts",
		Check: func(params any) error {
			p := params.(*StatusParams)
			return errors.Join(checkPlace(p.Repo, 0), checkStatus(p))
		},
		Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			p := call.Params.(*StatusParams)
			return s.on(ctx, call, p.Host, p.Repo, "set a commit's status", func(ctx context.Context, a at) (action.Outputs, error) {
				return a.status(ctx, p)
			})
		},
	}
}

// checkStatus looks at what is there; at load, a templated field is empty.
func checkStatus(p *StatusParams) error {
	var errs []error
	states := []hosts.State{hosts.Pending, hosts.Success, hosts.Failure}
	if p.State != "" && !slices.Contains(states, hosts.State(p.State)) {
		errs = append(errs, fmt.Errorf("state: %q is none of pending, success and failure", p.State))
	}
	if slices.Contains(reserved, strings.ToLower(strings.TrimSpace(p.Context))) {
		errs = append(errs, fmt.Errorf("context: %s is what the server itself says of rules: take another name", p.Context))
	}
	if utf8.RuneCountInString(p.Context) > maxContext || strings.ContainsFunc(p.Context, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		errs = append(errs, fmt.Errorf("context: is no line of at most %d characters", maxContext))
	}
	if p.Commit != "" && !isCommit(p.Commit) {
		errs = append(errs, errors.New("commit: is no full id of a commit"))
	}
	if u, err := url.Parse(p.URL); p.URL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		errs = append(errs, errors.New("url: is no http or https address"))
	}
	return errors.Join(errs...)
}

func (a at) status(ctx context.Context, p *StatusParams) (action.Outputs, error) {
	q := *p
	if q.Commit == "" && a.event != nil {
		q.Commit = a.event.Commit
	}
	switch {
	case q.Commit == "":
		return nil, action.Permanent(errors.New("the event has no commit: give commit"))
	case q.State == "" || strings.TrimSpace(q.Context) == "":
		return nil, action.Permanent(errors.New("state or context is empty"))
	}
	if err := checkStatus(&q); err != nil {
		return nil, action.Permanent(err)
	}
	err := a.Forge.SetStatus(ctx, a.repo, q.Commit, hosts.Status{
		State: hosts.State(q.State), Context: q.Context, Description: a.Redact(q.Description), TargetURL: a.Redact(q.URL),
	})
	if err != nil {
		return nil, err
	}
	a.say("%s is %s on %s of %s", q.Context, q.State, q.Commit, a.repo)
	return action.Outputs{"commit": q.Commit}, nil
}
