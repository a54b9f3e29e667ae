package source

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Shape is what is known of a value in a sender's body.
type Shape struct {
	// Members are the fields of an object.
	Members map[string]*Shape
	// Element is what a list holds.
	Element *Shape
	// Open says that anything may stand below: labels, inputs, or what nobody has described.
	Open bool
}

// EventFields is what is known of the events of one type.
type EventFields struct {
	Data *Shape
	// Views that the preset can fill for them: git, pullRequest, alert.
	Views []string
}

// ParseFields reads Type.Fields, the table of what a sender's bodies hold, by type of event:
//
//	User = login id                                # a shape, named with a capital letter
//	push create = @git ref sender:User commits[]{id author{name} added[]}
//	release = ...push release{tag_name} labels*
//
// A member is a name; {…} are the members of an object, :Shape is one that is described elsewhere, [] makes a list, and *
// says that anything may stand below. "...Name" takes over what another definition holds, @view names a view that the
// preset fills, a lone * opens the whole. Types whose bodies are not described are "type = *"; the type * stands for all
// that are not listed. Lines that begin with a space go on.
func ParseFields(text string) (map[string]EventFields, error) {
	p := &fieldsParser{shapes: map[string]*Shape{}, views: map[string][]string{}}
	definitions, err := p.definitions(text)
	if err != nil {
		return nil, err
	}
	types := map[string]EventFields{}
	for _, d := range definitions {
		rest, err := p.members(d.names[0], tokens(d.text))
		if err == nil && len(rest) > 0 {
			err = fmt.Errorf("a } too many")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(d.names, " "), err)
		}
		for _, name := range d.names {
			if !isShape(name) {
				types[name] = EventFields{p.shapes[d.names[0]], p.views[d.names[0]]}
			}
		}
	}
	return types, nil
}

// definition is what one or several names stand for.
type definition struct {
	names []string
	text  string
}

type fieldsParser struct {
	shapes map[string]*Shape
	views  map[string][]string // by name of the definition
}

func isShape(name string) bool { return name[0] >= 'A' && name[0] <= 'Z' }

// definitions splits the text, and makes an empty shape for each name, so that shapes may name each other.
func (p *fieldsParser) definitions(text string) ([]definition, error) {
	var out []definition
	for _, paragraph := range paragraphs(text) {
		left, right, ok := strings.Cut(paragraph, " = ")
		d := definition{strings.Fields(left), right}
		if !ok || len(d.names) == 0 {
			return nil, fmt.Errorf("%q is no definition", paragraph)
		}
		for _, name := range d.names {
			if p.shapes[name] != nil {
				return nil, fmt.Errorf("%s is defined twice", name)
			}
			p.shapes[name] = &Shape{Members: map[string]*Shape{}}
		}
		out = append(out, d)
	}
	return out, nil
}

// paragraphs joins lines with those below them that begin with a space, and leaves out comments.
func paragraphs(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimRight(line, "\n"), "#")
		switch {
		case strings.TrimSpace(line) == "":
		case len(out) > 0 && line[0] == ' ':
			out[len(out)-1] += " " + strings.TrimSpace(line)
		default:
			out = append(out, line)
		}
	}
	return out
}

func tokens(text string) []string {
	return strings.Fields(strings.NewReplacer("{", " { ", "}", " } ").Replace(text))
}

// members fills a named shape with all tokens up to the end.
func (p *fieldsParser) members(name string, toks []string) ([]string, error) {
	return p.into(name, p.shapes[name], toks)
}

// into reads members up to a closing brace, and returns what follows it. name is that of the whole definition.
func (p *fieldsParser) into(name string, s *Shape, toks []string) ([]string, error) {
	for len(toks) > 0 && toks[0] != "}" {
		tok := toks[0]
		toks = toks[1:]
		switch other, take := strings.CutPrefix(tok, "..."); {
		case take:
			if err := p.include(name, s, other); err != nil {
				return nil, err
			}
		case tok == "*":
			s.Open = true
		case tok[0] == '@':
			p.views[name] = append(p.views[name], tok[1:])
		default:
			var err error
			if toks, err = p.member(name, s, tok, toks); err != nil {
				return nil, err
			}
		}
	}
	return toks, nil
}

// include takes over what a definition above holds.
func (p *fieldsParser) include(name string, s *Shape, other string) error {
	from := p.shapes[other]
	if from == nil || len(from.Members) == 0 {
		return fmt.Errorf("...%s is not defined above", other)
	}
	maps.Copy(s.Members, from.Members)
	s.Open = s.Open || from.Open
	p.views[name] = append(p.views[name], p.views[other]...)
	return nil
}

// member reads one member, whose own members may follow.
func (p *fieldsParser) member(name string, s *Shape, tok string, toks []string) ([]string, error) {
	key, shape, named := strings.Cut(tok, ":")
	key, open := strings.CutSuffix(key, "*")
	key, list := strings.CutSuffix(key, "[]")
	if key == "" || key == "{" {
		return nil, fmt.Errorf("%q is no member", tok)
	}
	m := &Shape{Open: open}
	if named {
		if m = p.shapes[shape]; m == nil {
			return nil, fmt.Errorf("%s: there is no shape %s", key, shape)
		}
	}
	if len(toks) > 0 && toks[0] == "{" {
		m.Members = map[string]*Shape{}
		rest, err := p.into(name, m, toks[1:])
		if err != nil {
			return nil, err
		}
		if len(rest) == 0 {
			return nil, fmt.Errorf("%s: a } is missing", key)
		}
		toks = rest[1:]
	}
	if list {
		m = &Shape{Element: m}
	}
	s.Members[key] = m
	return toks, nil
}

// Names lists the members, sorted.
func (s *Shape) Names() []string { return slices.Sorted(maps.Keys(s.Members)) }
