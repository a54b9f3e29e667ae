package source

import (
	"reflect"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

func TestNode(t *testing.T) {
	body := []byte(` {"a": {"b": "x"}, "n": 7, "big": 12345678901234567890, "t": true, "l": [1, "y", null, {"c": 2}], "null": null,
		"d": 1, "d": 2, "q\"k": "z", "labels": {"a": "1", "b": 2, "c": true, "d": null, "e": []}} `)
	t.Run("of a body", func(t *testing.T) { checkNode(t, Body(body)) })
	t.Run("of an event", func(t *testing.T) { checkNode(t, Stored(&event.Event{Body: body})) })
	for _, body := range []string{"", "{", "null", `"x"`, "[]"} {
		if n := Body([]byte(body)); n.At("a").Exists() {
			t.Errorf("%q has a member", body)
		}
		if n := Stored(&event.Event{Body: []byte(body)}); n.At("a").Exists() {
			t.Errorf("%q of an event has a member", body)
		}
	}
}

func checkNode(t *testing.T, n Node) {
	checks := []struct{ got, want any }{
		{n.At("a", "b").Str(), "x"},
		{n.At("n").Int(), int64(7)},
		{n.At("n").Str(), "7"},
		{n.At("big").Int(), int64(0)},
		{n.At("big").Str(), "12345678901234567890"},
		{n.At("t").Bool(), true},
		{n.At("t").Str(), "true"},
		{n.At("a").Str(), ""},
		{n.At("a").Bool(), false},
		{n.At("d").Int(), int64(2)},
		{n.At(`q"k`).Str(), "z"},
		{n.At("null").Exists(), false},
		{n.At("other").Exists(), false},
		{n.At("n", "b", "c").Exists(), false},
		{n.At("A").Exists(), false},
		{len(n.At("l").List()), 4},
		{n.At("l").List()[1].Str(), "y"},
		{n.At("l").List()[3].At("c").Int(), int64(2)},
		{n.At("a").List() == nil, true},
		{n.At("labels").Texts(), map[string]string{"a": "1", "b": "2", "c": "true", "d": "", "e": ""}},
		{n.At("other").Texts(), map[string]string{}},
		{n.Is('{'), true},
		{n.At("a").Is('{'), true},
		{n.At("l").Is('['), true},
		{n.At("l").Exists(), true},
		{n.At("l").Str(), ""},
		{string(n.At("a").Raw()), `{"b": "x"}`},
		{string(n.At("l").Raw()), `[1, "y", null, {"c": 2}]`},
		{n.At("null").Raw() == nil, true},
	}
	for i, c := range checks {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("check %d: got %#v, want %#v", i, c.got, c.want)
		}
	}
}

func TestNodeTime(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	tests := map[string]time.Time{
		`"2026-11-23T10:00:00Z"`:      at,
		`"2026-11-23T12:00:00+02:00"`: at,
		`"2026-11-23 10:00:00 UTC"`:   at,
		`"2026-11-23 12:00:00 +0200"`: at,
		`1795428000`:                  at,
		`"0001-01-01T00:00:00Z"`:      {},
		`"9999-12-31T23:59:59-10:00"`: {},
		`99999999999999`:              {},
		`-99999999999999`:             {},
		`"soon"`:                      {},
		`0`:                           {},
		`null`:                        {},
		`["2026-11-23T10:00:00Z"]`:    {},
		`"2026-11-23T10:00:00+24:00"`: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
		`"2026-11-23T10:00:00.5Z"`:    at.Add(time.Second / 2),
	}
	for text, want := range tests {
		got := node([]byte(text)).Time()
		if !got.Equal(want) {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
		if _, err := got.MarshalJSON(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	e := event.Event{Time: at}
	if SetTime(&e, Node{}, node([]byte(`"x"`))); !e.Time.Equal(at) {
		t.Errorf("nothing changes the time to %v", e.Time)
	}
}
