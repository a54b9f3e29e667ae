package run

import "time"

// Plan is what the transition function knows of a rule's workflow: order and policy, no expressions and no actions.
type Plan struct {
	Steps     []StepPlan
	OnFailure []StepPlan
	Finally   []StepPlan
	// Timeout bounds the main steps together; zero is no bound.
	Timeout time.Duration
}

// StepPlan is one step of a plan.
type StepPlan struct {
	ID   string
	Uses string
	// Needs lists the steps that must have ended before this one starts.
	Needs []string
	// Timeout bounds one attempt; zero means the action's own default.
	Timeout         time.Duration
	Retry           Retry
	ContinueOnError bool
	// RetryInterrupted says that an attempt cut off in the middle is made again; otherwise it fails.
	RetryInterrupted bool
}

// Retry says how often and how far apart a failed step is tried.
type Retry struct {
	Attempts   int           // in all; 0 and 1 mean once
	Backoff    time.Duration // before the second attempt
	Factor     float64       // each further wait is this much longer; 0 means 2
	MaxBackoff time.Duration // 0 means 1h
	Jitter     float64       // share of the wait that is random, 0 to 1
}

// Of returns the steps of a phase.
func (p *Plan) Of(phase Phase) []StepPlan {
	switch phase {
	case OnFailure:
		return p.OnFailure
	case Finally:
		return p.Finally
	}
	return p.Steps
}
