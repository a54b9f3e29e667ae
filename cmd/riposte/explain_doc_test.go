package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheExampleOfExplainIsTrue runs what docs/explain.md shows, on the documents that it shows. UPDATE_DOCS=1 writes what is
// printed now into the page.
func TestTheExampleOfExplainIsTrue(t *testing.T) {
	const page = "../../docs/explain.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) string {
		m := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindStringSubmatch(string(text))
		if m == nil {
			t.Fatalf("the page has no block of %s", language)
		}
		return m[1]
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"rules/incidents.yaml": block("yaml"), "alert.json": block("json")} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shown := block("console")
	command, _, _ := strings.Cut(strings.TrimPrefix(shown, "$ "), "\n")
	args := strings.Fields(command)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TZ=UTC")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	// What differs from call to call: when it was read.
	printed := regexp.MustCompile(`\(read \S+\)`).ReplaceAllString(string(out), "(read 10:12:03.004Z)")
	want := "$ " + command + "\n" + printed
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(page, []byte(strings.Replace(string(text), shown, want, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != want {
		t.Errorf("the page shows\n%s\nand it is\n%s", shown, want)
	}
}
