package rule_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
)

// bookCase is a case of ansible-rulebook, or of the rule engine below it.
type bookCase struct {
	ID, Group string
	Ruleset   struct{ Rules []bookRule }
	Vars      map[string]any
	Events    []struct{ Event json.RawMessage }
	Expected  struct{ Fired []struct{ Action string } }
	Steps     []struct {
		Op      string
		Data    json.RawMessage
		Matches *int     `json:"expect_matches"`
		Rules   []string `json:"expect_rules"`
	}
}

type bookRule struct {
	Name            string
	Condition       any
	Actions         []struct{ Action string }
	Throttle        any
	Timeout         string
	ExpectedFirings *struct{ Min, Count *int } `json:"expected_firings"`
}

// temporal reports whether the case is about several events or about time.
func (c *bookCase) temporal() bool {
	for _, r := range c.Ruleset.Rules {
		m, _ := r.Condition.(map[string]any)
		all, _ := m["all"].([]any)
		if r.Throttle != nil || r.Timeout != "" || m["timeout"] != nil || m["not_all"] != nil || len(all) > 1 {
			return true
		}
	}
	return false
}

// conditions writes a rule's condition as expressions: one, or one for each event that it takes together.
func (r *bookRule) conditions(vars map[string]any) ([]string, error) {
	operator, texts := " && ", []any{r.Condition}
	if m, ok := r.Condition.(map[string]any); ok {
		if texts, ok = m["any"].([]any); ok {
			operator = " || "
		} else if texts, ok = m["all"].([]any); !ok {
			return nil, errUnsaid
		}
	}
	var out []string
	for _, text := range texts {
		when, err := bookCondition(fmt.Sprint(text), vars)
		if err != nil {
			return nil, err
		}
		out = append(out, when)
	}
	if operator == " || " {
		out = []string{strings.Join(out, operator)}
	}
	return out, nil
}

const bookIndex = `(?:\.?\["[^"]*"\]|\.[\pL_]\w*|\[\d+\])`

var bookToken = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'[^']*'|-?\d[\d.]*(?:[eE][+-]?\d+)?|[\pL_]\w*` + bookIndex + `*|[=!<>]=|[-+<>()\[\],=]`)

// bookParser reads a condition and writes the expression: theirs binds `not` weaker than comparisons, ours stronger.
type bookParser struct {
	tokens []string
	vars   map[string]any
}

func bookCondition(text string, vars map[string]any) (out string, err error) {
	p := &bookParser{tokens: bookToken.FindAllString(text, -1), vars: vars}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: %v", text, r)
		}
	}()
	out = p.or()
	if len(p.tokens) > 0 {
		return "", fmt.Errorf("%s: left: %q", text, p.tokens)
	}
	return out, nil
}

// take takes the next token if it is one of the given ones.
func (p *bookParser) take(tokens ...string) string {
	for _, t := range tokens {
		if len(p.tokens) > 0 && p.tokens[0] == t {
			return p.next()
		}
	}
	return ""
}

func (p *bookParser) next() string {
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t
}

func (p *bookParser) or() string {
	out := p.and()
	for p.take("or") != "" {
		out += " || " + p.and()
	}
	return out
}

func (p *bookParser) and() string {
	out := p.unary()
	for p.take("and") != "" {
		out += " && " + p.unary()
	}
	return out
}

func (p *bookParser) unary() string {
	switch {
	case p.take("not") != "":
		return "not (" + p.unary() + ")"
	case p.take("(") != "":
		out := p.or()
		p.take(")")
		return "(" + out + ")"
	}
	return p.test()
}

func (p *bookParser) test() string {
	left := p.sum()
	if p.take("is") != "" {
		return p.is(left)
	}
	not := p.take("not")
	switch operator := p.take("==", "!=", "<=", ">=", "<", ">", "in", "contains"); {
	case operator == "":
		return left
	case not != "":
		return "not (" + compared(left, operator, p.sum()) + ")"
	default:
		return compared(left, operator, p.sum())
	}
}

