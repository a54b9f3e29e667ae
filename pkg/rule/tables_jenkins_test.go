package rule_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// jobCase is a case of Jenkins' Generic Webhook Trigger.
type jobCase struct {
	ID, Group string
	Variables []jobVariable
	Filter    *struct{ Text, Regexp string }
	Body      string
	Expected  struct {
		Triggered  bool
		FilterText string `json:"filter_text"`
		Variables  map[string]string
	}
}

type jobVariable struct {
	Variable, Expression string
	RegexpFilter         string `json:"regexpFilter"`
}

var (
	jobSimple = regexp.MustCompile(`^\$((?:\.\w+|\[\d+\])*)$`)
	jobUnion  = regexp.MustCompile(`^\$\.(\w+)\[\*\]\.\[([^\]]*)\]\[\*\]$`)
	jobFilter = regexp.MustCompile(`^\$\.(\w+)\[\?\(@\.([\w.]+) == ("\w+")\)\]\.([\w.]+)$`)
	jobPrefix = regexp.MustCompile(`^\^\(([\w/|]+)\)$`)
	jobIndex  = regexp.MustCompile(`^_(\d+)$`)
	jobComma  = regexp.MustCompile(`,(\s*[}\]])`)
	jobName   = regexp.MustCompile(`\$\w+`)
)

// expression writes a variable's JSONPath. One that finds nothing is an empty text there.
func (v *jobVariable) expression() (string, error) {
	var out string
	if m := jobSimple.FindStringSubmatch(v.Expression); m != nil {
		out = "(event.data" + strings.NewReplacer(".", "?.", "[", "?.[").Replace(m[1]) + ` ?? "")`
	} else if m := jobUnion.FindStringSubmatch(v.Expression); m != nil {
		lists := joined(", ", strings.Split(m[2], ","), func(name string) string { return "#." + strings.Trim(name, "'") })
		out = "flatten(map(event.data." + m[1] + ", concat" + lists + "))"
	} else if m := jobFilter.FindStringSubmatch(v.Expression); m != nil {
		out = fmt.Sprintf("map(filter(event.data.%s, #.%s == %s), #.%s)", m[1], m[2], m[3], m[4])
	} else {
		return "", fmt.Errorf("%s: %w", v.Expression, errUnsaid)
	}
	if v.RegexpFilter == "" {
		return out, nil
	}
	m := jobPrefix.FindStringSubmatch(v.RegexpFilter)
	if m == nil {
		return "", fmt.Errorf("%s: %w", v.RegexpFilter, errUnsaid)
	}
	for prefix := range strings.SplitSeq(m[1], "|") {
		out = "trimPrefix(" + out + ", " + quoted(prefix) + ")"
	}
	return out, nil
}

// rendering writes an expression's value as that plugin does: a list as JSON on one line, where toJSON makes several.
func rendering(of string) string {
	if strings.HasPrefix(of, "map(") || strings.HasPrefix(of, "flatten(") {
		return `"[" + join(map(` + of + `, "\"" + # + "\""), ",") + "]"`
	}
	return "string(" + of + ")"
}

// rendered writes a text with $variables.
func (c *jobCase) rendered(template string) (string, error) {
	parts := []string{`""`}
	at := 0
	for _, m := range jobName.FindAllStringIndex(template, -1) {
		of, err := c.variable(template[m[0]+1 : m[1]])
		if err != nil {
			return "", err
		}
		parts = append(parts, quoted(template[at:m[0]]), rendering(of))
		at = m[1]
	}
	return strings.Join(append(parts, quoted(template[at:])), " + "), nil
}

// variable returns the expression of a variable; changed_files_0 is the first of changed_files.
func (c *jobCase) variable(name string) (string, error) {
	for _, v := range c.Variables {
		rest, ok := strings.CutPrefix(name, v.Variable)
		if !ok {
			continue
		}
		index := jobIndex.FindStringSubmatch(rest)
		if rest != "" && index == nil {
			continue
		}
		of, err := v.expression()
		if index != nil {
			of += "[" + index[1] + "]"
		}
		return of, err
	}
	return "", fmt.Errorf("$%s: %w", name, errUnsaid)
}

func (c *jobCase) play() error {
	// Many of the bodies were cut by hand and end with a comma that no sender of JSON writes, and that ours refuses.
	body := jobComma.ReplaceAll([]byte(c.Body), []byte("$1"))
	if err := source.ParseJSON(body); err != nil {
		return err
	}
	e := &event.Event{Body: body}
	switch c.Group {
	case "extract":
		return c.extract(e)
	case "render":
		of, err := c.rendered(c.Filter.Text)
		if err != nil {
			return err
		}
		got, err := value(of, e)
		return jobEqual(got, err, c.Expected.FilterText)
	}
	when := "true"
	if c.Filter != nil {
		text, err := c.rendered(c.Filter.Text)
		if err != nil {
			return err
		}
		when = "(" + text + ") matches " + quoted(c.Filter.Regexp)
	}
	if _, err := ruleSet(when); err != nil { // what is refused at load is not the same, whatever is expected
		return err
	}
	return decided(when, e, c.Expected.Triggered, false)
}

func jobEqual(got any, err error, want string) error {
	if err != nil {
		return err
	}
	return wanted(fmt.Sprint(got), want)
}

func (c *jobCase) extract(e *event.Event) error {
	for name, want := range c.Expected.Variables {
		of, err := c.variable(name)
		if err != nil {
			return err
		}
		got, err := value(of, e)
		if list, ok := got.([]any); ok {
			text, _ := json.Marshal(list)
			got = string(text)
		}
		if err := jobEqual(got, err, want); err != nil {
			return fmt.Errorf("%s: %s: %w", name, of, err)
		}
	}
	return nil
}

func TestCasesOfJenkins(t *testing.T) {
	compare(t, "jenkins-generic-webhook-trigger", func(c jobCase) string { return c.ID }, `
		filter-with-variables-02 filter-with-variables-03 filter-with-variables-04 filter-with-variables-05
		github-push-trigger-unless-specific-user-01 github-push-trigger-unless-specific-user-02
		gitlab-push-ignore-create-remove-branch-01 gitlab-push-ignore-create-remove-branch-03
		gitlab-push-ignore-create-remove-branch-05 jsonpath-02 jsonpath-03`,
		func(c jobCase) error { return c.play() })
}
