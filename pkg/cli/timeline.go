package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/run"
)

const (
	// minBar and maxBar are the columns that a step's time is drawn in; where there are fewer it is left out.
	minBar, maxBar = 10, 60
	// errorLines is how many lines of an error are drawn.
	errorLines = 12
)

// drawRun draws a run's steps as a tree, each with its time on one scale, in as many columns as the terminal has.
func drawRun(w io.Writer, r api.Run, width int, now time.Time, paint func(color, text string) string) {
	printHead(w, r, paint(stateColor(string(r.State)), stateOf(r)))
	if len(r.Steps) == 0 {
		fmt.Fprintln(w, "no step has begun")
		return
	}
	rows := tree(r.Steps)
	t := &timeline{paint: paint, now: now, width: width}
	t.scale(r, rows)
	phase := run.Main
	for _, row := range rows {
		if row.step.Phase != phase {
			phase = row.step.Phase
			fmt.Fprintln(w, paint(dim, string(phase)))
		}
		t.draw(w, row)
	}
}

// stepRow is a step in its place.
type stepRow struct {
	step  api.Step
	depth int
	label string
}

// tree puts the steps of a step behind it: tf/plan belongs to tf, and restart[3] to restart.
func tree(steps []api.Step) []stepRow {
	known := map[string]bool{}
	for _, s := range steps {
		known[stepName(s)] = true
	}
	children := map[string][]api.Step{}
	for _, s := range steps {
		parent := parentOf(s)
		if !known[parent] {
			parent = ""
		}
		children[parent] = append(children[parent], s)
	}
	var rows []stepRow
	var add func(parent string, depth int)
	add = func(parent string, depth int) {
		for _, s := range children[parent] {
			label := s.ID
			if depth > 0 {
				label = s.ID[cut(s.ID):]
			}
			rows = append(rows, stepRow{s, depth, strings.TrimPrefix(label, "/")})
			add(stepName(s), depth+1)
		}
	}
	add("", 0)
	return rows
}

// cut is where a step's id goes on from its parent's, or 0.
func cut(id string) int {
	if strings.HasSuffix(id, "]") {
		return max(strings.LastIndexByte(id, '['), 0)
	}
	return max(strings.LastIndexByte(id, '/'), 0)
}

// parentOf returns the name of the step that a step would be a part of, or "".
func parentOf(s api.Step) string {
	n := cut(s.ID)
	if n == 0 {
		return ""
	}
	return stepName(api.Step{ID: s.ID[:n], Phase: s.Phase})
}

// timeline draws rows on one scale.
type timeline struct {
	paint      func(color, text string) string
	now        time.Time
	width      int
	label      int // columns
	uses       int
	took       int
	bar        int
	from, till time.Time
}

// scale settles the columns and the time that the bars stand for.
func (t *timeline) scale(r api.Run, rows []stepRow) {
	t.from, t.till = r.CreatedAt, t.now
	if r.StartedAt != nil {
		t.from = *r.StartedAt
	}
	if r.EndedAt != nil {
		t.till = *r.EndedAt
	}
	for _, row := range rows {
		t.label = max(t.label, 2*row.depth+columns(row.label))
		t.uses = max(t.uses, columns(row.step.Uses))
		t.took = max(t.took, columns(t.detail(row.step)))
	}
	rest := func() int { return t.width - 1 - (2 + t.label + 2 + t.uses + 2 + t.took + 2) }
	if rest() < minBar {
		t.uses = 0
	}
	if t.bar = min(rest(), maxBar); t.bar < minBar {
		t.bar = 0
	}
}

func columns(text string) int { return utf8.RuneCountInString(text) }

// detail is how long a step took, and what else there is to say in short.
func (t *timeline) detail(s api.Step) string {
	text := ""
	switch {
	case s.StartedAt == nil:
	case s.EndedAt != nil:
		text = brief(s.EndedAt.Sub(*s.StartedAt))
	default:
		text = brief(t.now.Sub(*s.StartedAt)) + "…"
	}
	if s.NotBefore != nil && s.State == run.StepWaiting {
		text += " until " + s.NotBefore.Local().Format("15:04:05")
	}
	if s.Attempt > 1 {
		text += " #" + strconv.Itoa(s.Attempt)
	}
	return strings.TrimSpace(text)
}

// brief prints a duration in at most seven characters or so.
func brief(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func (t *timeline) draw(w io.Writer, row stepRow) {
	s := row.step
	indent := strings.Repeat("  ", row.depth)
	line := pad(indent+harmless(row.label, false), t.label) + "  "
	if t.uses > 0 {
		line += pad(harmless(s.Uses, false), t.uses) + "  "
	}
	line += pad(t.detail(s), t.took) + "  "
	if t.bar > 0 {
		line += t.paint(stateColor(string(s.State)), t.barOf(s))
	}
	mark := t.paint(stateColor(string(s.State)), markOf(s.State))
	fmt.Fprintln(w, strings.TrimRight(mark+" "+line, " "))
	t.drawError(w, indent+"    ", s.Error)
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(width-columns(text), 0))
}

// barOf draws when a step ran.
func (t *timeline) barOf(s api.Step) string {
	total := t.till.Sub(t.from)
	if s.StartedAt == nil || total <= 0 {
		return ""
	}
	ended, block := t.now, "▒"
	if s.EndedAt != nil {
		ended, block = *s.EndedAt, "█"
	}
	at := func(when time.Time) int {
		return min(max(int(float64(t.bar)*float64(when.Sub(t.from))/float64(total)), 0), t.bar)
	}
	begin := min(at(*s.StartedAt), t.bar-1)
	return strings.Repeat(" ", begin) + strings.Repeat(block, max(at(ended)-begin, 1))
}

// drawError breaks an error's lines where the terminal ends.
func (t *timeline) drawError(w io.Writer, indent, text string) {
	width := max(t.width-len(indent)-1, 20)
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(text)) {
		rest := []rune(harmless(line, false))
		for len(rest) > width {
			n := width
			for n > width/2 && rest[n] != ' ' {
				n--
			}
			if rest[n] != ' ' {
				n = width
			}
			lines, rest = append(lines, string(rest[:n])), []rune(strings.TrimLeft(string(rest[n:]), " "))
		}
		lines = append(lines, string(rest))
	}
	for i, line := range lines {
		if i == errorLines {
			fmt.Fprintf(w, "%s… %d more lines: -o json has them\n", indent, len(lines)-i)
			return
		}
		fmt.Fprintln(w, strings.TrimRight(indent+t.paint(red, line), " "))
	}
}

func markOf(s run.StepState) string {
	switch s {
	case run.StepSucceeded:
		return "✔"
	case run.StepFailed:
		return "✖"
	case run.StepRunning:
		return "▶"
	case run.StepWaiting:
		return "◷"
	case run.StepCancelled:
		return "■"
	case run.StepSkipped:
		return "–"
	}
	return "·"
}

// stateColor is the color of a state of a run or a step; the words are the same.
func stateColor(state string) string {
	switch state {
	case string(run.Succeeded):
		return green
	case string(run.Failed):
		return red
	case string(run.Running), string(run.Waiting), string(run.Verifying), string(run.Cancelled), string(run.Refused):
		return yellow
	}
	return dim
}
