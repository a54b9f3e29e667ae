package cli

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/lint"
)

// invalid is the rule of SARIF's results that are no warnings: what makes a set of rules unusable.
const invalid = "invalid"

// annotate writes what was found as commands of a GitHub workflow, which shows them beside the lines of a pull request.
func (r *checked) annotate(w io.Writer) error {
	for _, p := range r.problems {
		if _, err := fmt.Fprintln(w, annotation("error", "riposte check", p)); err != nil {
			return err
		}
	}
	for _, f := range r.warnings {
		if _, err := fmt.Fprintln(w, annotation("warning", f.ID, f.Problem)); err != nil {
			return err
		}
	}
	return nil
}

func annotation(level, title string, p document.Problem) string {
	var properties []string
	add := func(name, value string) {
		properties = append(properties, name+"="+strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(value))
	}
	if p.File != "" {
		add("file", p.File)
	}
	if p.Line > 0 {
		add("line", fmt.Sprint(p.Line))
		add("col", fmt.Sprint(p.Column))
	}
	add("title", title)
	text := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(hinted(p))
	return "::" + level + " " + strings.Join(properties, ",") + "::" + text
}

// hinted is a message with its hint, for where there is no room for the text at fault.
func hinted(p document.Problem) string {
	if p.Hint == "" {
		return p.Msg
	}
	return p.Msg + "\nhint: " + p.Hint
}

// sarif is what was found in the form of SARIF 2.1.0, which code scanning reads.
func (r *checked) sarif(version string) map[string]any {
	rules, index := sarifRules()
	results := []any{}
	for _, p := range r.problems {
		results = append(results, sarifResult(invalid, "error", index, p))
	}
	for _, f := range r.warnings {
		results = append(results, sarifResult(f.ID, "warning", index, f.Problem))
	}
	driver := map[string]any{"name": "riposte check", "rules": rules}
	if version != "" {
		driver["version"] = version
	}
	return map[string]any{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json",
		"version": "2.1.0",
		"runs":    []any{map[string]any{"tool": map[string]any{"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}},
	}
}

// sarifRules describes what can be found, and where each stands in the list.
func sarifRules() (rules []any, index map[string]int) {
	index = map[string]int{}
	add := func(id, level, doc, why string) {
		index[id] = len(rules)
		rules = append(rules, map[string]any{
			"id": id, "shortDescription": map[string]any{"text": doc}, "fullDescription": map[string]any{"text": why},
			"help": map[string]any{"text": why}, "defaultConfiguration": map[string]any{"level": level},
		})
	}
	add(invalid, "error", "what makes a set of rules unusable", "A set with an error is not loaded: the last good one stays in force.")
	for _, c := range lint.Checks() {
		add(c.ID, "warning", c.Doc, c.Why)
	}
	return rules, index
}

func sarifResult(id, level string, index map[string]int, p document.Problem) map[string]any {
	place := map[string]any{"artifactLocation": map[string]any{"uri": (&url.URL{Path: p.File}).String()}}
	if p.Line > 0 {
		place["region"] = map[string]any{"startLine": p.Line, "startColumn": max(p.Column, 1)}
	}
	out := map[string]any{"ruleId": id, "ruleIndex": index[id], "level": level, "message": map[string]any{"text": hinted(p)}}
	if p.File != "" {
		out["locations"] = []any{map[string]any{"physicalLocation": place}}
	}
	return out
}
