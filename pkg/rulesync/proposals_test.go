package rulesync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
)

// host is what Proposals is given in tests: heads by their references, newest first, with what their files say.
type host struct {
	mu     sync.Mutex
	list   []rulesync.Proposal
	text   map[string]string // of a commit; its time where it begins with "old"
	err    error
	lists  int
	judged []string
	answer func(ctx context.Context, commit string) error
	away   bool // another replica's turn
	log    bytes.Buffer
}

func (h *host) set(change func(*host)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
}

func (h *host) heads(context.Context) ([]rulesync.Proposal, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lists++
	return slices.Clone(h.list), h.err
}

func (h *host) read(_ context.Context, ref string) (rulesync.Commit, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.list {
		if p.Ref != ref {
			continue
		}
		text := h.text[p.Commit]
		if text == "unreadable" {
			return rulesync.Commit{}, errors.New("the repository is away")
		}
		c := rulesync.Commit{ID: p.Commit, Object: []byte(text), Files: []rule.File{{Path: "a.yaml", Data: []byte(text)}}, Time: time.Now()}
		if text == "old" {
			c.Time = c.Time.Add(-15 * 24 * time.Hour)
		}
		return c, nil
	}
	return rulesync.Commit{}, errors.New("no such reference")
}

func (h *host) judge(ctx context.Context, p rulesync.Proposal, set *rule.Set, problem error) error {
	h.mu.Lock()
	text := p.Commit
	if problem != nil {
		text += ": " + problem.Error()
	} else if set.Revision != p.Commit {
		text += " as " + set.Revision
	}
	h.judged = append(h.judged, text)
	answer := h.answer
	h.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, p.Commit)
}

// propose adds heads; their commits have the references' names until a text gives another.
func (h *host) propose(heads ...string) {
	h.set(func(h *host) {
		for _, name := range heads {
			ref, commit, _ := strings.Cut(name, "=")
			h.list = slices.DeleteFunc(h.list, func(p rulesync.Proposal) bool { return p.Ref == ref })
			h.list = append([]rulesync.Proposal{{Ref: ref, Commit: commit}}, h.list...)
		}
	})
}

