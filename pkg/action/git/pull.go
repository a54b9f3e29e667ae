package git

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/transport"

	"github.com/riposte-dev/riposte/pkg/action"
)

// puller runs git.pull. It is safe for concurrent use.
type puller struct {
	Options
	mirrors *mirrors
}

func newPuller(o Options) *puller {
	return &puller{Options: o, mirrors: newMirrors(o.Dir, o.CacheBytes, o.Now)}
}

// check validates literal parameters; templated ones are empty here.
func (p *puller) check(params *PullParams) error {
	if params.Depth < 0 {
		return fmt.Errorf("depth is %d; it must be 0 for all history, or more", params.Depth)
	}
	if params.URL == "" {
		return nil
	}
	_, err := p.parse(params.URL)
	return err
}

func (p *puller) parse(raw string) (address, error) {
	a, err := parseURL(raw)
	if err != nil {
		return address{}, err
	}
	if a.scheme == "file" && !p.AllowLocal {
		return address{}, errors.New("paths of this machine are allowed under `serve --dev` only: use an https or ssh URL")
	}
	return a, nil
}

func (p *puller) run(ctx context.Context, call *action.Call) (action.Outputs, error) {
	params := call.Params.(*PullParams)
	if call.Event != nil && call.Event.Fork && !params.AllowForks {
		return nil, action.Refused("ForkedCommit", errors.New("the event comes from a fork, whose code anybody can write: set allowForks where that is meant"))
	}
	if err := p.check(params); err != nil {
		return nil, action.Permanent(fmt.Errorf("git.pull: %w", err))
	}
	addr, err := p.parse(params.URL)
	if err != nil {
		return nil, action.Permanent(fmt.Errorf("git.pull: url: %w", err))
	}
	dir, err := stepDir(call)
	if err != nil {
		return nil, err
	}
	r := p.remote("git.pull", addr)
	defer r.close()
	out, err := p.pull(ctx, call, r, dir)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, r.explain(ctx, err)
	}
	return out.values(), nil
}

// remote prepares to talk to a repository; doing stands before errors.
func (p *puller) remote(doing string, a address) *remote {
	return &remote{doing: doing, addr: a, cred: credentialFor(p.Credentials, a), dial: p.Dial, caFile: p.CAFile, meter: newMeter(p.MaxBytes)}
}

