package git

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
)

// PushParams are the parameters of git.push.
type PushParams struct {
	Dir    string `yaml:"dir" doc:"checkout of git.pull whose HEAD is pushed; a relative one is below the run's own directory"`
	URL    string `yaml:"url" doc:"repository, as of git.pull; with dir the default is where that was pulled from"`
	Branch string `yaml:"branch" required:"true" doc:"branch to push to, made if it is missing; its short name"`
	Commit string `yaml:"commit" doc:"full id of the commit to push. With dir, what its HEAD has to be: give the output of git.commit, so that a lost commit is an error. Without dir, a commit that the repository has."`
	Force  bool   `yaml:"force" doc:"replace what the branch holds, if that is what expect says; also to go back to an earlier commit"`
	Expect string `yaml:"expect" doc:"full id of the commit that force may replace; by default the one that git.pull found, or one that this rule made"`
}

// branchTarget names the branch that a step changes. Where the step does not name the repository it is taken to be the event's.
func branchTarget(of func(*action.Call) (url, branch string)) func(*action.Call) string {
	return func(c *action.Call) string {
		url, branch := of(c)
		if url == "" && c.Event != nil {
			url = c.Event.CloneURL
		}
		return "branch " + branch + " of " + url
	}
}

// PushOutputs are the outputs of git.push.
type PushOutputs struct {
	Commit   string `yaml:"commit" doc:"full id of the commit"`
	Branch   string `yaml:"branch" doc:"branch that holds it"`
	URL      string `yaml:"url" doc:"repository, without credentials"`
	Changed  bool   `yaml:"changed" doc:"the run moved the branch; false where the branch held the commit before"`
	Previous string `yaml:"previous" doc:"commit that the branch was at; empty where it was made, or was not moved"`
}

// pushFence is what protects a branch from a stale owner.
const pushFence = "by the branch's old value: the host moves the branch only if it is where this run saw it, so a late push changes nothing"

// pushCauses are the events that a push makes hosts send.
func pushCauses() []action.Cause {
	return []action.Cause{{
		Sources: []string{"github", "gitlab", "gitea"}, Types: []string{"push"},
		Fields: map[string]string{"event.git.branch": "branch"}, Tells: []string{"event.git.pusher"},
	}}
}

func (p *puller) pushDefinition(invalid error) action.Definition {
	return action.Definition{
		Name: "git.push",
		Doc: "Pushes a commit to a branch. A branch that has moved on is an error, and what it holds is never overwritten unseen: " +
			"force replaces one expected commit only. A branch that holds the commit already is a success, unless force is to go back to it from the one that expect names.",
		Params:           &PushParams{},
		Outputs:          PushOutputs{},
		Changes:          true,
		Target:           branchTarget(func(c *action.Call) (url, branch string) { p := c.Params.(*PushParams); return p.URL, p.Branch }),
		RetryInterrupted: true,
		Causes:           pushCauses(),
		Fenced:           pushFence,
		Check:            func(params any) error { return p.checkPush(params.(*PushParams)) },
		Run: func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			if invalid != nil {
				return nil, action.Permanent(invalid)
			}
			out, err := p.runPush(ctx, call, call.Params.(*PushParams))
			if err != nil {
				return nil, err
			}
			return action.Outputs{"commit": out.Commit, "branch": out.Branch, "url": out.URL, "changed": out.Changed, "previous": out.Previous}, nil
		},
	}
}

// checkPush validates literal parameters; templated ones are empty here.
func (p *puller) checkPush(params *PushParams) error {
	var errs []error
	if params.URL != "" {
		if _, err := p.parse(params.URL); err != nil {
			errs = append(errs, fmt.Errorf("url: %w", err))
		}
	}
	if params.Branch != "" {
		errs = append(errs, checkBranch(params.Branch))
	}
	for name, id := range map[string]string{"commit": params.Commit, "expect": params.Expect} {
		if id != "" && !commitID.MatchString(id) {
			errs = append(errs, fmt.Errorf("%s: %q is no commit id of 40 digits", name, id))
		}
	}
	return errors.Join(errs...)
}

