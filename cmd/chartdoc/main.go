// Command chartdoc writes the parts of the Helm chart that are generated: the table of values in its README, from values.yaml
// and its comments, and the schema of the server's configuration in values.schema.json.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/riposte-dev/riposte/pkg/config"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: chartdoc CHART")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "chartdoc:", err)
		os.Exit(1)
	}
}

// write brings the generated parts of the chart up to date.
func write(dir string) error {
	chart, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer chart.Close()
	files, err := generate(chart.FS())
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := chart.WriteFile(name, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the files of the chart that have generated parts, with these parts as they must be.
func generate(chart fs.FS) (map[string][]byte, error) {
	values, err := fs.ReadFile(chart, "values.yaml")
	if err != nil {
		return nil, err
	}
	table, err := valuesTable(values)
	if err != nil {
		return nil, fmt.Errorf("values.yaml: %w", err)
	}
	readme, err := fs.ReadFile(chart, "README.md")
	if err != nil {
		return nil, err
	}
	schema, err := fs.ReadFile(chart, "values.schema.json")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	if files["README.md"], err = fillReadme(readme, table); err != nil {
		return nil, fmt.Errorf("README.md: %w", err)
	}
	if files["values.schema.json"], err = fillSchema(schema, config.Schema()); err != nil {
		return nil, fmt.Errorf("values.schema.json: %w", err)
	}
	return files, nil
}

const begin, end = "<!-- generated from values.yaml -->\n", "<!-- end -->\n"

func fillReadme(readme []byte, table string) ([]byte, error) {
	before, rest, found := strings.Cut(string(readme), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return nil, fmt.Errorf("the lines %q and %q are missing", begin, end)
	}
	return []byte(before + begin + "\n" + table + "\n" + end + after), nil
}

// fillSchema replaces the last definition of the schema, which is that of the configuration.
func fillSchema(schema []byte, of map[string]any) ([]byte, error) {
	const at = "\n    \"config\": "
	i := bytes.LastIndex(schema, []byte(at))
	if i < 0 {
		return nil, errors.New("the definition of config is missing at its end")
	}
	var text bytes.Buffer
	text.Write(schema[:i+len(at)])
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("    ", "  ")
	if err := enc.Encode(of); err != nil {
		return nil, err
	}
	text.WriteString("  }\n}\n")
	return text.Bytes(), nil
}

// valuesTable is the table of what can be set, with the comments of the values as their meaning.
func valuesTable(values []byte) (string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(values, &doc); err != nil {
		return "", err
	}
	t := table{text: "| Key | Default | Meaning |\n|---|---|---|\n"}
	if err := t.mapping("", doc.Content[0]); err != nil {
		return "", err
	}
	return t.text, nil
}

type table struct{ text string }

func (t *table) mapping(path string, n *yaml.Node) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name, meaning := path+key.Value, meaningOf(key)
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 && value.Style&yaml.FlowStyle == 0 {
			if meaning != "" {
				t.row(name, "", meaning)
			}
			if err := t.mapping(name+".", value); err != nil {
				return err
			}
			continue
		}
		standard, err := defaultOf(value)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		t.row(name, "`"+standard+"`", meaning)
	}
	return nil
}

func (t *table) row(name, standard, meaning string) {
	t.text += fmt.Sprintf("| `%s` | %s | %s |\n", name, standard, strings.ReplaceAll(meaning, "|", "\\|"))
}

func meaningOf(key *yaml.Node) string {
	var words []string
	for line := range strings.Lines(key.HeadComment) {
		words = append(words, strings.Fields(strings.TrimPrefix(line, "#"))...)
	}
	return strings.Join(words, " ")
}

func defaultOf(value *yaml.Node) (string, error) {
	var v any
	if err := value.Decode(&v); err != nil {
		return "", err
	}
	text, err := json.Marshal(v)
	return string(text), err
}
