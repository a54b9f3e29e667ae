package document

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Text is a text that keeps its place, for expressions.
type Text struct {
	Value        string
	Line, Column int
	Block        bool
	Comment      string
}

// Strings is a list of texts, or one alone.
type Strings []string

// Size is a number of bytes, written as 25MB, 64MiB or plainly.
type Size int64

// Decode reads an item into the struct that into points to, and returns all that does not fit.
func Decode(file string, item *Item, into any) Problems {
	d := &decoder{file: file}
	d.decode("", item, reflect.ValueOf(into).Elem())
	return d.problems
}

// DecodeParams is Decode for an action's parameters, where a number or truth value may stand for a text: its plain form.
func DecodeParams(file string, item *Item, into any) Problems {
	d := &decoder{file: file, scalarsAsText: true}
	d.decode("", item, reflect.ValueOf(into).Elem())
	return d.problems
}

// DecodeValue is DecodeParams for an evaluated value, a map. The error names what does not fit.
func DecodeValue(value any, into any) error {
	problems := DecodeParams("", FromValue(value), into)
	if len(problems) == 0 {
		return nil
	}
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = errors.New(p.Msg)
	}
	return errors.Join(errs...)
}

type decoder struct {
	file          string
	scalarsAsText bool
	problems      Problems
}

func (d *decoder) problem(i *Item, hint, format string, args ...any) {
	d.problems = append(d.problems, Problem{File: d.file, Line: i.Line, Column: i.Column, Msg: fmt.Sprintf(format, args...), Hint: hint})
}

func (d *decoder) wrong(path string, i *Item, want string) {
	d.problem(i, "", "%s must be %s, not %s", orSelf(path), want, i.describe())
}

func orSelf(path string) string {
	if path == "" {
		return "the value"
	}
	return path
}

// maxShown bounds what is shown of a text that should be something else, in bytes.
const maxShown = 40

func (i *Item) describe() string {
	switch v := i.Value.(type) {
	case nil:
		return map[Kind]string{Scalar: "empty", Map: "a map", List: "a list"}[i.Kind]
	case string:
		if len(v) > maxShown { // it may be a whole file, and one that is no business of who reads the error
			v = strings.ToValidUTF8(v[:maxShown], "") + "…"
		}
		return "the text " + strconv.Quote(v)
	default:
		return fmt.Sprint(v)
	}
}

// decode reads an item into a value of any of the types that documents use.
func (d *decoder) decode(path string, i *Item, v reflect.Value) {
	if i == nil {
		return
	}
	if _, unknown := i.Value.(Unknown); unknown {
		return
	}
	if d.special(path, i, v) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if i.Kind == Scalar && i.Value == nil {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(path, i, v.Elem())
	case reflect.Struct:
		d.structure(path, i, v)
	case reflect.Map:
		d.mapping(path, i, v)
	case reflect.Slice:
		d.list(path, i, v)
	case reflect.Interface:
		v.Set(reflect.ValueOf(&[]any{i.Any()}[0]).Elem())
	default:
		d.scalar(path, i, v)
	}
}

// special reads the types that are more than their Go kind.
func (d *decoder) special(path string, i *Item, v reflect.Value) bool {
	switch p := v.Addr().Interface().(type) {
	case **Item:
		*p = i
	case *Text:
		s, ok := i.Value.(string)
		if !ok {
			d.wrong(path, i, "a text")
			return true
		}
		*p = Text{s, i.Line, i.Column, i.Block, i.Comment}
	case *Strings:
		d.strings(path, i, p)
	case *Size:
		d.size(path, i, p)
	case *time.Duration:
		s, ok := i.Value.(string)
		if !ok {
			d.wrong(path, i, "a duration such as 90s or 1d")
			return true
		}
		t, err := ParseDuration(s)
		if err != nil {
			d.problem(i, "", "%s: %v", orSelf(path), err)
		}
		*p = t
	case *time.Time:
		s, _ := i.Value.(string)
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			d.wrong(path, i, "a time such as \"2026-11-23T10:00:00Z\"")
		}
		*p = t
	default:
		return false
	}
	return true
}

func (d *decoder) strings(path string, i *Item, p *Strings) {
	if i.Kind == Scalar {
		i = &Item{Kind: List, Elements: []*Item{i}, Line: i.Line, Column: i.Column}
	}
	var list []string
	d.decode(path, i, reflect.ValueOf(&list).Elem())
	*p = list
}

func (d *decoder) size(path string, i *Item, p *Size) {
	if n, ok := i.Value.(int64); ok && n >= 0 {
		*p = Size(n)
		return
	}
	s, _ := i.Value.(string)
	n, err := ParseSize(s)
	if err != nil {
		d.wrong(path, i, "a size such as 25MB, 64MiB or a number of bytes")
	}
	*p = Size(n)
}