// compared writes a comparison. To be null is, in theirs, to be there and null.
func compared(left, operator, right string) string {
	parent, name, nested := cutLast(left)
	switch {
	case operator == "==" && right == "nil" && nested:
		return "(" + name + " in " + parent + " && " + left + " == nil)"
	case operator == "contains":
		return right + " in " + listed(left)
	}
	return left + " " + operator + " " + right
}

// cutLast cuts the last name off a path.
func cutLast(path string) (parent, name string, ok bool) {
	at := strings.LastIndex(path, `["`)
	if at < 0 || !strings.HasSuffix(path, `"]`) {
		return "", "", false
	}
	return path[:at], path[at+1 : len(path)-1], true
}

// listed makes a list of what may be one value.
func listed(of string) string { return fmt.Sprintf(`(type(%s) == "array" ? %s : [%s])`, of, of, of) }

func (p *bookParser) sum() string {
	out := p.operand()
	for {
		operator := p.take("+", "-")
		if operator == "" {
			return out
		}
		out += " " + operator + " " + p.operand()
	}
}

func (p *bookParser) operand() string {
	switch t := p.next(); {
	case t == "[":
		p.tokens = append([]string{"["}, p.tokens...)
		return "[" + strings.Join(p.arguments("[", "]"), ", ") + "]"
	case t[0] == '\'':
		return quoted(strings.Trim(t, "'"))
	case t == "null":
		return "nil"
	default:
		return p.path(t)
	}
}

// arguments reads operands up to the closing token, and keeps names as they stand: ignorecase=true.
func (p *bookParser) arguments(opening, closing string) (list []string) {
	if p.take(opening) == "" {
		return nil
	}
	for p.take(closing) == "" {
		one := p.sum()
		if p.take("=") != "" {
			one = strings.Trim(one, `"`) + "=" + p.operand()
		}
		list = append(list, one)
		p.take(",")
	}
	return list
}

var bookName = regexp.MustCompile(bookIndex)

// path writes a path below the event, or the value of a variable.
func (p *bookParser) path(t string) string {
	root := regexp.MustCompile(`^\w*`).FindString(t)
	switch root {
	case "event", "events", "fact", "facts":
		return "event.data" + steps(t)
	case "vars":
		var v any = p.vars
		for name := range strings.SplitSeq(strings.TrimPrefix(t, "vars."), ".") {
			v = v.(map[string]any)[name]
		}
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return string(text)
	}
	return t
}

// steps writes the steps of a path: .a["b"][1].
func steps(path string) (out string) {
	for _, s := range bookName.FindAllString(path, -1) {
		if name, ok := strings.CutPrefix(s, "."); ok && name[0] != '[' {
			s = "[" + quoted(name) + "]"
		}
		out += strings.TrimPrefix(s, ".")
	}
	return out
}

// is writes a test: x is not match("…", ignorecase=true).
func (p *bookParser) is(left string) string {
	not := p.take("not") != ""
	name := p.next()
	args := p.arguments("(", ")")
	var out string
	switch name {
	case "defined":
		if not {
			return left + " == nil"
		}
		return left + " != nil"
	case "match", "search", "regex":
		out = left + " matches " + pattern(name, args[0], strings.Join(args[1:], " "))
	case "select", "selectattr":
		item := "#"
		if len(args) == 3 {
			item += steps("." + strings.Trim(args[0], `"`))
			args = args[1:]
		}
		each := selected(item, strings.Trim(args[0], `"`), args[1])
		if not { // theirs asks for an item that is not so
			each = "not (" + each + ")"
		}
		return fmt.Sprintf("any(%s, %s)", listed(left), each)
	default:
		panic("no test " + name)
	}
	if not {
		return "not (" + out + ")"
	}
	return out
}

