package run

import (
	"strings"
	"time"
)

// Pause keeps a rule, or all, from starting runs.
type Pause struct {
	Rule   string    `json:"rule,omitempty"` // empty is all
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"` // zero where that is not known
	Until  time.Time `json:"until,omitzero"` // zero is until somebody resumes it
}

// Holds reports whether it is not over.
func (p *Pause) Holds(now time.Time) bool { return p.Until.IsZero() || now.Before(p.Until) }

// String says who paused what, since when and why.
func (p *Pause) String() string {
	var b strings.Builder
	b.WriteString("all rules are paused by ")
	if p.Rule != "" {
		b.Reset()
		b.WriteString("rule " + p.Rule + " is paused by ")
	}
	b.WriteString(p.By)
	if !p.Since.IsZero() {
		b.WriteString(" since " + p.Since.UTC().Format(time.RFC3339))
	}
	if !p.Until.IsZero() {
		b.WriteString(" until " + p.Until.UTC().Format(time.RFC3339))
	}
	if p.Reason != "" {
		b.WriteString(": " + p.Reason)
	}
	return b.String()
}