func (p *puller) runPush(ctx context.Context, call *action.Call, params *PushParams) (PushOutputs, error) {
	if err := noFork(call); err != nil {
		return PushOutputs{}, err
	}
	if err := errors.Join(p.checkPush(params), checkBranch(params.Branch)); err != nil {
		return PushOutputs{}, action.Permanent(fmt.Errorf("git.push: %w", err))
	}
	j := &pushJob{p: p, call: call, params: params}
	addr, err := j.prepare()
	if err != nil {
		return PushOutputs{}, fmt.Errorf("git.push: %w", err)
	}
	j.r = p.remote("git.push", addr)
	defer j.r.close()
	done, err := j.push(ctx)
	if err != nil {
		return PushOutputs{}, j.r.explain(ctx, err)
	}
	return PushOutputs{Commit: j.commit.String(), Branch: params.Branch, URL: addr.String(), Changed: done.changed, Previous: text(done.previous)}, nil
}

// pushJob is one call of git.push.
type pushJob struct {
	p      *puller
	call   *action.Call
	params *PushParams
	r      *remote

	work   *work // nil without dir
	pulled bool  // the remote is the one that dir was pulled from
	commit plumbing.Hash
}

// prepare finds what to push, and where to.
func (j *pushJob) prepare() (address, error) {
	raw := j.params.URL
	if j.params.Dir == "" {
		if raw == "" || j.params.Commit == "" {
			return address{}, action.Permanent(errors.New("give dir, or url and commit"))
		}
		j.commit = plumbing.NewHash(j.params.Commit)
		return j.parse(raw)
	}
	w, err := openWork(j.call, j.params.Dir)
	if err != nil {
		return address{}, err
	}
	j.work, j.commit = &w, w.commit
	if want := j.params.Commit; want != "" && want != w.commit.String() {
		return address{}, action.Permanent(fmt.Errorf("the checkout is at %s and not at %s, the commit to push: it was lost with its machine, or something moved HEAD; start the run anew", w.commit, want))
	}
	origin := w.origin()
	if raw == "" {
		raw = origin
	}
	a, err := j.parse(raw)
	if err != nil {
		return address{}, err
	}
	from, err := j.p.parse(origin)
	j.pulled = err == nil && from == a
	return a, nil
}

func (j *pushJob) parse(raw string) (address, error) {
	a, err := j.p.parse(raw)
	if err != nil {
		return address{}, action.Permanent(fmt.Errorf("url: %w", err))
	}
	return a, nil
}

// origin is where a checkout was pulled from; "" if that can't be told.
func (w work) origin() string {
	s := filesystem.NewStorage(osfs.New(filepath.Join(w.dir, ".git"), osfs.WithBoundOS()), cache.NewObjectLRU(0))
	c, err := s.Config()
	if err != nil || c.Remotes["origin"] == nil || len(c.Remotes["origin"].URLs) == 0 {
		return ""
	}
	return c.Remotes["origin"].URLs[0]
}

var (
	// errNotForward says that the branch holds what the commit does not.
	errNotForward = errors.New("the branch has moved on")
	// errUnexpected says that force would overwrite what nobody named.
	errUnexpected = errors.New("the branch is not what was expected")
)

func (j *pushJob) push(ctx context.Context) (pushed, error) {
	tip, known, err := j.p.branchTip(ctx, j.r, j.params.Branch)
	if err != nil {
		return pushed{}, err
	}
	if tip == j.commit {
		return j.already(), nil
	}
	forward, err := j.forward(ctx, tip)
	if err != nil {
		return pushed{}, err
	}
	back := j.params.Force && j.params.Expect == tip.String() // to a commit that what is expected there builds on
	if forward == heldAlready && !back {
		return j.already(), nil
	}
	if forward != fastForward {
		if err := j.mayReplace(ctx, tip); err != nil {
			return pushed{}, err
		}
	}
	u := update{branch: plumbing.NewBranchReferenceName(j.params.Branch), old: tip, new: j.commit}
	if u.pack, err = j.pack(ctx, known); err != nil {
		return pushed{}, err
	}
	err = j.p.timed(ctx, func(ctx context.Context) error { return j.r.push(ctx, u) })
	if err != nil {
		return pushed{}, err
	}
	if j.work != nil && j.pulled {
		_ = j.work.repo.SetReference(plumbing.NewHashReference(trackingRef(j.params.Branch), j.commit)) // for later forces
	}
	fmt.Fprintf(j.call.Log, "branch %s of %s is at %s now\n", j.params.Branch, j.r.addr, j.commit)
	return pushed{tip, true}, nil
}