func (d *decoder) scalar(path string, i *Item, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if s, ok := d.text(i); ok {
			v.SetString(s)
			return
		}
		d.wrong(path, i, "a text")
	case reflect.Bool:
		if b, ok := i.Value.(bool); ok {
			v.SetBool(b)
			return
		}
		d.wrong(path, i, "true or false")
	case reflect.Int, reflect.Int64:
		if f, ok := i.Value.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			v.SetInt(int64(f))
			return
		}
		if n, ok := i.Value.(int64); ok {
			v.SetInt(n)
			return
		}
		d.wrong(path, i, "a whole number")
	case reflect.Float64:
		switch n := i.Value.(type) {
		case float64:
			v.SetFloat(n)
		case int64:
			v.SetFloat(float64(n))
		default:
			d.wrong(path, i, "a number")
		}
	default:
		panic("document: no values of type " + v.Type().String())
	}
}

func (d *decoder) text(i *Item) (string, bool) {
	if i.Kind != Scalar {
		return "", false
	}
	s, ok := i.Value.(string)
	if ok || !d.scalarsAsText {
		return s, ok
	}
	switch v := i.Value.(type) {
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case fmt.Stringer: // a time, a duration
		return v.String(), true
	}
	if r := reflect.ValueOf(i.Value); r.IsValid() && r.Kind() == reflect.String { // a large integer's digits
		return r.String(), true
	}
	return "", false
}

func (d *decoder) mapping(path string, i *Item, v reflect.Value) {
	if i.Kind != Map {
		d.wrong(path, i, "a map")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, m := range i.Members {
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(join(path, m.Name), m.Item, e)
		v.SetMapIndex(reflect.ValueOf(m.Name).Convert(v.Type().Key()), e)
	}
}

func (d *decoder) list(path string, i *Item, v reflect.Value) {
	if i.Kind != List {
		d.wrong(path, i, "a list")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(i.Elements), len(i.Elements)))
	for k, e := range i.Elements {
		d.decode(path+"["+strconv.Itoa(k)+"]", e, v.Index(k))
	}
}

// structure reads a map into a struct: unknown fields and missing required ones are problems.
func (d *decoder) structure(path string, i *Item, v reflect.Value) {
	if i.Kind != Map {
		d.wrong(path, i, "a map with fields")
		return
	}
	fields := fieldsOf(v.Type())
	for _, m := range i.Members {
		k := slices.IndexFunc(fields, func(f structField) bool { return f.name == m.Name })
		if k < 0 {
			at := &Item{Line: m.Line, Column: m.Column}
			d.problem(at, cmp.Or(suggest(m.Name, names(fields)), listed(names(fields))), "unknown field %s", join(path, m.Name))
			continue
		}
		f := fields[k]
		d.decode(join(path, m.Name), m.Item, v.Field(f.index))
		d.checkEnum(join(path, m.Name), m.Item, f)
	}
	for _, f := range fields {
		given := slices.ContainsFunc(i.Members, func(m Member) bool { return m.Name == f.name })
		if !given && f.required() {
			d.problem(i, "", "%s is missing", join(path, f.name))
		}
	}
}

func (d *decoder) checkEnum(path string, i *Item, f structField) {
	s, ok := i.Value.(string)
	if !ok {
		return
	}
	if enum := f.enum(); enum != nil && !slices.Contains(enum, s) {
		d.problem(i, suggest(s, enum), "%s is %q, which is none of %s", path, s, strings.Join(enum, ", "))
	}
}

// structField is one of a struct's fields. Its other tags are read when they are asked for: a document has many structs,
// and asks for few of them.
type structField struct {
	name  string
	index int
	typ   reflect.Type
	tag   reflect.StructTag
}

func (f structField) required() bool { return f.tag.Get("required") == "true" }

func (f structField) enum() []string {
	if e := f.tag.Get("enum"); e != "" {
		return strings.Split(e, ",")
	}
	return nil
}

func fieldsOf(t reflect.Type) []structField {
	out := make([]structField, 0, t.NumField())
	for k := range t.NumField() {
		f := t.Field(k)
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" && name != "-" {
			out = append(out, structField{name: name, index: k, typ: f.Type, tag: f.Tag})
		}
	}
	return out
}

func names(fields []structField) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.name
	}
	return out
}

// Names lists the fields of the struct that v points to.
func Names(v any) []string { return names(fieldsOf(reflect.TypeOf(v).Elem())) }

// Tagged lists the fields of the struct that v points to whose tag has the value.
func Tagged(v any, tag, value string) []string {
	var out []string
	for _, f := range fieldsOf(reflect.TypeOf(v).Elem()) {
		if f.tag.Get(tag) == value {
			out = append(out, f.name)
		}
	}
	return out
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// suggest makes a hint of the name that is most like the one given.
func suggest(name string, known []string) string {
	if best := Nearest(name, known); best != "" {
		return "did you mean " + best + "?"
	}
	return ""
}

// listed makes a hint of all names, where there are some.
func listed(known []string) string {
	if len(known) == 0 {
		return ""
	}
	return "there are " + strings.Join(known, ", ")
}

// Nearest returns the known name that is most like the given one, or "" where none is like it.
func Nearest(name string, known []string) string {
	best, least := "", len(name)/3+2
	for _, k := range known {
		if n := distance(strings.ToLower(name), strings.ToLower(k)); n < least {
			best, least = k, n
		}
	}
	return best
}

// distance is the number of changed, missing or added characters between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		last := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := last
			if a[i-1] != b[j-1] {
				cost++
			}
			last, row[j] = row[j], min(row[j]+1, row[j-1]+1, cost)
		}
	}
	return row[len(b)]
}

