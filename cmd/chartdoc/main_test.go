package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const chart = "../../charts/riposte"

// TestGeneratedPartsAreUpToDate fails when make generate has to be run.
func TestGeneratedPartsAreUpToDate(t *testing.T) {
	files, err := generate(os.DirFS(chart))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(chart, name))
		if err != nil || string(got) != string(want) {
			t.Errorf("charts/riposte/%s is not what values.yaml and the code say: run make generate (%v)", name, err)
		}
	}
}

// TestEveryValueIsExplained: each key has a comment, or stands below one that has.
func TestEveryValueIsExplained(t *testing.T) {
	values, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := valuesTable(values)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if strings.HasSuffix(line, "|  |\n") {
			t.Errorf("values.yaml says nothing of %s", line)
		}
	}
}

func TestTableOfValues(t *testing.T) {
	got, err := valuesTable([]byte("# How\n# many.\nn: 1\nsection:\n  # a|b\n  list: [{a: b}]\n# All.\nresources: {limits: {}}\n"))
	want := "| Key | Default | Meaning |\n|---|---|---|\n" +
		"| `n` | `1` | How many. |\n| `section.list` | `[{\"a\":\"b\"}]` | a\\|b |\n| `resources` | `{\"limits\":{}}` | All. |\n"
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestWhatIsNoChartIsTold(t *testing.T) {
	if _, err := fillReadme([]byte("# Chart\n"), ""); err == nil {
		t.Error("a README without a place for the values is taken")
	}
	if _, err := fillSchema([]byte("{}"), nil); err == nil {
		t.Error("a schema without a place for the configuration is taken")
	}
}
