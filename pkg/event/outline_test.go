package event

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// whole puts together what the parts of a body say, down to what is no object.
func whole(v any) any {
	p, ok := v.(Part)
	if !ok {
		return v
	}
	m := map[string]any{}
	for _, name := range p.Fields() {
		v, _ := p.Lazily(name)
		m[name] = whole(v)
	}
	return m
}

func comparePart(t *testing.T, body []byte, want any) {
	e := &Event{Body: body}
	p, ok := e.Part()
	if _, isObject := want.(map[string]any); ok != isObject {
		t.Fatalf("%q: there is a part: %v", body, ok)
	}
	if !ok {
		return
	}
	if got := whole(p); !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: the parts are %#v, want %#v", body, got, want)
	}
	if got := p.Value(); !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: the part is %#v, want %#v", body, got, want)
	}
}

func TestPart(t *testing.T) {
	for _, body := range []string{
		`{}`, ` { "a" : { } , "b" : [ { "c" : 1 } ] , "d" : { "e" : { "f" : null } , "g" : "h" } } `,
		`{"a":{"x":1},"a":{"y":2},"b":1,"b":{"c":3,"c":4}}`, `{"\u0061b":1,"a\\b":2,"":3,"é":4}`,
		`{"a":[[{"b":1}],{"c":[]}],"d":{"e":[1,{"f":{}}],"g":{"h":"\n"}},"i":"` + strings.Repeat("long", 40) + `"}`,
		`[{"a":1}]`, `"x"`, `null`, `{"a":` + strings.Repeat("[", 900) + strings.Repeat("]", 900) + `,"b":{"c":1}}`,
	} {
		want, err := Decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		comparePart(t, []byte(body), want)
	}
}

func TestWhatHasNoPart(t *testing.T) {
	for _, body := range []string{"", `{"a":`, `{"a":1}}`} {
		if _, ok := (&Event{Body: []byte(body)}).Part(); ok {
			t.Errorf("%q has a part", body)
		}
	}
	var b strings.Builder
	for i := range maxOutline {
		fmt.Fprintf(&b, `,"k%d":{"a":[%d]}`, i, i)
	}
	e := &Event{Body: []byte("{" + b.String()[1:] + "}")}
	if _, ok := e.Part(); ok {
		t.Error("a body with very many members has a part")
	}
	data, ok := e.Lazily("data")
	if m, isMap := data.(map[string]any); !ok || !isMap || len(m) != maxOutline {
		t.Errorf("its data is %T, %v", data, ok)
	}
}

func TestPartsAreReadConcurrently(t *testing.T) {
	e := &Event{Body: sample()}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			p, _ := e.Part()
			if _, err := e.Data(); err != nil || len(p.Fields()) != 5 {
				t.Error(err, p.Fields())
			}
			if commits, _ := p.Field("commits"); len(commits.([]any)) != 8 {
				t.Error(commits)
			}
		})
	}
	wg.Wait()
}

func BenchmarkOutline(b *testing.B) {
	body := sample()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := scanOutline(body); err != nil {
			b.Fatal(err)
		}
	}
}
