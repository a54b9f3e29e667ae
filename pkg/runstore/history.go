package runstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

const (
	defaultMaxRuns      = 50_000
	defaultMaxDecisions = 200_000
	defaultReadBytes    = 128 << 20
	defaultLimit        = 50

	// rereadAfter is the pause after reading the journals has failed.
	rereadAfter = time.Second
)

// HistoryOptions configure a History.
type HistoryOptions struct {
	MaxRuns      int   // runs that can be found; default 50,000: those that have not ended before those that have, and of each the most recent ones
	MaxDecisions int   // events whose decision can be found; default 200,000, the most recent ones
	ReadBytes    int64 // of the journals' newest part that is read at the start; default 128 MiB
}

func (o *HistoryOptions) withDefaults() error {
	if o.MaxRuns == 0 {
		o.MaxRuns = defaultMaxRuns
	}
	if o.MaxDecisions == 0 {
		o.MaxDecisions = defaultMaxDecisions
	}
	if o.ReadBytes == 0 {
		o.ReadBytes = defaultReadBytes
	}
	switch {
	case o.MaxRuns < 0:
		return fmt.Errorf("runstore: history option MaxRuns is %d: use a positive number", o.MaxRuns)
	case o.MaxDecisions < 0:
		return fmt.Errorf("runstore: history option MaxDecisions is %d: use a positive number", o.MaxDecisions)
	case o.ReadBytes < 0:
		return fmt.Errorf("runstore: history option ReadBytes is %d: use a positive number", o.ReadBytes)
	}
	return nil
}

// History is a view of all partitions' journals for the API. It follows them and keeps in memory where to find the most
// recent runs and decisions, with a summary of each run; details are read again from the journals. What Run and Entries
// return includes everything that was durable when they were called; Runs and Decision may be a moment behind.
//
// Follow may be called once. The other methods are safe for concurrent use.
type History struct {
	store *Store
	opts  HistoryOptions
	log   *slog.Logger
	seed  maphash.Seed

	mu        sync.Mutex
	runs      map[string]*record
	order     []*record // oldest first
	older     []*record // those from before it that had not ended when it went on, oldest first
	dropped   int       // runs, since those were looked through for ones that have ended
	decisions map[uint64]uint64
	decided   []uint64 // keys of decisions, oldest first, from head on
	head      int
	words     map[string]string // rules and revisions, each once
	seen      uint64            // sequence of the newest message that was folded
	target    uint64            // what must be seen before the view is complete
	started   bool
	problem   error
	waiting   []waiter
	orders    orders
}

// record is what is kept of a run.
type record struct {
	run   run.Run // without steps
	place place   // of its first entry, which orders the list
	seqs  []uint64
}

// place orders runs as their first entries stand in the stream, and the runs of one entry as they stand there.
type place struct {
	seq        uint64
	entry, run int
}

func (p place) before(q place) bool {
	return cmp.Or(cmp.Compare(p.seq, q.seq), cmp.Compare(p.entry, q.entry), cmp.Compare(p.run, q.run)) < 0
}

func (p place) String() string { return fmt.Sprintf("%d.%d.%d", p.seq, p.entry, p.run) }

type waiter struct {
	seq  uint64
	done chan struct{}
}

// NewHistory makes the view; Follow fills it.
func NewHistory(s *Store, o HistoryOptions) (*History, error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	return &History{
		store: s, opts: o, log: s.opts.Logger, seed: maphash.MakeSeed(),
		runs: map[string]*record{}, decisions: map[uint64]uint64{}, words: map[string]string{},
	}, nil
}