// already is the answer where the branch holds the commit: the run moved it if it made the commit.
func (j *pushJob) already() pushed {
	fmt.Fprintf(j.call.Log, "branch %s of %s holds %s already\n", j.params.Branch, j.r.addr, j.commit)
	if j.work == nil {
		return pushed{}
	}
	c, err := j.work.object(j.commit)
	return pushed{changed: err == nil && event.CommitRun(c.Message) == j.call.RunID}
}

// direction is how a branch's tip and the commit to push lie.
type direction int

const (
	unknown direction = iota
	diverged
	fastForward
	heldAlready
)

// forward compares, first by what the checkout holds, then by what the remote has.
func (j *pushJob) forward(ctx context.Context, tip plumbing.Hash) (direction, error) {
	if tip.IsZero() {
		return fastForward, j.bring(ctx)
	}
	starts := []plumbing.Hash{j.commit}
	if j.work != nil {
		found, ends, err := j.work.reaches(ctx, j.commit, tip)
		if err != nil || found {
			return fastForward, err
		}
		starts = ends
	}
	var got direction
	err := j.p.mirrored(ctx, j.r, j.call.Log, func(_ *lease, repo *repository) error {
		return j.p.timed(ctx, func(ctx context.Context) (err error) {
			got, err = j.compare(ctx, repo, tip, starts)
			return err
		})
	})
	return got, err
}

// bring makes sure that a commit without a checkout is one of the repository.
func (j *pushJob) bring(ctx context.Context) error {
	if j.work != nil {
		return nil
	}
	return j.p.mirrored(ctx, j.r, j.call.Log, func(_ *lease, repo *repository) error {
		return j.p.timed(ctx, func(ctx context.Context) error {
			refs, err := j.r.advertise(ctx)
			if err != nil {
				return fmt.Errorf("ask for its references: %w", err)
			}
			return j.fetchCommit(ctx, repo, refs)
		})
	})
}

func (j *pushJob) fetchCommit(ctx context.Context, repo *repository, refs *packp.AdvRefs) error {
	w := wanted{object: j.commit, ref: j.commit.String()}
	f := j.p.fetcher(j.r)
	if w.reachable(refs) {
		return j.p.ensure(ctx, f, repo, refs, w.object, 1)
	}
	return j.p.search(ctx, f, repo, refs, w, j.call.Event)
}

// compare fetches the branch, and looks for the commit in it, then for the branch's tip in what led to the commit.
func (j *pushJob) compare(ctx context.Context, repo *repository, tip plumbing.Hash, starts []plumbing.Hash) (direction, error) {
	refs, err := j.r.advertise(ctx)
	if err != nil {
		return diverged, fmt.Errorf("ask for its references: %w", err)
	}
	if j.work == nil {
		if err := j.fetchCommit(ctx, repo, refs); err != nil {
			return diverged, err
		}
	}
	f := j.p.fetcher(j.r)
	depths := deeper()
	if j.work != nil {
		depths = depths[:1] // what another attempt pushed is near the tip
	}
	for _, depth := range depths {
		if err := j.p.ensure(ctx, f, repo, refs, tip, depth); err != nil {
			return diverged, err
		}
		got, err := j.held(ctx, repo, tip, starts)
		if err != nil || got != unknown {
			return got, err
		}
	}
	for _, start := range starts {
		if found, err := j.descends(ctx, f, repo, refs, start, tip); err != nil || found {
			return fastForward, err
		}
	}
	return diverged, nil
}

// held looks in a branch, as far as it is here, for the commit, or for one that this run made of the same files. A branch
// that only went on from where the commit began has left it.
func (j *pushJob) held(ctx context.Context, repo *repository, tip plumbing.Hash, starts []plumbing.Hash) (direction, error) {
	var twin *object.Commit
	if j.work != nil {
		c, err := j.work.object(j.commit)
		if err != nil {
			return unknown, err
		}
		if event.CommitRun(c.Message) == j.call.RunID {
			twin = c
		}
	}
	h, err := repo.history(ctx)
	if err != nil {
		return unknown, err
	}
	got := unknown
	_, err = h.walk(tip, maxHistory, func(c *object.Commit) bool {
		switch {
		case c.Hash == j.commit, twin != nil && c.TreeHash == twin.TreeHash && c.Message == twin.Message:
			got = heldAlready
		case slices.Contains(starts, c.Hash):
			got = diverged
		}
		return got != heldAlready
	})
	return got, err
}