// stepDir is the checkout's place, empty.
func stepDir(call *action.Call) (string, error) {
	dir, err := call.Path()
	if err != nil {
		return "", fmt.Errorf("git.pull: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("git.pull: clear the checkout of an earlier attempt: %w", err)
	}
	return dir, nil
}

func (p *puller) pull(ctx context.Context, call *action.Call, r *remote, dir string) (out PullOutputs, err error) {
	err = p.mirrored(ctx, r, call.Log, func(l *lease, repo *repository) error {
		if err := os.RemoveAll(dir); err != nil { // of a first try
			return fmt.Errorf("clear the checkout: %w", err)
		}
		out, err = p.pullInto(ctx, call, r, l, repo, dir)
		return err
	})
	return out, err
}

func (p *puller) pullInto(ctx context.Context, call *action.Call, r *remote, l *lease, repo *repository, dir string) (out PullOutputs, err error) {
	found, commit, err := p.fetch(ctx, call, r, repo)
	if err != nil {
		return out, err
	}
	l.fetched()
	t := target{commit: commit, branch: found.branch, url: r.addr.String()}
	if err := writeCheckout(ctx, repo, dir, t, checkoutFactor*p.MaxBytes, call.Log); err != nil {
		return out, err
	}
	fmt.Fprintf(call.Log, "%s of %s is checked out at %s\n", found.ref, r.addr, commit)
	return PullOutputs{Dir: dir, Commit: commit.String(), Branch: found.branch, Ref: found.ref, URL: r.addr.String()}, nil
}

// mirrored calls use with the remote's mirror, and a second time with a new one where the first was broken.
func (p *puller) mirrored(ctx context.Context, r *remote, log io.Writer, use func(*lease, *repository) error) error {
	err := p.mirroredOnce(ctx, r, use)
	if !errors.Is(err, errMirror) || ctx.Err() != nil {
		return err
	}
	fmt.Fprintf(log, "%v; fetching it anew\n", err)
	return p.mirroredOnce(ctx, r, use)
}

func (p *puller) mirroredOnce(ctx context.Context, r *remote, use func(*lease, *repository) error) (err error) {
	l, err := p.mirrors.acquire(ctx, r.addr)
	if err != nil {
		return err
	}
	defer func() {
		if errors.Is(err, errMirror) {
			l.discard()
		}
		l.release()
	}()
	repo := openRepository(l.path())
	if repo.packs() >= maxPacks {
		return fmt.Errorf("%w: it holds %d packs", errMirror, repo.packs())
	}
	return use(l, repo)
}

var errTimeout = errors.New("the remote took too long")

// fetch finds out what the reference is and brings it into the mirror.
func (p *puller) fetch(ctx context.Context, call *action.Call, r *remote, repo *repository) (w wanted, commit plumbing.Hash, err error) {
	params := call.Params.(*PullParams)
	err = p.timed(ctx, func(ctx context.Context) (err error) {
		w, commit, err = p.fetchRef(ctx, call, r, repo, params)
		return err
	})
	return w, commit, err
}

// timed bounds the talk with a remote.
func (p *puller) timed(ctx context.Context, talk func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.Timeout, fmt.Errorf("%w: over %s", errTimeout, p.Timeout))
	defer cancel()
	err := talk(ctx)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

func (p *puller) fetchRef(ctx context.Context, call *action.Call, r *remote, repo *repository, params *PullParams) (wanted, plumbing.Hash, error) {
	refs, err := r.advertise(ctx)
	if err != nil {
		return wanted{}, plumbing.ZeroHash, fmt.Errorf("ask for its references: %w", err)
	}
	w, err := resolve(refs, params.Ref)
	if err != nil {
		return wanted{}, plumbing.ZeroHash, err
	}
	if err := superseded(refs, w, call.Event); err != nil && !params.AllowStale {
		return wanted{}, plumbing.ZeroHash, err
	}
	f := p.fetcher(r)
	if w.reachable(refs) {
		err = p.ensure(ctx, f, repo, refs, w.object, params.Depth)
	} else {
		err = p.search(ctx, f, repo, refs, w, call.Event)
	}
	if err != nil {
		return wanted{}, plumbing.ZeroHash, err
	}
	commit, err := repo.peel(w.object)
	return w, commit, err
}

func (p *puller) fetcher(r *remote) fetcher {
	if p.Backend == BackendGit && r.addr.scheme != "file" {
		return &program{runner: p.Runner, remote: r}
	}
	return goGit{r}
}

// ensure fetches only what the mirror lacks.
func (p *puller) ensure(ctx context.Context, f fetcher, repo *repository, refs *packp.AdvRefs, want plumbing.Hash, depth int64) error {
	held, err := repo.holds(want, depth)
	if err != nil || held {
		return err
	}
	if err := f.fetch(ctx, repo, refs, want, depth); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	if err := repo.HasEncodedObject(want); err != nil {
		return fmt.Errorf("the remote did not send %s", want)
	}
	return nil
}

// search looks for a commit that the remote gives only as part of a branch: deeper and deeper in the event's branch, or
// in the branch of HEAD.
func (p *puller) search(ctx context.Context, f fetcher, repo *repository, refs *packp.AdvRefs, w wanted, e *action.EventInfo) error {
	if held, err := repo.holds(w.object, 1); err != nil || held {
		return err
	}
	tip, ok := plumbing.ZeroHash, false
	if e != nil && e.Branch != "" {
		tip, ok = refs.References["refs/heads/"+e.Branch]
	}
	if !ok && refs.Head != nil {
		tip, ok = *refs.Head, true
	}
	if !ok {
		return fmt.Errorf("%w: commit %s", errUnknownRef, w.object)
	}
	return p.searchFrom(ctx, f, repo, refs, tip, w.object)
}

// deeper are the depths in which a history is looked at: few commits first, all of them last.
func deeper() []int64 { return []int64{64, 1024, 0} }

// searchFrom looks for a commit in the history of a tip.
func (p *puller) searchFrom(ctx context.Context, f fetcher, repo *repository, refs *packp.AdvRefs, tip, commit plumbing.Hash) error {
	for _, depth := range deeper() {
		if err := p.ensure(ctx, f, repo, refs, tip, depth); err != nil {
			return err
		}
		if held, err := repo.holds(commit, 1); err != nil || held {
			return err
		}
	}
	return fmt.Errorf("%w: commit %s is not in the history of the branch", errUnknownRef, commit)
}

// wanted is what a reference stands for on the remote.
type wanted struct {
	object plumbing.Hash // a commit, or an annotated tag
	ref    string
	branch string
}

var (
	errUnknownRef = errors.New("the remote has no such reference")
	errNotCommit  = errors.New("the reference is not a commit")
	commitID      = regexp.MustCompile(`^[0-9a-f]{40}$`)
	shortID       = regexp.MustCompile(`^[0-9a-f]{7,40}$`)
)

// resolve finds ref among what the remote has. A commit id stands for itself, whatever a branch may be called.
func resolve(refs *packp.AdvRefs, ref string) (wanted, error) {
	if commitID.MatchString(ref) {
		return wanted{object: plumbing.NewHash(ref), ref: ref}, nil
	}
	if ref == "" || ref == "HEAD" {
		return resolveHead(refs)
	}
	names := []string{"refs/heads/" + ref, "refs/tags/" + ref}
	if strings.HasPrefix(ref, "refs/") {
		names = []string{ref}
	}
	for _, name := range names {
		hash, ok := refs.References[name]
		if !ok {
			continue
		}
		branch, isBranch := strings.CutPrefix(name, "refs/heads/")
		if !isBranch {
			branch = ""
		} else if plumbing.ReferenceName(name).Validate() != nil {
			return wanted{}, fmt.Errorf("%w: %q is no valid name", errUnknownRef, ref)
		}
		return wanted{object: hash, ref: name, branch: branch}, nil
	}
	return wanted{}, fmt.Errorf("%w: %q is neither a branch nor a tag", errUnknownRef, ref)
}

func resolveHead(refs *packp.AdvRefs) (wanted, error) {
	for _, s := range refs.Capabilities.Get(capability.SymRef) {
		if name, ok := strings.CutPrefix(s, "HEAD:"); ok && strings.HasPrefix(name, "refs/heads/") {
			return resolve(refs, name)
		}
	}
	if refs.Head == nil {
		return wanted{}, fmt.Errorf("%w: it has no HEAD", errUnknownRef)
	}
	return wanted{object: *refs.Head, ref: "HEAD"}, nil
}

// reachable reports whether the remote gives the object when asked for it: what it advertises, and any commit where it
// says so. go-git's server, for local repositories, gives everything.
func (w wanted) reachable(refs *packp.AdvRefs) bool {
	for _, c := range []capability.Capability{capability.AllowReachableSHA1InWant, "allow-any-sha1-in-want"} {
		if refs.Capabilities.Supports(c) {
			return true
		}
	}
	return advertised(refs, w.object)
}

func advertised(refs *packp.AdvRefs, h plumbing.Hash) bool {
	if refs.Head != nil && *refs.Head == h {
		return true
	}
	for _, tip := range refs.References {
		if tip == h {
			return true
		}
	}
	return false
}

// superseded compares the event's commit with its branch's tip now. The branch of a fork is one of another repository:
// there, the commit must still be some reference's, as a pull request's head is.
func superseded(refs *packp.AdvRefs, w wanted, e *action.EventInfo) error {
	if e == nil || e.Commit == "" || w.ref != e.Commit {
		return nil
	}
	if e.Fork {
		if advertised(refs, w.object) {
			return nil
		}
		return action.Superseded(fmt.Errorf("commit %s is no longer the tip of the fork's branch", e.Commit))
	}
	if e.Branch == "" {
		return nil
	}
	tip, ok := refs.References["refs/heads/"+e.Branch]
	if !ok {
		return action.Superseded(fmt.Errorf("branch %q of commit %s is gone; set allowStale to check it out all the same", e.Branch, e.Commit))
	}
	if tip != w.object {
		return action.Superseded(fmt.Errorf("branch %q is at %s now, no longer at %s; set allowStale to check it out all the same", e.Branch, tip, e.Commit))
	}
	return nil
}

// login returns the name and token for https.
func (r *remote) login() (user, token string, err error) {
	token, err = r.cred.Token()
	if err != nil {
		return "", "", fmt.Errorf("resolve the token for %s: %w", r.addr, err)
	}
	user = r.cred.Username
	if user == "" {
		user = "x-access-token"
	}
	r.secrets = append(r.secrets, token, base64.StdEncoding.EncodeToString([]byte(user+":"+token)))
	return user, token, nil
}

// explain says what went wrong with which repository and what to do, without what must not be seen, and marks what no
// retry cures.
func (r *remote) explain(ctx context.Context, err error) error {
	if action.IsSuperseded(err) {
		return err
	}
	said, permanent := r.say(ctx, err)
	if permanent {
		return action.Permanent(said)
	}
	return said
}

// say is explain without the mark.
func (r *remote) say(ctx context.Context, err error) (said error, permanent bool) {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", r.doing, r.addr, context.Cause(ctx)), false
	}
	hint, permanent := r.hint(err)
	return &pullError{text: r.doing + " " + r.addr.String() + ": " + r.redact(err.Error()) + hint, err: err}, permanent
}