// Follow reads the newest part of the journals and then what is added to them, until ctx ends. It survives a store that
// can't be read for a while.
func (h *History) Follow(ctx context.Context) error {
	for {
		err := h.follow(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to stop
		}
		h.setProblem(err)
		h.log.Warn("run journals can't be followed; it is tried again", "in", rereadAfter, "error", err)
		select {
		case <-time.After(rereadAfter):
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *History) follow(ctx context.Context) error {
	from, err := h.begin(ctx)
	if err != nil {
		return err
	}
	return h.store.read(ctx, broker.RunSubjects, from, func(seq uint64, subject string, data []byte) error {
		entries, err := decodeWith(data, decodeBrief)
		h.mu.Lock()
		defer h.mu.Unlock()
		if err != nil {
			err = fmt.Errorf("journal of partition %d, sequence %d: %w", broker.RunPartition(subject), seq, err)
			h.log.Error("entries are missing in the history", "error", err)
			h.problem = err
		}
		for i := range entries {
			h.fold(place{seq: seq, entry: i}, &entries[i])
		}
		h.advance(seq)
		return nil
	})
}

// begin returns where to read from: after what was seen before, or where the newest part of the journals begins.
func (h *History) begin(ctx context.Context) (uint64, error) {
	parts, err := h.store.handles(ctx)
	if err != nil {
		return 0, err
	}
	info, err := h.store.info(ctx, parts)
	if err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.problem = nil
	if h.started {
		return h.seen + 1, nil
	}
	h.started, h.target = true, info.State.LastSeq
	from := info.State.FirstSeq
	if size := info.State.Bytes; size > uint64(h.opts.ReadBytes) {
		n := uint64(float64(info.State.Msgs) * float64(h.opts.ReadBytes) / float64(size))
		from = info.State.LastSeq + 1 - n
	}
	if info.State.Msgs == 0 {
		h.seen = info.State.LastSeq
	}
	return from, nil
}

func (h *History) setProblem(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.problem = err
}

// Ready returns an error while the journals can't be followed. That what they held at the start is still being read is no
// reason to receive nothing: lists are short meanwhile, and who needs all of it waits.
func (h *History) Ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.problem != nil:
		return fmt.Errorf("history is incomplete: %w", h.problem)
	case !h.started:
		return errors.New("history is not followed yet")
	}
	return nil
}

// advance notes that a message was folded and wakes who waits for it. h.mu is held.
func (h *History) advance(seq uint64) {
	h.seen = seq
	h.waiting = slices.DeleteFunc(h.waiting, func(w waiter) bool {
		if w.seq <= seq {
			close(w.done)
			return true
		}
		return false
	})
}

// sync waits until everything that is durable now has been folded.
func (h *History) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.store.timeout)
	defer cancel()
	parts, err := h.store.handles(ctx)
	if err != nil {
		return err
	}
	info, err := h.store.info(ctx, parts)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.forgetBefore(info.State.FirstSeq)
	h.mu.Unlock()
	return h.await(ctx, info.State.LastSeq)
}

// await waits until the message with the sequence has been folded.
func (h *History) await(ctx context.Context, seq uint64) error {
	w := waiter{seq: seq, done: make(chan struct{})}
	h.mu.Lock()
	if h.started && h.seen >= w.seq {
		h.mu.Unlock()
		return nil
	}
	h.waiting = append(h.waiting, w)
	h.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		h.mu.Lock()
		defer h.mu.Unlock()
		h.waiting = slices.DeleteFunc(h.waiting, func(x waiter) bool { return x.done == w.done })
		return fmt.Errorf("%w: the history is at sequence %d of %d", ErrUnavailable, h.seen, w.seq)
	}
}

// fold adds an entry to the view. h.mu is held.
func (h *History) fold(at place, e *run.Entry) {
	if e.Kind == run.Decided {
		h.foldDecision(e.Event, at.seq)
	}
	if e.Kind == run.Commanded && e.Event != "" {
		h.orders.note(*e)
	}
	if len(e.Runs) > 0 {
		h.foldCreated(at, e)
	}
	if e.Run == "" {
		return
	}
	r := h.runs[e.Run]
	if r == nil {
		if e.Record == nil {
			return // it began before what was read
		}
		r = h.add(at, run.Run{ID: e.Record.ID})
	}
	if e.Record != nil {
		r.seqs = r.seqs[:0] // the record holds all that was before
	}
	run.Apply(&r.run, *e)
	h.compact(&r.run)
	r.note(at.seq)
}

func (h *History) foldDecision(eventID string, seq uint64) {
	key := maphash.String(h.seed, eventID)
	if _, ok := h.decisions[key]; !ok {
		h.decided = append(h.decided, key)
	}
	h.decisions[key] = seq
	for len(h.decided)-h.head > h.opts.MaxDecisions {
		delete(h.decisions, h.decided[h.head])
		h.head++
	}
	if h.head > h.opts.MaxDecisions {
		h.decided, h.head = append([]uint64(nil), h.decided[h.head:]...), 0
	}
}

func (h *History) foldCreated(at place, e *run.Entry) {
	for i, c := range e.Runs {
		if h.runs[c.ID] == nil {
			at.run = i
			r := h.add(at, *run.New(c, *e))
			r.note(at.seq)
		}
	}
}

