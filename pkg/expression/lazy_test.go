package expression_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/expression"
)

var _ expression.Lazy = (*event.Event)(nil)
var _ expression.Lazy = event.Part{}

// TestLazyIsLikeWhole: an event whose body is read in parts is to every expression what one that is decoded is.
func TestLazyIsLikeWhole(t *testing.T) {
	const body = `{"a":{"b":{"c":1,"n":null},"list":[{"id":1},{"id":2}]},"key":"b","a-b":true,"text":"x","empty":{}}`
	data, err := event.Decode([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, src := range []string{
		`event.data.a.b.c`, `event.data.a.b`, `event.data`, `event.data.a[event.data.key].c`, `event.data.a.list[-1].id`, `event.data["a-b"]`,
		`event.data.a.missing`, `event.data.a.mising.c`, `event.data.text.c`, `event.data.a.b.n.c`, `event.data?.x?.y`, `event.data.a?.b.x`,
		`event.data.a == {"b": {"c": 1, "n": nil}, "list": [{"id": 1}, {"id": 2}]}`, `event.data.a == event.data.a`, `toJSON(event.data.a)`,
		`let d = event.data.a; d.b.c + 1`, `keys(event.data)`, `"b" in event.data.a`, `event.data.empty == {}`, `type(event.data.a)`,
		`any(event.data.a.list, .id == 2)`, `map(event.data.a.list, #.id)`, `get(event.data.a, "b").c`, `get(event.data, "te" + "xt")`,
		`event["da" + "ta"].a.b`, `event.data.a["li" + "st"][0]`, `[event.data.a.b]`, `{"x": event.data.a}.x.b.c`, `len(event.data)`,
		`event.data.a startsWith "x"`, `event.data.a`, `event.data.empty.x`, `event.data.a.b.n ?? "none"`, `(event.data.a).b`,
	} {
		p := compile(t, src)
		result := func(e any) string {
			s := &expression.Scope{Vars: map[string]any{"event": e}}
			v, err := p.Eval(context.Background(), s)
			truth, clauses := p.Explain(context.Background(), s)
			return fmt.Sprintf("%#v %v %s %s %s", v, err, truth, p.Test(context.Background(), s), fmt.Sprintf("%+v", clauses))
		}
		if got, want := result(&event.Event{Body: []byte(body)}), result(object{"data": data}); got != want {
			t.Errorf("%s\n got %s\nwant %s", src, got, want)
		}
	}
}