// pattern writes what a text must match; match begins where the text does.
func pattern(kind, text, options string) string {
	head := ""
	if strings.Contains(options, "ignorecase=true") {
		head += "(?i)"
	}
	if kind == "match" {
		head += "^"
	}
	if head == "" {
		return text
	}
	if strings.HasPrefix(text, `"`) {
		return quoted(head + "(?:")[:len(quoted(head+"(?:"))-1] + text[1:len(text)-1] + `)"`
	}
	return "(" + quoted(head+"(?:") + " + " + text + ` + ")")`
}

func selected(item, operator, v string) string {
	switch operator {
	case "match", "search", "regex":
		return item + " matches " + pattern(operator, v, "")
	case "not contains":
		return "not (" + compared(item, "contains", v) + ")"
	case "not in":
		return "not (" + item + " in " + v + ")"
	}
	return compared(item, operator, v)
}

// firings returns the indices of the conditions that are true, event by event.
func firings(conditions []string, events []json.RawMessage) (list []int, err error) {
	set, err := ruleSet(conditions...)
	if err != nil {
		return nil, err
	}
	for _, body := range events {
		for i, truth := range matching(set, &event.Event{Body: body}) {
			if truth == expression.True {
				list = append(list, i)
			}
		}
	}
	return list, nil
}

func (c *bookCase) bodies() (list []json.RawMessage) {
	for _, e := range c.Events {
		list = append(list, e.Event)
	}
	return list
}

// play compares which actions run, in order.
func (c *bookCase) play() error {
	if c.Group == "operators-e2e" || c.temporal() {
		return errElsewhere
	}
	var conditions []string
	for _, r := range c.Ruleset.Rules {
		when, err := r.conditions(c.Vars)
		if err != nil {
			return err
		}
		conditions = append(conditions, when...)
	}
	fired, err := firings(conditions, c.bodies())
	if err != nil {
		return err
	}
	var got, want []string
	for _, i := range fired {
		got = append(got, c.Ruleset.Rules[i].Actions[0].Action)
	}
	for _, f := range c.Expected.Fired {
		if f.Action != "" { // the others are about the session
			want = append(want, f.Action)
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("%q: %v, want %v", conditions, got, want)
	}
	return nil
}

// bookOperator is a rule of the cases that have one for each operator.
type bookOperator struct {
	of   *bookCase
	rule bookRule
}

func (o bookOperator) id() string {
	file := strings.Split(o.of.ID, ".")[1]
	return file + ":" + strings.ReplaceAll(o.rule.Name, " ", "_")
}

// play compares how often the rule fires. What takes two events together fires as often as the rarer one is there.
func (o bookOperator) play() error {
	conditions, err := o.rule.conditions(o.of.Vars)
	if err != nil {
		return err
	}
	fired, err := firings(conditions, o.of.bodies())
	if err != nil {
		return err
	}
	counts := make([]int, len(conditions))
	for _, i := range fired {
		counts[i]++
	}
	got, want := slices.Min(counts), o.rule.ExpectedFirings
	if want.Min != nil && got < *want.Min || want.Count != nil && got != *want.Count {
		text, _ := json.Marshal(want)
		return fmt.Errorf("%q fire %d times, want %s", conditions, got, text)
	}
	return nil
}

func TestCasesOfAnsibleRulebook(t *testing.T) {
	compare(t, "ansible-rulebook", func(c bookCase) string { return c.ID }, `
		test_04_set_fact test_05_post_event test_06_retract_fact test_81_match_single_rule test_97_jinja_filters`,
		func(c bookCase) error { return c.play() })
}

func TestOperatorsOfAnsibleRulebook(t *testing.T) {
	var rules []bookOperator
	for _, c := range rowsOf[bookCase](t, "ansible-rulebook") {
		for _, r := range c.Ruleset.Rules {
			if c.Group == "operators-e2e" && r.ExpectedFirings != nil {
				rules = append(rules, bookOperator{&c, r})
			}
		}
	}
	compareRows(t, "ansible-rulebook's operators", rules, bookOperator.id, `test_relational_operators:Testcase_#18`, bookOperator.play)
}