// run lets Proposals work in a synctest bubble until test returns.
func (h *host) run(t *testing.T, file string, test func(*rulesync.Proposals)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := rulesync.ProposalOptions{
			List: h.heads, Read: h.read, Load: (&repository{}).load, Judge: h.judge, File: file,
			Turn:   func() bool { h.mu.Lock(); defer h.mu.Unlock(); return !h.away },
			Random: func() float64 { return 0.5 }, Logger: slog.New(slog.NewTextHandler(&h.log, nil)),
		}
		p, err := rulesync.NewProposals(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		synctest.Wait()
		test(p)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func (h *host) wants(t *testing.T, want ...string) {
	t.Helper()
	h.set(func(h *host) {
		if !slices.Equal(h.judged, want) {
			t.Errorf("judged %q, want %q", h.judged, want)
		}
		h.judged = nil
	})
}

func TestEachProposedCommitIsJudgedOnce(t *testing.T) {
	h := &host{text: map[string]string{"b1": "broken", "old1": "old"}}
	h.propose("a=a1", "b=b1", "c=old1")
	file := filepath.Join(t.TempDir(), "heads.json")
	h.run(t, file, func(p *rulesync.Proposals) {
		h.wants(t, "b1: a.yaml:1:1: is broken", "a1")
		later(time.Hour)
		h.wants(t)
		h.propose("a=a2")
		p.Poke()
		later(2 * time.Second)
		h.wants(t, "a2")
	})
	h.run(t, file, func(*rulesync.Proposals) { // after a restart
		later(time.Hour)
		h.wants(t)
		h.propose("d=d1")
		later(time.Minute)
		h.wants(t, "d1")
	})
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.run(t, file, func(*rulesync.Proposals) {
		h.wants(t, "d1", "a2", "b1: a.yaml:1:1: is broken")
	})
}

func TestOfManyProposalsTheNewestAreJudged(t *testing.T) {
	h := &host{}
	var want []string
	for i := range 50 {
		h.propose(fmt.Sprintf("%d=c%[1]d", i))
		if i >= 30 {
			want = append([]string{fmt.Sprint("c", i)}, want...)
		}
	}
	file := filepath.Join(t.TempDir(), "heads.json")
	h.run(t, file, func(*rulesync.Proposals) {
		h.wants(t, want...)
		later(time.Hour)
		h.wants(t)
		h.propose("3=moved")
		later(time.Minute)
		h.wants(t, "moved")
	})
}

func TestAJudgementThatFailsIsTriedThreeTimes(t *testing.T) {
	h := &host{text: map[string]string{"gone": "unreadable"}}
	h.answer = func(context.Context, string) error { return errors.New("the host is away") }
	h.propose("a=a1", "b=gone")
	h.run(t, filepath.Join(t.TempDir(), "heads.json"), func(*rulesync.Proposals) {
		later(time.Hour)
		h.wants(t, "a1", "a1", "a1")
		h.set(func(h *host) { h.err = errors.New("the repository is away") })
		later(time.Hour)
		h.set(func(h *host) { h.err = nil })
		h.propose("a=a2")
		later(time.Minute)
		h.wants(t, "a2")
	})
	if n := strings.Count(h.log.String(), "can't be listed"); n != 1 {
		t.Errorf("the same reason stands %d times in the log", n)
	}
}

// TestAStopEndsAJudgementAndDoesNotCount stops in the middle of one, again and again, and then one ends the process.
func TestAStopEndsAJudgementAndDoesNotCount(t *testing.T) {
	h := &host{}
	h.answer = func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	h.propose("a=a1")
	file := filepath.Join(t.TempDir(), "heads.json")
	for range 5 {
		h.run(t, file, func(*rulesync.Proposals) { h.wants(t, "a1") })
	}
	var crashed []byte // what is on the disk while it is tried
	h.run(t, file, func(*rulesync.Proposals) {
		var err error
		if crashed, err = os.ReadFile(file); err != nil {
			t.Error(err)
		}
	})
	h.wants(t, "a1")
	for i := range 5 {
		if err := os.WriteFile(file, crashed, 0o600); err != nil {
			t.Fatal(err)
		}
		h.run(t, file, func(*rulesync.Proposals) {
			crashed, _ = os.ReadFile(file)
			if i < 2 {
				h.wants(t, "a1")
			} else {
				h.wants(t)
			}
		})
	}
	if !strings.Contains(h.log.String(), "the process ended each time") {
		t.Error("it is not said in the log")
	}
}

func TestAJudgementThatPanicsIsOneThatFails(t *testing.T) {
	h := &host{}
	h.answer = func(context.Context, string) error { panic("boom") }
	h.propose("a=a1", "b=b1")
	h.run(t, filepath.Join(t.TempDir(), "heads.json"), func(*rulesync.Proposals) {
		later(time.Hour)
		h.wants(t, "b1", "a1", "b1", "a1", "b1", "a1")
	})
	if !strings.Contains(h.log.String(), "judging it panicked: boom") {
		t.Error(h.log.String())
	}
}

func TestAJudgementIsBoundedInTime(t *testing.T) {
	h := &host{text: map[string]string{"s1": "slow"}}
	h.answer = func(ctx context.Context, commit string) error {
		if commit != "a1" {
			return nil
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	h.propose("s=s1", "a=a1")
	h.run(t, filepath.Join(t.TempDir(), "heads.json"), func(*rulesync.Proposals) {
		later(16 * time.Minute)
		h.set(func(h *host) {
			if len(h.judged) < 2 || h.judged[0] != "a1" || !strings.Contains(h.judged[1], "take too long to build") {
				t.Errorf("judged %q", h.judged)
			}
		})
	})
	if !strings.Contains(h.log.String(), "it takes too long") {
		t.Error(h.log.String())
	}
}

func TestOneReplicaJudges(t *testing.T) {
	h := &host{away: true}
	h.propose("a=a1")
	h.run(t, filepath.Join(t.TempDir(), "heads.json"), func(*rulesync.Proposals) {
		later(time.Hour)
		h.wants(t)
		h.set(func(h *host) {
			if h.away = false; h.lists != 0 {
				t.Errorf("looked %d times", h.lists)
			}
		})
		later(time.Minute)
		h.wants(t, "a1")
	})
}

func TestOptionsOfProposals(t *testing.T) {
	h := &host{}
	good := rulesync.ProposalOptions{
		List: h.heads, Read: h.read, Load: (&repository{}).load, Judge: h.judge, File: filepath.Join(t.TempDir(), "heads.json"),
		Random: func() float64 { return 0 }, Logger: slog.New(slog.DiscardHandler),
	}
	for name, change := range map[string]func(*rulesync.ProposalOptions){
		"no List":          func(o *rulesync.ProposalOptions) { o.List = nil },
		"no File":          func(o *rulesync.ProposalOptions) { o.File = "" },
		"a negative time":  func(o *rulesync.ProposalOptions) { o.Timeout = -1 },
		"no random source": func(o *rulesync.ProposalOptions) { o.Random = nil },
	} {
		o := good
		change(&o)
		if _, err := rulesync.NewProposals(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := rulesync.NewProposals(good); err != nil {
		t.Error(err)
	}
}
