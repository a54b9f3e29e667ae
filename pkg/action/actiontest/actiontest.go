// Package actiontest is the conformance suite of actions: what the engine relies on, checked for any Definition. A failed
// check is an error of the test; the package keeps no state and leaves nothing running.
package actiontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/event"
)

// Outcome is how a call should end.
type Outcome int

// Outcomes.
const (
	Succeeds   Outcome = iota
	Fails              // and a retry may help
	Permanent          // and no retry helps
	Superseded         // newer work made it pointless
	Refused            // policy forbids it
)

// Case is one call of an action.
type Case struct {
	Name   string
	Params any // a pointer of the type of the definition's Params
	// Secrets are the values by name; none of them may stand in an error. A reference to any other name fails.
	Secrets map[string]string
	// Targets are the Target documents there are.
	Targets map[string]action.Target
	// Event may be nil.
	Event *action.EventInfo
	// EventJSON is the event as the API shows it; none where it is empty.
	EventJSON string
	// Prepare may change the call once its directory exists.
	Prepare func(t *testing.T, call *action.Call)
	// Cancel, where it is not nil, cancels the context when it is closed: close it once the action is in the middle of its
	// work. The action must then fail and leave nothing running.
	Cancel <-chan struct{}
	Want   Outcome
	// ErrorHas are texts that the error must contain.
	ErrorHas []string
	// Outputs are values that the outputs must have; others may be there.
	Outputs action.Outputs
	// Check looks at what remains to be checked; err is nil after a success.
	Check func(t *testing.T, out action.Outputs, log string, err error)
}

// Run checks the definition, and each case in a subtest of its own. Cases that wait for no Cancel have a minute.
func Run(t *testing.T, def action.Definition, cases []Case) {
	t.Helper()
	checkDefinition(t, def)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { runCase(t, def, c) })
	}
}

// Call returns a call as the engine makes it, with a directory and a log of its own. The log's text is read with String.
func Call(t *testing.T, c Case) (*action.Call, fmt.Stringer) {
	t.Helper()
	log := &buffer{}
	call := &action.Call{
		RunID: "01KAR7Q3TEST", Rule: "conformance", StepID: "step", Attempt: 1, Params: c.Params, Dir: t.TempDir(), Log: log, Event: c.Event,
		Secret: func(ref action.SecretRef) (string, error) {
			if v, ok := c.Secrets[ref.Secret]; ok && ref.Env == "" {
				return v, nil
			}
			return "", fmt.Errorf("no secret %q is declared", ref.Secret)
		},
		Target: func(name string) (action.Target, error) {
			if target, ok := c.Targets[name]; ok {
				return target, nil
			}
			return action.Target{}, fmt.Errorf("there is no Target %q", name)
		},
	}
	if c.EventJSON != "" {
		call.EventJSON = func() ([]byte, error) { return []byte(c.EventJSON), nil }
	}
	if c.Prepare != nil {
		c.Prepare(t, call)
	}
	return call, log
}

func runCase(t *testing.T, def action.Definition, c Case) {
	call, log := Call(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if c.Cancel != nil {
		var canceller sync.WaitGroup
		canceller.Go(func() {
			select {
			case <-c.Cancel:
				cancel()
			case <-ctx.Done():
			}
		})
		defer canceller.Wait()
		defer cancel()
	}
	out, err := watch(t, ctx, call.Dir, func(ctx context.Context) (action.Outputs, error) { return def.Run(ctx, call) })
	checkOutcome(t, c, err)
	checkSecrets(t, c, err)
	if err == nil {
		checkOutputs(t, def, out)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Outputs)) {
		if !reflect.DeepEqual(out[name], c.Outputs[name]) {
			t.Errorf("output %s is %#v, want %#v", name, out[name], c.Outputs[name])
		}
	}
	if c.Check != nil {
		c.Check(t, out, log.String(), err)
	}
}

func checkOutcome(t *testing.T, c Case, err error) {
	t.Helper()
	if c.Cancel != nil {
		if err == nil {
			t.Error("the action succeeded although its context was cancelled in the middle")
		}
		return
	}
	if got := outcomeOf(err); got != c.Want {
		t.Errorf("outcome is %s (error: %v), want %s", got, err, c.Want)
	}
	for _, text := range c.ErrorHas {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error is %v; it should contain %q", err, text)
		}
	}
}

