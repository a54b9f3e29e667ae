package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/github"
)

const sourceDoc = `apiVersion: riposte.dev/v1
kind: Source
metadata: {name: github}
spec: {type: github, secrets: [{secret: s}]}
`

type nothing struct {
	Text string `yaml:"text,omitempty"`
}

// conjuncts are the four of rule i: for the event of push, those of rule 7 alone are all true.
func conjuncts(i int) [4][2]string {
	return [4][2]string{
		{"type", "push"}, {"data.ref", "refs/heads/main"},
		{"data.repository.full_name", fmt.Sprintf("acme/service-%d", i)}, {"data.pusher.name", fmt.Sprintf("user-%d", i%50)},
	}
}

const wanted = 7

func condition(i int) string {
	var clauses []string
	for _, c := range conjuncts(i) {
		clauses = append(clauses, fmt.Sprintf("event.%s == %q", c[0], c[1]))
	}
	return strings.Join(clauses, " && ")
}

// ruleDocs writes rules with conditions, as people do.
func ruleDocs(n int, when func(i int) string) []rule.File { return moreRuleDocs(n, when, "") }

// moreRuleDocs are ruleDocs with more lines in each rule.
func moreRuleDocs(n int, when func(i int) string, more string) []rule.File {
	files := []rule.File{{Path: "source.yaml", Data: []byte(sourceDoc)}}
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata:\n  name: rule-%d\n  labels: {team: team-%d}\nspec:\n", i, i%20)
		fmt.Fprintf(&b, "  trigger: {source: github, type: push}\n  when: '%s'\n%s", when(i), more)
		b.WriteString("  steps:\n    - uses: nothing\n      with: {text: \"${{ event.data.repository.full_name }} was pushed\"}\n")
		if i%100 == 99 || i == n-1 {
			files = append(files, rule.File{Path: fmt.Sprintf("rules-%d.yaml", i), Data: []byte(b.String())})
			b.Reset()
		}
	}
	return files
}

func load(files []rule.File) (*rule.Set, error) { return reload(files, nil) }

// reload loads files after a set of which most are.
func reload(files []rule.File, before *rule.Set) (*rule.Set, error) {
	return rule.Load(files, rule.Options{
		Before:  before,
		Sources: source.NewRegistry(github.Type()),
		Actions: action.NewRegistry([]action.Definition{{Name: "nothing", Params: &nothing{}}}),
		Now:     time.Now,
	})
}

// push is the body of a push to the repository of rule 7, of at least size bytes.
func push(size int) []byte {
	commit := func(i int) map[string]any {
		return map[string]any{
			"id": fmt.Sprintf("%040d", i), "message": fmt.Sprintf("Change number %d\n\nfor a \"reason\" that takes some words", i), "timestamp": "2026-11-23T10:00:00Z",
			"author": map[string]any{"name": "Ada", "email": "ada@example.com", "username": "ada"}, "url": "https://git.example.com/acme/service-7/commit/1",
			"added": []string{fmt.Sprintf("services/s%d/new.go", i%100)}, "removed": []string{}, "modified": []string{"go.mod", "go.sum"},
		}
	}
	body := map[string]any{
		"ref": "refs/heads/main", "before": strings.Repeat("1", 40), "after": strings.Repeat("2", 40), "forced": false, "created": false, "deleted": false,
		"compare": "https://git.example.com/acme/service-7/compare/1...2", "pusher": map[string]any{"name": "user-7", "email": "ada@example.com"},
		"repository": map[string]any{
			"id": 1234567, "name": "service-7", "full_name": "acme/service-7", "private": true, "html_url": "https://git.example.com/acme/service-7",
			"clone_url": "https://git.example.com/acme/service-7.git", "default_branch": "main", "owner": map[string]any{"login": "acme", "id": 1},
			"description": "One of many", "fork": false, "stargazers_count": 3, "topics": []string{"go", "service"},
		},
		"sender": map[string]any{"login": "user-7", "id": 99, "type": "User"},
	}
	var commits []any
	length := 0
	for i := 0; i == 0 || length < size; i++ {
		commits = append(commits, commit(i))
		one, _ := json.Marshal(commits[i])
		length += len(one) + 1
		if i == 0 {
			body["head_commit"] = commit(0)
			body["commits"] = nil
			rest, _ := json.Marshal(body)
			length += len(rest)
		}
	}
	body["commits"] = commits
	text, _ := json.Marshal(body)
	return text
}

