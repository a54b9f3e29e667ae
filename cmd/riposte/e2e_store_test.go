//go:build e2e

package main_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fixtureRules leave something of every kind in a store. The step of rule `cut` waits for ever unless a variable says
// otherwise, as it does when the store is opened again.
const fixtureRules = githubSource + `
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: done}
spec:
  trigger: {source: github, type: push}
  when: event.data.kind == "done" || event.data.kind == "large"
  steps:
    - {id: say, uses: exec.run, with: {script: "echo done"}}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: cut}
spec:
  trigger: {source: github, type: push}
  when: event.data.kind == "cut"
  concurrency: {group: cut, policy: queue}
  steps:
    - {id: wait, uses: exec.run, onInterrupt: retry, timeout: 1h, with: {script: '[ "${FIXTURE_OPEN:-}" = 1 ] || sleep 3600'}}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: ask}
spec:
  trigger: {source: github, type: push}
  when: event.data.kind == "ask"
  mode: approve
  steps:
    - {id: act, uses: exec.run, with: {script: "echo acted"}}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: third}
spec:
  trigger: {source: github, type: push}
  when: event.data.kind == "count"
  correlate: {count: 3, within: 1d}
  steps:
    - {id: say, uses: exec.run, with: {script: "echo third"}}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: held}
spec:
  trigger: {source: github, type: push}
  when: event.data.kind == "held"
  steps:
    - {id: say, uses: exec.run, with: {script: "echo held"}}
`

// TestE2EStoreFixture makes the store that pkg/app opens from then on: that of a server which was killed at work. With
// STORE_FIXTURE=FILE it is written there (make store-fixture), otherwise only tried.
func TestE2EStoreFixture(t *testing.T) {
	out := os.Getenv("STORE_FIXTURE")
	if out == "" {
		out = filepath.Join(t.TempDir(), "store.tar.gz")
	}
	root := t.TempDir()
	data := filepath.Join(root, "data")
	// Nothing of it may be too old when it is opened years later.
	config := configure(t, "eventLog: {maxAge: 36500d, idWindow: 36500d}\nstepLogs: {maxAge: 36500d}\naudit: {maxAge: 36500d}\nexec: {env: [FIXTURE_OPEN]}\n")
	s := serve(t, data, fixtureRules, "--config", config)
	events := map[string][]string{}
	send := func(kind, more string) string {
		id := s.push(fmt.Sprintf(`{"ref":"refs/heads/main","kind":%q,"n":%d,"repository":{"full_name":"acme/shop"}%s}`, kind, len(events[kind]), more))
		events[kind] = append(events[kind], id)
		return id
	}
	ended := func(id string) {
		if r := s.ended(id); r.State != "succeeded" {
			t.Fatalf("run %s is %s: %s", id, r.State, r.Message)
		}
	}
	ended(send("done", "") + "-done")
	ended(send("large", `,"pad":"`+strings.Repeat("x", 400<<10)+`"`) + "-done")
	state := func(id string, want ...string) {
		waitFor(t, time.Minute, fmt.Sprint("run ", id, " to be ", want), func() bool {
			var r runRecord
			return s.get("runs/"+id, &r) == nil && slices.Contains(want, r.State)
		})
	}
	state(send("ask", "")+"-ask", "waiting")
	state(send("cut", "")+"-cut", "running")
	state(send("cut", "")+"-cut", "pending", "waiting") // in the queue
	send("count", "")
	waitFor(t, time.Minute, "a checkpoint of the windows", func() bool {
		info, err := os.Stat(filepath.Join(data, "store/jetstream/$G/streams/OBJ_WINDOWS/msgs/1.blk"))
		return err == nil && info.Size() > 0
	})
	send("count", "") // the journal alone has this one
	if said, err := exec.Command(binary(t), "pause", "held", "--reason", "for the fixture", "--server", "http://"+s.Admin).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	state(send("held", "")+"-held", "refused")
	waitFor(t, time.Minute, "the windows to be counted", func() bool {
		text, err := exec.Command(binary(t), "explain", events["count"][1], "--server", "http://"+s.Admin).CombinedOutput()
		return err == nil && strings.Contains(string(text), "2 of 3")
	})
	_ = syscall.Kill(s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.exited
	made, err := json.Marshal(map[string]any{"made": time.Now().UTC(), "events": events})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"made.json": made, "rules/rules.yaml": []byte(fixtureRules)} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	size := pack(t, root, out)
	t.Logf("the store has %d KiB: %s", size>>10, out)
	if size > 300<<10 {
		t.Errorf("it is larger than 300 KiB")
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	serve(t, data, fixtureRules, "--config", config) // ends what is left of the killed server, and opens the store
}

// pack writes a directory's files to a compressed archive, but for those of one machine and one process.
func pack(t *testing.T, dir, name string) (size int64) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z, _ := gzip.NewWriterLevel(f, gzip.BestCompression) // the level is one that there is
	w := tar.NewWriter(z)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		local := map[string]bool{"lock": true, "listen.json": true, "dev-webhook-secret": true, "processes": true, "instance": true}
		if err != nil || !d.Type().IsRegular() || local[d.Name()] {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: rel, Size: int64(len(text)), Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, close := range []func() error{w.Close, z.Close, f.Close} {
		if err := close(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
