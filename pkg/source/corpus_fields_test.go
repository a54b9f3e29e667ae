package source_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/alertmanager"
	"github.com/riposte-dev/riposte/pkg/source/gitea"
	"github.com/riposte-dev/riposte/pkg/source/github"
	"github.com/riposte-dev/riposte/pkg/source/gitlab"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

// known are the presets that say what their events hold, by the sender that the corpus names.
func known() map[string]source.Type {
	return map[string]source.Type{
		"alertmanager": alertmanager.Type(), "grafana": alertmanager.Type(), "github": github.Type(), "gitlab": gitlab.Type(),
		"gitea": gitea.Type(), "forgejo": gitea.Type(),
	}
}

func fieldsOf(t *testing.T, typ source.Type) map[string]source.EventFields {
	t.Helper()
	types, err := source.ParseFields(typ.Fields)
	if err != nil {
		t.Fatalf("%s: %v", typ.Name, err)
	}
	return types
}

func TestPresetsSayWhatTheirEventsHold(t *testing.T) {
	for sender, typ := range known() {
		types := fieldsOf(t, typ)
		if len(types) < 2 {
			t.Errorf("%s has %d types of events", sender, len(types))
		}
		for name, fields := range types {
			if len(fields.Data.Members) == 0 && !fields.Data.Open {
				t.Errorf("%s: nothing is known of %s", sender, name)
			}
			for _, view := range fields.Views {
				if event.ViewFields()[view] == nil {
					t.Errorf("%s: %s has no view %s", sender, name, view)
				}
			}
		}
	}
}

// TestCorpusHoldsOnlyWhatIsKnown proves the tables with real payloads: a warning about a field that is there would teach
// people to ignore warnings.
func TestCorpusHoldsOnlyWhatIsKnown(t *testing.T) {
	dir := corpus(t)
	env := sourcetest.Env(map[string]string{name: "value"})
	tried := map[string]int{}
	for _, p := range manifest(t, dir) {
		typ, ok := known()[p.Sender]
		if !ok {
			continue
		}
		spec := signed
		if typ.Name == "alertmanager" {
			spec = "auth: {bearer: {secret: " + name + "}}"
		}
		s, types := sourcetest.New(t, typ, spec, env), fieldsOf(t, typ)
		deliveries, err := s.Split(p.request(t, dir))
		if err != nil {
			continue // TestCorpusPayloads says which may not be read
		}
		for _, d := range deliveries {
			tried[p.Sender]++
			fields, ok := types[d.Type]
			if !ok {
				t.Errorf("%s: type %s is not known", p.File, d.Type)
				continue
			}
			checkBody(t, p.File, fields, d)
			checkViews(t, p.File, fields, s, d)
		}
	}
	for sender := range known() {
		if tried[sender] == 0 {
			t.Errorf("no event of %s was tried", sender)
		}
	}
}

func checkBody(t *testing.T, file string, fields source.EventFields, d source.Delivery) {
	t.Helper()
	var data any
	if err := json.Unmarshal(d.Body, &data); err != nil {
		t.Fatal(err)
	}
	for _, path := range unknown(fields.Data, data, "") {
		t.Errorf("%s (%s): event.data%s is not known", file, d.Type, path)
	}
}

// unknown lists the paths of a value that its shape does not have.
func unknown(s *source.Shape, v any, path string) []string {
	if s.Open {
		return nil
	}
	var out []string
	switch v := v.(type) {
	case map[string]any:
		for name, below := range v {
			member := s.Members[name]
			if member == nil {
				out = append(out, path+"."+name)
				continue
			}
			out = append(out, unknown(member, below, path+"."+name)...)
		}
	case []any:
		if len(v) > 0 && s.Element == nil {
			return []string{path + "[]"}
		}
		for i, e := range v {
			out = append(out, unknown(s.Element, e, fmt.Sprintf("%s[%d]", path, i))...)
		}
	}
	return out
}

func checkViews(t *testing.T, file string, fields source.EventFields, s source.Source, d source.Delivery) {
	t.Helper()
	e := sourcetest.Event(d)
	s.Normalise(e)
	for view, there := range map[string]bool{"git": e.Git != nil, "pullRequest": e.PullRequest != nil, "alert": e.Alert != nil} {
		if there && !slices.Contains(fields.Views, view) {
			t.Errorf("%s (%s): event.%s is not known", file, d.Type, view)
		}
	}
}
