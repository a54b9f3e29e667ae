package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	yamlnode "go.yaml.in/yaml/v4"
	"sigs.k8s.io/yaml"

	"github.com/riposte-dev/riposte/pkg/grant"
)

// maxFile bounds the configuration file in bytes.
const maxFile = 1 << 20

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Field string // as in the file, or the variable or flag that gave the value
	Line  int    // in the file; 0 where it isn't known or the file is not to blame
	Msg   string
}

// Error is all that is wrong with a configuration.
type Error struct {
	File     string // empty where there is none
	Problems []Problem
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		switch {
		case e.File != "" && p.Line > 0:
			lines[i] = fmt.Sprintf("%s:%d: ", e.File, p.Line)
		case e.File != "" && p.Field == "":
			lines[i] = e.File + ": "
		}
		if p.Field != "" {
			lines[i] += p.Field + ": "
		}
		lines[i] += p.Msg
	}
	return strings.Join(lines, "\n")
}

// Sources are the places that a configuration is read from.
type Sources struct {
	// File is the configuration file; empty for the one that RIPOSTE_CONFIG names, if any.
	File string
	// Env looks a variable up; nil for none.
	Env func(name string) (string, bool)
	// Flags holds the flags that were given, by name without dashes; those that are no setting are ignored.
	Flags map[string]string
}

// Load reads a configuration from all its sources and validates it. What is wrong with the content is an *Error that
// lists all of it.
func Load(s Sources) (*Config, error) {
	c, e := Default(), &Error{File: s.File}
	if s.Env == nil {
		s.Env = func(string) (string, bool) { return "", false }
	}
	if e.File == "" {
		e.File, _ = s.Env("RIPOSTE_CONFIG")
	}
	var lines map[string]int
	if e.File != "" {
		data, err := readFile(e.File)
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		lines = lineNumbers(data)
		e.Problems = c.decode(data)
	}
	given, problems := c.apply(s)
	e.Problems = append(e.Problems, problems...)
	for _, p := range unreported(c.problems(), e.Problems) {
		p.Field = cmp.Or(given[p.Field], p.Field)
		e.Problems = append(e.Problems, p)
	}
	for i, p := range e.Problems {
		e.Problems[i].Line = cmp.Or(p.Line, lineOf(lines, p.Field))
	}
	slices.SortStableFunc(e.Problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	if len(e.Problems) > 0 {
		return nil, e
	}
	return c, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s is larger than %s", name, FormatSize(maxFile))
	}
	return data, nil
}

// apply sets what variables and flags give; flags come last, so they win. It returns which of them gave each setting. An
// empty variable counts as unset, because many tools can't leave one out.
func (c *Config) apply(s Sources) (given map[string]string, problems []Problem) {
	given = map[string]string{}
	set := func(f Field, by, text string) {
		given[f.Key] = by
		if err := f.Value.Set(text); err != nil {
			problems = append(problems, Problem{Field: by, Msg: err.Error()})
		}
	}
	for _, f := range c.Fields() {
		if text, ok := s.Env(f.Env()); ok && text != "" {
			set(f, f.Env(), text)
		}
	}
	for _, f := range c.Fields() { // anew, so that a list given by flag replaces the variable's
		if text, ok := s.Flags[f.Flag]; ok {
			set(f, "--"+f.Flag, text)
		}
	}
	return given, problems
}

// unreported drops the problems of fields that already have one.
func unreported(problems, before []Problem) []Problem {
	return slices.DeleteFunc(problems, func(p Problem) bool {
		return slices.ContainsFunc(before, func(b Problem) bool { return b.Field == p.Field })
	})
}

// decode reads a configuration file over c.
func (c *Config) decode(data []byte) []Problem {
	asJSON, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return []Problem{{Msg: strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	if len(bytes.TrimSpace(asJSON)) == 0 || bytes.Equal(asJSON, []byte("null")) {
		return nil
	}
	d := &decoder{config: c, fields: map[string]Value{}}
	for _, f := range c.Fields() {
		if f.Key != "" {
			d.fields[f.Key] = f.Value
		}
	}
	d.object("", asJSON)
	return d.problems
}

// decoder reads the settings from the file's JSON form. What is no plain setting has a function of its own.
type decoder struct {
	config   *Config
	fields   map[string]Value
	problems []Problem
}

func (d *decoder) problem(path, format string, args ...any) {
	msg := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ") // one line each
	d.problems = append(d.problems, Problem{Field: path, Msg: msg})
}

func (d *decoder) object(path string, data json.RawMessage) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		d.problem(path, "must be a mapping, not %s", kindOf(data))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		d.member(join(path, name), members[name])
	}
}

func (d *decoder) member(path string, data json.RawMessage) {
	if bytes.Equal(data, []byte("null")) && d.known(path) && path != "grants" {
		return
	}
	switch path {
	case "secrets":
		d.secrets(data)
	case "credentials":
		d.config.Credentials = decodeList[Credential](d, path, data)
	case "tokens":
		d.config.Tokens = decodeList[Token](d, path, data)
	case "quietTimes":
		d.config.QuietTimes = decodeList[QuietTime](d, path, data)
	case "grants":
		d.grants(data)
	case "limits.blastRadius":
		d.config.Limits.BlastRadius = decodeList[BlastRadius](d, path, data)
	default:
		d.setting(path, data)
	}
}

func (d *decoder) setting(path string, data json.RawMessage) {
	v, ok := d.fields[path]
	switch {
	case ok:
		if err := setJSON(v, data); err != nil {
			d.problem(path, "%s", err)
		}
	case d.known(path):
		d.object(path, data)
	default:
		d.problem(path, "unknown field%s", didYouMean(path, d.siblings(path)))
	}
}