func newEvent(body []byte) *event.Event {
	return &event.Event{ID: "1", Source: "github", Type: "push", Headers: map[string]string{"X-Github-Event": "push"}, Body: body}
}

// match is a new event for a set, of which so many rules are true.
func match(set *rule.Set, body []byte, want int) func() error {
	return func() error {
		m := set.Match(context.Background(), newEvent(body), time.Unix(0, 0))
		fired := 0
		for _, v := range m.Verdicts {
			if v.Truth == expression.True {
				fired++
			}
		}
		if fired != want {
			return fmt.Errorf("%d rules match, not %d", fired, want)
		}
		return nil
	}
}

// loading measures what a set costs.
func loading(report reporter) error {
	const n = 10_000
	defer debug.SetGCPercent(debug.SetGCPercent(300)) // as serve sets it
	files := ruleDocs(n, condition)
	best, leastProcessor, perRule := 0.0, 0.0, 0.0
	for range 3 {
		before := heap()
		began, spent := time.Now(), processor()
		set, err := load(files)
		if err != nil {
			return err
		}
		if took := float64(time.Since(began).Milliseconds()); best == 0 || took < best {
			best = took
		}
		if took := float64((processor() - spent).Milliseconds()); leastProcessor == 0 || took < leastProcessor {
			leastProcessor = took
		}
		perRule = float64(heap()-before) / n / 1024
		runtime.KeepAlive(set)
	}
	report("rules_load_10k", best, "ms", 0, "")
	report("rules_load_10k_processor", leastProcessor, "ms", 0, "")
	report("rules_memory", perRule, "KiB/rule", 0, "")
	if err := reloading(report, files); err != nil {
		return err
	}
	return swapping(report, files)
}

// reloading measures what a set costs of which one rule has changed.
func reloading(report reporter, files []rule.File) error {
	other := slices.Clone(files)
	last := &other[len(other)-1]
	last.Data = bytes.Replace(last.Data, []byte("user-7"), []byte("user-8"), 1)
	before, err := load(files)
	if err != nil {
		return err
	}
	best, least := 0.0, 0.0
	for i := range 6 {
		began, spent := time.Now(), processor()
		if before, err = reload([][]rule.File{other, files}[i%2], before); err != nil {
			return err
		}
		if took := float64(time.Since(began).Microseconds()) / 1000; best == 0 || took < best {
			best = took
		}
		if took := float64((processor() - spent).Microseconds()) / 1000; least == 0 || took < least {
			least = took
		}
	}
	report("rules_reload_10k", best, "ms", 0, "")
	report("rules_reload_10k_processor", least, "ms", 0, "")
	return nil
}