func outcomeOf(err error) Outcome {
	var refused *action.RefusedError
	switch {
	case err == nil:
		return Succeeds
	case errors.As(err, &refused):
		return Refused
	case action.IsSuperseded(err):
		return Superseded
	case action.IsPermanent(err):
		return Permanent
	}
	return Fails
}

func (o Outcome) String() string {
	return [...]string{"success", "a failure to retry", "a permanent failure", "superseded", "refused"}[o]
}

func checkSecrets(t *testing.T, c Case, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for name, value := range c.Secrets {
		if strings.Contains(err.Error(), value) {
			t.Errorf("the error holds the value of secret %s", name)
		}
	}
}

// Outputs checks that outputs are those that the definition describes.
func Outputs(t *testing.T, def action.Definition, out action.Outputs) {
	t.Helper()
	checkOutputs(t, def, out)
}

// checkOutputs compares outputs with the struct that describes them: the same names, and values of those types.
func checkOutputs(t *testing.T, def action.Definition, out action.Outputs) {
	t.Helper()
	want, optional := map[string]reflect.Type{}, map[string]bool{}
	if def.Outputs != nil {
		for _, f := range fields(reflect.TypeOf(def.Outputs)) {
			want[f.name], optional[f.name] = f.typ, f.optional
		}
	}
	for name, v := range out {
		typ, ok := want[name]
		switch {
		case !ok:
			t.Errorf("output %s is not described", name)
		case !isJSON(v):
			t.Errorf("output %s holds what is no JSON value: %#v", name, v)
		case !fits(v, typ):
			t.Errorf("output %s is a %T, described as %s", name, v, typ)
		}
	}
	for name := range want {
		if _, ok := out[name]; !ok && !optional[name] {
			t.Errorf("output %s is described, and was not returned", name)
		}
	}
}

func isJSON(v any) bool {
	switch v := v.(type) {
	case nil, bool, int64, float64, string, event.Integer:
		return true
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !isJSON(e) })
	case map[string]any:
		for _, e := range v {
			if !isJSON(e) {
				return false
			}
		}
		return true
	}
	return false
}

func fits(v any, typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.Interface:
		return true
	case reflect.Slice:
		_, ok := v.([]any)
		return ok
	case reflect.Map, reflect.Struct:
		_, ok := v.(map[string]any)
		return ok
	}
	return v != nil && reflect.TypeOf(v) == typ
}

// field is a field of a parameter or output struct.
type field struct {
	name, doc string
	typ       reflect.Type
	optional  bool
}

func fields(typ reflect.Type) []field {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	var out []field
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		out = append(out, field{name, f.Tag.Get("doc"), f.Type, options == "omitempty"})
	}
	return out
}

var (
	actionName = regexp.MustCompile(`^([a-z]+\.)?[a-z][A-Za-z]*$`)
	fieldName  = regexp.MustCompile(`^[a-z][A-Za-z0-9]*$`)
)

// checkDefinition checks what the reference pages and schemas are made from.
func checkDefinition(t *testing.T, def action.Definition) {
	t.Helper()
	if !actionName.MatchString(def.Name) {
		t.Errorf("action name %q is neither verb nor group.verb", def.Name)
	}
	if def.Doc == "" {
		t.Errorf("%s has no Doc", def.Name)
	}
	if def.Run == nil {
		t.Fatalf("%s has no Run", def.Name)
	}
	if typ := reflect.TypeOf(def.Params); typ == nil || typ.Kind() != reflect.Pointer || typ.Elem().Kind() != reflect.Struct {
		t.Fatalf("%s: Params is a %v, want a pointer to a struct", def.Name, typ)
	}
	checkFields(t, def.Name+" parameter", reflect.TypeOf(def.Params))
	if def.Outputs != nil {
		checkFields(t, def.Name+" output", reflect.TypeOf(def.Outputs))
	}
}

func checkFields(t *testing.T, what string, typ reflect.Type) {
	t.Helper()
	for _, f := range fields(typ) {
		if !fieldName.MatchString(f.name) {
			t.Errorf("%s: name %q in its yaml tag", what, f.name)
		}
		if f.doc == "" {
			t.Errorf("%s %s has no doc tag", what, f.name)
		}
	}
}

// buffer is a log that may be written and read at once.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
