package expression

import (
	"slices"
	"strings"
)

// names returns the known names of a schema, sorted.
func (s *Schema) names() []string {
	if s == nil {
		return nil
	}
	names := make([]string, 0, len(s.Fields))
	for name := range s.Fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// child returns the schema below a field; ok is false where a closed schema does not know it.
func (s *Schema) child(name string) (child *Schema, ok bool) {
	if s == nil {
		return nil, true
	}
	child, known := s.Fields[name]
	return child, known || !s.Closed
}

// root is child for the roots, which are always closed where a schema names any.
func (s *Schema) root(name string) (child *Schema, ok bool) {
	if s == nil || len(s.Fields) == 0 && !s.Closed {
		return nil, true
	}
	child, ok = s.Fields[name]
	return child, ok
}

// unknown says what is wrong with a name that the schema does not know; "" leaves it to who asks.
func (s *Schema) unknown(name string) (msg, hint string) {
	if s == nil || s.Unknown == nil {
		return "", ""
	}
	return s.Unknown(name)
}

// related are names that people take for each other, which no spelling distance finds.
var related = [][]string{
	{"service", "app", "job", "component"},
	{"environment", "env", "stage"},
	{"instance", "host", "node"},
	{"name", "alertname", "title"},
	{"severity", "priority", "level"},
	{"repo", "repository", "project"},
	{"commit", "sha", "revision"},
}

// closest returns the candidate that was most likely meant by name, or "".
func closest(name string, candidates []string) string {
	lower := strings.ToLower(name)
	best, distance := "", max(1, len(lower)/3)+1
	for _, c := range candidates[:min(len(candidates), maxCandidates)] {
		if len(c) > maxName {
			continue
		}
		if d := editDistance(lower, strings.ToLower(c)); d < distance {
			best, distance = c, d
		}
	}
	if best != "" {
		return best
	}
	for _, group := range related {
		if !slices.Contains(group, lower) {
			continue
		}
		for _, alike := range group {
			if i := slices.IndexFunc(candidates, func(c string) bool { return strings.EqualFold(c, alike) }); i >= 0 {
				return candidates[i]
			}
		}
	}
	return ""
}

const (
	maxCandidates = 200 // names that a suggestion looks at
	maxName       = 64  // longest name that is suggested or listed
	maxListed     = 20  // names that a hint lists
)

// editDistance counts the insertions, deletions, substitutions and swaps of neighbours between two short texts.
func editDistance(a, b string) int {
	if len(a) > maxName || len(b) > maxName {
		return maxName
	}
	var rows [3][maxName + 1]int
	for j := range len(b) + 1 {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		row, above, before := &rows[i%3], &rows[(i+2)%3], &rows[(i+1)%3]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return rows[len(a)%3][len(b)]
}

// listed joins names for a hint.
func listed(names []string) string {
	var b strings.Builder
	for i, name := range names {
		if i == maxListed {
			b.WriteString(", …")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(clip(name, maxName))
	}
	return b.String()
}

// didYouMean is the hint for a name that is none of the known ones.
func didYouMean(prefix, name string, known []string) string {
	if s := closest(name, known); s != "" {
		return "did you mean " + prefix + s + "?"
	}
	if len(known) == 0 {
		return ""
	}
	return "known: " + listed(known)
}
