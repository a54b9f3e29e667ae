package run_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/run"
)

// moves are the changes of states that were seen, of a run or of its steps: from and to.
type moves struct{ run, step map[[2]string]bool }

// watch replays a journal.
func (m moves) watch(journal []run.Entry) {
	var r *run.Run
	for _, e := range journal {
		if e.Kind == run.Decided {
			r = run.New(e.Runs[0], e)
			continue
		}
		state, was := r.State, map[string]run.StepState{}
		for _, s := range r.Steps {
			was[string(s.Phase)+"/"+s.ID] = s.State
		}
		run.Apply(r, e)
		note(m.run, string(state), string(r.State))
		for _, s := range r.Steps {
			from := was[string(s.Phase)+"/"+s.ID]
			if from == "" {
				from = "-"
			}
			note(m.step, string(from), string(s.State))
		}
	}
}

func note(moves map[[2]string]bool, from, to string) {
	if from != to {
		moves[[2]string{from, to}] = true
	}
}

// documented reads the tables of moves in the page about runs.
func documented(t *testing.T) map[string]map[[2]string]bool {
	t.Helper()
	page, err := os.ReadFile("../../docs/runs.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[[2]string]bool{}
	for _, block := range regexp.MustCompile("(?s)```moves\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		lines := strings.Split(strings.TrimSpace(block[1]), "\n")
		of := map[[2]string]bool{}
		out[lines[0]] = of
		for _, line := range lines[1:] {
			from, to, ok := strings.Cut(line, "->")
			if !ok {
				t.Fatalf("%q is no move", line)
			}
			for name := range strings.FieldsSeq(to) {
				of[[2]string{strings.TrimSpace(from), name}] = true
			}
		}
	}
	return out
}

// compare reports moves that were made and are not told, and states that are told and are never come to.
func compare(t *testing.T, of string, seen, told map[[2]string]bool) {
	t.Helper()
	var wrong []string
	come := map[string]bool{}
	for m := range seen {
		come[m[1]] = true
		if !told[m] {
			wrong = append(wrong, of+" goes from "+m[0]+" to "+m[1]+", which docs/runs.md does not have")
		}
	}
	for m := range told {
		if !come[m[1]] {
			wrong = append(wrong, of+" never comes to "+m[1]+", as docs/runs.md says")
		}
	}
	slices.Sort(wrong)
	for _, w := range slices.Compact(wrong) {
		t.Error(w)
	}
}
