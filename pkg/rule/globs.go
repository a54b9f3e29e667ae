package rule

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
)

// globs finds the nodes of those globs that match one of many paths. They stand under the directory that a glob begins
// with, so that a path asks only those of the directories it lies in.
type globs map[string][]globNode

type globNode struct {
	glob string
	all  bool // matches whatever is in the directory
	next *node
}

// directoryOf returns the directory that everything lies in that a glob matches, or that is itself matched.
func directoryOf(glob string) string {
	if !utf8.ValidString(glob) {
		return ""
	}
	// To doublestar U+FFFD in a glob is like any byte of a path that is not UTF-8.
	literal := glob
	if i := strings.IndexAny(glob, "*?[{\\\uFFFD"); i >= 0 {
		literal = glob[:i]
	}
	if i := strings.LastIndexByte(literal, '/'); i >= 0 {
		return literal[:i]
	}
	return ""
}

func (g globs) add(glob string, next *node) {
	dir := directoryOf(glob)
	g[dir] = append(g[dir], globNode{glob, glob == dir+"/**" || glob == "**", next})
}

// collect appends what stands below the globs that match one of the paths.
func (g globs) collect(r *reading, out []int32, paths []string) []int32 {
	seen := map[*node]bool{}
	visit := func(path, dir string) {
		for i := range g[dir] {
			n := &g[dir][i]
			if !seen[n.next] && (n.all || doublestar.MatchUnvalidated(n.glob, path)) {
				seen[n.next] = true
				out = n.next.collect(r, out)
			}
		}
	}
	for _, path := range paths {
		visit(path, "")
		for i := range len(path) {
			if path[i] == '/' && i > 0 {
				visit(path, path[:i])
			}
		}
		if path != "" {
			visit(path, path) // dir/** matches dir too
		}
	}
	return out
}

// validGlobs reports whether changed() can be asked all globs.
func validGlobs(values []any) bool {
	return !slices.ContainsFunc(values, func(v any) bool {
		glob, ok := v.(string)
		return !ok || !doublestar.ValidatePattern(glob)
	})
}
