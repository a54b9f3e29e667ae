// Package grant says what the documents of a file may use, by the file's path in the rules repository: which sources,
// actions, secrets and targets, as which Kubernetes service account, and how far they may act on their own.
//
// The first grant whose paths match a file holds for it, and nothing else; a file that no grant matches may use nothing.
// Without any grants everything is allowed. The package is pure, and everything in it is immutable and safe for concurrent
// use. It fails closed: the zero Grant allows nothing, and so does a path that is not one below the repository.
package grant

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Everything is what Spec.Allow says where it says anything.
const Everything = "everything"

// Modes are what a rule may do on its own, from little to all: record, ask, act.
func Modes() []string { return []string{"observe", "approve", "auto"} }

// Spec is one entry of `grants` in the server's configuration. What it does not list is not allowed.
type Spec struct {
	// Paths are globs over paths in the rules repository; ** stands for any number of directories.
	Paths []string `json:"paths"`
	// Allow is Everything, or empty; beside it there are no lists.
	Allow string `json:"allow,omitempty"`
	// Sources, Actions, Secrets and Targets are names or globs.
	Sources    []string   `json:"sources,omitempty"`
	Actions    []string   `json:"actions,omitempty"`
	Secrets    []string   `json:"secrets,omitempty"`
	Targets    []string   `json:"targets,omitempty"`
	Kubernetes Kubernetes `json:"kubernetes,omitzero"`
	// MaxMode is the highest mode of a rule; empty is auto.
	MaxMode string `json:"maxMode,omitempty"`
}

// Kubernetes says how a grant's rules act on a cluster.
type Kubernetes struct {
	ServiceAccount string `json:"serviceAccount,omitempty"`
}

// List is all grants, in order. A nil one allows everything; one without entries, nothing.
type List []Spec

// Of returns what the documents of a file may use.
func (l List) Of(file string) Grant {
	if l == nil {
		return All()
	}
	g := Grant{path: file, number: -1}
	if !fs.ValidPath(file) { // absolute, or with .. in it: it is not known where in the repository it is
		return g
	}
	for i := range l {
		if slices.ContainsFunc(l[i].Paths, func(glob string) bool { return doublestar.MatchUnvalidated(glob, file) }) {
			g.number, g.spec, g.all = i, &l[i], l[i].Allow == Everything
			return g
		}
	}
	return g
}

// Grant is what the documents of one file may use. The questions answer nil, or an error that is a *DeniedError.
type Grant struct {
	spec   *Spec // nil where no grant matches, and where there are none
	number int
	path   string
	all    bool
}

// All is what holds where there are no grants.
func All() Grant { return Grant{all: true, number: -1} }

// Unbounded reports whether everything is allowed, in any mode.
func (g Grant) Unbounded() bool { return g.all && g.Mode("auto") == nil }

// Matched reports whether a grant holds for the file, or there are none; otherwise it is a *DeniedError.
func (g Grant) Matched() error {
	if g.spec == nil && !g.all {
		return &DeniedError{grant: g}
	}
	return nil
}

// Number is the place of the grant in the list, from 0; -1 where none holds or there are none.
func (g Grant) Number() int {
	if g.spec == nil {
		return -1
	}
	return g.number
}

// Source asks whether a rule may be started by the source's events, and a Source document have the name.
func (g Grant) Source(name string) error { return g.listed("source", "sources", name) }

// Action asks whether a step may use the action.
func (g Grant) Action(name string) error { return g.listed("action", "actions", name) }

// Secret asks whether a document may name the secret.
func (g Grant) Secret(name string) error { return g.listed("secret", "secrets", name) }

// Target asks whether a step may send to the target, and a Target document have the name or fall back to it.
func (g Grant) Target(name string) error { return g.listed("target", "targets", name) }

// Variable asks whether a document may name a variable of the server's environment, as under serve --dev: no list has them.
func (g Grant) Variable(name string) error {
	if g.all {
		return nil
	}
	return &DeniedError{grant: g, what: "variable", name: name}
}

// Mode asks whether a rule may have the mode.
func (g Grant) Mode(mode string) error {
	switch {
	case g.spec == nil && g.all:
		return nil
	case g.spec != nil && slices.Index(Modes(), mode) <= slices.Index(Modes(), g.MaxMode()) && slices.Contains(Modes(), mode):
		return nil
	}
	return &DeniedError{grant: g, what: "mode", name: mode, list: "maxMode"}
}

