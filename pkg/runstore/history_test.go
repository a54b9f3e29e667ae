package runstore

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

func follow(t *testing.T, s *Store, o HistoryOptions) *History {
	t.Helper()
	h, err := NewHistory(s, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.Follow(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return h
}

func (h *History) mustSync(t *testing.T) {
	t.Helper()
	if err := h.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func decided(n int, rules ...string) run.Entry {
	e := run.Entry{At: noon(), Kind: run.Decided, Event: fmt.Sprintf("EVENT%04d", n), Pos: &event.Pos{Seq: uint64(n)}, Revision: "rev"}
	for _, rule := range rules {
		e.Runs = append(e.Runs, run.Created{ID: e.Event + "-" + rule, Rule: rule, State: run.Pending})
	}
	if len(rules) == 0 {
		e.Why = "no rule matched"
	}
	return e
}

func ended(id string, state run.State) run.Entry {
	return run.Entry{At: noon(), Kind: run.Ended, Run: id, State: state}
}

func ids(runs []run.Run) []string {
	got := []string{}
	for _, r := range runs {
		got = append(got, r.ID)
	}
	return got
}

func TestHistory(t *testing.T) {
	srv := startServer(t)
	s := openStore(t, srv.broker())
	a, _, _ := take(t, s, 0, "a")
	b, _, _ := take(t, s, 1, "a")
	mustAppend(t, a, decided(1, "deploy", "notify"), started("EVENT0001-deploy", 1))
	h := follow(t, openStore(t, srv.broker()), HistoryOptions{})
	mustAppend(t, a, big("EVENT0001-deploy", 10), ended("EVENT0001-deploy", run.Succeeded))
	mustAppend(t, b, decided(2, "deploy"), decided(3))

	got, err := h.Run(t.Context(), "EVENT0001-deploy") // what is durable is there, without waiting
	if err != nil {
		t.Fatal(err)
	}
	if got.State != run.Succeeded || got.Rule != "deploy" || len(got.Steps) != 1 || got.Steps[0].Outputs["text"] != "xxxxxxxxxx" {
		t.Errorf("the run is %+v", got)
	}
	entries, err := h.Entries(t.Context(), "EVENT0001-d")
	if err != nil || len(entries) != 4 || entries[3].Kind != run.Ended {
		t.Errorf("entries: %+v, %v", entries, err)
	}
	if _, err := h.Run(t.Context(), "EVENT0001"); !errors.Is(err, run.ErrAmbiguous) {
		t.Errorf("an ambiguous id gives %v", err)
	}
	for _, id := range []string{"", "EVENT9"} {
		if _, err := h.Run(t.Context(), id); !errors.Is(err, event.ErrNotFound) && !errors.Is(err, run.ErrAmbiguous) {
			t.Errorf("the id %q gives %v", id, err)
		}
	}
	if err := h.Ready(); err != nil {
		t.Error(err)
	}

	for name, c := range map[string]struct {
		q    Query
		want []string
	}{
		"all":   {Query{}, []string{"EVENT0002-deploy", "EVENT0001-notify", "EVENT0001-deploy"}},
		"rule":  {Query{Rule: "deploy"}, []string{"EVENT0002-deploy", "EVENT0001-deploy"}},
		"event": {Query{Event: "EVENT0001"}, []string{"EVENT0001-notify", "EVENT0001-deploy"}},
		"state": {Query{State: run.Succeeded}, []string{"EVENT0001-deploy"}},
		"none":  {Query{Rule: "x"}, []string{}},
	} {
		runs, next, err := h.Runs(c.q)
		if err != nil || next != "" || !reflect.DeepEqual(ids(runs), c.want) {
			t.Errorf("%s: %v, %q, %v, want %v", name, ids(runs), next, err, c.want)
		}
	}
	if got := ids(h.RunsOf("EVENT0001")); !reflect.DeepEqual(got, []string{"EVENT0001-deploy", "EVENT0001-notify"}) {
		t.Errorf("RunsOf: %v", got)
	}
	if e, ok := h.Decision("EVENT0003"); !ok || e.Why != "no rule matched" {
		t.Errorf("Decision: %+v, %v", e, ok)
	}
	if _, ok := h.Decision("EVENT0009"); ok {
		t.Error("an event that was never decided has a decision")
	}
}

func TestHistoryPages(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	j, _, _ := take(t, s, 0, "a")
	var entries []run.Entry
	for n := range 10 {
		entries = append(entries, decided(n, "deploy"))
	}
	mustAppend(t, j, entries[:7]...)
	mustAppend(t, j, entries[7:]...)
	h := follow(t, s, HistoryOptions{})
	h.mustSync(t)
	var got []string
	pages := 0
	for cursor := ""; pages == 0 || cursor != ""; pages++ {
		runs, next, err := h.Runs(Query{Limit: 4, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		got, cursor = append(got, ids(runs)...), next
	}
	if pages != 3 || len(got) != 10 || got[0] != "EVENT0009-deploy" || got[9] != "EVENT0000-deploy" {
		t.Errorf("%d pages: %v", pages, got)
	}
	if _, _, err := h.Runs(Query{Cursor: "nonsense"}); err == nil {
		t.Error("a cursor of nobody's is taken")
	}
}

func TestHistoryOfOneMessageWithTwoRunsOnACursor(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	j, _, _ := take(t, s, 0, "a")
	mustAppend(t, j, decided(1, "a", "b", "c"))
	h := follow(t, s, HistoryOptions{})
	h.mustSync(t)
	first, next, err := h.Runs(Query{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := h.Runs(Query{Limit: 2, Cursor: next})
	if err != nil {
		t.Fatal(err)
	}
	if got := append(ids(first), ids(second)...); !reflect.DeepEqual(got, []string{"EVENT0001-c", "EVENT0001-b", "EVENT0001-a"}) {
		t.Errorf("pages hold %v", got)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	j, _, _ := take(t, s, 0, "a")
	for n := range 20 {
		mustAppend(t, j, decided(n, "deploy"), ended(fmt.Sprintf("EVENT%04d-deploy", n), run.Succeeded))
	}
	h := follow(t, s, HistoryOptions{MaxRuns: 5, MaxDecisions: 3})
	h.mustSync(t)
	if runs, _, _ := h.Runs(Query{}); len(runs) != 5 || runs[4].ID != "EVENT0015-deploy" {
		t.Errorf("kept are %v", ids(runs))
	}
	if _, ok := h.Decision("EVENT0017"); !ok {
		t.Error("the third last decision is gone")
	}
	if _, ok := h.Decision("EVENT0016"); ok {
		t.Error("the fourth last decision is kept")
	}
	if len(h.decisions) != 3 || len(h.decided)-h.head != 3 {
		t.Errorf("%d decisions are kept", len(h.decisions))
	}
}

func TestARunThatWaitsIsFoundHoweverManyComeAfterIt(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	j, _, _ := take(t, s, 0, "a")
	h := follow(t, s, HistoryOptions{MaxRuns: 5})
	const waits = "EVENT0002-deploy"
	for n := range 20 {
		mustAppend(t, j, decided(n, "deploy"))
		if id := fmt.Sprintf("EVENT%04d-deploy", n); id != waits {
			mustAppend(t, j, ended(id, run.Succeeded))
		}
	}
	h.mustSync(t)
	runs, next, _ := h.Runs(Query{Limit: 4})
	rest, _, _ := h.Runs(Query{Limit: 4, Cursor: next})
	if len(runs) != 4 || runs[3].ID != "EVENT0016-deploy" || len(rest) != 1 || rest[0].ID != waits {
		t.Errorf("kept are %v, and %v", ids(runs), ids(rest))
	}
	if r, err := h.Run(t.Context(), waits); err != nil || r.State.Ended() || len(h.RunsOf(r.Event)) != 1 {
		t.Errorf("the run that waits: %+v, %v", r, err)
	}
	mustAppend(t, j, ended(waits, run.Failed))
	for n := 20; n < 120; n++ { // those that waited are looked through now and then
		mustAppend(t, j, decided(n, "deploy"), ended(fmt.Sprintf("EVENT%04d-deploy", n), run.Succeeded))
	}
	h.mustSync(t)
	if _, err := h.Run(t.Context(), waits); !errors.Is(err, event.ErrNotFound) {
		t.Errorf("a run that ended long ago gives %v", err)
	}
	for n := 120; n < 140; n++ {
		mustAppend(t, j, decided(n, "deploy"))
	}
	h.mustSync(t)
	if runs, _, _ := h.Runs(Query{}); len(runs) != 5 || runs[4].ID != "EVENT0135-deploy" {
		t.Errorf("of those that wait are kept %v", ids(runs))
	}
}

func TestHistoryReadsTheNewestPart(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	j, _, _ := take(t, s, 0, "a")
	for n := range 20 {
		mustAppend(t, j, decided(n, "deploy"), big(fmt.Sprintf("EVENT%04d-deploy", n), 100<<10))
	}
	mustAppend(t, j, ended("EVENT0000-deploy", run.Failed))
	h := follow(t, s, HistoryOptions{ReadBytes: 1 << 20})
	h.mustSync(t)
	if runs, _, _ := h.Runs(Query{}); len(runs) < 8 || len(runs) > 12 || runs[0].ID != "EVENT0019-deploy" {
		t.Errorf("read are %v", ids(runs))
	}
}

func TestHistoryOfCarriedRun(t *testing.T) {
	s := openStore(t, startServer(t).broker(), partitions(1))
	j, _, _ := take(t, s, 0, "a")
	mustAppend(t, j, decided(1, "deploy"), started("EVENT0001-deploy", 1))
	h := follow(t, s, HistoryOptions{})
	before, err := h.Run(t.Context(), "EVENT0001-deploy")
	if err != nil {
		t.Fatal(err)
	}
	from := j.Seq() + 1
	mustAppend(t, j, run.Entry{At: noon(), Kind: run.Carried, Run: before.ID, Record: &before})
	if err := j.Checkpoint(t.Context(), run.Checkpoint{Replay: from}); err != nil {
		t.Fatal(err)
	}
	purgeBefore(t, s, from)
	mustAppend(t, j, ended(before.ID, run.Failed))
	got, err := h.Run(t.Context(), before.ID)
	if err != nil || got.State != run.Failed || len(got.Steps) != 1 || got.Event != "EVENT0001" {
		t.Errorf("the run is %+v, %v", got, err)
	}
	again := follow(t, openStore(t, s.broker), HistoryOptions{}) // it finds only the carried record
	again.mustSync(t)
	if runs, _, _ := again.Runs(Query{}); len(runs) != 1 || runs[0].State != run.Failed || runs[0].Rule != "deploy" {
		t.Errorf("a new view lists %+v", runs)
	}
}

func purgeBefore(t *testing.T, s *Store, seq uint64) {
	t.Helper()
	h, err := s.handles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.runs.Purge(t.Context(), jetstream.WithPurgeSequence(seq)); err != nil {
		t.Fatal(err)
	}
}

func TestHistoryForgetsWhatWasPurged(t *testing.T) {
	s := openStore(t, startServer(t).broker(), partitions(1))
	j, _, _ := take(t, s, 0, "a")
	mustAppend(t, j, decided(1, "deploy"))
	mustAppend(t, j, decided(2, "deploy"))
	h := follow(t, s, HistoryOptions{})
	h.mustSync(t)
	purgeBefore(t, s, j.Seq())
	if _, err := h.Run(t.Context(), "EVENT0001-deploy"); !errors.Is(err, event.ErrNotFound) {
		t.Errorf("a purged run gives %v", err)
	}
	if runs, _, _ := h.Runs(Query{}); len(runs) != 1 {
		t.Errorf("listed are %v", ids(runs))
	}
	if _, ok := h.Decision("EVENT0001"); ok {
		t.Error("a purged decision is found")
	}
}

func TestHistorySaysWhatItCantRead(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	j, _, _ := take(t, s, 0, "a")
	if _, err := s.broker.JetStream().Publish(t.Context(), broker.RunSubject(1), []byte("riposte-journal 2 X\n")); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, decided(1, "deploy"))
	h := follow(t, s, HistoryOptions{})
	if _, err := h.Run(t.Context(), "EVENT0001-deploy"); err != nil {
		t.Error(err)
	}
	if err := h.Ready(); err == nil || !strings.Contains(err.Error(), "partition 1") {
		t.Errorf("Ready gives %v", err)
	}
}

func TestHistoryBeforeItFollows(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	take(t, s, 0, "a")
	h, err := NewHistory(s, HistoryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if h.Ready() == nil {
		t.Error("it is ready before it was read")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Run(ctx, "x"); err == nil {
		t.Error("it answers before it was read")
	}
	if _, err := NewHistory(s, HistoryOptions{MaxRuns: -1}); err == nil || !strings.Contains(err.Error(), "MaxRuns") {
		t.Errorf("NewHistory gives %v", err)
	}
}
