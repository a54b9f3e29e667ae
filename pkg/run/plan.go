package run

import (
	"strconv"
	"strings"
	"time"
)

// Plan is what the transition function knows of a rule's workflow: order and policy, no expressions and no actions.
type Plan struct {
	Steps     []StepPlan
	OnFailure []StepPlan
	Finally   []StepPlan
	// Timeout bounds the main steps together; zero is no bound.
	Timeout time.Duration
	// Verify says how it is found out that the problem is gone; nil: a run whose steps succeeded has succeeded.
	Verify *Verify
	// Approve says that a person must agree before the first step that changes something.
	Approve bool
}

// StepPlan is one step of a plan.
type StepPlan struct {
	// ID is the step's path: the ids of the workflow steps that it stands in and its own, with slashes between them; an item
	// of a forEach has its number behind the id: "deploy[2]/plan". Below Steps, ids are relative to the step they stand in.
	ID   string
	Uses string
	// Needs lists the steps beside it that must have ended before this one starts.
	Needs []string
	// Timeout bounds one attempt; zero means the action's own default.
	Timeout         time.Duration
	Retry           Retry
	ContinueOnError bool
	// RetryInterrupted says that an attempt cut off in the middle is made again; otherwise it fails.
	RetryInterrupted bool
	// Changes says that the step changes something outside, beyond telling people.
	Changes bool
	// Parallel is how many items of a forEach go on at once; zero: the step is no forEach.
	Parallel int
	// Item says that the step is one item of a forEach.
	Item bool
	// Workflow says that the step consists of Steps.
	Workflow bool
	Steps    []StepPlan
}

// Group reports whether the step consists of others, and is itself nothing that runs.
func (sp *StepPlan) Group() bool { return sp.Parallel > 0 || sp.Workflow }

// Below is how many steps a group consists of; of a forEach with so many items. A forEach below it counts as if it had one.
func (sp *StepPlan) Below(items int) int {
	n := 0
	for i := range sp.Steps {
		n += 1 + sp.Steps[i].Below(1)
	}
	if sp.Parallel > 0 {
		n = items * (1 + n)
	}
	return n
}

// children returns the plans of a group's steps, with whole paths.
func (sp *StepPlan) children(s *Step) []StepPlan {
	if sp.Parallel > 0 {
		out := make([]StepPlan, len(s.Items))
		for i := range out {
			out[i] = sp.item(i)
		}
		return out
	}
	out := make([]StepPlan, len(sp.Steps))
	for i := range out {
		out[i] = sp.Steps[i].below(sp.ID)
	}
	return out
}

// item is the plan of one item of a forEach.
func (sp *StepPlan) item(i int) StepPlan {
	c := *sp
	c.ID += "[" + strconv.Itoa(i) + "]"
	c.Needs, c.ContinueOnError, c.Parallel, c.Item = nil, false, 0, true
	return c
}

func (sp StepPlan) below(path string) StepPlan {
	sp.ID = path + "/" + sp.ID
	needs := make([]string, len(sp.Needs))
	for i, n := range sp.Needs {
		needs[i] = path + "/" + n
	}
	sp.Needs = needs
	return sp
}

// Retry says how often and how far apart a failed step is tried.
type Retry struct {
	Attempts   int           // in all; 0 and 1 mean once
	Backoff    time.Duration // before the second attempt
	Factor     float64       // each further wait is this much longer; 0 means 2
	MaxBackoff time.Duration // 0 means 1h
	Jitter     float64       // share of the wait that is random, 0 to 1
	// On lists the outcomes that are tried again; nil is all of them.
	On []Outcome
}

// Outcome is a way in which an attempt fails.
type Outcome string

// Outcomes that can be tried again.
const (
	OutcomeFailed  Outcome = "failed"  // the action said so
	OutcomeTimeout Outcome = "timeout" // the attempt took too long
)

// Verify says how it is found out that the problem is gone.
type Verify struct {
	// Resolved says that the alert that started the run must be resolved; otherwise Probe is asked.
	Resolved bool
	Probe    StepPlan
	Every    time.Duration // between two looks
	For      time.Duration // it must hold so long without a break
	Within   time.Duration // from the end of the steps; after it the run is unverified
	Attempts int           // how often the steps are made in all; 0 and 1 mean once
	Backoff  time.Duration // before they are made again
}

// Of returns the steps of a phase.
func (p *Plan) Of(phase Phase) []StepPlan {
	switch phase {
	case OnFailure:
		return p.OnFailure
	case Finally:
		return p.Finally
	case Verification:
		return []StepPlan{p.Verify.Probe}
	}
	return p.Steps
}

// Find returns the plan of the step with the path.
func (p *Plan) Find(phase Phase, path string) (StepPlan, bool) {
	steps, prefix := p.Of(phase), ""
	for {
		head, rest, deeper := strings.Cut(path[len(prefix):], "/")
		id, item, isItem := cutItem(head)
		var found *StepPlan
		for i := range steps {
			if steps[i].ID == id {
				found = &steps[i]
			}
		}
		if found == nil {
			return StepPlan{}, false
		}
		sp := *found
		if prefix != "" {
			sp = found.below(strings.TrimSuffix(prefix, "/"))
		}
		if isItem {
			sp = sp.item(item)
		}
		if !deeper || rest == "" {
			return sp, true
		}
		steps, prefix = sp.Steps, prefix+head+"/"
	}
}

// cutItem takes the number of a forEach's item off the last part of a path.
func cutItem(id string) (string, int, bool) {
	open := strings.LastIndexByte(id, '[')
	if open < 0 || !strings.HasSuffix(id, "]") {
		return id, 0, false
	}
	n, err := strconv.Atoi(id[open+1 : len(id)-1])
	return id[:open], n, err == nil
}

// Template returns a step's path as its document has it, without the numbers of items.
func Template(path string) string {
	if !strings.Contains(path, "[") {
		return path
	}
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i], _, _ = cutItem(parts[i])
	}
	return strings.Join(parts, "/")
}

// Place is where a step stands.
type Place struct {
	Parent string // path of the workflow step that it stands in, or ""
	Each   string // path of the forEach whose item it is, or ""
	Item   int
}

// PlaceOf takes a step's path apart.
func PlaceOf(path string) Place {
	var p Place
	last := path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		p.Parent, last = path[:i], path[i+1:]
	}
	if id, n, ok := cutItem(last); ok {
		p.Each, p.Item = path[:len(path)-len(last)]+id, n
	}
	return p
}
