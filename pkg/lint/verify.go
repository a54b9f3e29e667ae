package lint

import (
	"slices"
	"time"

	"github.com/riposte-dev/riposte/pkg/document"
)

func replacedField() Check {
	return Check{
		ID:  "replaced-field",
		Doc: "a `verify`, `by` or `group` that rests on what the rule's own action replaces",
		Why: "A restarted workload has another pod, and its alert another instance and fingerprint: asked for the old one, `verify` finds it gone and well, and a limit `by` it never fills. " +
			"Use what stays: namespace, deployment, container, service.",
		run: func(p *pass) {
			for _, r := range p.rules {
				for _, outer := range r.steps {
					for _, s := range p.within(outer) {
						if s.main && len(s.def.Replaces) > 0 {
							p.replaced(r, s)
						}
					}
				}
			}
		},
	}
}

func (p *pass) replaced(r *ruleDoc, s step) {
	for _, read := range resting(r.Spec) {
		last := read.Reading[len(read.Reading)-1]
		if read.Reading[0].Name != "event" && read.Reading[0].Name != "correlated" || !slices.Contains(s.def.Replaces, last.Name) {
			continue
		}
		p.report(r.Document, p.problem(r.Document, read.in, last.Place, "use what stays the same: namespace, deployment, container, service",
			"%s is another one after %s", written(read.Reading), s.name()))
	}
}

// resting returns what the parts of a rule read that must mean the same before its steps and after them.
func resting(spec *document.Item) []reading {
	out := bounding(spec)
	correlate := spec.Get("correlate")
	out = append(out, readings(correlate.Get("by"), true)...)
	for _, part := range parts(spec) {
		out = append(out, readings(part.Get("by"), true)...)
	}
	return out
}

// bounding returns what verify, limits and concurrency read.
func bounding(spec *document.Item) []reading {
	verify := spec.Get("verify")
	out := append(readings(verify.Get("with"), false), readings(verify.Get("expect"), true)...)
	for _, limit := range elements(spec.Get("limits")) {
		out = append(out, readings(limit.Get("by"), true)...)
	}
	return append(out, readings(spec.Get("concurrency").Get("group"), false)...)
}

// shortest is how long the usual alerting takes to say that a problem is gone: its evaluation, `for`, and group intervals.
const shortest = 10 * time.Minute

func shortResolved() Check {
	return Check{
		ID:  "short-resolved",
		Doc: "a `verify` that awaits `resolved` for less than 10 minutes",
		Why: "Prometheus and Alertmanager take some minutes to say that an alert is over: a shorter wait calls what worked unverified, and repeats it.",
		run: func(p *pass) {
			for _, r := range p.rules {
				if verify := r.Spec.Get("verify"); verify.Get("resolved").Any() == true {
					p.shortResolved(r, verify)
				}
			}
		},
	}
}

// shortResolved warns where the alert must be resolved sooner than alerting says so: what must hold for a time is to begin
// before that.
func (p *pass) shortResolved(r *ruleDoc, verify *document.Item) {
	within, held := duration(verify.Get("within"), 15*time.Minute), duration(verify.Get("for"), 0)
	at := verify.Get("within")
	if at == nil {
		at = verify.Get("for")
	}
	switch {
	case within < shortest:
		p.warn(r.Document, at, "wait for 10m or more", "resolved is awaited for %s only, and alerting may take longer to say so", at.Any())
	case within-held < shortest:
		p.warn(r.Document, at, "make within longer: 10m and what it must hold for", "resolved is awaited for %s only, since it must hold for %s within %s, and alerting may take longer to say so",
			(within - held).String(), held, within)
	}
}

func duration(i *document.Item, otherwise time.Duration) time.Duration {
	text, _ := i.Any().(string)
	d, err := document.ParseDuration(text)
	if err != nil {
		return otherwise
	}
	return d
}
