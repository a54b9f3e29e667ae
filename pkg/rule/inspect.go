package rule

import (
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/document"
)

// Document is a document of a Set with the places of all that is in it, for tools that look at more than deciding needs.
type Document struct {
	Kind, Name, File string
	Annotations      map[string]string
	Item, Spec       *document.Item
}

// Documents returns the documents of all files, in their order. They are read anew by each call, so that a running set
// does not keep them.
func (s *Set) Documents() []Document {
	var out []Document
	for _, f := range s.Files {
		if f.place() == PausedFile {
			continue
		}
		items, _ := document.Parse(f.Path, f.Data) // the set was built from them
		for _, item := range items {
			var e envelope
			_ = document.Decode(f.Path, item, &e) // likewise
			out = append(out, Document{Kind: e.Kind, Name: e.Metadata.Name, File: f.Path, Annotations: e.Metadata.Annotations, Item: item, Spec: e.Spec})
		}
	}
	return out
}

// Position returns the place in its file of a line and column of a text that was read from there: an expression's.
func (s *Set) Position(file string, i *document.Item, line, column int) (int, int) {
	lines := s.lines(file)
	switch {
	case i.Block:
		return i.Line + line, column + indent(lines, i.Line)
	case line > 1: // a text over several lines, which YAML joins: only its beginning is known
		return i.Line, i.Column
	case i.Line <= len(lines) && i.Column > 0 && quotes(lines[i.Line-1], i.Column):
		column++
	}
	return i.Line, i.Column + column - 1
}

func (s *Set) lines(file string) []string {
	at := slices.IndexFunc(s.Files, func(f File) bool { return f.Path == file })
	if at < 0 {
		return nil
	}
	return strings.Split(string(s.Files[at].Data), "\n")
}

// quotes says whether a text that begins in a column, counted in characters, stands in quotes.
func quotes(line string, column int) bool {
	runes := []rune(line)
	return column <= len(runes) && (runes[column-1] == '"' || runes[column-1] == '\'')
}

// indent returns how far the block below a line is indented: the text of a block is read without it.
func indent(lines []string, line int) int {
	for _, text := range lines[min(line, len(lines)):] {
		if rest := strings.TrimLeft(text, " "); strings.TrimSpace(rest) != "" {
			return len(text) - len(rest)
		}
	}
	return 0
}

// Selected reports whether a trigger's list of names and globs selects a name; an empty list selects all.
func Selected(globs []string, name string) bool { return oneOf(globs, name) }
