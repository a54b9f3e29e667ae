package event

import (
	"slices"
)

// Paths are the paths that an event changed, as far as they are known.
type Paths struct {
	List     []string // sorted, each once
	Complete bool     // whether List is all of them
}

// ListedPaths returns the paths that the event itself lists; an event that is not about a repository lists none.
func (e *Event) ListedPaths() Paths {
	if e.Git == nil {
		return Paths{}
	}
	return Paths{e.Git.Paths, e.Git.PathsComplete}
}

// FoundPaths returns the paths that a diff found, together with those that the event lists: a push that changes a file
// back touched it all the same, and what is said of a path must not depend on whether somebody asked for a diff.
func (e *Event) FoundPaths(diff []string) Paths {
	all := diff
	if listed := e.ListedPaths().List; len(listed) > 0 {
		all = slices.Concat(diff, listed)
	}
	all = slices.Clone(all)
	slices.Sort(all)
	return Paths{slices.Compact(all), true}
}

// Comparison says which commits a diff compares to find what an event changed.
type Comparison struct {
	CloneURL string
	Commit   string // after the change
	Ref      string // full name of the ref that held Commit
	// Before is the commit before the change. Where it is empty, the commit to compare with is the one at which the history
	// of Commit left the branch Base, or the default branch where that is empty too.
	Before string
	Base   string
	// Merged says that Base holds Commit by now.
	Merged bool
}

// Comparison returns what has to be compared; ok is false where no diff could tell what the event changed: a ref that was
// deleted, a new tag, an event that names no commit or none to compare it with.
func (e *Event) Comparison() (c Comparison, ok bool) {
	g, pr := e.Git, e.PullRequest
	if g == nil || g.CloneURL == "" || g.Commit == "" || g.Deleted {
		return c, false
	}
	c = Comparison{CloneURL: g.CloneURL, Commit: g.Commit, Ref: g.Ref}
	switch {
	case pr != nil && pr.Base != "": // also of its later commits: what it would change, not what the last push added to it
		c.Base, c.Merged = pr.Base, pr.Merged
	case pr != nil:
		return c, false
	case g.Before != "":
		c.Before = g.Before
	case !g.Created || g.Branch == "":
		return c, false
	}
	return c, true
}
