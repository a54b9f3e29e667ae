package expression_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/expression"
)

func inspected(t *testing.T, src string) *expression.Program {
	t.Helper()
	p, err := expression.Compile(src, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readings(all []expression.Reading) string {
	var out []string
	for _, r := range all {
		var b strings.Builder
		for i, s := range r {
			switch {
			case s.Element:
				b.WriteString("[]")
			case s.Name == "":
				b.WriteString("[?]")
			case i == 0:
				b.WriteString(s.Name)
			default:
				b.WriteString("." + s.Name)
			}
		}
		last := r[len(r)-1]
		out = append(out, fmt.Sprintf("%s@%d:%d+%d", b.String(), last.Line, last.Column, last.Length))
	}
	return strings.Join(out, " ")
}

func TestReadings(t *testing.T) {
	for src, want := range map[string]string{
		`1 + 1`:                                                            ``,
		`event.git.branch == "main"`:                                       `event.git.branch@1:11+6`,
		`${{ event.git?.branch ?? event.type }}`:                           `event.git.branch@1:16+6 event.type@1:32+4`,
		"event.type == \"a\" &&\n event[\"git\"].tag":                      `event.type@1:7+4 event.git.tag@2:15+3`,
		`event.data.commits[0].id`:                                         `event.data.commits[].id@1:23+2`,
		`event.data.commits[-1].id`:                                        `event.data.commits[].id@1:24+2`,
		`event.data[event.type].id`:                                        `event.type@1:18+4 event.data[?].id@1:24+2`,
		`any(event.data.commits, .author.name == "x")`:                     `event.data.commits@1:16+7 event.data.commits[].author.name@1:33+4`,
		`any(event.data.commits, any(#.added, # == "x"))`:                  `event.data.commits@1:16+7 event.data.commits[].added@1:31+5 event.data.commits[].added[]@1:38+1`,
		`filter(event.data.commits, .distinct)[0].message`:                 `event.data.commits[].distinct@1:29+8 event.data.commits[].message@1:42+7`,
		`find(event.data.commits, .distinct).message`:                      `event.data.commits[].distinct@1:27+8 event.data.commits[].message@1:37+7`,
		`map(event.data.commits, .id)[0].x`:                                `event.data.commits@1:16+7 event.data.commits[].id@1:26+2`,
		`let c = event.data.head; c.id == c.tree`:                          `event.data.head@1:20+4 event.data.head.id@1:28+2 event.data.head.tree@1:36+4`,
		`get(event.data, "x")`:                                             `event.data.x@1:17+3`,
		`event.git.commit[0:7]`:                                            `event.git.commit@1:11+6`,
		`event.a < event.b < event.c`:                                      `event.a@1:7+1 event.b@1:17+1 event.c@1:27+1`,
		`event.time.Hour() > 3 && event.n?.m ? [event.x] : {"a": event.y}`: `event.time@1:7+4 event.n.m@1:35+1 event.x@1:46+1 event.y@1:63+1`,
		`event.type | upper()`:                                             `event.type@1:7+4`,
	} {
		if got := readings(inspected(t, src).Readings()); got != want {
			t.Errorf("%s\n got %s\nwant %s", src, got, want)
		}
	}
	text, err := expression.CompileText("a ${{ event.x }} b ${{ event.y }}", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := readings(text.Readings()); got != "event.x@1:13+1 event.y@1:30+1" {
		t.Errorf("a text reads %s", got)
	}
}

func describe(c *expression.Condition) string {
	if c.Op == "" {
		path := "?"
		if c.Path != nil {
			path = strings.Join(c.Path, ".")
		}
		return fmt.Sprintf("<%s|%s|%s %v>", c.Text, path, c.Compare, c.Values)
	}
	var parts []string
	for _, o := range c.Operands {
		parts = append(parts, describe(o))
	}
	return c.Op + "(" + strings.Join(parts, " ") + ")"
}

func TestConditions(t *testing.T) {
	for src, want := range map[string]string{
		`true`:                     `<true|| []>`,
		`event.a == "x"`:           `<event.a == "x"|event.a|== [x]>`,
		`5 < event.a`:              `<5 < event.a|event.a|> [5]>`,
		`event.a >= -1.5`:          `<event.a >= -1.5|event.a|>= [-1.5]>`,
		`event.a in ["x", 1, nil]`: `<event.a in ["x", 1, nil]|event.a|== [x 1 <nil>]>`,
		`event.a in []`:            `<event.a in []|event.a|== []>`,
		`"x" in event.a`:           `<"x" in event.a|event.a| []>`,
		`event.a startsWith "x"`:   `<event.a startsWith "x"|event.a|startsWith [x]>`,
		`"x" startsWith event.a`:   `<"x" startsWith event.a|event.a| []>`,
		`event.a != "x"`:           `<event.a != "x"|event.a| []>`,
		`event.a == event.b`:       `<event.a == event.b|?| []>`,
		`event.a == ["x"]`:         `<event.a == ["x"]|event.a| []>`,
		`lower(event.a) == "x"`:    `<lower(event.a) == "x"|event.a| []>`,
		`event.a > now()`:          `<event.a > now()|?| []>`,
		`changed("a")`:             `<changed("a")|?| []>`,
		`event.a[0] == 1`:          `<event.a[0] == 1|?| []>`,
		`let x = event.a; x == 1`:  `<let x = event.a; x == 1|?| []>`,
		`event.a == 1 && (event.b == 2 || not (event.c and event.d))`: `&&(<event.a == 1|event.a|== [1]> ||(<event.b == 2|event.b|== [2]> not(&&(<event.c|event.c| []> <event.d|event.d| []>))))`,
	} {
		if got := describe(inspected(t, src).Condition()); got != want {
			t.Errorf("%s\n got %s\nwant %s", src, got, want)
		}
	}
	c := inspected(t, "event.a == 1 &&\n  event.b == 2").Condition()
	if got := c.Operands[1].Place; got != (expression.Place{Line: 2, Column: 3, Length: 12}) {
		t.Errorf("the second clause stands at %+v", got)
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(`any(event.data.commits, .id == "a") && not (event.a in [1] || let x = event.b; x > 1)`)
	f.Add(`filter(event.x, #.y)[event.z].w ?? get(event, "a")`)
	f.Fuzz(func(t *testing.T, src string) {
		p, err := expression.Compile(src, nil)
		if err != nil {
			return
		}
		p.Readings()
		p.Condition()
	})
}
