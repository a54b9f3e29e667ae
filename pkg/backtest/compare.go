package backtest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/rule"
)

// Kinds of differences.
const (
	Appear    = "appear"    // the candidate starts a run that was not started
	Disappear = "disappear" // a run that was started is not
	Change    = "change"    // both start a run, and it is another
)

// Report is what a backtest found.
type Report struct {
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
	Events int       `json:"events"` // from since to until
	// Unreceived counts events by sources that the candidate does not have: it would not have received them.
	Unreceived map[string]int `json:"unreceived,omitempty"`
	// Gone counts runs whose events are no longer recorded: nothing can be said of them.
	Gone int `json:"gone,omitempty"`
	// ByHand counts runs that people started, of rules that the candidate has: conditions had no part in them.
	ByHand int `json:"byHand,omitempty"`

	Same        int          `json:"same"`
	Appear      int          `json:"appear"`
	Disappear   int          `json:"disappear"`
	Change      int          `json:"change"`
	Rules       []RuleReport `json:"rules"`
	Differences []Difference `json:"differences"` // the first of them, oldest first
}

// RuleReport is what a backtest found of one rule.
type RuleReport struct {
	Rule      string `json:"rule"`
	Same      int    `json:"same"`
	Appear    int    `json:"appear"`
	Disappear int    `json:"disappear"`
	Change    int    `json:"change"`
}

// Difference is one run that is not what it was.
type Difference struct {
	Kind  string    `json:"kind"`
	Rule  string    `json:"rule"`
	Event string    `json:"event"`
	Type  string    `json:"type,omitempty"` // of the event
	Key   string    `json:"key,omitempty"`
	At    time.Time `json:"at"`
	What  string    `json:"what,omitempty"` // what changes
}

// maxDifferences bounds those that are listed; all are counted.
const maxDifferences = 10_000

// id names a run on either side. Several runs of a rule for one event differ by their keys, or are counted.
type id struct{ rule, event, key string }

// pair is what both sides have under one id.
type pair struct {
	typ             string
	candidate, base []Start
	refused         [2]string // why the candidate, and what it is compared with, refused one
}

// seen is what is known of an event that a decided run names.
type seen struct {
	at     time.Time
	typ    string
	byHand bool
}

// comparison collects what both sides start.
type comparison struct {
	o       *Options
	pairs   map[id]*pair
	actions [2]map[string]string // of the candidate, and of what it is compared with
	wanted  map[string]seen      // events that decided runs name, as far as they are recorded
	current *Recorded
	events  int
	added   int // runs
	byHand  int // runs of then
	stop    func(cause error)
}

func newComparison(o *Options, stop func(error)) *comparison {
	c := &comparison{o: o, stop: stop, pairs: map[id]*pair{}, wanted: map[string]seen{}}
	if o.Against != nil {
		c.actions = [2]map[string]string{actions(o.Candidate), actions(o.Against)}
		return c
	}
	for _, s := range o.Decided {
		c.wanted[s.Event] = seen{}
		if s.Decided != "" {
			c.wanted[s.Decided] = seen{}
		}
	}
	return c
}

// saw notes an event that both sides are about to decide.
func (c *comparison) saw(r *Recorded) {
	c.current = r
	if !r.ReceivedAt.Before(c.o.Since) {
		c.events++
	}
	if _, ok := c.wanted[r.ID]; ok {
		c.wanted[r.ID] = seen{r.ReceivedAt, r.Type, r.byHand()}
	}
}

func (c *comparison) add(s Start, candidate bool) {
	if c.added++; c.o.MaxRuns > 0 && c.added > c.o.MaxRuns {
		c.stop(fmt.Errorf("%w: more than %d", ErrTooManyRuns, c.o.MaxRuns))
		return
	}
	p := c.pair(s)
	if c.current != nil && c.current.ID == s.Event {
		p.typ = c.current.Type
	}
	p.add(s, candidate)
}

// add notes a run of one side. One that was refused did not start; it is only said why.
func (p *pair) add(s Start, candidate bool) {
	switch {
	case s.Refused != "" && candidate:
		p.refused[0] = s.Refused
	case s.Refused != "":
		p.refused[1] = s.Refused
	case candidate:
		p.candidate = append(p.candidate, s)
	default:
		p.base = append(p.base, s)
	}
}

func (c *comparison) pair(s Start) *pair {
	k := id{s.Rule, s.Event, s.Key}
	if c.pairs[k] == nil {
		c.pairs[k] = &pair{}
	}
	return c.pairs[k]
}

// soon is how long after an event its decision counts as made for it, and not for the end of a window.
const soon = time.Minute

// decided adds the runs of then. The time of a run is that of its event, unless it started when a window ended.
func (c *comparison) decided(all []Start) {
	for _, s := range all {
		e := c.wanted[s.Event]
		if !e.at.IsZero() && s.At.Sub(e.at) < soon {
			s.At = e.at
		}
		if s.At.Before(c.o.Since) || !s.At.Before(c.o.Until) {
			continue
		}
		if _, there := c.o.Candidate.ByHand(s.Rule); there && c.wanted[cmp.Or(s.Decided, s.Event)].byHand {
			c.byHand++
			continue
		}
		p := c.pair(s)
		p.typ = e.typ
		p.add(s, false)
	}
}