// sections are the keys that hold something else than a plain setting and are understood.
func sections() []string {
	return []string{"secrets", "credentials", "tokens", "quietTimes", "grants", "limits.blastRadius"}
}

// known reports whether path is a setting, a section, or leads to one.
func (d *decoder) known(path string) bool {
	if _, ok := d.fields[path]; ok || slices.Contains(sections(), path) {
		return true
	}
	for key := range d.fields {
		if strings.HasPrefix(key, path+".") {
			return true
		}
	}
	return false
}

// siblings lists the names that may stand where path's last one does.
func (d *decoder) siblings(path string) []string {
	parent := path[:strings.LastIndexByte(path, '.')+1]
	var names []string
	for _, key := range append(slices.Sorted(maps.Keys(d.fields)), sections()...) {
		if rest, ok := strings.CutPrefix(key, parent); ok {
			name, _, _ := strings.Cut(rest, ".")
			names = append(names, name)
		}
	}
	return slices.Compact(names)
}

func (d *decoder) secrets(data json.RawMessage) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		d.problem("secrets", "must be a mapping from names to {env: …} or {file: …}, not %s", kindOf(data))
		return
	}
	d.config.Secrets = make(map[string]Secret, len(members))
	for _, name := range slices.Sorted(maps.Keys(members)) {
		var s Secret
		if err := strict(members[name], &s); err != nil {
			// The message must not show what may be a secret that someone wrote in place of a reference.
			d.problem("secrets."+name, "must be {env: VARIABLE} or {file: PATH}")
			continue
		}
		d.config.Secrets[name] = s
	}
}

// grants reads the grants. A list without any would allow everything to whoever reads it as none, and nothing to whoever
// reads it as written, so that it is refused.
func (d *decoder) grants(data json.RawMessage) {
	d.config.Grants = append(grant.List{}, decodeList[grant.Spec](d, "grants", data)...)
	if text := string(data); text == "null" || text == "[]" {
		d.problem("grants", "is empty: list what is allowed, or remove the key to allow everything to all rules")
	}
}

func decodeList[T any](d *decoder, path string, data json.RawMessage) []T {
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		d.problem(path, "must be a list, not %s", kindOf(data))
		return nil
	}
	decoded := make([]T, len(raw))
	for i := range raw {
		if err := strict(raw[i], &decoded[i]); err != nil {
			d.problem(fmt.Sprintf("%s[%d]", path, i), "%s", err)
		}
	}
	return decoded
}

func strict(data json.RawMessage, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return fmt.Errorf("%s must be a %s, not a %s", cmp.Or(wrongType.Field, "it"), wrongType.Type.Kind(), wrongType.Value)
	}
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// setJSON sets a value from JSON of the kind that suits it.
func setJSON(v Value, data json.RawMessage) error {
	kind := kindOf(data)
	switch t := v.Type(); {
	case t == "strings" || t == "cidrs":
		return setList(v, data)
	case t == "bool" && kind == "true or false":
		return v.Set(string(data))
	case (t == "int" || t == "bytes" || t == "duration") && kind == "a number":
		return v.Set(string(data))
	case t != "bool" && t != "int" && kind == "a string":
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		return v.Set(text)
	default:
		return fmt.Errorf("must be %s, not %s", wanted(t), kind)
	}
}

func setList(v Value, data json.RawMessage) error {
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil {
		return errors.New("must be a list of strings")
	}
	return v.(interface{ replace([]string) error }).replace(texts)
}

func wanted(kind string) string {
	switch kind {
	case "bool":
		return "true or false"
	case "int":
		return "a whole number"
	case "bytes":
		return "a size like 25MB, 64MiB or a number of bytes"
	case "duration":
		return "a duration like 90s or 1d"
	}
	return "a string (quote it)"
}

func kindOf(data json.RawMessage) string {
	if len(data) == 0 {
		return "nothing"
	}
	switch data[0] {
	case '{':
		return "a mapping"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "nothing"
	}
	return "a number"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func didYouMean(path string, names []string) string {
	name := path[strings.LastIndexByte(path, '.')+1:]
	for _, n := range names {
		if strings.EqualFold(n, name) || distance(n, name) <= 2 {
			return fmt.Sprintf("; did you mean %s?", n)
		}
	}
	return ""
}

// distance is the number of letters to change, add or remove to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// lineNumbers returns the line of each field of a YAML document by its path. The strict reader above knows no
// positions, so a second one finds them; where it can't read the document there are none.
func lineNumbers(data []byte) map[string]int {
	var doc yamlnode.Node
	if yamlnode.Unmarshal(data, &doc) != nil || len(doc.Content) != 1 {
		return nil
	}
	lines := map[string]int{}
	locate(doc.Content[0], "", lines)
	return lines
}

func locate(n *yamlnode.Node, path string, lines map[string]int) {
	switch n.Kind {
	case yamlnode.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			at := join(path, n.Content[i].Value)
			lines[at] = n.Content[i].Line
			locate(n.Content[i+1], at, lines)
		}
	case yamlnode.SequenceNode:
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			lines[at] = item.Line
			locate(item, at, lines)
		}
	}
}

// lineOf returns the line of a field, or of the nearest one around it that is in the file.
func lineOf(lines map[string]int, field string) int {
	for field != "" {
		if line, ok := lines[field]; ok {
			return line
		}
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
	return 0
}
