package app_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/app"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/run"
)

// oldStore is a store that some version wrote, taken from a server that was killed at work (make store-fixture).
type oldStore struct {
	dir    string
	Made   time.Time
	Events map[string][]string // by their kind, in the order they came
}

func openOldStore(t *testing.T, archive string) *oldStore {
	t.Helper()
	s := &oldStore{dir: t.TempDir()}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(s.dir, filepath.Clean("/"+head.Name))
		text, err := io.ReadAll(r)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(name), 0o700)
		}
		if err == nil {
			err = os.WriteFile(name, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "made.json"))
	if err == nil {
		err = json.Unmarshal(text, s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve starts today's server on the store, by a clock that goes on from when the store was made.
func (o *oldStore) serve(t *testing.T) *server {
	t.Helper()
	t.Setenv("E2E_SECRET", secret)
	t.Setenv("FIXTURE_OPEN", "1")
	c := testConfig(t, filepath.Join(o.dir, "data"))
	c.Dev, c.Rules.Dirs, c.Exec.Env = true, []string{filepath.Join(o.dir, "rules")}, []string{"FIXTURE_OPEN"}
	const ages = 100 * 365 * 24 * time.Hour
	c.EventLog.MaxAge, c.EventLog.IDWindow = ages, ages
	c.StepLogs.MaxAge, c.Audit = ages, config.History{MaxBytes: c.Audit.MaxBytes, MaxAge: ages}
	began := time.Now()
	return launchOptions(t, app.Options{Config: c, Now: func() time.Time { return o.Made.Add(time.Since(began)) }})
}

func fixtureBody(kind string, n int) string {
	return fmt.Sprintf(`{"ref":"refs/heads/main","kind":%q,"n":%d,"repository":{"full_name":"acme/shop"}}`, kind, n)
}

// TestStoresOfEarlierVersionsAreOpened: whatever a version has ever written is read by this one, and what waited goes on.
func TestStoresOfEarlierVersionsAreOpened(t *testing.T) {
	archives, err := filepath.Glob("testdata/stores/*/store.tar.gz")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no stores: %v", err)
	}
	for _, archive := range archives {
		t.Run(filepath.Base(filepath.Dir(archive)), func(t *testing.T) {
			o := openOldStore(t, archive)
			s := o.serve(t)
			o.wantsHistory(t, s)
			o.wantsProgress(t, s)
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			o.wantsHistory(t, o.serve(t))
		})
	}
}

func (o *oldStore) wantsHistory(t *testing.T, s *server) {
	t.Helper()
	for kind, ids := range o.Events {
		for _, id := range ids {
			var e api.Event
			if !s.get("events/"+id, &e) || e.ID != id || e.Type != "push" {
				t.Errorf("event %s of kind %s can't be read: %+v", id, kind, e)
			}
		}
	}
	var large struct{ Data struct{ Pad string } }
	if s.get("events/"+o.Events["large"][0], &large); len(large.Data.Pad) != 400<<10 {
		t.Errorf("the large body has %d bytes", len(large.Data.Pad))
	}
	var done run.Run
	if !s.get("runs/"+o.Events["done"][0]+"-done", &done) || done.State != run.Succeeded || len(done.Steps) != 1 || done.EndedAt.After(o.Made) {
		t.Errorf("the run that was over is %+v", done)
	}
	if log := s.text(t, "runs/"+done.ID+"/logs"); !strings.Contains(log, "done") {
		t.Errorf("its log is %q", log)
	}
	var held run.Run
	if !s.get("runs/"+o.Events["held"][0]+"-held", &held) || held.State != run.Refused || held.Reason != run.ReasonPaused {
		t.Errorf("the run of the paused rule is %+v", held)
	}
	if a := s.push(fixtureBody("done", 0)); a.Status != http.StatusAccepted || !a.Duplicate || a.ID != o.Events["done"][0] {
		t.Errorf("the first event, sent again, is answered %+v", a)
	}
	for _, action := range []string{"pause", "rules.activated", "run.ended"} {
		if log := s.text(t, "audit?limit=500"); !strings.Contains(log, `"action":"`+action+`"`) {
			t.Errorf("the audit log has no %s: %s", action, log)
		}
	}
}

func (o *oldStore) wantsProgress(t *testing.T, s *server) {
	t.Helper()
	for _, event := range o.Events["cut"] { // one was cut off, the other stood behind it
		if r := s.ended(event + "-cut"); r.State != run.Succeeded {
			t.Errorf("run %s is %s: %s", r.ID, r.State, r.Message)
		}
	}
	ask := o.Events["ask"][0] + "-ask"
	var waits api.Run
	s.wait("run "+ask+" to ask", func() bool { return s.get("runs/"+ask, &waits) && waits.Approval != nil })
	if status, msg := s.as("", http.MethodPost, "runs/"+ask+"/approve", map[string]string{"digest": waits.Approval.Digest}, nil); status >= 300 {
		t.Fatalf("it can't be approved: %d %s", status, msg)
	}
	if r := s.ended(ask); r.State != run.Succeeded {
		t.Errorf("the approved run is %s: %s", r.State, r.Message)
	}
	third := s.push(fixtureBody("count", 2)).ID
	s.wait("the third event to be counted", func() bool { return len(s.runsOf("third").Items) == 1 })
	if r := s.runsOf("third").Items[0]; r.Event != third || r.State != run.Succeeded {
		t.Errorf("the rule that counts has run %+v", r)
	}
	held := s.push(fixtureBody("held", 1)).ID
	if r := s.ended(held + "-held"); r.State != run.Refused {
		t.Errorf("a run of the paused rule is %s", r.State)
	}
	done := s.push(fixtureBody("done", 1)).ID
	if r := s.ended(done + "-done"); r.State != run.Succeeded {
		t.Errorf("a new run is %s: %s", r.State, r.Message)
	}
}

// text reads an answer of the API as it is.
func (s *server) text(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + s.listen.Admin + "/api/v1/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
