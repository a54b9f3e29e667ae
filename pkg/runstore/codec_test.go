package runstore

import (
	"reflect"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/run"
)

func TestPack(t *testing.T) {
	entries := []run.Entry{started("a", 1), big("b", packBytes-300), started("c", 1), big("d", packBytes+100), started("e", 1)}
	lines, err := encode(entries)
	if err != nil {
		t.Fatal(err)
	}
	var got []run.Entry
	ids := map[string]bool{}
	messages := pack(lines)
	for _, m := range messages {
		if m.n > 1 && len(m.data) > packBytes+128 {
			t.Errorf("a message of %d entries has %d bytes", m.n, len(m.data))
		}
		more, err := decode(m.data)
		if err != nil || len(more) != m.n {
			t.Fatalf("decode gives %d entries of %d, %v", len(more), m.n, err)
		}
		got = append(got, more...)
		ids[m.id] = true
	}
	if !reflect.DeepEqual(got, entries) {
		t.Error("the entries are not what they were")
	}
	if len(ids) != len(messages) || len(messages) < 3 {
		t.Errorf("%d ids for %d messages, want each its own and at least 3", len(ids), len(messages))
	}
}

func TestDecodeRefuses(t *testing.T) {
	for data, want := range map[string]string{
		"":                             "not a message",
		"{}\n":                         "not a message",
		"riposte-journal 1":            "not a message",
		"riposte-journal 1\n":          "no id",
		"riposte-journal x A\n":        "no version",
		"riposte-journal 0 A\n":        "no version",
		"riposte-journal 2 A more\n":   "a newer version wrote it",
		"riposte-journal 1 A\n{}":      "cut off",
		"riposte-journal 1 A\nnope\n":  "entry 1",
		"riposte-journal 1 A\n{}\n7\n": "entry 2",
	} {
		if _, err := decode([]byte(data)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("decode(%q) gives %v, want %q", data, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	lines, _ := encode([]run.Entry{started("r", 1), big("r", 10)})
	f.Add(pack(lines)[0].data)
	f.Add([]byte("riposte-journal 1 A\n{\"kind\":\"ended\",\"record\":{\"steps\":[{}]}}\n"))
	f.Add([]byte("riposte-journal 2 A\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := decode(data)
		if err != nil {
			return
		}
		lines, err := encode(entries)
		if err != nil {
			return // longer once written in our form, or a time that JSON can't hold
		}
		var again []run.Entry
		for _, m := range pack(lines) {
			more, err := decode(m.data)
			if err != nil {
				t.Fatalf("what was decoded can't be decoded once encoded: %v", err)
			}
			again = append(again, more...)
		}
		if len(again) != len(entries) {
			t.Fatalf("%d entries became %d", len(entries), len(again))
		}
	})
}

func FuzzDecodeCheckpoint(f *testing.F) {
	f.Add([]byte(`{"v":1,"owner":"a","claim":3,"decided":{"seq":1,"index":0},"replay":4,"eventsFrom":{"seq":1,"index":0}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := decodeCheckpoint(data); err == nil && c.Version != checkpointVersion {
			t.Errorf("version %d is taken", c.Version)
		}
	})
}
