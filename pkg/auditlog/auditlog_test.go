package auditlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/audit"
	"github.com/riposte-dev/riposte/pkg/auditlog"
	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/runstore"
)

func openBroker(t *testing.T, dir string) *broker.Broker {
	t.Helper()
	b, err := broker.Open(t.Context(), broker.Options{Dir: dir, ReserveBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func open(t *testing.T, b auditlog.Broker, j auditlog.Journals) *auditlog.Log {
	t.Helper()
	l, err := auditlog.Open(t.Context(), b, auditlog.Options{
		Redact: strings.NewReplacer("hunter22", "***").Replace, Journals: j, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func write(t *testing.T, l *auditlog.Log, e audit.Entry) {
	t.Helper()
	if err := l.Audit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// all reads every page.
func all(t *testing.T, l *auditlog.Log, q auditlog.Query) (entries []audit.Entry) {
	t.Helper()
	for range 1000 {
		page, next, err := l.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > q.Limit {
			t.Fatalf("%d entries of %d", len(page), q.Limit)
		}
		entries = append(entries, page...)
		if q.Cursor = next; next == "" {
			return entries
		}
	}
	t.Fatal("the pages never end")
	return nil
}

func targets(entries []audit.Entry) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprint(&b, e.Target, " ")
	}
	return b.String()
}

func TestWhatIsWrittenIsReadAfterARestartAndRedacted(t *testing.T) {
	dir := t.TempDir()
	b := openBroker(t, dir)
	l := open(t, b, nil)
	write(t, l, audit.Entry{Who: "ana", From: "192.0.2.1:4", Action: "cancelRun", Target: "E-a", Result: audit.OK, Detail: map[string]string{"note": "hunter22"}})
	write(t, l, audit.Entry{Who: "bob", Action: "retryRun", Target: "E-b", Result: audit.Refused, Reason: "with hunter22 " + strings.Repeat("x", 9000)})
	stream, err := b.JetStream().Stream(t.Context(), broker.AuditStream)
	if err != nil {
		t.Fatal(err)
	}
	if stream.DeleteMsg(t.Context(), 1) == nil || stream.Purge(t.Context()) == nil {
		t.Error("what is written can be deleted")
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	l = open(t, openBroker(t, dir), nil)
	got := all(t, l, auditlog.Query{Limit: 1})
	if targets(got) != "E-a E-b " || got[0].Who != "ana" || got[0].From != "192.0.2.1:4" || got[0].Detail["note"] != "***" ||
		!strings.HasPrefix(got[1].Reason, "with *** xx") || len(got[1].Reason) > 5000 || time.Since(got[0].At) > time.Minute {
		t.Errorf("%+v", got)
	}
	for _, cursor := range []string{"x", "1.2"} {
		if _, _, err := l.List(t.Context(), auditlog.Query{Limit: 1, Cursor: cursor}); !errors.Is(err, auditlog.ErrCursor) {
			t.Errorf("cursor %s: %v", cursor, err)
		}
	}
}

func TestAStoreThatIsAwayIsAnError(t *testing.T) {
	b := openBroker(t, t.TempDir())
	l := open(t, b, nil)
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Audit(t.Context(), audit.Entry{}); !errors.Is(err, event.ErrLogUnavailable) {
		t.Errorf("writing: %v", err)
	}
	if _, _, err := l.List(t.Context(), auditlog.Query{Limit: 1}); !errors.Is(err, event.ErrLogUnavailable) {
		t.Errorf("reading: %v", err)
	}
}

// TestDecisionsComeFromTheJournals merges both in the order of time, whatever the size of a page.
func TestDecisionsComeFromTheJournals(t *testing.T) {
	b := openBroker(t, t.TempDir())
	store, err := runstore.Open(t.Context(), b, runstore.Options{Partitions: 2, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, b, store)
	if got := all(t, l, auditlog.Query{Limit: 3}); got != nil {
		t.Fatalf("an empty log has %+v", got)
	}
	began := time.Now().Add(-time.Hour)
	at := func(minute int) time.Time { return began.Add(time.Duration(minute) * time.Minute) }
	for p, entries := range [][]run.Entry{
		{
			{At: at(1), Kind: run.Decided, Event: "E", Runs: []run.Created{{ID: "1", Rule: "r"}, {ID: "2", Rule: "r"}}},
			{At: at(2), Kind: run.Started, Run: "1", Step: "s"},
			{At: at(5), Kind: run.Ended, Run: "1", State: run.Failed},
		},
		{{At: at(6), Kind: run.Decided, Event: "F", Why: "no rule"}, {At: at(7), Kind: run.Fired, Runs: []run.Created{{ID: "3", Rule: "r"}}}},
	} {
		j, _, err := store.Take(t.Context(), p, "me", func(uint64, run.Entry) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Append(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
	}
	write(t, l, audit.Entry{At: at(3), Target: "ordered at 3"})
	write(t, l, audit.Entry{At: at(8), Target: "ordered at 8"})
	for limit := 1; limit < 8; limit++ {
		if got := targets(all(t, l, auditlog.Query{Limit: limit})); got != "1 2 ordered at 3 1 3 ordered at 8 " {
			t.Errorf("pages of %d: %s", limit, got)
		}
	}
	if got := targets(all(t, l, auditlog.Query{Limit: 2, Since: at(5)})); got != "1 3 ordered at 8 " {
		t.Errorf("since: %s", got)
	}
	if got := all(t, l, auditlog.Query{Limit: 2, Since: time.Now().Add(time.Minute)}); got != nil {
		t.Errorf("since a time to come: %+v", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*auditlog.Options){
		"Redact": func(o *auditlog.Options) { o.Redact = nil }, "MaxBytes": func(o *auditlog.Options) { o.MaxBytes = 1 },
		"MaxAge": func(o *auditlog.Options) { o.MaxAge = -1 }, "Logger": func(o *auditlog.Options) { o.Logger = nil },
	} {
		o := auditlog.Options{Redact: strings.ToLower, Logger: slog.New(slog.DiscardHandler)}
		change(&o)
		if _, err := auditlog.Open(t.Context(), nil, o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