// MaxMode is the highest mode that Mode allows; observe where no grant holds.
func (g Grant) MaxMode() string {
	switch {
	case g.spec == nil && !g.all:
		return "observe"
	case g.spec == nil || g.spec.MaxMode == "":
		return "auto"
	}
	return g.spec.MaxMode
}

// ServiceAccount returns the Kubernetes service account to act as. It is empty, for the server's own, only where everything
// is allowed and none is named.
func (g Grant) ServiceAccount() (string, error) {
	switch {
	case g.spec != nil && g.spec.Kubernetes.ServiceAccount != "":
		return g.spec.Kubernetes.ServiceAccount, nil
	case g.all:
		return "", nil
	}
	return "", &DeniedError{grant: g, what: "account", list: "kubernetes.serviceAccount"}
}

func (g Grant) listed(what, list, name string) error {
	if g.all || g.spec != nil && matches(g.spec.list(list), name) {
		return nil
	}
	return &DeniedError{grant: g, what: what, name: name, list: list}
}

func (s *Spec) list(name string) []string {
	switch name {
	case "sources":
		return s.Sources
	case "actions":
		return s.Actions
	case "secrets":
		return s.Secrets
	}
	return s.Targets
}

// matches compares with names and globs. A name is taken as it is even if it looks like a glob; * matches no /.
func matches(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(g string) bool {
		ok, err := path.Match(g, name)
		return g == name || ok && err == nil
	})
}

// DeniedError says that a file may not use something.
type DeniedError struct {
	grant            Grant
	what, name, list string // what is empty where no grant holds at all
}

// Error says what is forbidden by which grant, and what to do.
func (d *DeniedError) Error() string { return d.Reason() + ": " + d.Hint() }

// Reason says what is forbidden, and by which grant.
func (d *DeniedError) Reason() string {
	use := ""
	switch d.what {
	case "":
		return fmt.Sprintf("no grant of the server's configuration matches %s, so nothing is allowed there", d.grant.place())
	case "mode":
		use = "have the mode " + shown(d.name)
	case "account":
		use = "act on Kubernetes"
	default:
		use = "use the " + d.what + " " + shown(d.name)
	}
	return fmt.Sprintf("%s may not %s: %s", d.grant.place(), use, d.because())
}

// shown is a name as it can be told: at run time it may have come from an event.
func shown(name string) string {
	const most = 100
	if len(name) > most {
		name = name[:most] + "…"
	}
	if strings.TrimFunc(name, func(r rune) bool { return r > ' ' && r < 0x7f }) != "" || name == "" {
		return strconv.Quote(name)
	}
	return name
}

func (d *DeniedError) because() string {
	switch {
	case d.grant.spec == nil:
		return "no grant matches it"
	case d.what == "mode":
		return fmt.Sprintf("%s has maxMode %s", d.grant.entry(), d.grant.MaxMode())
	case d.what == "account":
		return d.grant.entry() + " names no service account"
	}
	return d.grant.entry() + " does not list it"
}

// Hint says what to do.
func (d *DeniedError) Hint() string {
	const where = "in the server's configuration"
	switch {
	case d.grant.spec == nil:
		return fmt.Sprintf("add a grant with paths: [%q] %s, or move the file below the paths of one", around(d.grant.path), where)
	case d.what == "variable":
		return "declare a secret and write {secret: NAME}; a variable needs allow: everything"
	case d.what == "mode":
		return fmt.Sprintf("write mode: %s, or raise maxMode of that grant %s", d.grant.MaxMode(), where)
	case d.what == "account":
		return "name one in kubernetes.serviceAccount of that grant " + where
	}
	return fmt.Sprintf("add it to %s of that grant %s", d.list, where)
}

// around is a glob for the files beside a file.
func around(file string) string {
	if dir := path.Dir(file); fs.ValidPath(file) && dir != "." {
		return dir + "/**"
	}
	return path.Base(file)
}

func (g Grant) place() string {
	if g.path == "" {
		return "it"
	}
	return g.path
}

// entry names the grant, for people.
func (g Grant) entry() string {
	paths := g.spec.Paths
	if len(paths) > 3 {
		paths = append(slices.Clone(paths[:3]), "…")
	}
	return fmt.Sprintf("grants[%d] (%s)", g.number, strings.Join(paths, ", "))
}
