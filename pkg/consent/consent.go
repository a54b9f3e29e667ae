// Package consent says who may agree to what a run in mode approve waits for, and reads the two ways to agree from outside
// of the API: a signed link and a comment on a pull request.
//
// The first policy whose paths and labels match a rule holds for its runs, and no other; where there are policies and none
// matches, nobody may. Without any, whoever can give orders may. The package is pure, reads no clock, and everything in it
// is immutable and safe for concurrent use.
package consent

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/riposte-dev/riposte/pkg/document"
)

// DefaultExpires is how long a run waits where no policy says so.
const DefaultExpires = 24 * time.Hour

// maxExpires bounds how long a run waits.
const maxExpires = 30 * 24 * time.Hour

// Loopback is who gives orders on a server without tokens: whoever has the machine.
const Loopback = "loopback"

// Spec is `approvals` in the server's configuration.
type Spec struct {
	Policies []Policy `json:"policies,omitempty"`
	People   []Person `json:"people,omitempty"`
	// Comments are the sources whose comments on pull requests count.
	Comments []string `json:"comments,omitempty"`
}

// Policy says whose consent the runs of some rules need.
type Policy struct {
	Paths   []string          `json:"paths,omitempty"`  // globs over the rules' files in the rules repository; none is all
	Labels  map[string]string `json:"labels,omitempty"` // that a rule has, all of them
	Names   []string          `json:"names,omitempty"`  // of tokens and people who may
	Groups  []string          `json:"groups,omitempty"` // whose members may; with neither names nor groups everybody may
	Needed  int               `json:"needed,omitempty"` // persons; default 1
	Expires string            `json:"expires,omitempty"`
}

// Person is somebody who may agree without a token. Who has a token, too, has the same name there, and counts once.
type Person struct {
	Name   string   `json:"name"`
	Groups []string `json:"groups,omitempty"`
	// Accounts is what a source's forge calls the person, by source.
	Accounts map[string]string `json:"accounts,omitempty"`
	// Links are globs over the files of the rules that may hand out links in the person's name: whoever can write such a
	// rule can agree as this person.
	Links []string `json:"links,omitempty"`
}

// Terms are what holds for one rule's runs.
type Terms struct {
	Needed  int
	Expires time.Duration

	policy *Policy
	number int
	denied bool // there are policies, and none matches
	rule   string
}

// Of returns what holds for the runs of a rule, by its file's path in the rules repository.
func (s *Spec) Of(rule, path string, labels map[string]string) Terms {
	t := Terms{Needed: 1, Expires: DefaultExpires, denied: len(s.Policies) > 0, rule: rule}
	for i := range s.Policies {
		p := &s.Policies[i]
		if !p.matches(path, labels) {
			continue
		}
		t.policy, t.number, t.denied, t.Needed = p, i, false, max(1, p.Needed)
		if d, err := document.ParseDuration(p.Expires); err == nil && d > 0 {
			t.Expires = d
		}
		break
	}
	return t
}

func (p *Policy) matches(path string, labels map[string]string) bool {
	for name, value := range p.Labels {
		if labels[name] != value {
			return false
		}
	}
	return len(p.Paths) == 0 || matchesAny(p.Paths, path)
}

func matchesAny(globs []string, path string) bool {
	return fs.ValidPath(path) && slices.ContainsFunc(globs, func(g string) bool { return doublestar.MatchUnvalidated(g, path) })
}

// May reports why a person in the groups may not consent, or nil.
func (t Terms) May(who string, groups []string) error {
	switch {
	case who == "":
		return fmt.Errorf("nobody is named who consents")
	case t.denied:
		return fmt.Errorf("no policy matches rule %s, so that nobody may consent: add one to approvals.policies of the server's configuration", t.rule)
	case t.policy == nil, len(t.policy.Names)+len(t.policy.Groups) == 0:
		return nil
	case slices.Contains(t.policy.Names, who), slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(t.policy.Groups, g) }):
		return nil
	}
	in := "in no group"
	if len(groups) > 0 {
		in = "in " + strings.Join(groups, ", ")
	}
	return fmt.Errorf("%s (%s) may not consent: approvals.policies[%d] lets %s", who, in, t.number, t.policy.who())
}

func (p *Policy) who() string {
	var parts []string
	if len(p.Names) > 0 {
		parts = append(parts, strings.Join(p.Names, ", "))
	}
	if len(p.Groups) > 0 {
		parts = append(parts, "members of "+strings.Join(p.Groups, ", "))
	}
	return strings.Join(parts, " and ")
}

// Person returns the person with the name.
func (s *Spec) Person(name string) (Person, bool) {
	for _, p := range s.People {
		if p.Name == name {
			return p, true
		}
	}
	return Person{}, false
}

// Account returns whose account of a source's forge it is. Forges do not tell capital letters of names apart.
func (s *Spec) Account(source, account string) (Person, bool) {
	for _, p := range s.People {
		if mine := p.Accounts[source]; mine != "" && strings.EqualFold(mine, account) {
			return p, true
		}
	}
	return Person{}, false
}

// Linked lists the people in whose name a rule in the file may hand out links.
func (s *Spec) Linked(path string) []string {
	var names []string
	for _, p := range s.People {
		if matchesAny(p.Links, path) {
			names = append(names, p.Name)
		}
	}
	return names
}
