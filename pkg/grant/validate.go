package grant

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Problem is one thing that is wrong with a list of grants.
type Problem struct {
	Field string // below the list: "[1].paths[0]"
	Msg   string
}

// Validate reports everything that is wrong with a list.
func (l List) Validate() []Problem {
	v := &validator{paths: map[string]int{}}
	for i := range l {
		v.entry(i, &l[i])
	}
	return v.problems
}

type validator struct {
	problems []Problem
	paths    map[string]int // where each stands first
}

func (v *validator) require(ok bool, i int, field, format string, args ...any) {
	if !ok {
		v.problems = append(v.problems, Problem{fmt.Sprintf("[%d]%s", i, field), fmt.Sprintf(format, args...)})
	}
}

func (v *validator) entry(i int, s *Spec) {
	v.require(len(s.Paths) > 0, i, ".paths", "is empty: name the files that the grant is for, like teams/payments/**")
	for n, glob := range s.Paths {
		field := fmt.Sprintf(".paths[%d]", n)
		err := checkPath(glob)
		v.require(err == nil, i, field, "%v", err)
		first, twice := v.paths[glob]
		v.require(!twice, i, field, "%q stands in grants[%d] already, and the first match counts", glob, first)
		if !twice {
			v.paths[glob] = i
		}
	}
	v.require(s.Allow == "" || s.Allow == Everything, i, ".allow", "is %q, and can only be %s: leave it out and list what is allowed", s.Allow, Everything)
	for _, list := range []string{"sources", "actions", "secrets", "targets"} {
		names := s.list(list)
		v.require(len(names) == 0 || s.Allow != Everything, i, "."+list, "stands beside allow: everything, which allows more: remove one of the two")
		for n, name := range names {
			_, err := path.Match(name, "")
			v.require(err == nil && strings.TrimSpace(name) != "", i, fmt.Sprintf(".%s[%d]", list, n), "%q is neither a name nor a glob", name)
		}
	}
	v.require(s.MaxMode == "" || slices.Contains(Modes(), s.MaxMode), i, ".maxMode", "%q is none of %s", s.MaxMode, strings.Join(Modes(), ", "))
	account := s.Kubernetes.ServiceAccount
	v.require(account == "" || isAccount(account), i, ".kubernetes.serviceAccount", "%q is no name of a service account: NAME, or NAMESPACE/NAME", account)
}

func isAccount(name string) bool {
	return regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?/)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`).MatchString(name)
}

// checkPath refuses what would never match, or not what was meant.
func checkPath(glob string) error {
	parts := strings.Split(glob, "/")
	switch {
	case !doublestar.ValidatePattern(glob):
		return fmt.Errorf("%q is no glob", glob)
	case strings.HasPrefix(glob, "/"):
		return fmt.Errorf("%q begins with /: paths are those in the rules repository, like teams/payments/**", glob)
	case strings.HasSuffix(glob, "/"):
		return fmt.Errorf("%q matches no file: write %s**", glob, glob)
	case slices.Contains(parts, "..") || slices.Contains(parts, ".") || slices.Contains(parts, ""):
		return fmt.Errorf("%q has an element that no path in a repository has", glob)
	case fs.ValidPath(glob) && !strings.ContainsAny(glob, `*?[{\`) && path.Ext(glob) != ".yaml" && path.Ext(glob) != ".yml":
		return fmt.Errorf("%q matches a file of that name only: write %s/** for what is below a directory", glob, glob)
	}
	return nil
}

// Unknown returns the names of actions that grant nothing, by the place where they stand, because nothing known matches
// them; known are actions, and what begins with workflow/ is left out, because the rules say which there are.
func (l List) Unknown(known []string) []Problem {
	v := &validator{}
	for i := range l {
		for n, name := range l[i].Actions {
			ok := strings.HasPrefix(name, "workflow/") || slices.ContainsFunc(known, func(k string) bool { return matches([]string{name}, k) })
			v.require(ok, i, fmt.Sprintf(".actions[%d]", n), "%s", name)
		}
	}
	return v.problems
}
