package app

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/explain"
)

// accept puts an event into the log that was received at a time.
func accept(t *testing.T, a *App, received time.Time) *event.Event {
	t.Helper()
	e := &event.Event{ID: event.RandomID(), Source: "doorbell", Type: "event", ReceivedAt: received, Body: []byte(`{}`)}
	if _, err := a.events.Append(t.Context(), []event.Record{{Kind: event.KindEvent, SourceType: "generic", Event: e}}); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestWhatIsNotDecidedIsNotEvaluated looks at a server whose engine does not run, so that nothing is ever decided.
func TestWhatIsNotDecidedIsNotEvaluated(t *testing.T) {
	dir := t.TempDir()
	rules := "apiVersion: riposte.dev/v1\nkind: Source\nmetadata: {name: doorbell}\nspec: {type: generic, insecure: true}\n"
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.HooksListen, c.AdminListen, c.HealthListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Data, c.Rules.Dirs, c.EventLog.ReserveBytes = filepath.Join(dir, "data"), []string{dir}, 1<<20
	a, err := New(t.Context(), Options{Config: c, LogOutput: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.teardown.run(); err != nil {
			t.Error(err)
		}
	}()
	following, stop := context.WithCancel(t.Context())
	followed := make(chan error, 1)
	go func() { followed <- a.history.Follow(following) }()
	defer func() {
		stop()
		<-followed
	}()
	x := &explainer{log: a.events, history: a.history, rules: a.rules, engine: a.engine, leases: a.leases, redactor: a.redactor}

	fresh := accept(t, a, time.Now())
	got, err := x.Explain(t.Context(), fresh.ID, true)
	if err != nil || got.State != explain.Undecided || got.Note == "" || got.Loaded != 0 {
		t.Errorf("an event of now: %+v, %v", got, err)
	}
	old := accept(t, a, time.Now().Add(-time.Hour))
	got, err = x.Explain(t.Context(), old.ID, true)
	if err != nil || got.State != explain.Forgotten || !strings.Contains(got.Note, "active rules") || got.Revision != a.rules.current().Revision {
		t.Errorf("an event of long ago: %+v, %v", got, err)
	}
	var in explain.Input
	if err := x.decidedWith(t.Context(), &in, "0123456789abcdef"); err != nil || in.State != explain.Forgotten || !strings.Contains(in.Note, "0123456, are not kept") || in.Set != a.rules.current() {
		t.Errorf("with rules that were purged: %+v, %v", in, err)
	}
	if _, err := x.Explain(t.Context(), "ZZZZZZ", false); err == nil {
		t.Error("there is no such event")
	}
}