// pullError shows a redacted text and keeps the cause for errors.Is.
type pullError struct {
	text string
	err  error
}

func (e *pullError) Error() string { return e.text }
func (e *pullError) Unwrap() error { return e.err }

const maxErrorText = 2 << 10

// redact removes credentials, which a hostile remote can send back, and what would confuse a terminal.
func (r *remote) redact(text string) string {
	for _, s := range r.secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	text = strings.Map(func(c rune) rune {
		if c == '\n' {
			return c
		}
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxErrorText {
		text = text[:maxErrorText] + "…"
	}
	return strings.TrimSpace(text)
}

func (r *remote) hint(err error) (hint string, permanent bool) {
	var dns *net.DNSError
	switch {
	case errors.Is(err, errTimeout):
		return "; raise the server's git time-out if the repository is that large", false
	case errors.Is(err, errTooLarge):
		return "; raise the server's git byte limit, lower depth, or choose another repository", true
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed), isSSHAuth(err):
		return r.credentialHint(), true
	case errors.Is(err, transport.ErrRepositoryNotFound) && r.addr.scheme == "file":
		return "; no repository is there: make run makes that of the example", true
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return "; a host also answers so where credentials are missing: " + strings.TrimPrefix(r.credentialHint(), "; "), true
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return "; push a first commit", true
	case errors.Is(err, errPushTooBig):
		return "; keep large files elsewhere", true
	case errors.Is(err, errMoved):
		return "; try again", false
	case errors.Is(err, errDeclined):
		return "; a rule of the host forbids it: let the credential's account do it there, or push to another branch and open a pull request", true
	case errors.Is(err, errNotForward):
		return "; pull the branch again and commit on top of it, in a new run", true
	case errors.Is(err, errUnexpected):
		return "; look at what is there, and name it in expect if it may go", true
	case errors.Is(err, errConflict):
		return "; revert those commits first, or let people do it", true
	case errors.Is(err, errNoParent):
		return "; give mainline, as of git revert", true
	case errors.Is(err, errTooManyFiles):
		return "; narrow the path, or move files elsewhere", true
	case errors.Is(err, errUnknownRef), errors.Is(err, errNotCommit):
		return "; check ref", true
	case errors.Is(err, errTree):
		return "; it was not made by an honest git", true
	case errors.Is(err, errPlainHTTP):
		return "; use https", true
	case errors.Is(err, errNoSSHKey), errors.Is(err, errNoKnownHosts), errors.Is(err, errBadKey):
		return "; give sshKey and knownHosts for this URL's prefix under `credentials` in the server's configuration", true
	case isHostKey(err):
		return "; the known_hosts file of this URL's credential does not hold the key that the server shows", true
	case errors.As(err, &dns) && dns.IsNotFound:
		return "; check the host name", true
	case isForbiddenAddress(err):
		return "", true // the error names the setting
	}
	return "", false
}

func (r *remote) credentialHint() string {
	if r.cred == nil {
		return "; no credential's URL prefix covers it: add one under `credentials` in the server's configuration"
	}
	return "; check the credential for " + r.cred.URLPrefix + " under `credentials` in the server's configuration"
}
