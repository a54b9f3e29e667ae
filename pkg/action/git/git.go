// Package git is the action git.pull, which brings one commit of a remote repository into the run's own directory, the
// actions git.commit, git.push and git.revert, which change one, the Differ, which tells what changed between two commits,
// Files, which reads a commit's files without a checkout and lists what is proposed, and the Lister, which asks for branches.
//
// Guarantees. One fetch at a time runs against a mirror; others of the same repository wait for it, and find what it
// brought. A mirror is a cache: a broken one is thrown away and fetched again, and the least recently used ones make
// room. What a remote sends is bounded in bytes and time while it is received, and in the size of each object and of the
// whole checkout before memory or disk is spent on it. Nothing of a repository runs: no hooks, no submodules, no filters.
// A checkout holds no symbolic link that leaves it and no entry that Git would take for its own directory.
//
// Writing is done in process, whatever the backend. A branch moves only from the commit at which it was seen to another, in
// one transaction of the host, and loses commits only where they were named, or were made by the same rule. Each commit
// names the run and rule that made it (event.WithTrailers), so that a step that is made again finds what it did.
//
// Addresses are checked when dialled, by Options.Dial. Credentials go only to URLs below their prefix, compared by
// scheme, host, port and whole path segments, and never follow a redirect to another host. No credential appears in an
// error, an output or the log.
package git

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/command"
)

// Backends that fetch.
const (
	BackendGoGit = "go-git" // the default; in process
	BackendGit   = "git"    // the git program on PATH
)

// Defaults of Options.
const (
	DefaultCacheBytes = 10 << 30
	DefaultMaxBytes   = 1 << 30
	DefaultTimeout    = 10 * time.Minute
)

// Credential is what proves who we are to the URLs below a prefix. A longer prefix wins over a shorter one.
type Credential struct {
	// URLPrefix is an https, ssh or scp-like URL: https://host/path, ssh://user@host:port/path, user@host:path.
	URLPrefix string
	// Username goes with Token; x-access-token when empty, which the usual hosts accept beside a token.
	Username string
	// Token returns the password or token for https; it is asked at every pull.
	Token func() (string, error)
	// SSHKey returns a private key in PEM; it is asked at every pull.
	SSHKey func() ([]byte, error)
	// KnownHosts is the path of a known_hosts file. SSH without one is refused.
	KnownHosts string
}

// Options configure the package.
type Options struct {
	// Dir is where mirrors are kept; it is made when missing and belongs to this package alone.
	Dir string
	// CacheBytes is how much the mirrors may take together before the least recently used ones are removed.
	CacheBytes int64
	// MaxBytes bounds what one pull may receive; a checkout may be four times as large.
	MaxBytes int64
	// Timeout bounds one pull's talk with the remote.
	Timeout time.Duration
	// Backend is BackendGoGit or BackendGit.
	Backend string
	// AllowLocal lets a URL be a path or file:// URL of this machine; only serve --dev does.
	AllowLocal bool
	// Credentials in any order.
	Credentials []Credential
	// Dial connects to remotes and refuses addresses that policy forbids: outbound.Client.DialContext.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// CAFile holds the authorities in PEM that https remotes must be signed by, in place of the system's; optional.
	CAFile string
	// Runner starts the git program; needed for BackendGit only.
	Runner *command.Runner
	// Committer makes the commits of git.commit and git.revert, as "Name <mail>"; DefaultCommitter when empty.
	Committer string
	// Now is the clock by which mirrors age and commits are made; time.Now when nil.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	o.CacheBytes = cmp.Or(o.CacheBytes, DefaultCacheBytes)
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.Backend = cmp.Or(o.Backend, BackendGoGit)
	o.Committer = cmp.Or(o.Committer, DefaultCommitter)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Validate reports every field that cannot work.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("git: Options.Dir is empty"))
	}
	if o.Dial == nil {
		errs = append(errs, errors.New("git: Options.Dial is nil"))
	}
	if o.CacheBytes < 0 || o.MaxBytes < 0 || o.Timeout < 0 {
		errs = append(errs, errors.New("git: Options.CacheBytes, MaxBytes and Timeout must not be negative"))
	}
	switch o.Backend {
	case BackendGoGit:
	case BackendGit:
		if o.Runner == nil {
			errs = append(errs, errors.New("git: Options.Runner is nil; the backend git needs it"))
		}
	default:
		errs = append(errs, fmt.Errorf("git: Options.Backend is %q; it must be %q or %q", o.Backend, BackendGoGit, BackendGit))
	}
	if _, err := identity(o.Committer); err != nil {
		errs = append(errs, fmt.Errorf("git: Options.Committer: %w", err))
	}
	for i, c := range o.Credentials {
		if _, err := parsePrefix(c.URLPrefix); err != nil {
			errs = append(errs, fmt.Errorf("git: Options.Credentials[%d].URLPrefix: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// PullParams are the parameters of git.pull.
type PullParams struct {
	URL        string `yaml:"url" required:"true" doc:"repository, as an https or ssh URL or user@host:path, without credentials in it"`
	Ref        string `yaml:"ref" doc:"branch, tag, full reference or full commit id; the remote's HEAD when empty. A branch wins over a tag of the same name."`
	Depth      int64  `yaml:"depth" default:"1" doc:"commits of history to bring; 0 brings all"`
	AllowStale bool   `yaml:"allowStale" doc:"check out the event's commit even if its branch has moved on; otherwise the run ends as superseded"`
	AllowForks bool   `yaml:"allowForks" doc:"check out code of an event that comes from a fork; otherwise the run is refused"`
}

// PullOutputs are the outputs of git.pull.
type PullOutputs struct {
	Dir    string `yaml:"dir" doc:"directory of the checkout on this machine"`
	Commit string `yaml:"commit" doc:"full id of the commit"`
	Branch string `yaml:"branch" doc:"branch that was checked out; empty for a tag or a commit id"`
	Ref    string `yaml:"ref" doc:"full name of the reference; the commit id where that was asked for"`
	URL    string `yaml:"url" doc:"repository, without credentials"`
}

func (o PullOutputs) values() action.Outputs {
	return action.Outputs{"dir": o.Dir, "commit": o.Commit, "branch": o.Branch, "ref": o.Ref, "url": o.URL}
}

// Definitions returns git.pull, git.commit, git.push, git.revert and git.branch. Options that do not validate make every call fail with what is wrong.
func Definitions(o Options) []action.Definition {
	definitions, _ := Open(o)
	return definitions
}

// Open returns what Definitions does, and a Differ that shares its mirrors.
func Open(o Options) ([]action.Definition, *Differ) {
	invalid := o.Validate()
	p := newPuller(o.withDefaults())
	return []action.Definition{
		p.definition(invalid), p.commitDefinition(invalid), p.pushDefinition(invalid), p.revertDefinition(invalid), p.branchDefinition(invalid),
	}, &Differ{p, invalid}
}

func (p *puller) definition(invalid error) action.Definition {
	return action.Definition{
		Name: "git.pull",
		Doc: "Checks out a commit of a remote repository into the run's own directory, with history as deep as depth says. " +
			"Submodules are not fetched and nothing of the repository runs.",
		Params:           &PullParams{},
		Outputs:          PullOutputs{},
		LocalOutputs:     true,
		RetryInterrupted: true,
		Check:            func(params any) error { return p.check(params.(*PullParams)) },
		Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			if invalid != nil {
				return nil, action.Permanent(invalid)
			}
			return p.run(ctx, call)
		},
	}
}
