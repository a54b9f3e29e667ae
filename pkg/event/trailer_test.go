package event

import (
	"strings"
	"testing"
)

func TestTrailers(t *testing.T) {
	for _, c := range []struct{ message, want string }{
		{"fix: it", "fix: it\n\nRiposte-Run: R1\nRiposte-Rule: heal\n"},
		{"fix it\n\nbecause\n\n\n", "fix it\n\nbecause\n\nRiposte-Run: R1\nRiposte-Rule: heal\n"},
		{"fix it\n\nSigned-off-by: Ana <a@example.org>", "fix it\n\nSigned-off-by: Ana <a@example.org>\nRiposte-Run: R1\nRiposte-Rule: heal\n"},
	} {
		got := WithTrailers(c.message, "R1", "heal")
		if got != c.want {
			t.Errorf("%q becomes %q, want %q", c.message, got, c.want)
		}
		if CommitRun(got) != "R1" || CommitRule(got) != "heal" {
			t.Errorf("%q is of run %q and rule %q", got, CommitRun(got), CommitRule(got))
		}
	}
	for message, run := range map[string]string{
		"":                         "",
		"no trailer":               "",
		"about Riposte-Run: R1":    "",
		"x\n\nRiposte-Run: ":       "",
		"x\n\nRiposte-Run: a b":    "",
		"x\n\nriposte-run: R1\r\n": "R1",
		// A message that quotes another run's is still ours.
		WithTrailers("x\n\nRiposte-Run: R1", "R2", "r"): "R2",
		// GitHub squashes so.
		"title (#3)\n\n* fix it\n\nRiposte-Run: R1\nRiposte-Rule: r\n\n---------\n\nCo-authored-by: Ana <a@example.org>": "R1",
		"x\n\nRiposte-Run: " + strings.Repeat("R", 300):                                                                  "",
	} {
		if got := CommitRun(message); got != run {
			t.Errorf("%q is of run %q, want %q", message, got, run)
		}
	}
}

func FuzzCommitRun(f *testing.F) {
	f.Add("fix it\n\nRiposte-Run: R1\nRiposte-Rule: heal\n")
	f.Add("Riposte-Run: \x00")
	f.Fuzz(func(t *testing.T, message string) {
		if run := CommitRun(message); strings.ContainsAny(run, "\n\r\x00 ") || len(run) > maxTrailer {
			t.Errorf("run %q", run)
		}
		if got := CommitRun(WithTrailers(message, "R9", "r")); got != "R9" {
			t.Errorf("%q with trailers is of run %q", message, got)
		}
	})
}
