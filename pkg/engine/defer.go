package engine

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/run"
)

const (
	// diffTime is how long a diff that fails is tried again before the event is decided without its changed paths.
	diffTime = 10 * time.Minute
	// leastDiffTime is what an attempt gets although that time is over, after the server was down.
	leastDiffTime = time.Minute
	// A diff that fails waits twice as long each time.
	firstDiffWait, maxDiffWait = time.Second, 30 * time.Second
	// maxDiffs is how many diffs this process makes at once, at most one in each repository, and so many of one host.
	maxDiffs, maxHostDiffs = 12, 8
	// An attempt that fails after so long hung; so many repositories of a host in which one did say that the host hangs.
	hangTime, hangingRepositories = 10 * time.Second, 3
	// maxHanging bounds the repositories that are known to hang.
	maxHanging = 1000
	// maxDeferred is how many events of a partition can wait before it stops reading the log.
	maxDeferred = 10_000

	// What is kept of the changed paths, in bytes: for people, and where steps ask for them.
	shownPaths, askedPaths = 16 << 10, 64 << 10
)

// deferred is an event that waits until a diff has told its changed paths, so that the log goes on meanwhile. The event
// itself stays in the log.
type deferred struct {
	id, revision, repository string
	pos                      event.Pos
	since                    time.Time // when it was put aside
	set                      *rule.Set
	first                    uint64 // journal sequence of its entry; 0 while that is being written

	until   time.Time // by when its paths must be found
	tries   int
	cancel  context.CancelCauseFunc // of the diff that is under way
	kills   int                     // notes of earlier owners that no answer followed
	suspect bool                    // an attempt must be noted before it begins
	noted   bool                    // one was
}

// found is what came of an attempt at a diff.
type found struct {
	id    string
	event *event.Event // nil where it could not be read
	paths []string
	err   error
	cause error // why the context ended early, if it did
}

// needsDiff reports whether an event must wait, and for which repository. What fails is said when it is decided.
func (p *partition) needsDiff(ctx context.Context, r *record) (repository string, needs bool) {
	defer func() { _ = recover() }()
	e := r.Record.Event
	if p.e.Diff == nil || !p.set.Selects(e) {
		return "", false
	}
	if p.views(r) != nil {
		return "", false
	}
	c, ok := e.Comparison()
	return c.CloneURL, ok && p.set.NeedsDiff(ctx, e, e.ReceivedAt)
}

// putAside answers an event's place in the log without a decision. The windows that it completes are answered here, where
// log time is.
func (p *partition) putAside(ctx context.Context, q question, repository string) {
	d := &deferred{
		id: q.id, revision: q.revision, repository: clip(p.e.Redact(repository)), pos: q.pos, since: p.e.Now(), set: q.set,
		until: time.Now().Add(diffTime),
	}
	en := d.entry()
	for _, f := range q.fired {
		en.Runs = append(en.Runs, p.createFired(ctx, f, q.event))
	}
	created := p.enter(en)
	delete(p.noted, d.id)
	for _, c := range created {
		p.begin(c, q.event, q.set)
	}
	p.deferred[d.id] = d
	p.aside = append(p.aside, d)
	p.enqueue(d)
}

func (d *deferred) entry() run.Entry {
	return run.Entry{At: d.since, Kind: run.Deferred, Event: d.id, Pos: &d.pos, Revision: d.revision, Repository: d.repository}
}

// rewrite says in the journal that an event still waits, and that no attempt is under way.
func (p *partition) rewrite(d *deferred) {
	p.entries = append(p.entries, d.entry())
	p.aside = append(p.aside, d)
	d.noted = false
}

// replayDeferred folds an entry into the events that wait. What was put aside before it was set aside took part in windows.
func (p *partition) replayDeferred(seq uint64, en run.Entry) {
	d := p.deferred[en.Event]
	switch {
	case en.Kind == run.Decided && Quarantined(en) && d == nil:
		p.setAside[en.Event] = true
	case en.Kind == run.Decided:
		delete(p.deferred, en.Event)
	case en.Kind == run.Deferred:
		p.deferred[en.Event] = &deferred{
			id: en.Event, revision: en.Revision, repository: en.Repository, pos: en.Position(), since: en.At, first: seq,
		}
	}
}

// resumeDeferred goes on with the events that waited when the last owner left.
func (p *partition) resumeDeferred() {
	for _, d := range slices.SortedFunc(maps.Values(p.deferred), func(a, b *deferred) int { return a.pos.Compare(b.pos) }) {
		if d.kills >= maxKills {
			p.quarantine(d.question())
			delete(p.deferred, d.id)
			continue
		}
		left := min(max(diffTime-p.e.Now().Sub(d.since), 0), diffTime)
		d.until, d.suspect = time.Now().Add(left), p.careful > 0
		p.enqueue(d)
	}
}

func (d *deferred) question() question {
	return question{id: d.id, pos: d.pos, set: d.set, revision: d.revision, aside: true}
}