// add puts a run into the view, and drops one if there are too many.
func (h *History) add(at place, first run.Run) *record {
	r := &record{run: first, place: at}
	h.compact(&r.run)
	h.runs[first.ID] = r
	h.order = append(h.order, r)
	if len(h.order)+len(h.older) > h.opts.MaxRuns {
		h.drop()
	}
	return r
}

// drop forgets the oldest run that has ended, or the oldest where all wait: one that waits must be found, however many come
// after it.
func (h *History) drop() {
	if h.dropped++; h.dropped > len(h.older)/2+64 {
		h.dropped = 0
		h.older = slices.DeleteFunc(h.older, func(r *record) bool {
			ended := r.run.State.Ended()
			if ended {
				delete(h.runs, r.run.ID)
			}
			return ended
		})
	}
	for len(h.order) > 0 {
		oldest := h.order[0]
		h.order[0] = nil
		h.order = h.order[1:]
		if oldest.run.State.Ended() {
			delete(h.runs, oldest.run.ID)
			return
		}
		h.older = append(h.older, oldest)
	}
	delete(h.runs, h.older[0].run.ID)
	h.older[0] = nil
	h.older = h.older[1:]
}

// newestFirst are all runs.
func (h *History) newestFirst(yield func(*record) bool) {
	for _, list := range [][]*record{h.order, h.older} {
		for _, r := range slices.Backward(list) {
			if !yield(r) {
				return
			}
		}
	}
}

// forgetBefore drops the oldest runs whose history was purged. h.mu is held.
func (h *History) forgetBefore(seq uint64) {
	for len(h.order) > 0 && h.order[0].seqs[len(h.order[0].seqs)-1] < seq {
		delete(h.runs, h.order[0].run.ID)
		h.order[0] = nil
		h.order = h.order[1:]
	}
}

// forget drops a run whose history was purged.
func (h *History) forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.runs, id)
	it := func(r *record) bool { return r.run.ID == id }
	h.order, h.older = slices.DeleteFunc(h.order, it), slices.DeleteFunc(h.older, it)
}

// compact keeps a run's summary small: no steps, no parameters that were shown, and words that many runs share only once.
func (h *History) compact(r *run.Run) {
	r.Steps, r.Events, r.Changed = nil, nil, nil
	if r.Approval != nil && r.Approval.Shown != nil {
		a := *r.Approval
		a.Shown = nil
		r.Approval = &a
	}
	r.Rule, r.RuleRevision = h.word(r.Rule), h.word(r.RuleRevision)
	if strings.HasPrefix(r.ID, r.Event) {
		r.Event = r.ID[:len(r.Event)]
	}
}

func (h *History) word(s string) string {
	if w, ok := h.words[s]; ok {
		return w
	}
	if len(h.words) >= 10_000 {
		clear(h.words)
	}
	h.words[s] = s
	return s
}

func (r *record) note(seq uint64) {
	if n := len(r.seqs); n == 0 || r.seqs[n-1] != seq {
		r.seqs = append(r.seqs, seq)
	}
}

// Query selects runs. Zero fields select all.
type Query struct {
	Rule, Event string
	State       run.State
	Limit       int    // default 50
	Cursor      string // what the page before returned as next
}

// Runs returns summaries, without steps, of the runs that a query selects, newest first, and the cursor of the next page
// or "".
func (h *History) Runs(q Query) (runs []run.Run, next string, err error) {
	var after place
	if q.Cursor != "" {
		if _, err := fmt.Sscanf(q.Cursor, "%d.%d.%d", &after.seq, &after.entry, &after.run); err != nil {
			return nil, "", fmt.Errorf("cursor %q is not one that a list of runs returned", q.Cursor)
		}
	}
	if q.Limit <= 0 {
		q.Limit = defaultLimit
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var last *record
	for r := range h.newestFirst {
		if q.Cursor != "" && !r.place.before(after) || !q.selects(&r.run) {
			continue
		}
		if len(runs) == q.Limit {
			return runs, last.place.String(), nil
		}
		runs, last = append(runs, r.run), r
	}
	return runs, "", nil
}

func (q *Query) selects(r *run.Run) bool {
	return (q.Rule == "" || q.Rule == r.Rule) && (q.Event == "" || q.Event == r.Event) && (q.State == "" || q.State == r.State)
}

// RunsOf returns summaries of the runs that an event started, oldest first. While the journals are read at the start it waits
// for them, within the store's time-out.
func (h *History) RunsOf(eventID string) []run.Run {
	h.mu.Lock()
	target := h.target
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), h.store.timeout)
	defer cancel()
	_ = h.await(ctx, target) // what is known by then is better than nothing
	h.mu.Lock()
	defer h.mu.Unlock()
	var runs []run.Run
	for r := range h.newestFirst {
		if r.run.Event == eventID {
			runs = append(runs, r.run)
		}
	}
	slices.Reverse(runs)
	return runs
}

