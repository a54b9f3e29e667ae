package rule

import (
	"strings"
	"unicode/utf8"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/run"
)

// PausedFile is the name of a file beside the rules that pauses them. Each of its lines names a rule, or begins with # and
// says why; where it names none, all rules are paused.
const PausedFile = "PAUSED"

// maxReason bounds what the file says of why, in bytes.
const maxReason = 400

// pausedBy is what a PausedFile says.
type pausedBy struct {
	file  string
	names []pausedName
	pause run.Pause
}

type pausedName struct {
	name string
	line int
}

// readPaused reads a PausedFile; there can be one in each directory of rules.
func (l *loader) readPaused(f File) {
	p := pausedBy{file: f.Path, pause: run.Pause{By: "the file " + f.Path}}
	for i, line := range strings.Split(string(f.Data), "\n") {
		line = strings.TrimSpace(line)
		if why, comment := strings.CutPrefix(line, "#"); comment {
			p.pause.Reason = strings.TrimSpace(p.pause.Reason + " " + strings.TrimSpace(why))
		} else if line != "" {
			p.names = append(p.names, pausedName{line, i + 1})
		}
	}
	if !utf8.ValidString(p.pause.Reason) || len(p.pause.Reason) > maxReason {
		p.pause.Reason = strings.ToValidUTF8(p.pause.Reason[:min(len(p.pause.Reason), maxReason)], "")
	}
	l.pausedBy = append(l.pausedBy, p)
}

// pause pauses the rules that PausedFiles name. A name that no rule has is an error: what was meant would go on.
func (l *loader) pause() {
	var known []string
	for _, r := range l.set.Rules {
		known = append(known, r.Name)
	}
	for _, p := range l.pausedBy {
		if len(p.names) == 0 {
			for _, r := range l.set.Rules {
				r.Paused = &p.pause
			}
			l.set.Pauses = append(l.set.Pauses, p.pause)
		}
		for _, n := range p.names {
			r := l.set.byName[n.name]
			if r == nil {
				l.problems = append(l.problems, document.Problem{File: p.file, Line: n.line, Column: 1, Msg: "no rule is called " + strings.ToValidUTF8(n.name, ""), Hint: didYouMean(n.name, known)})
				continue
			}
			one := p.pause
			one.Rule = n.name
			l.set.Pauses = append(l.set.Pauses, one)
			if r.Paused == nil {
				r.Paused = &one
			}
		}
	}
}
