package secret

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/source"
)

func newResolver(t *testing.T, o Options) *Resolver {
	t.Helper()
	if o.Redactor == nil {
		o.Redactor = NewRedactor()
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func TestGet(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) Ref {
		write(t, filepath.Join(dir, name), content, 0o600)
		return Ref{File: filepath.Join(dir, name)}
	}
	vars := map[string]string{"SET": "value", "EMPTY": "", "NEWLINE": "value\n"}
	refs := map[string]Ref{
		"variable":  {Env: "SET"},
		"newline":   {Env: "NEWLINE"},
		"unset":     {Env: "UNSET"},
		"empty-var": {Env: "EMPTY"},
		"file":      file("file", "value"),
		"line":      file("line", "value\n"),
		"dos":       file("dos", "value\r\n"),
		"lines":     file("lines", " a \nb\n\n"),
		"empty":     file("empty", ""),
		"blank":     file("blank", " \n\n"),
		"largest":   file("largest", strings.Repeat("x", MaxSize)+"\r\n"),
		"too-large": file("too-large", strings.Repeat("x", MaxSize+1)),
		"missing":   {File: filepath.Join(dir, "missing")},
		"directory": {File: dir},
	}
	r := newResolver(t, Options{Refs: refs, LookupEnv: func(name string) (string, bool) { v, ok := vars[name]; return v, ok }})
	for name, want := range map[string]string{
		"variable": "value", "newline": "value", "file": "value", "line": "value", "dos": "value", "lines": " a \nb\n",
		"largest": strings.Repeat("x", MaxSize),
	} {
		if got, err := r.Get(name); err != nil || string(got) != want {
			t.Errorf("%s: %.20q, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{
		"unset": "secret unset does not resolve: variable UNSET is not set", "empty-var": "secret empty-var is empty (variable EMPTY)",
		"empty": "secret empty is empty (file ", "blank": "secret blank is empty", "too-large": "secret too-large is larger than 65536 bytes",
		"missing": "no such file", "directory": "is no regular file", "undeclared": `no secret "undeclared" is declared`,
	} {
		got, err := r.Get(name)
		if got != nil || !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if n := len(r.Problems()); n != 7 {
		t.Errorf("%d problems, want 7: %v", n, r.Problems())
	}
	if r.Check("missing") != nil || r.Check("undeclared") == nil {
		t.Error("Check tells more or less than what is declared")
	}
}

func TestRotation(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	write(t, name, "first-secret", 0o600)
	red := NewRedactor()
	r := newResolver(t, Options{Refs: map[string]Ref{"s": {File: name}}, Redactor: red})
	get := func() string {
		t.Helper()
		v, err := r.Get("s")
		if err != nil {
			t.Fatal(err)
		}
		return string(v)
	}
	if get() != "first-secret" {
		t.Error("first value")
	}
	write(t, name, "other-secret", 0o600) // in place, at once, of the same size
	if got := get(); got != "other-secret" {
		t.Errorf("after a change: %s", got)
	}
	old := time.Now().Add(-time.Hour)
	next := name + ".next" // renamed into place, with the time and size of the one before, as Kubernetes might
	write(t, next, "third-secret", 0o600)
	for _, f := range []string{name, next} {
		if err := os.Chtimes(f, old, old); err != nil {
			t.Fatal(err)
		}
	}
	get()
	if err := os.Rename(next, name); err != nil {
		t.Fatal(err)
	}
	if got := get(); got != "third-secret" {
		t.Errorf("after a rename: %s", got)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get("s"); !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("after removal: %v", err)
	}
	write(t, name, "fourth-secret", 0o600)
	if got := get(); got != "fourth-secret" {
		t.Errorf("after the repair: %s", got)
	}
	if got := red.String("first-secret other-secret third-secret fourth-secret"); got != "*** *** *** ***" {
		t.Errorf("redacted to %s", got)
	}
}

func TestOldValuesAreForgottenInTheEnd(t *testing.T) {
	value := ""
	red := NewRedactor()
	red.Add([]byte("value-000"))
	r := newResolver(t, Options{Refs: map[string]Ref{"s": {Env: "S"}}, Redactor: red, LookupEnv: func(string) (string, bool) { return value, true }})
	for i := range 100 {
		value = fmt.Sprintf("value-%03d", i)
		if _, err := r.Get("s"); err != nil {
			t.Fatal(err)
		}
	}
	if got := red.String("value-000 value-001 value-098 value-099"); got != "*** value-001 *** ***" {
		t.Errorf("redacted to %s", got)
	}
}

func TestSettledFileIsNotReadAgain(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	write(t, name, "one", 0o600)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	r := newResolver(t, Options{Refs: map[string]Ref{"s": {File: name}}})
	a, err := r.Get("s")
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Get("s")
	if err != nil || &a[0] != &b[0] {
		t.Error("the file was read twice")
	}
}

func TestDev(t *testing.T) {
	lookup := func(name string) (string, bool) { return "value", name == "SET" }
	strict := newResolver(t, Options{LookupEnv: lookup})
	if _, err := strict.GetEnv("SET"); !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "serve --dev") {
		t.Errorf("without --dev: %v", err)
	}
	dev := newResolver(t, Options{LookupEnv: lookup, Dev: true, Refs: map[string]Ref{"s": {Env: "SET"}}})
	if v, err := dev.GetEnv("SET"); err != nil || string(v) != "value" {
		t.Errorf("%q, %v", v, err)
	}
	if _, err := dev.GetEnv("UNSET"); !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if problems := dev.Problems(); len(problems) != 1 || !strings.Contains(problems[0].Error(), "variable UNSET") {
		t.Errorf("problems %v", problems)
	}
	for _, tt := range []struct {
		ref source.SecretRef
		ok  bool
	}{{source.SecretRef{Secret: "s"}, true}, {source.SecretRef{Env: "SET"}, true}, {source.SecretRef{}, false}, {source.SecretRef{Secret: "s", Env: "SET"}, false}} {
		_, err := dev.Source(tt.ref)
		_, actionErr := dev.Action(action.SecretRef(tt.ref))
		if check := dev.CheckSource(tt.ref); (check == nil) != tt.ok || (err == nil) != tt.ok || (actionErr == nil) != tt.ok {
			t.Errorf("%+v: %v, %v, %v", tt.ref, check, err, actionErr)
		}
	}
}

func TestWorldReadableFileIsWarnedAboutOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	write(t, name, "public-value", 0o644)
	var logged bytes.Buffer
	r := newResolver(t, Options{Refs: map[string]Ref{"s": {File: name}}, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	for range 3 {
		if _, err := r.Get("s"); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Count(logged.String(), "WARN") != 1 || strings.Contains(logged.String(), "public-value") {
		t.Errorf("log: %s", &logged)
	}
}

func TestConcurrentUse(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	write(t, name, "value-0", 0o600)
	red := NewRedactor()
	r := newResolver(t, Options{Refs: map[string]Ref{"s": {File: name}}, Redactor: red})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				v, err := r.Get("s")
				if err != nil || !strings.HasPrefix(string(v), "value-") || red.String(string(v)) != mask {
					t.Errorf("%q, %v", v, err)
				}
				r.Problems()
			}
		})
	}
	for i := range 20 {
		write(t, name+".new", fmt.Sprintf("value-%d", i), 0o600)
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "Redactor") {
		t.Errorf("%v", err)
	}
	if _, err := New(Options{Redactor: NewRedactor(), Refs: map[string]Ref{"both": {Env: "A", File: "b"}}}); err == nil || !strings.Contains(err.Error(), "both") {
		t.Errorf("%v", err)
	}
}
