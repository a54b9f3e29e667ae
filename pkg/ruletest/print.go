package ruletest

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	for _, t := range r.Tests {
		failed := 0
		for i := range t.Cases {
			if !t.Cases[i].Passed {
				failed++
				fmt.Fprintf(w, "FAIL  %s / %s\n%s", t.Name, t.Cases[i].Name, t.Cases[i].text("      "))
			}
		}
		if failed == 0 {
			fmt.Fprintf(w, "ok    %s  %s\n", t.Name, count(len(t.Cases), "case"))
		}
	}
	fmt.Fprintf(w, "\n%d passed, %d failed\n", r.Passed, r.Failed)
}

// text says what is wrong with a case, below each other.
func (c *CaseReport) text(indent string) string {
	var b strings.Builder
	for _, f := range c.Failures {
		fmt.Fprintf(&b, "%s%s:%d: %s\n", indent, c.File, f.Line, f.What)
		for _, line := range f.Diff {
			fmt.Fprintf(&b, "%s  %s\n", indent, strings.ReplaceAll(line, "\n", " / "))
		}
	}
	for _, n := range c.Notes {
		fmt.Fprintf(&b, "%snote: %s\n", indent, n)
	}
	return b.String()
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// Print writes the coverage for people: each rule, and what its clauses never said.
func (c *Coverage) Print(w io.Writer) {
	fmt.Fprintf(w, "coverage: %d of %s ran, %d of %s said all they can say\n", c.Ran, count(len(c.Rules), "rule"), c.Seen, count(c.Clauses, "clause"))
	for i := range c.Rules {
		r := &c.Rules[i]
		fmt.Fprintf(w, "\n%s  %s:%d  %s, %s\n", r.Name, r.File, r.Line, count(r.Triggered, "event"), count(r.Runs, "run"))
		for k := range r.Clauses {
			cl := &r.Clauses[k]
			if k == 0 || cl.Place != r.Clauses[k-1].Place {
				fmt.Fprintf(w, "  %s\n", cl.Place)
			}
			fmt.Fprintf(w, "    %-48s  %s%s\n", strings.Join(strings.Fields(cl.Text), " "), cl.counts(), cl.never())
		}
	}
}

func (c *ClauseCoverage) counts() string {
	if c.value {
		return fmt.Sprintf("there %d  absent %d", c.True, c.Absent)
	}
	return fmt.Sprintf("true %d  false %d  absent %d", c.True, c.False, c.Absent)
}

func (c *ClauseCoverage) never() string {
	switch {
	case c.complete():
		return ""
	case c.True+c.False+c.Absent == 0:
		return "  never asked"
	case c.value:
		return "  never there"
	case c.True == 0 && c.False == 0:
		return "  never true or false"
	case c.True == 0:
		return "  never true"
	}
	return "  never false"
}

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	File     string      `xml:"file,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name      string        `xml:"name,attr"`
	ClassName string        `xml:"classname,attr"`
	File      string        `xml:"file,attr"`
	Line      int           `xml:"line,attr"`
	Failure   *junitFailure `xml:"failure,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes the report as JUnit XML: a suite for each document, a case for each case.
func (r *Report) JUnit(w io.Writer) error {
	all := junitSuites{Tests: r.Passed + r.Failed, Failures: r.Failed}
	for _, t := range r.Tests {
		suite := junitSuite{Name: t.Name, File: t.File, Tests: len(t.Cases)}
		for i := range t.Cases {
			c := &t.Cases[i]
			jc := junitCase{Name: c.Name, ClassName: t.Name, File: c.File, Line: c.Line}
			if !c.Passed {
				suite.Failures++
				jc.Failure = &junitFailure{Message: c.Failures[0].What, Text: "\n" + c.text("")}
			}
			suite.Cases = append(suite.Cases, jc)
		}
		all.Suites = append(all.Suites, suite)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
