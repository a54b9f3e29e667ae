package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/run"
)

func TestARunIsDrawnToScale(t *testing.T) {
	began := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	at := func(seconds float64) *time.Time {
		when := began.Add(time.Duration(seconds * float64(time.Second)))
		return &when
	}
	r := api.Run{ID: "E-shop", Rule: "shop", RuleRevision: "abc", Event: "E", State: run.Running, Reason: "StepFailed", Attempt: 1, CreatedAt: began, StartedAt: at(0)}
	r.Steps = []api.Step{
		{ID: "src", Uses: "git.pull", State: run.StepSucceeded, Attempt: 1, StartedAt: at(0), EndedAt: at(1.25)},
		{ID: "tf", Uses: "workflow/tf", State: run.StepFailed, Attempt: 1, StartedAt: at(1.25), EndedAt: at(40)},
		{ID: "restart", Uses: "exec.run", State: run.StepSkipped},
		{ID: "restart[0]", Uses: "exec.run", State: run.StepCancelled, Attempt: 1, StartedAt: at(0), EndedAt: at(0.0004)},
		{ID: "tf/plan", Uses: "terraform.plan", State: run.StepSucceeded, Attempt: 1, StartedAt: at(1.25), EndedAt: at(20)},
		{ID: "tf/apply", Uses: "terraform.apply", State: run.StepFailed, Attempt: 2, StartedAt: at(20), EndedAt: at(40), Error: "exit code 1: Error acquiring the state \x1b[31mlock\x1b]0;title\a, and a sentence that goes on beyond the end\nsecond line"},
		{ID: "lost/plan", Uses: "x", State: run.StepPending},
		{ID: "tf/plan", Phase: run.OnFailure, Uses: "notify.send", State: run.StepRunning, Attempt: 1, StartedAt: at(40)},
	}
	for width, want := range map[int]string{80: wide, 50: narrow} {
		var b bytes.Buffer
		drawRun(&b, r, width, began.Add(80*time.Second), painter(false))
		_, got, _ := strings.Cut(b.String(), "\n\n")
		if got != want {
			t.Errorf("in %d columns:\n%s", width, got)
		}
	}
	r.Steps = nil
	var b bytes.Buffer
	drawRun(&b, r, 80, began, painter(false))
	if !strings.HasSuffix(b.String(), "no step has begun\n") {
		t.Error(b.String())
	}
}

const wide = `✔ src        git.pull         1.3s    █
✖ tf         workflow/tf      38.8s   ████████████████████
✔   plan     terraform.plan   18.8s   ██████████
✖   apply    terraform.apply  20s #2            ██████████
      exit code 1: Error acquiring the state lock, and a sentence that goes on
      beyond the end
      second line
– restart    exec.run
■   [0]      exec.run         0s      █
· lost/plan  x
onFailure
▶ tf/plan    notify.send      40s…                        ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
`

const narrow = `✔ src        git.pull         1.3s    █
✖ tf         workflow/tf      38.8s   █████
✔   plan     terraform.plan   18.8s   ██
✖   apply    terraform.apply  20s #2    ███
      exit code 1: Error acquiring the state
      lock, and a sentence that goes on beyond
      the end
      second line
– restart    exec.run
■   [0]      exec.run         0s      █
· lost/plan  x
onFailure
▶ tf/plan    notify.send      40s…         ▒▒▒▒▒▒
`

func TestWhatSteersATerminalIsLeftOut(t *testing.T) {
	for text, want := range map[string]string{
		"plain é text\tand a tab\r\n":                 "plain é text\tand a tab",
		"10 %\r100 %":                                 "100 %",
		"a \x1b[1;31mred\x1b[0m word":                 "a red word",
		"clear \x1b[2J\x1b[Hscreen":                   "clear screen",
		"title \x1b]0;evil\aend":                      "title end",
		"link \x1b]8;;http://x\x1b\\text":             "link 8;;http://x\\text",
		"cut off \x1b[31":                             "cut off ",
		"a bell\a, a C1 \u009b31m and \u202ereversed": "a bell, a C1 31m and reversed",
		"\x1b":    "",
		"\x1b[\n": "",
	} {
		if got := harmless(text, false); got != want {
			t.Errorf("%q becomes %q, not %q", text, got, want)
		}
	}
	if got := harmless("a \x1b[1;31mred\x1b[2J word", true); got != "a \x1b[1;31mred word\x1b[0m" {
		t.Errorf("with colors: %q", got)
	}
}

func FuzzHarmless(f *testing.F) {
	f.Add("a \x1b[31mb\x1b]0;c\a\u009bd")
	f.Fuzz(func(t *testing.T, text string) {
		if got := harmless(text, false); strings.IndexFunc(got, steers) >= 0 {
			t.Errorf("%q becomes %q", text, got)
		}
	})
}

func TestLogsArePrintedLineByLine(t *testing.T) {
	var b bytes.Buffer
	p := newLogPrinter(&b, api.Run{Steps: []api.Step{{ID: "source"}}}, "")
	for _, chunk := range []string{
		`{"step":"source","attempt":1,"text":"one\ntw"}`,
		`{"step":"tell","attempt":2,"phase":"onFailure","text":"between\n"}`,
		`{"step":"source","attempt":1,"text":"o\n\nhalf"}`,
		`{"step":"source","attempt":1,"omitted":7,"text":"a line\r\nlast"}`,
	} {
		if err := p.line([]byte(chunk)); err != nil {
			t.Fatal(err)
		}
	}
	p.end()
	want := "source | one\nonFailure/tell#2 | between\nsource | two\nsource |\nsource | half\nsource | … 7 bytes left out\nsource | a line\nsource | last\n"
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
}
