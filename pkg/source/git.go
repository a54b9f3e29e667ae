package source

import (
	"net/url"
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
)

// Prefixes of a ref's full name.
const (
	Heads = "refs/heads/"
	Tags  = "refs/tags/"
)

// SetRef fills a view's ref, and its branch or tag, from the ref's full name.
func SetRef(g *event.Git, ref string) {
	g.Ref = ref
	if branch, ok := strings.CutPrefix(ref, Heads); ok {
		g.Branch = branch
	} else if tag, ok := strings.CutPrefix(ref, Tags); ok {
		g.Tag = tag
	}
}

// SetNamed fills a view's ref from its short name, if there is one; prefix is Heads or Tags.
func SetNamed(g *event.Git, prefix, name string) {
	if name != "" {
		SetRef(g, prefix+name)
	}
}

// SetChange fills a view's commits. An object id of zeros says that the ref was not there before, or is not any more.
func SetChange(g *event.Git, before, after string) {
	g.Before, g.Commit = NotZero(before), NotZero(after)
	g.Created = g.Created || before != "" && g.Before == ""
	g.Deleted = g.Deleted || after != "" && g.Commit == ""
}

// NotZero returns an object id, and for one of zeros nothing.
func NotZero(oid string) string {
	if strings.Trim(oid, "0") == "" {
		return ""
	}
	return oid
}

// Owner returns all of a repository's full name but the last part.
func Owner(repo string) string {
	if i := strings.LastIndexByte(repo, '/'); i >= 0 {
		return repo[:i]
	}
	return ""
}

// RepoOf returns the full name of a repository, as GitHub and those that copied its bodies describe one. Where it is left
// out it follows from the owner and the name, or from an address.
func RepoOf(repo Node) string {
	if name := repo.At("full_name").Str(); name != "" {
		return name
	}
	owner, name := repo.At("owner"), repo.At("name").Str()
	if account := Or(owner.At("login").Str(), owner.At("username").Str()); account != "" && name != "" {
		return account + "/" + name
	}
	return PathOf(Or(repo.At("clone_url").Str(), repo.At("html_url").Str()))
}

// PathOf returns the full name of the repository that an address belongs to.
func PathOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
}

// SetDeployed fills a view's ref from what a deployment names: a branch, a tag or a commit. A short name is a branch only
// where it is the default one's, and otherwise nothing says which of them it is.
func SetDeployed(g *event.Git, ref, defaultBranch string) {
	switch {
	case strings.HasPrefix(ref, "refs/"):
		SetRef(g, ref)
	case ref == defaultBranch:
		SetNamed(g, Heads, ref)
	}
}

// SetCommitCause makes the run that made a push's newest commit what caused the event, as the commit's message says. What is
// said to have caused it already stays.
func SetCommitCause(e *event.Event, message string) {
	if e.CausedBy == "" {
		e.CausedBy = event.CommitRun(message)
	}
}

// SetTextCause makes the run that wrote a comment, issue or pull request what caused the event, as the text says. A person
// who edits such a text leaves the line standing that says so, so that it counts only of whose it is.
func SetTextCause(e *event.Event, text, author, sender string) {
	if e.CausedBy == "" && author == sender {
		e.CausedBy = event.MarkerRun(text)
	}
}

// MessageOf returns the message of the commit with the id among those that a push lists.
func MessageOf(commits []Node, id string) string {
	for i := len(commits) - 1; i >= 0; i-- {
		if commits[i].At("id").Str() == id {
			return commits[i].At("message").Str()
		}
	}
	return ""
}

// Changes are the paths that a push's commits list.
type Changes struct {
	Commits int
	Paths   []string // sorted, each once
	// Listed says that there are commits and that each of them lists paths: what lists none may be a commit whose paths
	// the sender could not or would not tell.
	Listed bool
	// Most is how many paths the longest list of one commit has.
	Most int
}

// ChangesOf reads the members added, modified and removed of an array of commits. Where their lists stand is not kept: a
// push has many, and each is read once.
func ChangesOf(commits Node) Changes {
	var c Changes
	listing := 0
	for commit := range commits.elements() {
		c.Commits++
		n := c.add(commit)
		if n > 0 {
			listing++
		}
		c.Most = max(c.Most, n)
	}
	c.Listed = c.Commits > 0 && listing == c.Commits
	slices.Sort(c.Paths)
	c.Paths = slices.Compact(c.Paths)
	return c
}

// add reads a commit's lists, and returns how many paths they have.
func (c *Changes) add(commit []byte) (n int) {
	kinds := [...]string{"added", "modified", "removed"}
	var lists [len(kinds)][]byte // of a key that stands twice the last counts
	for key, value := range event.Members(commit) {
		for i, kind := range kinds {
			if isKey(key, kind) {
				lists[i] = value
			}
		}
	}
	for _, list := range lists {
		for path := range event.Elements(list) {
			if p := node(path).Str(); p != "" {
				c.Paths = append(c.Paths, p)
				n++
			}
		}
	}
	return n
}