// enqueue puts an event among those whose diff can begin.
func (p *partition) enqueue(d *deferred) {
	p.ready[d.repository] = append(p.ready[d.repository], d)
}

// startDiffs begins as many diffs as may run.
func (p *partition) startDiffs(ctx context.Context) {
	for repository, queue := range p.ready {
		if p.leaving || ctx.Err() != nil {
			return
		}
		d := queue[0]
		if !p.e.diffs.acquire(p, d) {
			continue
		}
		queue[0] = nil
		p.ready[repository] = queue[1:]
		if len(queue) == 1 {
			delete(p.ready, repository)
		}
		if !p.startDiff(ctx, d) {
			p.e.diffs.release(repository, d.suspect)
			return
		}
	}
}

// startDiff begins one; it returns false when the partition is lost.
func (p *partition) startDiff(ctx context.Context, d *deferred) bool {
	if d.suspect {
		d.noted = true
		if !p.note(ctx, d.id) {
			return false
		}
	}
	ctx, d.cancel = context.WithCancelCause(ctx)
	p.diffing++
	job, done := *d, d.cancel
	go func() { defer done(nil); p.diff(ctx, job) }()
	return true
}

// limit is how long an attempt may take. Others wait for one that is suspected.
func (d *deferred) limit() time.Duration {
	if d.suspect {
		return leastDiffTime
	}
	return max(time.Until(d.until), leastDiffTime)
}

// diff makes one attempt, in its own goroutine.
func (p *partition) diff(ctx context.Context, d deferred) {
	f := found{id: d.id}
	limited, cancel := context.WithTimeout(ctx, d.limit())
	defer cancel()
	compare, began := p.e.Diff, time.Now()
	if p.e.diffs.hangs(&d) {
		compare = unasked
	}
	f.event, f.paths, f.err = p.e.look(limited, &d, compare)
	if f.err != nil {
		f.cause = context.Cause(ctx)
	}
	switch {
	case f.err == nil:
		p.e.diffs.answers(d.repository)
	case f.cause == nil && time.Since(began) >= hangTime:
		p.e.diffs.hung(d.repository)
	}
	p.e.diffs.release(d.repository, d.suspect)
	p.diffed <- f
}

// errHangs says why an event whose time is over was not asked for: where a host hangs, each further attempt would take a
// minute, and the events that wait would be given up one by one.
var errHangs = errors.New("the Git host does not answer: since the time for it was over, another attempt hung")

func unasked(context.Context, event.Comparison) ([]string, error) { return nil, errHangs }

// look reads an event and finds its changed paths.
func (e *Engine) look(ctx context.Context, d *deferred, compare func(context.Context, event.Comparison) ([]string, error)) (ev *event.Event, paths []string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = action.Permanent(fmt.Errorf("it panicked: %v", v))
		}
	}()
	en, err := e.Log.Read(ctx, d.id, d.pos)
	if err != nil {
		return nil, nil, fmt.Errorf("read the event: %w", err)
	}
	ev = en.Record.Event
	if err := normalise(d.set, ev); err != nil {
		return ev, nil, action.Permanent(err)
	}
	c, ok := ev.Comparison()
	if !ok {
		return ev, nil, action.Permanent(errors.New("the event names no commits to compare"))
	}
	paths, err = compare(ctx, c)
	return ev, paths, err
}

// found decides an event with what its diff found, or tries it again.
func (p *partition) found(ctx context.Context, f found) {
	p.diffing--
	d := p.deferred[f.id]
	if d == nil {
		return
	}
	d.cancel = nil
	gone := f.event == nil && errors.Is(f.err, event.ErrNotFound)
	late := !time.Now().Before(d.until)
	switch {
	case f.cause != nil: // it was stopped, which says nothing of the repository
	case f.err == nil:
		p.e.metrics.diffs.WithLabelValues("found").Inc()
		p.decideDeferred(ctx, d, f)
		return
	case gone || f.event != nil && (late || action.IsPermanent(f.err)):
		p.e.metrics.diffs.WithLabelValues("givenUp").Inc()
		p.log.Error("changed paths could not be found; the event is decided without them", "event", d.id, "repository", d.repository, "attempts", d.tries+1, "error", f.err)
		p.decideDeferred(ctx, d, f)
		return
	default:
		p.e.metrics.diffs.WithLabelValues("failed").Inc()
		p.tryAgain(d, f.err)
	}
	if d.noted { // the attempt did not end the process
		p.rewrite(d)
	}
	d.suspect = false
}

func (p *partition) tryAgain(d *deferred, err error) {
	wait := min(firstDiffWait<<min(d.tries, 5), maxDiffWait)
	if left := time.Until(d.until); left > 0 {
		wait = min(wait, left)
	}
	d.tries++
	p.log.Warn("changed paths could not be found; it is tried again", "event", d.id, "repository", d.repository, "in", wait, "error", err)
	heap.Push(&p.timers, timer{time.Now().Add(wait), d.id})
}

