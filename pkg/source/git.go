package source

import (
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

// Changes are the paths that a push's commits list.
type Changes struct {
	Paths []string // sorted, each once
	// Listed says that there are commits and that each of them lists paths: what lists none may be a commit whose paths
	// the sender could not or would not tell.
	Listed bool
	// Most is how many paths the longest list of one commit has.
	Most int
}

// ChangesOf reads the members added, modified and removed of commits.
func ChangesOf(commits []Node) Changes {
	c := Changes{Listed: len(commits) > 0}
	for _, commit := range commits {
		n := 0
		for _, kind := range []string{"added", "modified", "removed"} {
			for _, path := range commit.At(kind).List() {
				if p := path.Str(); p != "" {
					c.Paths = append(c.Paths, p)
					n++
				}
			}
		}
		c.Listed = c.Listed && n > 0
		c.Most = max(c.Most, n)
	}
	slices.Sort(c.Paths)
	c.Paths = slices.Compact(c.Paths)
	return c
}
