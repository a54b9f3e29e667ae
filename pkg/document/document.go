// Package document reads YAML 1.2 documents strictly into typed structs, keeping the position of everything, and describes
// those structs as JSON Schema and as reference pages. What is wrong is collected, all of it at once.
//
// Structs say how they are read with tags: yaml names the field; doc describes it; required, enum and default are
// checked or shown; expr is "never" where a text must not hold an expression; ref names what a text refers to.
// The package is pure; everything in it is safe for concurrent use.
package document

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Bounds of what is read.
const (
	maxDocumentBytes = 1 << 20
	maxDepth         = 64
	maxAliases       = 100
	maxItems         = 100_000 // after aliases are expanded
)

// Problem is one thing that is wrong, and where.
type Problem struct {
	File         string
	Line, Column int // 1-based; 0 where there is no place
	Msg          string
	Hint         string // what to try; may be empty
	Snippet      string // the text at fault with carets below; may be empty
}

func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	b.WriteString(p.Msg)
	if p.Snippet != "" {
		b.WriteString("\n    " + strings.ReplaceAll(p.Snippet, "\n", "\n    "))
	}
	if p.Hint != "" {
		b.WriteString("\n    hint: " + p.Hint)
	}
	return b.String()
}

// Problems is all that is wrong; it is an error when there is anything.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Sort puts the problems in the order of files and places.
func (p Problems) Sort() {
	slices.SortStableFunc(p, func(a, b Problem) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}

// Kind is the kind of an Item.
type Kind int

// Kinds of items.
const (
	Scalar Kind = iota
	Map
	List
)

// Item is a value with its place: of a file, or of evaluated parameters, where the place is unknown.
type Item struct {
	Kind         Kind
	Value        any // of a scalar: nil, bool, int64, float64 or string; or Unknown
	Members      []Member
	Elements     []*Item
	Line, Column int
	// Block says that the text stands below the line of its sign (| or >).
	Block bool
	// Comment is what followed a plain text on its line.
	Comment string
}

// Member is a named value of a map.
type Member struct {
	Name         string
	Line, Column int
	Item         *Item
}

// Unknown stands for a value that is known only when it is evaluated; it fits anywhere.
type Unknown struct{}

// Get returns the member with the name, or nil.
func (i *Item) Get(name string) *Item {
	if i == nil {
		return nil
	}
	for _, m := range i.Members {
		if m.Name == name {
			return m.Item
		}
	}
	return nil
}

// Without returns a map item that lacks the named members.
func (i *Item) Without(names ...string) *Item {
	c := *i
	c.Members = nil
	for _, m := range i.Members {
		if !slices.Contains(names, m.Name) {
			c.Members = append(c.Members, m)
		}
	}
	return &c
}

// Parse reads all documents of a file. Empty documents are left out. What is wrong with one value hides no other: it reads
// as Unknown. Only what is no YAML, or beyond the bounds, ends the reading.
func Parse(file string, data []byte) ([]*Item, Problems) {
	if len(data) > maxDocumentBytes {
		return nil, Problems{{File: file, Msg: fmt.Sprintf("the file has %d bytes, more than the %d that are read", len(data), maxDocumentBytes)}}
	}
	if !utf8.Valid(data) {
		return nil, Problems{{File: file, Msg: "the file is not UTF-8"}}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	d := yaml.NewDecoder(bytes.NewReader(data))
	var out []*Item
	var problems Problems
	for {
		var n yaml.Node
		err := d.Decode(&n)
		if errors.Is(err, io.EOF) {
			return out, problems
		}
		if err != nil {
			return out, append(problems, syntax(file, data, err))
		}
		r := &reader{file: file}
		item := r.read(&n, 0)
		problems = append(problems, r.problems...)
		if r.items > maxItems {
			return out, problems
		}
		if item != nil && (item.Kind != Scalar || item.Value != nil) {
			out = append(out, item)
		}
	}
}

// syntax finds the place in a parser's error, which has it in its text alone.
func syntax(file string, data []byte, err error) Problem {
	p := Problem{File: file, Msg: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(err.Error()); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.Column = 1
		if lines := strings.Split(string(data), "\n"); p.Line <= len(lines) {
			p.Snippet = strings.TrimRight(lines[p.Line-1], "\r")
			if strings.Contains(p.Snippet, "\t") && strings.TrimLeft(p.Snippet, " ")[0] == '\t' {
				p.Hint = "indent with spaces, not with tabs"
			}
		}
	}
	return p
}

// reader turns nodes into items.
type reader struct {
	file           string
	problems       Problems
	items, aliases int
}

func (r *reader) problem(n *yaml.Node, hint, format string, args ...any) {
	r.problems = append(r.problems, Problem{File: r.file, Line: n.Line, Column: n.Column, Msg: fmt.Sprintf(format, args...), Hint: hint})
}

func (r *reader) read(n *yaml.Node, depth int) *Item {
	if r.items++; depth > maxDepth || r.items > maxItems {
		if r.items <= maxItems+1 || depth == maxDepth+1 {
			r.problem(n, "", "the document is nested or repeated beyond %d levels or %d values", maxDepth, maxItems)
		}
		r.items = maxItems + 2
		return nil
	}
	item := &Item{Line: n.Line, Column: n.Column}
	if !r.plainTag(n) && n.Kind == yaml.ScalarNode {
		item.Value = Unknown{} // the tag was the value, most often
		return item
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) == 0 {
			return nil
		}
		return r.read(n.Content[0], depth+1)
	case yaml.AliasNode:
		if r.aliases++; r.aliases > maxAliases {
			if r.aliases == maxAliases+1 {
				r.problem(n, "", "more than %d aliases", maxAliases)
			}
			item.Value = Unknown{}
			return item
		}
		return r.read(n.Alias, depth+1)
	case yaml.MappingNode:
		r.mapping(item, n, depth)
	case yaml.SequenceNode:
		item.Kind = List
		for _, c := range n.Content {
			item.Elements = append(item.Elements, r.read(c, depth+1))
		}
	case yaml.ScalarNode:
		item.Value = scalar(n)
		item.Block = n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
		item.Comment = n.LineComment
	}
	return item
}

func (r *reader) mapping(item *Item, n *yaml.Node, depth int) {
	item.Kind = Map
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		switch {
		case k.Kind != yaml.ScalarNode:
			r.problem(k, "", "a key must be a text")
			continue
		case k.Value == "<<" && k.Style == 0:
			r.problem(k, "write the fields out", "merge keys are not read")
			continue
		case seen[k.Value] > 0:
			r.problem(k, "", "field %s is there already, on line %d", k.Value, seen[k.Value])
			continue
		}
		seen[k.Value] = k.Line
		item.Members = append(item.Members, Member{k.Value, k.Line, k.Column, r.read(n.Content[i+1], depth+1)})
	}
}