// descends reports whether a commit's history, fetched as deep as needed, holds another.
func (j *pushJob) descends(ctx context.Context, f fetcher, repo *repository, refs *packp.AdvRefs, from, to plumbing.Hash) (bool, error) {
	for _, depth := range deeper() {
		if err := j.p.ensure(ctx, f, repo, refs, from, depth); err != nil {
			return false, err
		}
		h, err := repo.history(ctx)
		if err != nil {
			return false, err
		}
		found := false
		ends, err := h.walk(from, maxHistory, func(c *object.Commit) bool {
			found = c.Hash == to
			return !found
		})
		if err != nil || found || len(ends) == 0 {
			return found, err
		}
	}
	return false, nil
}

// walk visits a commit and its history as far as it is here, nearest first, until visit says no. It returns the commits at
// which the history is cut off.
func (h *history) walk(from plumbing.Hash, limit int, visit func(*object.Commit) bool) (ends []plumbing.Hash, err error) {
	next, seen := []plumbing.Hash{from}, map[plumbing.Hash]bool{from: true}
	for len(next) > 0 && len(seen) <= limit {
		c, err := h.commit(next[0])
		if err != nil {
			return nil, err
		}
		if next = next[1:]; !visit(c) {
			return nil, nil
		}
		if h.cut[c.Hash] {
			ends = append(ends, c.Hash)
			continue
		}
		for _, parent := range c.ParentHashes {
			if !seen[parent] {
				seen[parent] = true
				next = append(next, parent)
			}
		}
	}
	return ends, nil
}

// reaches looks for a commit in a checkout's history; ends are where that is cut off.
func (w work) reaches(ctx context.Context, from, to plumbing.Hash) (found bool, ends []plumbing.Hash, err error) {
	h, err := w.repo.history(ctx)
	if err != nil {
		return false, nil, err
	}
	ends, err = h.walk(from, maxHistory, func(c *object.Commit) bool {
		found = c.Hash == to
		return !found
	})
	return found, ends, w.own(err)
}

// own says of a broken repository that it is the checkout's, which no new mirror cures.
func (w work) own(err error) error {
	if errors.Is(err, errMirror) {
		return action.Permanent(fmt.Errorf("the checkout %s is incomplete: %s", w.dir, strings.TrimPrefix(err.Error(), errMirror.Error()+": ")))
	}
	return err
}

// mayReplace decides about a branch that is no ancestor of the commit.
func (j *pushJob) mayReplace(ctx context.Context, tip plumbing.Hash) error {
	expected := j.params.Expect
	if expected == "" && j.work != nil && j.pulled {
		if ref, err := j.work.repo.Reference(trackingRef(j.params.Branch)); err == nil {
			expected = ref.Hash().String()
		}
	}
	switch {
	case !j.params.Force:
		return j.notForward(tip)
	case expected == tip.String():
		return nil
	case expected != "":
		return fmt.Errorf("%w: branch %q is at %s and not at %s", errUnexpected, j.params.Branch, tip, expected)
	}
	rule, err := j.madeBy(ctx, tip)
	if err == nil && (rule == "" || rule != j.call.Rule) {
		err = fmt.Errorf("%w: branch %q is at %s, which this rule did not make", errUnexpected, j.params.Branch, tip)
	}
	return err
}

// notForward explains a branch that moved on. Where it was the event's own branch, newer work took over.
func (j *pushJob) notForward(tip plumbing.Hash) error {
	e := j.call.Event
	if e != nil && e.Commit != "" && e.Branch == j.params.Branch && j.work != nil && j.pulled {
		if ref, err := j.work.repo.Reference(trackingRef(e.Branch)); err == nil && ref.Hash().String() == e.Commit {
			return action.Superseded(fmt.Errorf("branch %q is at %s now, no longer at the event's %s", e.Branch, tip, e.Commit))
		}
	}
	return fmt.Errorf("%w: %q is at %s, which %s does not follow", errNotForward, j.params.Branch, tip, j.commit)
}

// madeBy returns the rule that made a branch's tip.
func (j *pushJob) madeBy(ctx context.Context, tip plumbing.Hash) (rule string, err error) {
	err = j.p.mirrored(ctx, j.r, j.call.Log, func(_ *lease, repo *repository) error {
		c, err := object.GetCommit(repo, tip) // it was fetched to compare
		if err != nil {
			return fmt.Errorf("%w: %w", errMirror, err)
		}
		rule = event.CommitRule(c.Message)
		return nil
	})
	return rule, err
}

