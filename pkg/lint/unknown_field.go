package lint

import (
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

func unknownField() Check {
	return Check{
		ID:  "unknown-field",
		Doc: "a field that the events which the trigger selects do not have",
		Why: "A clause that reads an absent field does not match, and a step that does is refused. What senders send is known for GitHub, GitLab, " +
			"Gitea, Forgejo and Alertmanager; a body may hold what this version has not heard of.",
		run: func(p *pass) {
			for _, r := range p.rules {
				p.unknownFields(r)
			}
		},
	}
}

func (p *pass) unknownFields(r *ruleDoc) {
	var events []pair
	for _, t := range r.triggers {
		p.unknownIn(r, t.events, append(readings(t.when, true), readings(t.by, true)...))
		events = append(events, t.events...)
	}
	correlate := r.Spec.Get("correlate")
	p.unknownIn(r, events, append(readings(correlate.Get("by"), true), readings(correlate.Get("state"), true)...))
	list := bounding(r.Spec)
	for _, s := range r.steps {
		list = append(list, s.readings()...)
	}
	p.unknownIn(r, events, list)
	for _, t := range r.triggers {
		p.unknownIn(r, t.events, ofPart(t, list))
	}
}

// ofPart returns what is read of the event of a part, as if it were the event.
func ofPart(t *trigger, list []reading) []reading {
	var out []reading
	for _, read := range list {
		path := read.Reading
		if t.as != "" && len(path) > 2 && path[0].Name == "correlated" && path[1].Name == t.as {
			read.Reading = slices.Clone(path[1:])
			read.Reading[0].Name = "correlated." + t.as
			out = append(out, read)
		}
	}
	return out
}

// missing says at which step of a path there is nothing, and what may be meant.
type missing struct {
	step int
	what string // where more is to say than that it is not there
	hint string
}

// unknownIn reports what no event has. Where one may have it, nothing is said.
func (p *pass) unknownIn(r *ruleDoc, events []pair, list []reading) {
	for _, read := range list {
		if len(read.Reading) < 2 || !isEvent(read.Reading[0].Name) || len(events) == 0 {
			continue
		}
		var worst *missing
		for _, e := range events {
			m := e.lacks(read)
			if m == nil {
				worst = nil
				break
			}
			if worst == nil || m.step > worst.step {
				worst = m
			}
		}
		if worst != nil {
			p.unknown(r, events, read, *worst)
		}
	}
}

// isEvent says whether a root is an event: the rule's, or that of a part.
func isEvent(root string) bool { return root == "event" || strings.HasPrefix(root, "correlated.") }

func (p *pass) unknown(r *ruleDoc, events []pair, read reading, m missing) {
	path := written(read.Reading[:m.step+1])
	msg := fmt.Sprintf("%s have no %s", describe(events), path)
	if m.what != "" {
		msg = m.what
	}
	p.report(r.Document, p.problem(r.Document, read.in, read.Reading[m.step].Place, m.hint, "%s", msg))
}

// describe names the events of a trigger.
func describe(events []pair) string {
	var kinds []string
	for _, e := range events {
		if !slices.Contains(kinds, e.kind) {
			kinds = append(kinds, e.kind)
		}
	}
	if len(kinds) == 1 && kinds[0] != "*" {
		return kinds[0] + " events of " + events[0].sender.preset.Name
	}
	return "the events that the trigger selects"
}

// lacks says where a path leads to nothing; nil where it may not.
func (p pair) lacks(read reading) *missing {
	fields, known := p.fields()
	switch name := read.Reading[1].Name; name {
	case "git", "pullRequest", "alert":
		if known && !slices.Contains(fields.Views, name) {
			return &missing{step: 1, hint: "they have " + strings.Join(withPrefix(read.Reading[0].Name+".", append(slices.Clone(fields.Views), "data")), ", ")}
		}
	case "headers":
		return p.lacksHeader(read)
	case "data":
		if known {
			return lacksMember(fields, read)
		}
	}
	return nil
}

func withPrefix(prefix string, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = prefix + n
	}
	return out
}

// lacksHeader knows the headers that presets keep; those of a generic source are its document's.
func (p pair) lacksHeader(read reading) *missing {
	kept := p.sender.preset.Headers
	if len(read.Reading) < 3 || read.Reading[2].Name == "" || len(kept) == 0 && p.sender.open() {
		return nil
	}
	name := read.Reading[2].Name
	if slices.ContainsFunc(kept, func(k string) bool { return k == name || k == textproto.CanonicalMIMEHeaderKey(name) }) {
		return nil
	}
	return &missing{
		step: 2, what: fmt.Sprintf("header %s is not kept by sources of the type %s", name, p.sender.preset.Name),
		hint: didYouMean(name, kept, "kept: "+strings.Join(kept, ", ")),
	}
}

func lacksMember(fields source.EventFields, read reading) *missing {
	s := fields.Data
	for i, step := range read.Reading[2:] {
		at := i + 2
		switch {
		case s.Open || step.Name == "" && !step.Element:
			return nil
		case step.Element && s.Element == nil:
			return nil // a text's character, or what fails anyway
		case step.Element:
			s = s.Element
		case s.Element != nil:
			list := written(read.Reading[:at])
			return &missing{step: at, what: list + " is a list, and has no field " + step.Name, hint: fmt.Sprintf("write any(%s, .%s == …), or [0] for its first element", list, step.Name)}
		case s.Members == nil:
			return &missing{step: at, what: written(read.Reading[:at]) + " is a single value, and has no field " + step.Name}
		case s.Members[step.Name] == nil:
			return &missing{step: at, hint: meant(fields, s, read, at)}
		default:
			s = s.Members[step.Name]
		}
	}
	return nil
}

// meant suggests what a step may mean: a name that is like it, the same name in a view, or one level below.
func meant(fields source.EventFields, s *source.Shape, read reading, at int) string {
	prefix, name := written(read.Reading[:at])+".", read.Reading[at].Name
	if best := document.Nearest(name, s.Names()); best != "" {
		return "did you mean " + prefix + best + "?"
	}
	for _, view := range fields.Views {
		if slices.Contains(event.ViewFields()[view], name) {
			return "did you mean " + read.Reading[0].Name + "." + view + "." + name + "?"
		}
	}
	for _, outer := range s.Names() {
		if s.Members[outer].Members[name] != nil {
			return "did you mean " + prefix + outer + "." + name + "?"
		}
	}
	return "known: " + listed(s.Names())
}

const maxListed = 20

func listed(names []string) string {
	if len(names) > maxListed {
		return strings.Join(names[:maxListed], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
