package actiontest

import (
	"context"
	"errors"
	"os/exec"
	"reflect"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
)

// The suite is worth what it finds: here are the things that it must find.

func TestOutcomeOf(t *testing.T) {
	err := errors.New("x")
	for want, err := range map[Outcome]error{
		Succeeds: nil, Fails: err, Permanent: action.Permanent(err), Superseded: action.Superseded(err), Refused: action.Refused("Policy", err),
	} {
		if got := outcomeOf(err); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}

func TestOutputValues(t *testing.T) {
	for _, tt := range []struct {
		value any
		typ   reflect.Type
		ok    bool
	}{
		{"x", reflect.TypeFor[string](), true},
		{int64(1), reflect.TypeFor[int64](), true},
		{1, reflect.TypeFor[int](), false},
		{int64(1), reflect.TypeFor[string](), false},
		{nil, reflect.TypeFor[string](), false},
		{nil, reflect.TypeFor[any](), true},
		{map[string]any{"a": []any{event.Integer("99999999999999999999"), 1.5, true, nil}}, reflect.TypeFor[any](), true},
		{map[string]any{"a": []string{"x"}}, reflect.TypeFor[any](), false},
		{[]any{"x"}, reflect.TypeFor[[]string](), true},
		{[]string{"x"}, reflect.TypeFor[[]string](), false},
		{map[string]any{}, reflect.TypeFor[map[string]string](), true},
	} {
		if ok := isJSON(tt.value) && fits(tt.value, tt.typ); ok != tt.ok {
			t.Errorf("%#v as %s: %t", tt.value, tt.typ, ok)
		}
	}
}

func TestGoroutinesAreFound(t *testing.T) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	pprof.Do(t.Context(), pprof.Labels(label, "leak"), func(context.Context) {
		go func() {
			<-stop
			close(stopped)
		}()
	})
	if !strings.Contains(marked("leak"), "TestGoroutinesAreFound") {
		t.Errorf("a goroutine that was left is not found: %q", marked("leak"))
	}
	close(stop)
	<-stopped
	if left := goroutines("leak"); left != "" {
		t.Errorf("found %s", left)
	}
}

func TestProcessesAreFound(t *testing.T) {
	dir := t.TempDir()
	if left := processes(dir); left != nil {
		t.Fatalf("found %v", left)
	}
	cmd := exec.Command("sleep", "1000")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Skipf("sleep does not start: %v", err)
	}
	left := processes(dir)
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	if len(left) != 1 {
		t.Skipf("processes are found on Linux only: %v", left)
	}
}