// ParseDuration reads a duration as Prometheus writes it: 90s, 1h30m, 1d, 2w.
func ParseDuration(s string) (time.Duration, error) {
	units := map[string]time.Duration{
		"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 365 * 24 * time.Hour,
	}
	var total time.Duration
	rest := s
	for rest != "" {
		n := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if n <= 0 {
			return 0, fmt.Errorf("%q is no duration: write 90s, 1h30m or 1d", s)
		}
		end := strings.IndexFunc(rest[n:], func(r rune) bool { return r >= '0' && r <= '9' })
		if end < 0 {
			end = len(rest) - n
		}
		count, err := strconv.ParseInt(rest[:n], 10, 32)
		unit, ok := units[rest[n:n+end]]
		if err != nil || !ok || time.Duration(count) > (math.MaxInt64-total)/unit {
			return 0, fmt.Errorf("%q is no duration: write 90s, 1h30m or 1d", s)
		}
		total += time.Duration(count) * unit
		rest = rest[n+end:]
	}
	if s == "" {
		return 0, errors.New("the duration is empty: write 90s, 1h30m or 1d")
	}
	return total, nil
}

// ParseSize reads a number of bytes with a unit: KB, MB, GB are powers of 1000, KiB, MiB, GiB of 1024.
func ParseSize(s string) (int64, error) {
	units := map[string]int64{"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
	n := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if n < 0 {
		n = len(s)
	}
	count, err := strconv.ParseInt(s[:n], 10, 40)
	unit, ok := units[strings.TrimSpace(s[n:])]
	if err != nil || !ok || count > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is no size: write 25MB, 64MiB or a number of bytes", s)
	}
	return count * unit, nil
}

// JSONSchema describes the struct that v points to (draft 2020-12).
func JSONSchema(v any) map[string]any { return schemaOf(reflect.TypeOf(v).Elem()) }

func schemaOf(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[Text](), reflect.TypeFor[time.Duration](), reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string"}
	case reflect.TypeFor[Strings]():
		return map[string]any{"anyOf": []any{map[string]any{"type": "string"}, map[string]any{"type": "array", "items": map[string]any{"type": "string"}}}}
	case reflect.TypeFor[Size]():
		return map[string]any{"type": []string{"string", "integer"}}
	case reflect.TypeFor[*Item]():
		return map[string]any{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": []string{"boolean", "string"}}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": []string{"integer", "string"}}
	case reflect.Float64:
		return map[string]any{"type": []string{"number", "string"}}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Struct:
		return structSchema(t)
	}
	return map[string]any{}
}

func structSchema(t reflect.Type) map[string]any {
	props, required := map[string]any{}, []string{}
	for _, f := range fieldsOf(t) {
		s := schemaOf(f.typ)
		if doc := f.tag.Get("doc"); doc != "" {
			s["description"] = doc
		}
		if enum := f.enum(); enum != nil {
			s["enum"] = enum
		}
		if def := f.tag.Get("default"); def != "" {
			s["default"] = def
		}
		props[f.name] = s
		if f.required() {
			required = append(required, f.name)
		}
	}
	out := map[string]any{"type": "object", "properties": props, "additionalProperties": false}
	if len(required) > 0 {
		sort.Strings(required)
		out["required"] = required
	}
	return out
}

// Markdown describes the fields of the struct that v points to as a table.
func Markdown(v any) string {
	var b strings.Builder
	b.WriteString("| Field | Type | Default | Meaning |\n|---|---|---|---|\n")
	rows(&b, "", reflect.TypeOf(v).Elem())
	return b.String()
}

func rows(b *strings.Builder, prefix string, t reflect.Type) {
	for _, f := range fieldsOf(t) {
		def := f.tag.Get("default")
		if f.required() {
			def = "required"
		}
		doc := f.tag.Get("doc")
		if enum := f.enum(); enum != nil {
			doc += " (" + strings.Join(enum, ", ") + ")"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", prefix+f.name, typeName(f.typ), def, strings.ReplaceAll(doc, "|", `\|`))
		switch inner := structBelow(f.typ); {
		case inner == nil:
		case f.typ.Kind() == reflect.Slice:
			rows(b, prefix+f.name+"[].", inner)
		default:
			rows(b, prefix+f.name+".", inner)
		}
	}
}

func structBelow(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[Text]() || t == reflect.TypeFor[time.Time]() || t == reflect.TypeFor[Item]() {
		return nil
	}
	return t
}

func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Text]():
		return "text"
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[time.Time]():
		return "time"
	case reflect.TypeFor[Strings]():
		return "text or list"
	case reflect.TypeFor[Size]():
		return "size"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "number"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		return "map"
	case reflect.Struct:
		return "fields"
	}
	return "any"
}
