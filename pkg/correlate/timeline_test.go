package correlate_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
)

// TestTimelinesInTheDocs plays every time line of docs/correlation.md.
func TestTimelinesInTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/correlation.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```timeline\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 20 {
		t.Fatalf("only %d time lines were found", len(blocks))
	}
	for i, b := range blocks {
		t.Run(fmt.Sprint(i+1), func(t *testing.T) { playTimeline(t, b[1]) })
	}
}

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func playTimeline(t *testing.T, text string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	spec := timelineSpec(t, lines[0])
	m := newMachine(t, spec)
	times, events, fires := strings.Fields(lines[1])[1:], strings.Fields(lines[2])[1:], strings.Fields(lines[3])[1:]
	if len(times) != len(events) || len(times) != len(fires) {
		t.Fatalf("%d times, %d events, %d firings", len(times), len(events), len(fires))
	}
	for i := range times {
		at := start.Add(duration(t, times[i]))
		var got []correlate.Firing
		if events[i] == "." {
			got = m.Advance(at)
		} else {
			got = m.Add(timelineMatches(t, spec, events[i], at, uint64(i+1))...)
		}
		if s := show(got, at); s != fires[i] {
			t.Errorf("%s\nat %s: fires %s, want %s", text, times[i], s, fires[i])
		}
	}
}

func timelineSpec(t *testing.T, line string) correlate.Spec {
	t.Helper()
	s := correlate.Spec{}
	for i, part := range strings.Split(line, ", ") {
		name, value, _ := strings.Cut(part, ": ")
		switch {
		case name == "within":
			s.Within = duration(t, value)
		case name == "each":
			s.Each = true
		case i == 0:
			s.Kind = correlate.Kind(name)
			switch n, err := strconv.Atoi(value); {
			case err != nil:
				s.Parts = strings.Fields(value)
			case s.Kind == correlate.Count:
				s.Count = n
			default:
				s.Changes = n
			}
		}
	}
	return s
}

func timelineMatches(t *testing.T, s correlate.Spec, text string, at time.Time, seq uint64) []correlate.Match {
	t.Helper()
	text, late, ok := strings.Cut(text, "<")
	if ok {
		at = start.Add(duration(t, late))
	}
	text, key, _ := strings.Cut(text, "@")
	parts, id, ok := strings.Cut(text, ":")
	if !ok {
		parts, id = "", text
	}
	x := correlate.Match{Key: key, ID: id, Pos: event.Pos{Seq: seq}, At: at}
	if s.Kind == correlate.Flapping {
		x.State = parts
	}
	if len(s.Parts) == 0 {
		return []correlate.Match{x}
	}
	var list []correlate.Match
	for name := range strings.SplitSeq(parts, "&") {
		for i, p := range s.Parts {
			if p == name {
				x.Part = i
				list = append(list, x)
			}
		}
	}
	return list
}

// show writes firings as the time lines do.
func show(firings []correlate.Firing, at time.Time) string {
	if len(firings) == 0 {
		return "."
	}
	var list []string
	for _, f := range firings {
		s := names(f.Events)
		if f.Key != "" {
			s += "@" + f.Key
		}
		if !f.At.Equal(at) {
			s += "!" + shortDuration(f.At.Sub(start))
		}
		list = append(list, s)
	}
	return strings.Join(list, ",")
}

func shortDuration(d time.Duration) string { return fmt.Sprintf("%gm", d.Minutes()) }

func names(refs []correlate.Ref) string {
	var ids []string
	for _, r := range refs {
		ids = append(ids, r.ID)
	}
	return strings.Join(ids, "+")
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func newMachine(t testing.TB, s correlate.Spec) *correlate.Machine {
	t.Helper()
	m, err := correlate.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