// Run returns the whole record of the run with the id, or of the only one whose id begins so. The error wraps
// event.ErrNotFound where there is none or its history was purged, run.ErrAmbiguous where there are several.
func (h *History) Run(ctx context.Context, id string) (run.Run, error) {
	full, entries, err := h.load(ctx, id)
	if err != nil {
		return run.Run{}, err
	}
	var r run.Run
	for _, e := range entries {
		if len(e.Runs) > 0 {
			i := slices.IndexFunc(e.Runs, func(c run.Created) bool { return c.ID == full })
			r = *run.New(e.Runs[i], e)
			continue
		}
		run.Apply(&r, e)
	}
	return r, nil
}

// Entries returns the entries about a run, found as in Run: from the decision that created it, or from where its whole
// record was last written again.
func (h *History) Entries(ctx context.Context, id string) ([]run.Entry, error) {
	_, entries, err := h.load(ctx, id)
	return entries, err
}

// load reads the entries about a run.
func (h *History) load(ctx context.Context, id string) (full string, entries []run.Entry, err error) {
	if err := h.sync(ctx); err != nil {
		return "", nil, fmt.Errorf("read run %s: %w", id, err)
	}
	full, seqs, err := h.lookUp(id)
	if err != nil {
		return "", nil, err
	}
	for _, seq := range seqs {
		all, err := h.message(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			h.forget(full)
			return "", nil, fmt.Errorf("run %s: its history was purged: %w", full, event.ErrNotFound)
		}
		if err != nil {
			return "", nil, fmt.Errorf("read run %s: %w", full, err)
		}
		for _, e := range all {
			if !slices.Contains(e.RunIDs(), full) {
				continue
			}
			if e.Record != nil {
				entries = entries[:0]
			}
			entries = append(entries, e)
		}
	}
	return full, entries, nil
}

// lookUp returns the id of the run that an id or its beginning names, and the messages that tell of it.
func (h *History) lookUp(id string) (full string, seqs []uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range []string{id, upper(id)} {
		if r := h.runs[name]; r != nil {
			return r.run.ID, slices.Clone(r.seqs), nil
		}
		var found *record
		for full, r := range h.runs {
			if name == "" || !strings.HasPrefix(full, name) {
				continue
			}
			if found != nil {
				return "", nil, fmt.Errorf("run %s: %w: write more of it", id, run.ErrAmbiguous)
			}
			found = r
		}
		if found != nil {
			return found.run.ID, slices.Clone(found.seqs), nil
		}
	}
	return "", nil, fmt.Errorf("run %s: %w", id, event.ErrNotFound)
}

// upper returns an id with its event's part as it is written in ids: people copy it as they like.
func upper(id string) string {
	n := min(len(id), event.IDLen)
	return strings.ToUpper(id[:n]) + id[n:]
}

func (h *History) message(ctx context.Context, seq uint64) ([]run.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, h.store.timeout)
	defer cancel()
	parts, err := h.store.handles(ctx)
	if err != nil {
		return nil, err
	}
	msg, err := parts.runs.GetMsg(ctx, seq)
	if err != nil {
		return nil, fmt.Errorf("%w: sequence %d: %w", ErrUnavailable, seq, err)
	}
	return decode(msg.Data)
}

// Decision returns the entry that records what was decided about an event, if it can still be read.
func (h *History) Decision(eventID string) (run.Entry, bool) {
	h.mu.Lock()
	seq, ok := h.decisions[maphash.String(h.seed, eventID)]
	h.mu.Unlock()
	if !ok {
		return run.Entry{}, false
	}
	entries, err := h.message(context.Background(), seq) // bounded by the store's time-out
	if err != nil {
		return run.Entry{}, false
	}
	for _, e := range entries {
		if e.Kind == run.Decided && e.Event == eventID {
			return e, true
		}
	}
	return run.Entry{}, false
}