func (c *comparison) report(unreceived map[string]int) *Report {
	r := &Report{Since: c.o.Since, Until: c.o.Until, Events: c.events, Unreceived: unreceived, ByHand: c.byHand, Rules: []RuleReport{}, Differences: []Difference{}}
	rules := map[string]*RuleReport{}
	for _, rl := range c.o.Candidate.Rules {
		rules[rl.Name] = &RuleReport{Rule: rl.Name}
	}
	var all []Difference
	for k, p := range c.pairs {
		if rules[k.rule] == nil {
			rules[k.rule] = &RuleReport{Rule: k.rule}
		}
		if len(p.base) > 0 && c.gone(k.event) {
			r.Gone += len(p.base)
			continue
		}
		all = c.compare(all, k, p, rules[k.rule])
	}
	all = moved(all, rules, c.o.Candidate)
	slices.SortFunc(all, func(a, b Difference) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Event, b.Event), strings.Compare(a.Key, b.Key), strings.Compare(a.Kind, b.Kind))
	})
	r.Differences = append(r.Differences, all[:min(len(all), maxDifferences)]...)
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		rr := rules[name]
		r.Rules = append(r.Rules, *rr)
		r.Same, r.Appear, r.Disappear, r.Change = r.Same+rr.Same, r.Appear+rr.Appear, r.Disappear+rr.Disappear, r.Change+rr.Change
	}
	return r
}

// gone reports whether a decided run's event is no longer recorded.
func (c *comparison) gone(eventID string) bool {
	e, decided := c.wanted[eventID]
	return decided && e.at.IsZero()
}

func (c *comparison) compare(all []Difference, k id, p *pair, rr *RuleReport) []Difference {
	both := min(len(p.candidate), len(p.base))
	difference := func(kind, what string, s Start) {
		all = append(all, Difference{Kind: kind, Rule: k.rule, Event: k.event, Type: p.typ, Key: k.key, At: s.At, What: what})
	}
	for i := range both {
		if what := c.changes(p.candidate[i], p.base[i]); what != "" {
			rr.Change++
			difference(Change, what, p.candidate[i])
			continue
		}
		rr.Same++
	}
	for _, s := range p.candidate[both:] {
		rr.Appear++
		difference(Appear, because("was refused", p.refused[1]), s)
	}
	for _, s := range p.base[both:] {
		rr.Disappear++
		difference(Disappear, because("is refused", p.refused[0]), s)
	}
	return all
}

func because(what, reason string) string {
	if reason == "" {
		return ""
	}
	return what + ": " + reason
}

// changes says in what two runs of one rule for one event differ; "" is in nothing that is compared.
func (c *comparison) changes(candidate, base Start) string {
	var what []string
	switch {
	case candidate.Observed && !base.Observed:
		what = append(what, "is only observed")
	case !candidate.Observed && base.Observed:
		what = append(what, "acts, and was only observed")
	}
	if asks, asked := c.asks(c.o.Candidate, candidate.Rule), c.asks(c.o.Against, candidate.Rule); c.o.Against != nil && asks != asked {
		what = append(what, map[bool]string{true: "asks a person first", false: "acts without asking a person"}[asks])
	}
	if c.actions[0][candidate.Rule] != c.actions[1][candidate.Rule] {
		what = append(what, "has other steps")
	}
	return strings.Join(what, ", ")
}

// asks reports whether the runs of a rule wait for a person.
func (c *comparison) asks(set *rule.Set, name string) bool {
	if set == nil {
		return false
	}
	r := set.Rule(name)
	return r != nil && r.Plan.Approve
}

// moved joins a run that disappears with one that appears for the same group of the same rule: it is one run that starts
// on account of another event. All runs of a rule that correlates without by are of one group.
func moved(all []Difference, rules map[string]*RuleReport, candidate *rule.Set) []Difference {
	type group struct{ rule, key string }
	lost := map[group][]int{}
	for i, d := range all {
		if r := candidate.Rule(d.Rule); d.Kind == Disappear && (d.Key != "" || r != nil && r.Correlation() != nil) {
			lost[group{d.Rule, d.Key}] = append(lost[group{d.Rule, d.Key}], i)
		}
	}
	for _, list := range lost {
		slices.SortFunc(list, func(a, b int) int { return all[a].At.Compare(all[b].At) })
	}
	var found []int
	for i, d := range all {
		if d.Kind == Appear && len(lost[group{d.Rule, d.Key}]) > 0 {
			found = append(found, i)
		}
	}
	slices.SortFunc(found, func(a, b int) int { return all[a].At.Compare(all[b].At) })
	for _, i := range found {
		g := group{all[i].Rule, all[i].Key}
		if len(lost[g]) == 0 {
			continue
		}
		was := lost[g][0]
		lost[g] = lost[g][1:]
		all[i].Kind, all[i].What = Change, "starts on account of another event than "+all[was].Event
		all[was].Kind = ""
		rr := rules[g.rule]
		rr.Appear, rr.Disappear, rr.Change = rr.Appear-1, rr.Disappear-1, rr.Change+1
	}
	return slices.DeleteFunc(all, func(d Difference) bool { return d.Kind == "" })
}