// processor is the time of all processors that this process has used: what other work on the machine moves least.
func processor() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// swapping measures the slowest first event after another set has taken over.
func swapping(report reporter, files []rule.File) error {
	var sets [2]*rule.Set
	for i := range sets {
		var err error
		if sets[i], err = load(files); err != nil {
			return err
		}
	}
	body := push(2300)
	var current atomic.Pointer[rule.Set]
	var took []time.Duration
	for i := range 101 {
		runtime.GC()
		began := time.Now()
		current.Store(sets[i%2])
		if err := match(current.Load(), body, 1)(); err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	report("rules_swap_and_first_event", median(took), "ms", 0, "")
	return nil
}

// many measures an event against few and many rules, and the peers with 10,000.
func many(report reporter) error {
	body := push(2300)
	report("rules_event_size", float64(len(body)), "bytes", 0, "")
	var contenders []contender
	for _, n := range []int{100, 10_000, 100_000} {
		set, err := load(ruleDocs(n, condition))
		if err != nil {
			return err
		}
		contenders = append(contenders, contender{fmt.Sprintf("riposte %d", n), match(set, body, 1)})
		if n == 10_000 {
			contenders = append(contenders, contender{"with views", normalised(set, body)})
		}
	}
	peers, err := peers(10_000, body)
	if err != nil {
		return err
	}
	us, err := race(append(contenders, peers...)...)
	if err != nil {
		return err
	}
	few, tenK, views, hundredK, decode, exprAll, celAll, opa := us[0], us[1], us[2], us[3], us[4], us[5], us[6], us[7]
	report("rules_event_100", few, "µs", 0, "")
	report("rules_event_10k", tenK, "µs", exprAll/tenK, "expr, all rules")
	report("rules_event_10k_of_opa", tenK, "µs", opa/tenK, "OPA")
	report("rules_event_10k_with_views", views, "µs", opa/views, "OPA")
	report("rules_event_100k", hundredK, "µs", hundredK/few, "of 100 rules")
	report("json_decode", decode, "µs", 0, "")
	report("expr_all_10k", exprAll, "µs", 0, "")
	report("cel_all_10k", celAll, "µs", 0, "")
	report("opa_10k", opa, "µs", 0, "")
	return nil
}

// normalised is match with the views that the preset makes, as the engine does.
func normalised(set *rule.Set, body []byte) func() error {
	return func() error {
		e := newEvent(body)
		set.Sources["github"].Source.Normalise(e)
		if m := set.Match(context.Background(), e, time.Unix(0, 0)); len(m.Verdicts) != 1 {
			return errors.New("not one rule matches")
		}
		return nil
	}
}

// large measures a push of 1 MB against scanning it once.
func large(report reporter) error {
	body := push(1_000_000)
	set, err := load(ruleDocs(10_000, condition))
	if err != nil {
		return err
	}
	us, err := race(
		contender{"scan", func() error { return event.Validate(body) }},
		contender{"match", match(set, body, 1)},
		contender{"encoding/json", func() error {
			if !json.Valid(body) {
				return errors.New("not JSON")
			}
			return nil
		}},
	)
	if err != nil {
		return err
	}
	report("scan_1MB", us[0], "µs", us[2]/us[0], "encoding/json.Valid")
	report("rules_event_1MB", us[1], "µs", us[1]/us[0], "of one scan")
	return nil
}

// paths measures a push to a monorepo whose rules watch a directory each.
func paths(report reporter) error {
	body := push(2300)
	measure := func(n int) (func() error, error) {
		set, err := load(ruleDocs(n, func(i int) string { return fmt.Sprintf(`changed("services/s%d/**", "libs/l%d/*.go")`, i, i%40) }))
		return func() error {
			e := newEvent(body)
			e.Git = &event.Git{Paths: []string{"docs/a.md", "services/s7/a.go", "services/s7/b/c.go", "services/s9/main.go"}, PathsComplete: true}
			if m := set.Match(context.Background(), e, time.Unix(0, 0)); len(m.Verdicts) != 2 {
				return fmt.Errorf("%d rules match", len(m.Verdicts))
			}
			return nil
		}, err
	}
	few, err := measure(20)
	if err != nil {
		return err
	}
	many, err := measure(2000)
	if err != nil {
		return err
	}
	us, err := race(contender{"20", few}, contender{"2000", many})
	if err != nil {
		return err
	}
	report("rules_paths_2000", us[1], "µs", us[1]/us[0], "of 20 rules")
	return nil
}

// absent measures the worst that an event can do: all rules miss a field, and have to be asked and reported.
func absent(report reporter) error {
	set, err := load(ruleDocs(10_000, condition))
	if err != nil {
		return err
	}
	some := []byte(`{"ref": "refs/heads/main", "repository": {"full_name": "acme/service-7"}}`)
	us, err := race(contender{"all", match(set, []byte(`{}`), 0)}, contender{"one", match(set, some, 0)})
	if err != nil {
		return err
	}
	report("rules_absent_all_10k", us[0], "µs", 0, "")
	report("rules_absent_one_10k", us[1], "µs", 0, "")
	return nil
}

// correlating measures an event against few and many rules that correlate, in one of which it takes part.
func correlating(report reporter) error {
	body := push(2300)
	measure := func(n int) (func() error, error) {
		set, err := load(moreRuleDocs(n, condition, "  correlate: {count: 3, within: 1h, by: event.data.pusher.name}\n"))
		return func() error {
			e := newEvent(body)
			if j := set.Joins(context.Background(), e, time.Unix(0, 0)); len(j.List) != 1 || j.Triggered != n {
				return fmt.Errorf("it takes part in %d of %d rules", len(j.List), j.Triggered)
			}
			return nil
		}, err
	}
	few, err := measure(100)
	if err != nil {
		return err
	}
	many, err := measure(10_000)
	if err != nil {
		return err
	}
	us, err := race(contender{"100", few}, contender{"10000", many})
	if err != nil {
		return err
	}
	report("rules_correlating_10k", us[1], "µs", us[1]/us[0], "of 100 rules")
	return nil
}

func median(took []time.Duration) float64 {
	slices.Sort(took)
	return float64(took[len(took)/2].Nanoseconds()) / 1e6
}