// pack lists what the remote lacks. Without a checkout that is nothing.
func (j *pushJob) pack(ctx context.Context, known map[plumbing.Hash]bool) (pack, error) {
	if j.work == nil {
		return pack{from: newOverlay(nil)}, nil
	}
	if j.pulled {
		refs, err := j.work.repo.IterReferences()
		if err != nil {
			return pack{}, fmt.Errorf("read the checkout's references: %w", err)
		}
		err = refs.ForEach(func(ref *plumbing.Reference) error {
			if ref.Name().IsRemote() {
				known[ref.Hash()] = true
			}
			return nil
		})
		if err != nil {
			return pack{}, fmt.Errorf("read the checkout's references: %w", err)
		}
	}
	m := &missing{ctx: ctx, work: j.work, known: known, pulled: j.pulled, seen: map[plumbing.Hash]bool{}, left: maxPush}
	if err := m.from(j.commit); err != nil {
		return pack{}, j.work.own(err)
	}
	return pack{from: j.work.repo, objects: m.objects}, nil
}

// missing collects the objects of a checkout's commits down to those that the remote has.
type missing struct {
	ctx     context.Context
	work    *work
	known   map[plumbing.Hash]bool
	pulled  bool
	seen    map[plumbing.Hash]bool
	objects []plumbing.Hash
	left    int64
}

func (m *missing) from(tip plumbing.Hash) error {
	h, err := m.work.repo.history(m.ctx)
	if err != nil {
		return err
	}
	next := []plumbing.Hash{tip}
	for len(next) > 0 {
		id := next[0]
		if next = next[1:]; m.known[id] || m.seen[id] {
			continue
		}
		c, err := h.commit(id)
		if err != nil {
			return err
		}
		if h.cut[id] {
			if m.pulled {
				continue // the remote gave it
			}
			return action.Permanent(errors.New("the checkout's history is cut off, and another repository may lack what is before: pull with depth: 0"))
		}
		if err := m.commit(h, c); err != nil {
			return err
		}
		next = append(next, c.ParentHashes...)
	}
	return nil
}

func (m *missing) commit(h *history, c *object.Commit) error {
	before := plumbing.ZeroHash
	if len(c.ParentHashes) > 0 {
		parent, err := h.commit(c.ParentHashes[0])
		if err != nil {
			return err
		}
		before = parent.TreeHash
	}
	if err := m.add(c.Hash); err != nil {
		return err
	}
	return m.tree("", c.TreeHash, before)
}

func (m *missing) add(h plumbing.Hash) error {
	m.seen[h] = true
	size, err := m.work.repo.EncodedObjectSize(h)
	if err != nil {
		return fmt.Errorf("%w: object %s: %w", errMirror, h, err)
	}
	if m.left -= size; m.left < 0 {
		return fmt.Errorf("%w: its objects take more than %d bytes", errPushTooBig, maxPush)
	}
	m.objects = append(m.objects, h)
	return nil
}

// tree adds what a directory holds and did not hold before.
func (m *missing) tree(dir string, now, before plumbing.Hash) error {
	if now == before || m.seen[now] {
		return nil
	}
	if m.ctx.Err() != nil {
		return context.Cause(m.ctx)
	}
	t, err := readTree(m.work.repo, dir, now)
	if err != nil {
		return err
	}
	old, err := entriesOf(m.work.repo, dir, before)
	if err != nil {
		return err
	}
	if err := m.add(now); err != nil {
		return err
	}
	for _, e := range t.Entries {
		was := old[e.Name]
		switch {
		case e.Mode == filemode.Dir:
			err = m.tree(dir+e.Name+"/", e.Hash, was.dir())
		case e.Mode != filemode.Submodule && e.Hash != was.hash && !m.seen[e.Hash]:
			err = m.add(e.Hash)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func entriesOf(s storer.EncodedObjectStorer, dir string, h plumbing.Hash) (map[string]slot, error) {
	if h.IsZero() {
		return nil, nil
	}
	t, err := readTree(s, dir, h)
	if err != nil {
		return nil, err
	}
	out := make(map[string]slot, len(t.Entries))
	for _, e := range t.Entries {
		out[e.Name] = slot{e.Mode, e.Hash}
	}
	return out, nil
}
