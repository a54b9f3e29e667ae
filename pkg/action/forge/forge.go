// Package forge holds the actions that speak on the host of a repository: pullrequest.open, .comment and .merge,
// issue.open, .comment and .close, and status.set.
//
// Guarantees. They speak with the hosts that the server's configuration has a token for, and with no other, whatever an
// event says. A text with a key is edited where it stands and not repeated, and a step that is made again finds what it
// wrote before it was cut off. A pull request is merged only at the commit that is named. Texts are masked, bounded, ping
// nobody, close nothing and give no commands. Requests carry the run's id in User-Agent. No token appears in an error.
package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	hosts "github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

// timeout is that of an attempt, with all of its requests.
const timeout = 2 * time.Minute

// Options configure the actions.
type Options struct {
	// Forge returns the API of the host of a repository's address, and the path of the repository there. It fails where the
	// server has no token for that.
	Forge func(repository string) (hosts.Forge, string, error)
	// Redact masks secrets in what is published; without it nothing is.
	Redact func(string) string
	// Version of the server, for the User-Agent.
	Version string
}

// Definitions lists the actions.
func Definitions(o Options) []action.Definition {
	s := &speaker{o, "riposte"}
	if o.Version != "" {
		s.agent += "/" + o.Version
	}
	return []action.Definition{s.pullOpen(), s.pullComment(), s.pullMerge(), s.issueOpen(), s.issueComment(), s.issueClose(), s.statusSet()}
}

type speaker struct {
	o     Options
	agent string
}

// at is one call: a host, a repository on it, and who writes there.
type at struct {
	hosts.Writer
	repo  string
	event *action.EventInfo // nil unless it is of this repository
	call  *action.Call
}

// on opens the repository that the parameters name, or the event's, and calls do. What it fails with says what was tried.
func (s *speaker) on(ctx context.Context, call *action.Call, host, repo, what string, do func(context.Context, at) (action.Outputs, error)) (action.Outputs, error) {
	if s.o.Forge == nil || s.o.Redact == nil {
		return nil, action.Permanent(errors.New("forge: options Forge and Redact are required"))
	}
	address, ofEvent, err := place(call.Event, host, repo)
	if err != nil {
		return nil, action.Permanent(err)
	}
	f, path, err := s.o.Forge(address)
	if err != nil {
		return nil, action.Permanent(fmt.Errorf("%s: %w", what, err))
	}
	a := at{Writer: hosts.Writer{Forge: f, Redact: s.o.Redact}, repo: path, call: call}
	if ofEvent {
		a.event = call.Event
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the host took longer than %s", timeout))
	defer cancel()
	out, err := do(hosts.WithAgent(ctx, s.agent+" ("+call.RunID+")"), a)
	if err != nil {
		return nil, outcome(ctx, fmt.Errorf("%s of %s: %w", what, path, err))
	}
	return out, nil
}

// place is the address of the repository.
func place(e *action.EventInfo, host, repo string) (address string, ofEvent bool, err error) {
	if repo == "" {
		switch {
		case host != "":
			return "", false, errors.New("host is given without repo")
		case e == nil || e.CloneURL == "":
			return "", false, errors.New("the event has no repository: give repo and host")
		}
		return e.CloneURL, true, nil
	}
	if err := checkRepo(repo); err != nil {
		return "", false, err
	}
	if host == "" {
		if e == nil || e.CloneURL == "" {
			return "", false, errors.New("the event has no repository whose host could be meant: give host")
		}
		u, err := url.Parse(e.CloneURL)
		if err != nil || u.Host == "" {
			return "", false, errors.New("the event's repository is not at an https address: give host")
		}
		host = u.Scheme + "://" + u.Host
		ofEvent = strings.EqualFold(repo, e.Repo)
	}
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	return strings.TrimRight(host, "/") + "/" + repo, ofEvent, nil
}

func checkRepo(repo string) error {
	if strings.Contains(repo, "://") || strings.HasPrefix(repo, "/") || !strings.Contains(repo, "/") {
		return errors.New("repo: is the path on the host: acme/shop")
	}
	return nil
}

// outcome says whether a retry may help.
func outcome(ctx context.Context, err error) error {
	var refused *hosts.Error
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	case errors.Is(err, hosts.ErrMoved):
		return action.Superseded(err)
	case errors.Is(err, outbound.ErrForbidden):
		return action.Permanent(err)
	case !errors.As(err, &refused) || refused.Passing():
		return err
	}
	switch refused.Status {
	case http.StatusMethodNotAllowed, http.StatusConflict, http.StatusLocked: // not now: a check is running, a branch is locked
		return err
	}
	return action.Permanent(err)
}

// pull is the number of the pull request that is meant.
func (a at) pull(number int64) (int64, error) {
	switch {
	case number > 0:
		return number, nil
	case a.event == nil || a.event.PullRequest <= 0:
		return 0, action.Permanent(errors.New("the event has no pull request: give number"))
	}
	return a.event.PullRequest, nil
}

func (a at) key(name string) hosts.Key {
	return hosts.Key{Rule: a.call.Rule, Name: name, Run: a.call.RunID, Step: a.call.StepID}
}

func (a at) say(format string, args ...any) {
	fmt.Fprintf(a.call.Log, format+"\n", args...) //nolint:errcheck // the log is best effort
}

// maxKey bounds a key in bytes.
const maxKey = 200

func checkKey(key string) error {
	if len(key) > maxKey {
		return fmt.Errorf("key: has more than %d bytes", maxKey)
	}
	return nil
}

func checkPlace(repo string, number int64) error {
	var errs []error
	if repo != "" {
		errs = append(errs, checkRepo(repo))
	}
	if number < 0 {
		errs = append(errs, errors.New("number: is negative"))
	}
	return errors.Join(errs...)
}

const (
	fencedByKey = "none, but what it writes carries its key: whoever comes second edits it. Two at the same moment can both write."
	bySender    = "event.data.sender.login"
	byUser      = "event.data.user.username" // GitLab
	byCommenter = "event.data.comment.user.login"
)

// causes are the events of a change, by the names of the presets for them.
func causes(githubs, gitlabs, giteas []string, tells ...string) []action.Cause {
	return []action.Cause{
		{Sources: []string{"github"}, Types: githubs, Tells: append([]string{bySender}, tells...)},
		{Sources: []string{"gitlab"}, Types: gitlabs, Tells: append([]string{byUser}, tells...)},
		{Sources: []string{"gitea"}, Types: giteas, Tells: append([]string{bySender}, tells...)},
	}
}
