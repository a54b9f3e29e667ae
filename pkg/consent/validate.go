package consent

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/riposte-dev/riposte/pkg/document"
)

// Problem is one thing that is wrong with a Spec.
type Problem struct {
	Field string // below approvals: "policies[1].paths[0]"
	Msg   string
}

// Validate reports everything that is wrong; tokens are the names of those who have one.
func (s *Spec) Validate(tokens []string) []Problem {
	v := &validator{known: map[string]bool{}}
	for _, name := range tokens {
		v.known[name] = true
	}
	v.people(s)
	for i := range s.Policies {
		v.policy(fmt.Sprintf("policies[%d]", i), &s.Policies[i], len(tokens) == 0)
	}
	seen := map[string]bool{}
	for i, name := range s.Comments {
		field := fmt.Sprintf("comments[%d]", i)
		v.require(name != "", field, "is empty: name a source")
		v.require(!seen[name], field, "%q stands twice", name)
		seen[name] = true
	}
	return v.problems
}

type validator struct {
	problems []Problem
	known    map[string]bool // who has a token, or is listed
}

func (v *validator) require(ok bool, field, format string, args ...any) {
	if !ok {
		v.problems = append(v.problems, Problem{field, fmt.Sprintf(format, args...)})
	}
}

func (v *validator) people(s *Spec) {
	// A name is a field in expressions: run.approveURLs.ana.
	name := regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,62}$`)
	people, accounts := map[string]bool{}, map[string]string{}
	for i, p := range s.People {
		field := fmt.Sprintf("people[%d]", i)
		v.require(name.MatchString(p.Name), field+".name", "%q is not letters, digits and _", p.Name)
		v.require(p.Name != Loopback, field+".name", "%q is who has no token", p.Name)
		v.require(!people[p.Name], field+".name", "%q stands twice", p.Name)
		people[p.Name], v.known[p.Name] = true, true
		for _, source := range slices.Sorted(maps.Keys(p.Accounts)) {
			at, account := field+".accounts."+source, source+" "+strings.ToLower(p.Accounts[source])
			v.require(slices.Contains(s.Comments, source), at, "comments of source %q do not count: add it to approvals.comments", source)
			v.require(p.Accounts[source] != "", at, "is empty")
			v.require(accounts[account] == "", at, "is the account of %s, too", accounts[account])
			accounts[account] = p.Name
		}
		v.globs(field+".links", p.Links)
	}
}

func (v *validator) policy(field string, p *Policy, tokenless bool) {
	v.globs(field+".paths", p.Paths)
	for i, name := range p.Names {
		v.require(v.known[name] || tokenless && name == Loopback, fmt.Sprintf("%s.names[%d]", field, i), "%q is neither the name of a token nor one of approvals.people", name)
	}
	v.require(p.Needed >= 0 && p.Needed <= 10, field+".needed", "%d is not between 1 and 10", p.Needed)
	v.require(len(p.Groups) > 0 || len(p.Names) == 0 || p.Needed <= len(p.Names), field+".needed", "%d persons can't consent where names lists %d", p.Needed, len(p.Names))
	if p.Expires != "" {
		d, err := document.ParseDuration(p.Expires)
		v.require(err == nil && d > 0 && d <= maxExpires, field+".expires", "%q is no duration up to 30d, like 4h", p.Expires)
	}
}

func (v *validator) globs(field string, globs []string) {
	for i, g := range globs {
		ok := doublestar.ValidatePattern(g) && g != "" && !strings.HasPrefix(g, "/") && !strings.HasSuffix(g, "/")
		v.require(ok, fmt.Sprintf("%s[%d]", field, i), "%q is no glob over paths in the rules repository, like prod/**", g)
	}
}
