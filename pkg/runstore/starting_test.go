package runstore

import (
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// A server receives while it reads its history; a redelivery that comes then must find the run that it revives.
func TestAHistoryThatIsStillBeingRead(t *testing.T) {
	s := openStore(t, startServer(t).broker())
	h, err := NewHistory(s, HistoryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.started, h.target = true, 7
	if err := h.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	asked := make(chan []run.Run)
	go func() { asked <- h.RunsOf("e") }()
	for waits := false; !waits; { // until it has asked
		h.mu.Lock()
		waits = len(h.waiting) == 1
		h.mu.Unlock()
	}
	h.mu.Lock()
	h.fold(place{seq: 7}, &run.Entry{At: noon(), Kind: run.Decided, Event: "e", Pos: &event.Pos{Seq: 1}, Runs: []run.Created{{ID: "e-r", Rule: "r"}}})
	h.advance(7)
	h.mu.Unlock()
	if got := <-asked; len(got) != 1 || got[0].ID != "e-r" {
		t.Errorf("found %+v", got)
	}
}
