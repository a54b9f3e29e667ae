package backtest

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Limits say how many differences of a kind are let pass; a kind that is not there is not limited. "any" is all kinds.
type Limits map[string]int

var limitForm = regexp.MustCompile(`^(appear|disappear|change|any)(?::([0-9]{1,9}))?$`)

// ParseLimits reads limits as --fail-on writes them: a kind, or KIND:N where N of them are let pass.
func ParseLimits(texts []string) (Limits, error) {
	limits := Limits{}
	for _, text := range texts {
		m := limitForm.FindStringSubmatch(text)
		if m == nil {
			return nil, fmt.Errorf("%q is not appear, disappear, change or any, with :N or without", text)
		}
		limits[m[1]], _ = strconv.Atoi(m[2]) // nothing is 0
	}
	return limits, nil
}

// Exceeded says which limits a report exceeds; nothing where it is within all of them.
func (l Limits) Exceeded(r *Report) string {
	found := map[string]int{Appear: r.Appear, Disappear: r.Disappear, Change: r.Change, "any": r.Appear + r.Disappear + r.Change}
	var said []string
	for _, kind := range []string{Appear, Disappear, Change, "any"} {
		if most, limited := l[kind]; limited && found[kind] > most {
			said = append(said, fmt.Sprintf("%s: %d, and at most %d are let pass", kind, found[kind], most))
		}
	}
	return strings.Join(said, "; ")
}

// Line says in one line what differs, the rules with the most differences first.
func (r *Report) Line() string {
	var b strings.Builder
	if all := r.Appear + r.Disappear + r.Change; all == 0 {
		fmt.Fprintf(&b, "no run differs, %d are the same", r.Same)
	} else {
		fmt.Fprintf(&b, "%d appear, %d disappear, %d change, %d are the same", r.Appear, r.Disappear, r.Change, r.Same)
	}
	fmt.Fprintf(&b, " (%d events)", r.Events)
	if n := len(r.Unreceived); n > 0 {
		fmt.Fprintf(&b, "; Sources that are gone and had events: %d", n)
	}
	rules := slices.Clone(r.Rules)
	slices.SortStableFunc(rules, func(a, b RuleReport) int { return cmp.Compare(b.differences(), a.differences()) })
	separator := ": "
	for _, rr := range rules {
		if rr.differences() == 0 {
			break
		}
		b.WriteString(separator + rr.Rule)
		separator = ", "
		for _, d := range []struct {
			sign string
			n    int
		}{{"+", rr.Appear}, {"-", rr.Disappear}, {"~", rr.Change}} {
			if d.n > 0 {
				fmt.Fprintf(&b, " %s%d", d.sign, d.n)
			}
		}
	}
	return b.String()
}

func (r RuleReport) differences() int { return r.Appear + r.Disappear + r.Change }
