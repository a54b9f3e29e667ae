package kubernetes

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

func TestConformance(t *testing.T) { sourcetest.Run(t, Type(), nil) }

func made(t testing.TB, spec string) *kubernetes {
	t.Helper()
	return sourcetest.New(t, Type(), spec, sourcetest.Env(nil)).(*kubernetes)
}

func parsed(t testing.TB, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1","namespace":"shop","uid":"u1","resourceVersion":"42",
	"creationTimestamp":"2026-11-23T09:00:00Z","deletionTimestamp":"2026-11-23T11:00:00Z",
	"annotations":{"a":"b","riposte.dev/run":"5ENG7J6GWJ2C0VDEAHNV9B4Y0M-heal","kubectl.kubernetes.io/last-applied-configuration":"{}"},
	"managedFields":[{"manager":"riposte","time":"2026-11-23T10:00:00Z"},{"manager":"kubelet","time":"2026-11-23T10:01:00Z"}]},"status":{"phase":"Running"}}`

func TestAChangeIsOneEvent(t *testing.T) {
	k := made(t, `{kind: Pod}`)
	d, causedBy, ok := k.Change(source.Change{Type: "MODIFIED", Object: parsed(t, pod)})
	if !ok || d.Key != "u1/42" || d.Type != "pod.modified" || d.Subject != "shop/web-1" || !d.Time.Equal(time.Date(2026, 11, 23, 10, 1, 0, 0, time.UTC)) {
		t.Errorf("%+v", d)
	}
	if causedBy != "5ENG7J6GWJ2C0VDEAHNV9B4Y0M-heal" {
		t.Errorf("caused by %q", causedBy)
	}
	want := `{"type":"MODIFIED","object":{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"a":"b","riposte.dev/run":"5ENG7J6GWJ2C0VDEAHNV9B4Y0M-heal"},"creationTimestamp":"2026-11-23T09:00:00Z","deletionTimestamp":"2026-11-23T11:00:00Z","name":"web-1","namespace":"shop","resourceVersion":"42","uid":"u1"},"status":{"phase":"Running"}}}`
	if string(d.Body) != want {
		t.Errorf("the body is %s", d.Body)
	}
	if again, _, _ := k.Change(source.Change{Type: "ADDED", Object: parsed(t, pod)}); again.Key != d.Key {
		t.Errorf("seen in a list it is %s", again.Key)
	}
	if gone, _, _ := k.Change(source.Change{Type: "DELETED", Object: parsed(t, pod)}); gone.Key != "u1/deleted" || gone.Type != "pod.deleted" || gone.Time.Hour() != 11 {
		t.Errorf("%+v", gone)
	}
}

// TestWhatOthersDoLaterIsNotOurs: the annotation stays on an object for ever.
func TestWhatOthersDoLaterIsNotOurs(t *testing.T) {
	for name, text := range map[string]string{
		"later":                     strings.Replace(pod, `"kubelet","time":"2026-11-23T10:01:00Z"`, `"kubelet","time":"2026-11-23T10:06:00Z"`, 1),
		"by another manager":        strings.Replace(pod, `"riposte","time"`, `"kubectl","time"`, 1),
		"without the annotation":    strings.Replace(pod, `"riposte.dev/run":"5ENG7J6GWJ2C0VDEAHNV9B4Y0M-heal",`, "", 1),
		"with one that is no run's": strings.Replace(pod, "5ENG7J6GWJ2C0VDEAHNV9B4Y0M-heal", "me", 1),
		"with one that is no text":  strings.Replace(pod, `"riposte.dev/run":"5ENG7J6GWJ2C0VDEAHNV9B4Y0M-heal"`, `"riposte.dev/run":1`, 1),
		"with times that are none":  strings.Replace(pod, `"2026-11-23T10:00:00Z"`, `"yesterday"`, 1),
		"with fields that are none": strings.Replace(pod, `[{"manager":"riposte","time":"2026-11-23T10:00:00Z"},{`, `[7,{`, 1),
	} {
		if _, causedBy, ok := made(t, `{kind: Pod}`).Change(source.Change{Type: "MODIFIED", Object: parsed(t, text)}); !ok || causedBy != "" {
			t.Errorf("%s: %t, caused by %q", name, ok, causedBy)
		}
	}
}

func TestEventsAreAboutTheirObject(t *testing.T) {
	k := made(t, `{kind: Event, fields: type=Warning, on: [added, modified]}`)
	for text, want := range map[string]string{
		`{"metadata":{"name":"e","namespace":"shop","uid":"u","resourceVersion":"1"},"involvedObject":{"kind":"Pod","namespace":"shop","name":"web-1"},"lastTimestamp":"2026-11-23T10:00:00Z"}`: "Pod/shop/web-1 10",
		`{"metadata":{"name":"e","namespace":"shop","uid":"u","resourceVersion":"1"},"regarding":{"kind":"Node","name":"n1"},"series":{"lastObservedTime":"2026-11-23T11:00:00.5Z"}}`:           "Node/n1 11",
		`{"metadata":{"name":"e","uid":"u","resourceVersion":"1","creationTimestamp":"2026-11-23T12:00:00Z"}}`:                                                                                  "e 12",
	} {
		d, _, ok := k.Change(source.Change{Type: "ADDED", Object: parsed(t, text)})
		if got := d.Subject + d.Time.Format(" 15"); !ok || got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if _, _, ok := k.Change(source.Change{Type: "DELETED", Object: parsed(t, pod)}); ok {
		t.Error("a change that is not wanted is an event")
	}
	if _, _, ok := k.Change(source.Change{Type: "ADDED", Object: map[string]any{"metadata": 7}}); ok {
		t.Error("what is no object is an event")
	}
}

func TestSelectionsAreChecked(t *testing.T) {
	if s := made(t, `{apiVersion: apps/v1, kind: Deployment, namespaces: [shop], labels: "app in (a,b)", fields: metadata.name=x}`).Selection(); s.APIVersion != "apps/v1" || s.Labels == "" || s.Fields == "" {
		t.Errorf("%+v", s)
	}
	for spec, want := range map[string]string{
		`{kind: pods}`:                               "kind: \"pods\" is no kind",
		`{kind: Secret}`:                             "Secret must not get into events",
		`{kind: Pod, apiVersion: "apps/"}`:           "apiVersion: \"apps/\"",
		`{kind: Pod, namespaces: [A]}`:               "namespaces[0]: \"A\"",
		`{kind: Pod, labels: "a in"}`:                "labels: \"a in\" is no selector",
		`{kind: Pod, fields: "type"}`:                "fields: \"type\" is no selector",
		`{kind: Pod, on: [changed], namespaces: []}`: "on: \"changed\"",
	} {
		_, err := Type().New(sourcetest.Decode(spec), sourcetest.Env(nil))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", spec, err, want)
		}
	}
	if err := made(t, `{kind: Pod}`).Verify(nil); !errors.Is(err, source.ErrUnauthenticated) {
		t.Errorf("a request: %v", err)
	}
}

func FuzzChange(f *testing.F) {
	f.Add("MODIFIED", pod)
	f.Add("DELETED", `{"metadata":{"uid":"u"}}`)
	k := made(f, `{kind: Event}`)
	f.Fuzz(func(t *testing.T, kind, text string) {
		var o map[string]any
		if json.Unmarshal([]byte(text), &o) != nil {
			return
		}
		if d, _, ok := k.Change(source.Change{Type: kind, Object: o}); ok && (d.Key == "" || !json.Valid(d.Body)) {
			t.Errorf("%+v", d)
		}
	})
}
