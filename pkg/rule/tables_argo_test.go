package rule_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/quiet"
)

// sensorFilter is a filter of argo-events.
type sensorFilter struct {
	Context      *struct{ Type, Source, Subject string }
	Data         []sensorData
	DataOperator string `json:"dataLogicalOperator"`
	Exprs        []sensorExpr
	ExprOperator string `json:"exprLogicalOperator"`
	Time         *struct{ Start, Stop, Timezone string }
	Script       string
}

type sensorData struct {
	Path, Type, Comparator, Template string
	Value                            []string
}

type sensorExpr struct {
	Expr   string
	Fields []struct{ Name, Path string }
}

type sensorCase struct {
	ID       string
	Filter   sensorFilter
	Operator string `json:"filtersLogicalOperator"`
	Event    struct {
		Context struct{ ID, Type, Source, Subject, Time string }
		Data    string
	}
	Expected struct{ Pass, Error bool }
}

// condition writes the filters as one expression.
func (f *sensorFilter) condition(operator string) string {
	var parts []string
	if len(f.Exprs) > 0 {
		parts = append(parts, joined(sensorOperator(f.ExprOperator), f.Exprs, sensorExpr.condition))
	}
	if len(f.Data) > 0 {
		parts = append(parts, joined(sensorOperator(f.DataOperator), f.Data, sensorData.condition))
	}
	if f.Context != nil {
		parts = append(parts, f.attributes())
	}
	if f.Time != nil {
		parts = append(parts, f.clock())
	}
	if len(parts) == 0 {
		return "true"
	}
	return strings.Join(parts, sensorOperator(operator))
}

func sensorOperator(name string) string {
	if name == "or" {
		return " || "
	}
	return " && "
}

func (f *sensorFilter) attributes() string {
	parts := []string{"true"}
	for _, a := range [][2]string{{"type", f.Context.Type}, {"source", f.Context.Source}, {"subject", f.Context.Subject}} {
		if a[1] != "" {
			parts = append(parts, "event."+a[0]+" == "+quoted(a[1]))
		}
	}
	return "(" + strings.Join(parts, " && ") + ")"
}

// clock compares the event's time of day, which wraps around where the window spans midnight.
func (f *sensorFilter) clock() string {
	const layout = `"15:04:05"`
	zone, operator := f.Time.Timezone, "&&"
	if zone == "" {
		zone = "UTC"
	}
	if f.Time.Stop < f.Time.Start {
		operator = "||"
	}
	at := fmt.Sprintf("date(event.time.In(timezone(%s)).Format(%s), %s)", quoted(zone), layout, layout)
	bound := func(text string) string { return fmt.Sprintf("date(%s, %s)", quoted(text), layout) }
	return fmt.Sprintf("(%s >= %s %s %s < %s)", at, bound(f.Time.Start), operator, at, bound(f.Time.Stop))
}

func (d sensorData) condition() string {
	subject := dotted("event.data", d.Path)
	switch d.Template {
	case "{{ b64dec .Input }}":
		subject = "fromBase64(" + subject + ")"
	case "{{ b64dec .Input | upper }}":
		subject = "upper(fromBase64(" + subject + "))"
	}
	one := func(v string) string { return d.compare(subject, v) }
	if d.Comparator == "!=" {
		return joined(" && ", d.Value, one)
	}
	return joined(" || ", d.Value, one)
}

func (d sensorData) compare(subject, v string) string {
	comparator := d.Comparator
	if comparator == "" || comparator == "=" {
		comparator = "=="
	}
	switch {
	case d.Type == "number":
		return "float(" + subject + ") " + comparator + " " + v
	case d.Type == "bool":
		return subject + " " + comparator + " " + v
	case comparator == "!=":
		return "not (" + subject + " matches " + quoted(v) + ")"
	}
	return subject + " matches " + quoted(v)
}

var sensorToken = regexp.MustCompile(`"[^"]*"|[A-Za-z_]\w*|=~`)

// condition puts a field's path in the place of its name.
func (x sensorExpr) condition() string {
	return "(" + sensorToken.ReplaceAllStringFunc(x.Expr, func(token string) string {
		if token == "=~" {
			return "matches"
		}
		for _, f := range x.Fields {
			if f.Name == token {
				return dotted("event.data", f.Path)
			}
		}
		return token
	}) + ")"
}

func (c *sensorCase) play() error {
	if c.Filter.Script != "" {
		return errUnsaid
	}
	at, _ := time.Parse(time.RFC3339, c.Event.Context.Time) // zero where it is not about the time
	context := c.Event.Context
	e := &event.Event{ID: context.ID, Type: context.Type, Source: context.Source, Subject: context.Subject, Time: at, Body: []byte(c.Event.Data)}
	return decided(c.Filter.condition(c.Operator), e, c.Expected.Pass, c.Expected.Error)
}

func TestCasesOfArgoEvents(t *testing.T) {
	compare(t, "argo-events-filters", func(c sensorCase) string { return c.ID }, `data-02 data-29 script-00 script-02 script-03`,
		func(c sensorCase) error { return c.play() })
}

// TestTimesOfArgoEventsAsQuietTimes: a window of the day can also hold rules back, where it begins with a minute.
func TestTimesOfArgoEventsAsQuietTimes(t *testing.T) {
	played := 0
	for _, c := range rowsOf[sensorCase](t, "argo-events-filters") {
		w := c.Filter.Time
		if w == nil || c.Filter.Context != nil || c.Expected.Error || !strings.HasSuffix(w.Start, ":00") {
			continue
		}
		played++
		at, _ := time.Parse(time.RFC3339, c.Event.Context.Time)
		start, _ := time.Parse(time.TimeOnly, w.Start)
		stop, _ := time.Parse(time.TimeOnly, w.Stop)
		if !stop.After(start) {
			stop = stop.AddDate(0, 0, 1)
		}
		times, err := quiet.Compile([]quiet.Time{{Cron: start.Format("4 15 * * *"), Duration: stop.Sub(start), Zone: w.Timezone}})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, ok := times.At(nil, at); ok != c.Expected.Pass {
			t.Errorf("%s: quiet %v, want %v", c.ID, ok, c.Expected.Pass)
		}
	}
	t.Logf("%d windows", played)
}
