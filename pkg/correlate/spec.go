package correlate

import (
	"fmt"
	"slices"
	"time"
)

// Kind is what a rule waits for.
type Kind string

// Kinds of correlation. docs/correlation.md draws each with its time lines.
const (
	Count    Kind = "count"    // the n-th event within the window
	Sequence Kind = "sequence" // the parts in their order
	All      Kind = "all"      // the parts in any order
	Absence  Kind = "absence"  // the first part, and then not the second
	Collect  Kind = "collect"  // everything until the window ends
	Flapping Kind = "flapping" // the n-th change of state within the window
)

// Bounds of what a Spec may say, and what it has when it says nothing.
const (
	MaxParts     = 16
	MaxCount     = 10_000
	MaxCollected = 1_000 // events that a firing of collect lists

	DefaultMaxGroups = 100_000
	// eventsPerGroup makes the default of MaxEvents, keyBytesPerGroup and leastKeyBytes that of MaxKeyBytes.
	eventsPerGroup   = 4
	keyBytesPerGroup = 256
	leastKeyBytes    = 64 << 10
)

// Spec is one rule's `correlate`.
type Spec struct {
	Kind   Kind
	Within time.Duration
	// Count is n of count, Changes that of flapping.
	Count   int
	Changes int
	// Each makes count fire at every further event while the window holds n or more.
	Each bool
	// Parts are the names of the parts, in order. Absence has the one that starts the wait and the one that must not
	// come; count, collect and flapping have none.
	Parts []string

	// MaxGroups bounds the groups that wait, MaxEvents the events that they refer to together (some 50 bytes each), and
	// MaxKeyBytes their keys together, with the states of flapping. Zero means DefaultMaxGroups, four times MaxGroups but at
	// least MaxCount, and 256 bytes times MaxGroups but at least 64 KiB.
	MaxGroups   int
	MaxEvents   int
	MaxKeyBytes int
}

func (s Spec) withDefaults() Spec {
	if s.MaxGroups == 0 {
		s.MaxGroups = DefaultMaxGroups
	}
	if s.MaxEvents == 0 {
		s.MaxEvents = max(s.MaxGroups*eventsPerGroup, MaxCount)
	}
	if s.MaxKeyBytes == 0 {
		s.MaxKeyBytes = max(s.MaxGroups*keyBytesPerGroup, leastKeyBytes)
	}
	return s
}

// Validate returns all that is wrong with it, each beginning with the name of the field.
func (s Spec) Validate() []error {
	p := problems{}
	p.check(s.Within > 0, "within: must be longer than 0s")
	p.check(s.MaxGroups >= 0, "maxGroups: must not be negative")
	p.check(s.MaxEvents >= 0, "maxEvents: must not be negative")
	p.check(s.MaxKeyBytes >= 0, "maxKeyBytes: must not be negative")
	p.check(s.Kind == Count || s.Count == 0, "count: belongs to kind count only, this is %s", s.Kind)
	p.check(s.Kind == Count || !s.Each, "each: belongs to kind count only, this is %s", s.Kind)
	p.check(s.Kind == Flapping || s.Changes == 0, "changes: belongs to kind flapping only, this is %s", s.Kind)
	switch s.Kind {
	case Count:
		p.check(s.Count >= 1 && s.Count <= MaxCount, "count: must be from 1 to %d, is %d", MaxCount, s.Count)
	case Flapping:
		p.check(s.Changes >= 2 && s.Changes <= MaxCount, "changes: must be from 2 to %d, is %d", MaxCount, s.Changes)
	case Sequence, All, Absence, Collect:
	default:
		p.check(false, "kind: %q is none of count, sequence, all, absence, collect, flapping", s.Kind)
	}
	s.validateParts(&p)
	if needed := s.withDefaults().MaxEvents; s.perGroup() > needed {
		p.check(false, "maxEvents: %d is less than one group may need (%d)", needed, s.perGroup())
	}
	return p.list
}

func (s Spec) validateParts(p *problems) {
	switch s.Kind {
	case Count, Collect, Flapping:
		p.check(len(s.Parts) == 0, "parts: %s has one unnamed part", s.Kind)
	case Sequence, All:
		p.check(len(s.Parts) >= 2 && len(s.Parts) <= MaxParts, "parts: %s needs from 2 to %d, has %d", s.Kind, MaxParts, len(s.Parts))
	case Absence:
		p.check(len(s.Parts) == 2, "parts: absence needs the one that starts the wait and the one that must not come, has %d", len(s.Parts))
	}
	for i, name := range s.Parts {
		p.check(name != "", "parts[%d]: must have a name", i)
		p.check(!slices.Contains(s.Parts[:i], name), "parts[%d]: the name %q is taken", i, name)
	}
}

// perGroup is the most events that one group refers to.
func (s Spec) perGroup() int {
	switch n := len(s.Parts); s.Kind {
	case Count:
		return s.Count - 1
	case Flapping:
		return s.Changes
	case Collect:
		return MaxCollected
	case Sequence:
		return n * (n - 1) / 2
	default:
		return n
	}
}

// parts is the number of parts, the unnamed one included.
func (s Spec) parts() int { return max(len(s.Parts), 1) }

func (s Spec) partName(i uint8) string {
	if int(i) < len(s.Parts) {
		return s.Parts[i]
	}
	return ""
}

// meaning is what a stored state depends on. Bounds are not part of it: they can change and the state be kept.
func (s Spec) meaning() string {
	return fmt.Sprintf("%s within %s count %d changes %d each %t parts %q", s.Kind, s.Within, s.Count, s.Changes, s.Each, s.Parts)
}

type problems struct{ list []error }

func (p *problems) check(ok bool, format string, args ...any) {
	if !ok {
		p.list = append(p.list, fmt.Errorf(format, args...))
	}
}
