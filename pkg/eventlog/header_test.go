package eventlog

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/riposte-dev/riposte/pkg/event"
)

// FuzzHeader holds what is written and read against encoding/json.
func FuzzHeader(f *testing.F) {
	f.Add("ID", "github", "push", "acme/shop", "d-1", "X-GitHub-Event", "push", int64(1_795_428_000_123_456_789), 0)
	f.Add("", "a\"b\\c", "<&>", "\u2028é\x01", "", "", "", int64(0), -5)
	f.Add("x", "", "", "", "\x7f", "k", "\t", int64(-62135596800000000), 7_000_000)
	f.Fuzz(func(t *testing.T, id, source, kind, subject, delivery, key, value string, ns int64, length int) {
		for _, s := range []string{id, source, kind, subject, delivery, key, value} {
			if !utf8.ValidString(s) {
				t.Skip("texts are made UTF-8 before they reach the log")
			}
		}
		h := header{
			Kind: event.Kind(kind), ID: id, Source: source, SourceType: delivery, Type: kind, Subject: subject, DeliveryID: delivery,
			ReceivedAt: time.Unix(0, ns).UTC(), CausedBy: subject, Object: value, Digest: key, Length: length,
		}
		if ns%2 == 0 {
			h.Time, h.Headers = h.ReceivedAt, map[string]string{key: value, "Other": id}
		}
		want, err := json.Marshal(h)
		if err != nil {
			t.Skip(err)
		}
		got := h.appendTo(nil)
		if string(got) != string(want) {
			t.Fatalf("wrote\n%s, want\n%s", got, want)
		}
		back, err := parseHeader(got)
		if err != nil || !reflect.DeepEqual(back, h) {
			t.Fatalf("%s was read as\n%#v, want\n%#v (%v)", got, back, h, err)
		}
	})
}

func TestHeaderOfANewerVersion(t *testing.T) {
	h, err := parseHeader([]byte(`{"new":{"deep":[1,2]},"k":"event","id":"A","r":"2026-11-23T10:00:00Z","n":null}`))
	if err != nil || h.ID != "A" || h.Kind != event.KindEvent || h.ReceivedAt.IsZero() {
		t.Errorf("read %#v, %v", h, err)
	}
	for _, bad := range []string{``, `{`, `{"r":"yesterday"}`, `{"len":"x"}`} {
		if _, err := parseHeader([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// A time that RFC 3339 can't write must not make the record unreadable.
func TestHeaderWithAnImpossibleTime(t *testing.T) {
	h := header{ID: "A", Time: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC), ReceivedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	back, err := parseHeader(h.appendTo(nil))
	if err != nil || !back.Time.IsZero() || !back.ReceivedAt.Equal(h.ReceivedAt) {
		t.Errorf("read %#v, %v", back, err)
	}
}

func BenchmarkHeader(b *testing.B) {
	h := header{
		Kind: event.KindEvent, ID: "5ENG7J6GWJ2C0VDEAHNV9B4Y0M", Source: "github", SourceType: "github", Type: "push",
		DeliveryID: "1-1", Time: time.Now(), ReceivedAt: time.Now(), Headers: map[string]string{"X-GitHub-Event": "push", "X-GitHub-Delivery": "1-1"},
	}
	text := h.appendTo(nil)
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			_ = h.appendTo(make([]byte, 0, 512))
		}
	})
	b.Run("write-json", func(b *testing.B) {
		for b.Loop() {
			_, _ = json.Marshal(h)
		}
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			_, _ = parseHeader(text)
		}
	})
	b.Run("read-json", func(b *testing.B) {
		for b.Loop() {
			var h header
			_ = json.Unmarshal(text, &h)
		}
	})
}
