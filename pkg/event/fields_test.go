package event

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"
)

type object interface {
	Field(name string) (any, bool)
	Fields() []string
}

func TestAbsentFields(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	tests := []struct {
		name    string
		object  object
		present []string
	}{
		{"empty event", &Event{}, []string{"id", "source", "type", "headers", "data"}},
		{"event", &Event{Subject: "s", Time: at, ReceivedAt: at, DeliveryID: "d", CausedBy: "c", Git: &Git{}, Alert: &Alert{}, PullRequest: &PullRequest{}, Body: []byte(`{}`)},
			ViewFields()["event"]},
		{"event whose body can't be decoded", &Event{Body: []byte(`{`)}, []string{"id", "source", "type", "headers"}},
		{"empty git", &Git{}, []string{"repo", "owner", "cloneURL", "forced", "created", "deleted", "pathsComplete"}},
		{"git of a push of nothing", &Git{PathsComplete: true}, []string{"repo", "owner", "cloneURL", "forced", "created", "deleted", "paths", "pathsComplete"}},
		{"git", &Git{Ref: "r", Branch: "b", Tag: "t", Commit: "c", Before: "b", Pusher: "p", Paths: []string{"a"}}, ViewFields()["git"]},
		{"comment on a pull request", &PullRequest{Number: 1}, []string{"number", "fork", "merged"}},
		{"pull request", &PullRequest{Action: "a", Base: "b", Head: "h", Author: "a", URL: "u"}, ViewFields()["pullRequest"]},
		{"empty alert", &Alert{}, []string{"name", "status", "labels", "annotations"}},
		{"alert", &Alert{Severity: "s", Fingerprint: "f", StartsAt: at, EndsAt: at, GeneratorURL: "u"}, ViewFields()["alert"]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.object.Fields()
			if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(tt.present))) {
				t.Errorf("got %v, want %v", got, tt.present)
			}
			for _, names := range ViewFields() {
				for _, name := range names {
					if _, ok := tt.object.Field(name); ok != slices.Contains(got, name) {
						t.Errorf("Field(%q) is %v, unlike Fields", name, ok)
					}
				}
			}
			if _, ok := tt.object.Field("misspelled"); ok {
				t.Error("an unknown field is present")
			}
		})
	}
}

func TestFieldValues(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	e := &Event{
		ID: "I", Source: "github", Type: "push", Time: at, Headers: map[string]string{"X-Github-Event": "push"}, Body: []byte(`{"n": 9007199254740993}`),
		Git: &Git{Repo: "acme/shop", Paths: []string{"a"}}, PullRequest: &PullRequest{Number: 7}, Alert: &Alert{Labels: map[string]string{"a": "b"}},
	}
	tests := []struct {
		path []string
		want any
	}{
		{[]string{"id"}, "I"},
		{[]string{"source"}, "github"},
		{[]string{"type"}, "push"},
		{[]string{"time"}, at},
		{[]string{"headers", "x-gitHub-event"}, "push"},
		{[]string{"headers", "X-Github-Event"}, "push"},
		{[]string{"data"}, map[string]any{"n": int64(9007199254740993)}},
		{[]string{"git", "repo"}, "acme/shop"},
		{[]string{"git", "paths"}, []string{"a"}},
		{[]string{"pullRequest", "number"}, int64(7)},
		{[]string{"alert", "labels"}, map[string]string{"a": "b"}},
	}
	for _, tt := range tests {
		var got any = e
		for _, name := range tt.path {
			got, _ = got.(object).Field(name)
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v: got %#v, want %#v", tt.path, got, tt.want)
		}
	}
	if _, ok := (Headers{}).Field("X-Other"); ok {
		t.Error("an absent header is present")
	}
}

// What the API shows of an event and what rules read must have the same names.
func TestViewFieldsAreThoseOfTheAPI(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	e := &Event{
		ID: "I", Subject: "s", Time: at, ReceivedAt: at, DeliveryID: "d", CausedBy: "c", Headers: map[string]string{"A": "b"}, Body: []byte(`{}`),
		Git:         &Git{Ref: "r", Branch: "b", Tag: "t", Commit: "c", Before: "b", Pusher: "p", Paths: []string{"a"}},
		PullRequest: &PullRequest{},
		Alert:       &Alert{Severity: "s", Fingerprint: "f", StartsAt: at, EndsAt: at, GeneratorURL: "u"},
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var shown map[string]json.RawMessage
	if err := json.Unmarshal(text, &shown); err != nil {
		t.Fatal(err)
	}
	for view, want := range ViewFields() {
		members := shown
		if view != "event" {
			members = nil
			if err := json.Unmarshal(shown[view], &members); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range want {
			if _, ok := members[name]; !ok {
				t.Errorf("%s.%s is not in the API's form", view, name)
			}
		}
		if len(members) != len(want) {
			t.Errorf("%s has %d members in the API's form, and %d fields", view, len(members), len(want))
		}
	}
}
