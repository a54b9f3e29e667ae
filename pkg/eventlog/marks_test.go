package eventlog_test

import (
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/eventlog"
)

func TestMarksSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 11, 23, 10, 0, 0, 1, time.UTC)
	l, stop := open(t, dir, eventlog.Options{})
	if got, err := l.Mark(t.Context(), broker.MarkSchedule); err != nil || !got.IsZero() {
		t.Errorf("before any: %s, %v", got, err)
	}
	if err := l.SetMark(t.Context(), broker.MarkSchedule, at); err != nil {
		t.Fatal(err)
	}
	stop()
	l, stop = open(t, dir, eventlog.Options{})
	defer stop()
	if got, err := l.Mark(t.Context(), broker.MarkSchedule); err != nil || !got.Equal(at) {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := l.Mark(t.Context(), broker.MarkCatchUp); err != nil || !got.IsZero() {
		t.Errorf("another one: %s, %v", got, err)
	}
}
