package rule_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
)

// route is a route of Alertmanager.
type route struct {
	Receiver string            `json:"receiver"`
	Match    map[string]string `json:"match"`
	MatchRE  map[string]string `json:"match_re"`
	Matchers []string          `json:"matchers"`
	Continue bool              `json:"continue"`
	Routes   []route           `json:"routes"`
}

type routeCase struct {
	ID, Group, Config, Intervals string
	Labels                       map[string]string
	Expected                     []struct{ Receiver string }
	Contains, Excludes           []string
}

var routeMatcher = regexp.MustCompile(`^\{?(\w+)\s*(=~|!~|!=|=)\s*"?([^"]*)"?\}?$`)

// condition writes what the route itself asks for. A label that is missing is an empty one there.
func (r *route) condition() (string, error) {
	parts := []string{"true"}
	for _, name := range slices.Sorted(maps.Keys(r.Match)) {
		parts = append(parts, label(name, "=", r.Match[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(r.MatchRE)) {
		parts = append(parts, label(name, "=~", r.MatchRE[name]))
	}
	for _, text := range r.Matchers {
		m := routeMatcher.FindStringSubmatch(text)
		if m == nil {
			return "", fmt.Errorf("%q is no matcher", text)
		}
		parts = append(parts, label(m[1], m[2], m[3]))
	}
	return "(" + strings.Join(parts, " && ") + ")", nil
}

func label(name, operator, v string) string {
	text := "(event.alert.labels[" + quoted(name) + `] ?? "")`
	pattern := text + " matches " + quoted("^(?:"+v+")$")
	switch operator {
	case "=":
		return text + " == " + quoted(v)
	case "!=":
		return text + " != " + quoted(v)
	case "!~":
		return "not (" + pattern + ")"
	}
	return pattern
}

// routed is the rules of a tree of routes, children before their parent.
type routed struct{ receivers, conditions []string }

// add makes rules of a route below what leads to it: a route is left to its children, and after the first child that
// matches only those come that it lets continue.
func (l *routed) add(r *route, path string) error {
	own, err := r.condition()
	if err != nil {
		return err
	}
	path += " && " + own
	none, before := "", ""
	for i := range r.Routes {
		child := &r.Routes[i]
		if err := l.add(child, path+before); err != nil {
			return err
		}
		when, _ := child.condition()
		none += " && not " + when
		if !child.Continue {
			before += " && not " + when
		}
	}
	l.receivers = append(l.receivers, r.Receiver)
	l.conditions = append(l.conditions, path+none)
	return nil
}

// inherit gives a route without a receiver that of its parent.
func (r *route) inherit() {
	for i := range r.Routes {
		if child := &r.Routes[i]; child.Receiver == "" {
			child.Receiver = r.Receiver
		}
		r.Routes[i].inherit()
	}
}

func (c *routeCase) play() error {
	if c.Group == "time-interval" {
		return c.intervals()
	}
	var root route
	if err := yaml.Unmarshal([]byte(c.Config), &root); err != nil {
		return err
	}
	root.inherit()
	var rules routed
	if err := rules.add(&root, "true"); err != nil {
		return err
	}
	set, err := ruleSet(rules.conditions...)
	if err != nil {
		return err
	}
	var got, want []string
	for i, truth := range matching(set, &event.Event{Alert: &event.Alert{Labels: c.Labels}}) {
		if truth == expression.True {
			got = append(got, rules.receivers[i])
		}
	}
	for _, x := range c.Expected {
		want = append(want, x.Receiver)
	}
	return wanted(fmt.Sprint(got), fmt.Sprint(want))
}

// interval is a time interval of Alertmanager.
type interval struct {
	Weekdays, Years, Months []string
	Days                    []string `json:"days_of_month"`
	Times                   []struct {
		Start string `json:"start_time"`
		End   string `json:"end_time"`
	}
}

// condition writes the interval about event.time.
func (i *interval) condition() string {
	within := func(of string, number func(string) int) func(string) string {
		return func(text string) string {
			from, to, several := strings.Cut(text, ":")
			switch {
			case !several:
				to = from
			case to == "-1": // the last day of the month
				return fmt.Sprintf("%s >= %d", of, number(from))
			}
			return fmt.Sprintf("%s in %d..%d", of, number(from), number(to))
		}
	}
	plain := func(s string) int { n, _ := strconv.Atoi(s); return n }
	parts := []string{
		joined(" || ", i.Weekdays, within("int(event.time.Weekday())", weekday)),
		joined(" || ", i.Months, within("int(event.time.Month())", month)),
		joined(" || ", i.Years, within("event.time.Year()", plain)),
		joined(" || ", i.Days, within("event.time.Day()", plain)),
	}
	for _, t := range i.Times {
		parts = append(parts, fmt.Sprintf("(event.time.Format(%q) >= %q && event.time.Format(%q) < %q)", "15:04", t.Start, "15:04", t.End))
	}
	return strings.Join(parts, " && ")
}

func weekday(name string) int {
	for d := time.Sunday; ; d++ {
		if strings.EqualFold(d.String(), name) || d > time.Saturday {
			return int(d)
		}
	}
}

func month(name string) int {
	for m := time.January; ; m++ {
		if strings.EqualFold(m.String(), name) || m > time.December {
			return int(m)
		}
	}
}

func (c *routeCase) intervals() error {
	var i interval
	if err := yaml.Unmarshal([]byte(c.Intervals), &i); err != nil {
		return err
	}
	when := i.condition()
	for n, text := range slices.Concat(c.Contains, c.Excludes) {
		at, err := time.Parse(time.RFC822Z, text)
		if err != nil {
			return err
		}
		if err := decided(when, &event.Event{Time: at}, n < len(c.Contains), false); err != nil {
			return fmt.Errorf("at %s: %w", text, err)
		}
	}
	return nil
}

func TestCasesOfAlertmanager(t *testing.T) {
	compare(t, "alertmanager-routing", func(c routeCase) string { return c.ID }, "", func(c routeCase) error { return c.play() })
}