// plainTag refuses tags, which most often come from an expression that begins with "!".
func (r *reader) plainTag(n *yaml.Node) bool {
	if n.Style&yaml.TaggedStyle == 0 && (n.Tag == "" || strings.HasPrefix(n.Tag, "!!")) {
		return true
	}
	r.problem(n, `an expression that begins with ! must stand in quotes: "!…"`, "YAML tag %s is not read", n.Tag)
	return false
}

// scalar reads a plain scalar by YAML 1.2's core schema, so that on, yes and 010 are what they look like.
func scalar(n *yaml.Node) any {
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return n.Value
	}
	switch n.Value {
	case "", "~", "null", "Null", "NULL":
		return nil
	case "true", "True", "TRUE":
		return true
	case "false", "False", "FALSE":
		return false
	}
	if strings.Trim(n.Value[:1], "+-.0123456789") != "" {
		return n.Value // most are words, and patterns are dear
	}
	if regexp.MustCompile(`^[-+]?[0-9]+$`).MatchString(n.Value) {
		if v, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
			return v
		}
		return n.Value
	}
	if regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`).MatchString(n.Value) {
		if v, err := strconv.ParseFloat(n.Value, 64); err == nil {
			return v
		}
	}
	return n.Value
}

// FromValue makes an item of an evaluated value: nil, bool, numbers, strings, []any, map[string]any, or Unknown.
func FromValue(v any) *Item {
	switch v := v.(type) {
	case map[string]any:
		item := &Item{Kind: Map}
		for name, e := range v {
			item.Members = append(item.Members, Member{Name: name, Item: FromValue(e)})
		}
		slices.SortFunc(item.Members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
		return item
	case map[string]string:
		item := &Item{Kind: Map}
		for name, e := range v {
			item.Members = append(item.Members, Member{Name: name, Item: &Item{Value: e}})
		}
		slices.SortFunc(item.Members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
		return item
	case []any:
		item := &Item{Kind: List}
		for _, e := range v {
			item.Elements = append(item.Elements, FromValue(e))
		}
		return item
	case []string:
		item := &Item{Kind: List}
		for _, e := range v {
			item.Elements = append(item.Elements, &Item{Value: e})
		}
		return item
	case int:
		return &Item{Value: int64(v)}
	}
	return &Item{Value: v}
}

// Any returns the item as a plain value.
func (i *Item) Any() any {
	switch {
	case i == nil:
		return nil
	case i.Kind == Map:
		m := make(map[string]any, len(i.Members))
		for _, e := range i.Members {
			m[e.Name] = e.Item.Any()
		}
		return m
	case i.Kind == List:
		l := make([]any, len(i.Elements))
		for k, e := range i.Elements {
			l[k] = e.Any()
		}
		return l
	}
	return i.Value
}