// decideDeferred decides an event with the rules that were active where it stands in the log.
func (p *partition) decideDeferred(ctx context.Context, d *deferred, f found) {
	delete(p.deferred, d.id)
	q := d.question()
	if f.event == nil {
		p.e.metrics.decisions.WithLabelValues("error").Inc()
		p.decision(q, nil, f.err.Error())
		return
	}
	q.event, q.undiffed = f.event, f.err
	if f.err == nil {
		q.paths, q.diffed = f.event.FoundPaths(f.paths), true
	}
	q.joins = q.joinsAgain(ctx)
	p.answer(ctx, q, func() error { return nil })
}

// joinsAgain asks again how the event took part in windows, for the reasons.
func (q *question) joinsAgain(ctx context.Context) rule.Joins {
	defer func() { _ = recover() }()
	return q.set.Joins(ctx, q.event, q.event.ReceivedAt)
}

// changed is what a decision keeps of the paths that a diff found.
func (p *partition) changed(q question, created []run.Created) *run.Paths {
	if !q.diffed {
		return nil
	}
	bytes := shownPaths
	if slices.ContainsFunc(created, func(c run.Created) bool { return c.AsksChanged }) {
		bytes = askedPaths
	}
	kept := run.NewPaths(q.paths.List, bytes)
	for i, path := range kept.List {
		kept.List[i] = p.e.Redact(path)
	}
	return kept
}

// carryDeferred writes events again that have waited for long, so that the journal behind their entries can be purged.
func (p *partition) carryDeferred() {
	for _, d := range slices.SortedFunc(maps.Values(p.deferred), func(a, b *deferred) int { return cmp.Compare(a.first, b.first) }) {
		if p.journal.Seq()-d.first <= carryAfter {
			return
		}
		if !d.noted && d.kills == 0 { // else the notes behind the entry are needed
			p.rewrite(d)
		}
	}
}

func (p *partition) cancelDiffs(cause error) {
	for _, d := range p.deferred {
		if d.cancel != nil {
			d.cancel(cause)
		}
	}
}

// flights bounds the diffs of this process: so many at once and of one host, one in each repository, and one event that is
// suspected of having ended the process, since a crash names all that were under way. A partition that must wait is poked
// when one has ended. It knows where attempts hung last.
type flights struct {
	mu      sync.Mutex
	free    int
	busy    map[string]bool
	hosts   map[string]int
	hanging map[string]time.Time // by repository: when an attempt hung, since its host answered last
	suspect bool
	waiting map[*partition]struct{}
}

func newFlights(n int) *flights {
	return &flights{free: n, busy: map[string]bool{}, hosts: map[string]int{}, hanging: map[string]time.Time{}, waiting: map[*partition]struct{}{}}
}

func (f *flights) acquire(p *partition, d *deferred) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	host := hostOf(d.repository)
	if f.free == 0 || f.busy[d.repository] || f.hosts[host] >= maxHostDiffs || f.suspect && d.suspect {
		f.waiting[p] = struct{}{}
		return false
	}
	f.free--
	f.busy[d.repository] = true
	f.hosts[host]++
	f.suspect = f.suspect || d.suspect
	return true
}

func (f *flights) release(repository string, suspect bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free++
	delete(f.busy, repository)
	host := hostOf(repository)
	if f.hosts[host]--; f.hosts[host] == 0 {
		delete(f.hosts, host)
	}
	f.suspect = f.suspect && !suspect
	for p := range f.waiting {
		p.poke()
	}
	clear(f.waiting)
}

// hung notes that an attempt in a repository failed after a long time.
func (f *flights) hung(repository string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.hanging) >= maxHanging {
		clear(f.hanging)
	}
	f.hanging[repository] = time.Now()
}

// answers notes that a repository's host answers.
func (f *flights) answers(repository string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	host := hostOf(repository)
	maps.DeleteFunc(f.hanging, func(other string, _ time.Time) bool { return hostOf(other) == host })
}

// hangs reports whether the time for an event is over, and since then an attempt in its repository hung, or attempts in
// several repositories of its host.
func (f *flights) hangs(d *deferred) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	host, repositories := hostOf(d.repository), 0
	for repository, at := range f.hanging {
		if at.Before(d.until) || hostOf(repository) != host {
			continue
		}
		if repositories++; repository == d.repository || repositories >= hangingRepositories {
			return true
		}
	}
	return false
}

// hostOf returns the host of a repository's address, or the address where it names none.
func hostOf(repository string) string {
	if u, err := url.Parse(repository); err == nil && u.Host != "" {
		return u.Host
	}
	if user, rest, ok := strings.Cut(repository, "@"); ok && !strings.Contains(user, "/") {
		host, _, _ := strings.Cut(rest, ":")
		return host
	}
	return repository
}
