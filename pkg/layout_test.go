package pkg_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/riposte-dev/riposte/pkg/"

// purePackages do no I/O and read no clock.
func purePackages() []string {
	return []string{
		"action",
		"audit",
		"backtest",
		"commitsig",
		"consent",
		"correlate",
		"document",
		"event",
		"explain",
		"expression",
		"gate",
		"grant",
		"lint",
		"quiet",
		"rule",
		"ruletest",
		"run",
		"sealed",
		"simulate",
		"source",
	}
}

// layers says what each kind of package may import of ours. Data flows one way: receive → normalise → log → decide → run →
// act → report; only app knows all of it.
func allowed(from, to string) (bool, string) {
	stages := map[string]bool{"schedule": true, "catchup": true, "watch": true, "receive": true, "engine": true, "api": true}
	adapters := map[string]bool{"broker": true, "eventlog": true, "runstore": true, "command": true, "kube": true, "secret": true, "rulesync": true, "outbound": true, "steplog": true, "auditlog": true}
	pure := map[string]bool{}
	for _, name := range purePackages() {
		pure[name] = true
	}
	top := map[string]bool{"app": true, "cli": true}
	leaf := func(p string) bool {
		return strings.HasPrefix(p, "source/") && p != "source/sourcetest" || strings.HasPrefix(p, "action/") && p != "action/actiontest" ||
			strings.HasPrefix(p, "forge/") && p != "forge/forgetest"
	}
	switch {
	case from == to || top[from]:
		return true, ""
	case leaf(to):
		return false, "only app knows the leaves"
	case stages[from] && stages[to]:
		return false, "a stage never imports a stage: declare the methods it needs, app supplies them"
	case stages[from] && adapters[to]:
		return false, "a stage never imports an adapter: declare the methods it needs, app supplies them"
	case pure[from] && !pure[to]:
		return false, "a pure package imports pure packages only"
	case strings.HasPrefix(from, "source/") && !pure[to] && to != "source/sourcetest":
		return false, "a preset is pure"
	}
	return true, ""
}

func TestImportsFollowTheLaws(t *testing.T) {
	imports(t, func(file, from, to string, test bool) {
		if test {
			return // tests put real parts together
		}
		if ok, why := allowed(from, to); !ok {
			t.Errorf("%s: pkg/%s imports pkg/%s: %s", file, from, to, why)
		}
	})
}

func TestPurePackagesDoNoIO(t *testing.T) {
	forbidden := map[string]string{"os": "files", "os/exec": "processes", "net": "the network", "log": "the global logger", "github.com/nats-io/nats.go": "the store"}
	for _, dir := range purePackages() {
		walk(t, dir, false, func(file string, imported []string) {
			if strings.HasPrefix(filepath.ToSlash(file), "action/") && strings.Count(filepath.ToSlash(file), "/") > 1 {
				return // integrations act
			}
			for _, p := range imported {
				if what := forbidden[p]; what != "" {
					t.Errorf("%s imports %s: a pure package does not touch %s", file, p, what)
				}
			}
		})
	}
}

func TestEveryPackageSaysWhatItGuarantees(t *testing.T) {
	docs := map[string]int{}
	walkAll(t, func(file string, doc string) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		dir := filepath.Dir(file)
		docs[dir] += 0
		if strings.HasPrefix(doc, "Package ") {
			docs[dir]++
		}
	})
	for dir, n := range docs {
		if n != 1 {
			t.Errorf("pkg/%s has %d package comments, want one", dir, n)
		}
	}
}

func imports(t *testing.T, visit func(file, from, to string, test bool)) {
	t.Helper()
	walk(t, ".", true, func(file string, imported []string) {
		from := path.Dir(filepath.ToSlash(file))
		for _, p := range imported {
			if to, ok := strings.CutPrefix(p, module); ok {
				visit(file, from, to, strings.HasSuffix(file, "_test.go"))
			}
		}
	})
}

func walk(t *testing.T, dir string, tests bool, visit func(file string, imported []string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || !tests && strings.HasSuffix(file, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		var imported []string
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			imported = append(imported, p)
		}
		visit(file, imported)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func walkAll(t *testing.T, visit func(file, doc string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || filepath.Dir(file) == "." {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			return err
		}
		visit(file, f.Doc.Text())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
