package correlate_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/event"
)

func match(seq uint64, key string, at time.Time) correlate.Match {
	return correlate.Match{Key: key, ID: fmt.Sprint("e", seq), Pos: event.Pos{Seq: seq}, At: at}
}

func TestValidateNamesTheField(t *testing.T) {
	minute := time.Minute
	for _, test := range []struct {
		spec correlate.Spec
		want string
	}{
		{correlate.Spec{Kind: correlate.Count, Within: minute, Count: 3}, ""},
		{correlate.Spec{Kind: correlate.Collect, Within: minute}, ""},
		{correlate.Spec{Kind: correlate.Absence, Within: minute, Parts: []string{"a", "b"}}, ""},
		{correlate.Spec{Kind: "window", Within: minute}, `kind: "window" is none of count, sequence, all, absence, collect, flapping`},
		{correlate.Spec{Kind: correlate.Count, Count: 3}, "within: must be longer than 0s"},
		{correlate.Spec{Kind: correlate.Count, Within: minute}, "count: must be from 1 to 10000, is 0"},
		{correlate.Spec{Kind: correlate.Count, Within: minute, Count: 10_001}, "count: must be from 1 to 10000, is 10001"},
		{correlate.Spec{Kind: correlate.Flapping, Within: minute, Changes: 1}, "changes: must be from 2 to 10000, is 1"},
		{correlate.Spec{Kind: correlate.Collect, Within: minute, Count: 2}, "count: belongs to kind count only, this is collect"},
		{correlate.Spec{Kind: correlate.Collect, Within: minute, Each: true}, "each: belongs to kind count only, this is collect"},
		{correlate.Spec{Kind: correlate.Count, Count: 2, Within: minute, Changes: 2}, "changes: belongs to kind flapping only, this is count"},
		{correlate.Spec{Kind: correlate.Count, Count: 2, Within: minute, Parts: []string{"a"}}, "parts: count has one unnamed part"},
		{correlate.Spec{Kind: correlate.Sequence, Within: minute, Parts: []string{"a"}}, "parts: sequence needs from 2 to 16, has 1"},
		{correlate.Spec{Kind: correlate.All, Within: minute, Parts: make([]string, 17)[:17]}, "parts: all needs from 2 to 16, has 17"},
		{correlate.Spec{Kind: correlate.Absence, Within: minute, Parts: []string{"a"}}, "parts: absence needs the one that starts the wait and the one that must not come, has 1"},
		{correlate.Spec{Kind: correlate.All, Within: minute, Parts: []string{"a", ""}}, "parts[1]: must have a name"},
		{correlate.Spec{Kind: correlate.All, Within: minute, Parts: []string{"a", "a"}}, `parts[1]: the name "a" is taken`},
		{correlate.Spec{Kind: correlate.Collect, Within: minute, MaxGroups: -1}, "maxGroups: must not be negative"},
		{correlate.Spec{Kind: correlate.Count, Count: 9, Within: minute, MaxEvents: 7}, "maxEvents: 7 is less than one group may need (8)"},
	} {
		problems := test.spec.Validate()
		m, err := correlate.New(test.spec)
		if test.want == "" {
			if len(problems) > 0 || err != nil || m == nil {
				t.Errorf("%+v: %v, %v", test.spec, problems, err)
			}
			continue
		}
		if len(problems) == 0 || problems[0].Error() != test.want {
			t.Errorf("%+v:\n%v, want\n%s", test.spec, problems, test.want)
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("New says %v, want %s", err, test.want)
		}
	}
}

func TestFiringNamesItsEvents(t *testing.T) {
	m := newMachine(t, correlate.Spec{Kind: correlate.Sequence, Parts: []string{"deploy", "alert"}, Within: time.Hour})
	id := event.ID("github", "1")
	m.Add(correlate.Match{Key: "shop", ID: id, Pos: event.Pos{Seq: 7, Index: 3}, At: start})
	got := m.Add(correlate.Match{Part: 1, Key: "shop", ID: "a name that is far too long", Pos: event.Pos{Seq: 9}, At: start.Add(time.Minute)})
	deploy := correlate.Ref{Part: "deploy", ID: id, Pos: event.Pos{Seq: 7, Index: 3}, At: start}
	alert := correlate.Ref{Part: "alert", ID: "a name that is ", Pos: event.Pos{Seq: 9}, At: start.Add(time.Minute)}
	want := []correlate.Firing{{Key: "shop", Window: "9.0", At: alert.At, Events: []correlate.Ref{deploy, alert}}}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	if r, ok := got[0].Part("deploy"); !ok || r != deploy {
		t.Errorf("part deploy is %+v", r)
	}
	if _, ok := got[0].Part("rollback"); ok || got[0].Event() != alert {
		t.Errorf("event is %+v", got[0].Event())
	}
}

func TestLongKeysAreHashed(t *testing.T) {
	m := newMachine(t, correlate.Spec{Kind: correlate.Count, Count: 2, Within: time.Hour})
	long := strings.Repeat("ä", 1<<19) // 1 MiB
	m.Add(match(1, "x"+long, start))
	m.Add(match(2, "x"+long+"!", start))
	got := m.Add(match(3, "x"+long, start))
	if len(got) != 1 || names(got[0].Events) != "e1+e3" {
		t.Fatalf("fires %v", got)
	}
	key := got[0].Key
	if len(key) > 400 || !strings.HasPrefix(key, "xäää") || !utf8.ValidString(key) || !strings.Contains(key, "…sha256:") {
		t.Errorf("key is %q", key)
	}
	if w, ok := m.Group("x" + long + "!"); !ok || w.Need != 1 {
		t.Errorf("group is %+v", w)
	}
}

func TestTheLeastRecentlyMatchedGroupGoes(t *testing.T) {
	m := newMachine(t, correlate.Spec{Kind: correlate.Absence, Parts: []string{"a", "b"}, Within: time.Hour, MaxGroups: 2})
	m.Add(match(1, "one", start))
	m.Add(match(2, "two", start.Add(time.Second)))
	m.Add(match(3, "one", start.Add(2*time.Second))) // matched, though it changes nothing
	m.Add(match(4, "three", start.Add(3*time.Second)))
	if _, ok := m.Group("two"); ok || m.Len() != 2 || m.Stats().Evicted != 1 {
		t.Fatalf("%+v, two is there: %t", m.Stats(), ok)
	}
	got := m.Advance(start.Add(2 * time.Hour))
	if show(got, start.Add(time.Hour)) != "e1@one,e4@three!60.05m" {
		t.Errorf("fires %s", show(got, start.Add(time.Hour)))
	}
}

func TestEventsAreBoundedTogether(t *testing.T) {
	m := newMachine(t, correlate.Spec{Kind: correlate.Count, Count: 10, Within: time.Hour, MaxEvents: 20})
	for i := range uint64(100) {
		m.Add(match(i+1, fmt.Sprint(i%25), start))
		if s := m.Stats(); s.Events > 20 {
			t.Fatalf("%+v", s)
		}
	}
	if s := m.Stats(); s.Evicted != 80 || s.Groups != 20 {
		t.Errorf("%+v", s)
	}
}

func TestKeysAreBoundedTogether(t *testing.T) {
	long := strings.Repeat("k", 1000)
	m := newMachine(t, correlate.Spec{Kind: correlate.Flapping, Changes: 3, Within: time.Hour, MaxGroups: 1_000_000, MaxKeyBytes: 50_000})
	for i := range uint64(200) {
		x := match(i+1, fmt.Sprint(i%90, long), start)
		x.State = fmt.Sprint(i, long)
		m.Add(x)
		if s := m.Stats(); s.KeyBytes > 50_000 {
			t.Fatalf("%+v", s)
		}
	}
	s := m.Stats()
	if s.Groups != 24 || s.Evicted != 200-24 {
		t.Errorf("%+v", s)
	}
	if _, ok := m.Group("19" + long); !ok {
		t.Error("the group that was matched last is gone")
	}
	m.Advance(start.Add(2 * time.Hour))
	if s := m.Stats(); s.KeyBytes != 0 || s.Groups != 0 {
		t.Errorf("with all windows over: %+v", s)
	}
}

func TestOtherBoundsHoldAtOnce(t *testing.T) {
	spec := correlate.Spec{Kind: correlate.Count, Count: 3, Within: time.Hour}
	m := newMachine(t, spec)
	for i := range uint64(10) {
		m.Add(match(i+1, fmt.Sprint(i), start))
	}
	spec.MaxGroups = 3
	if !m.SetBounds(spec) || m.Len() != 3 || m.Stats().Evicted != 7 {
		t.Fatalf("%+v", m.Stats())
	}
	if m.SetBounds(spec) {
		t.Error("the same bounds drop more")
	}
	if _, ok := m.Group("9"); !ok {
		t.Error("the group that was matched last is gone")
	}
	spec.MaxGroups = 5
	m.SetBounds(spec)
	for i := range uint64(10) {
		m.Add(match(i+11, fmt.Sprint("more", i), start))
	}
	if m.Len() != 5 || m.Spec().MaxGroups != 5 {
		t.Errorf("%+v", m.Stats())
	}
}

func TestCollectListsAThousandAndCountsTheRest(t *testing.T) {
	m := newMachine(t, correlate.Spec{Kind: correlate.Collect, Within: time.Hour})
	for i := range uint64(1500) {
		m.Add(match(i+1, "", start))
	}
	got := m.Advance(start.Add(time.Hour))
	if len(got) != 1 || len(got[0].Events) != 1000 || got[0].Rest != 500 {
		t.Fatalf("%d firings", len(got))
	}
	if f := got[0]; f.Events[998].ID != "e999" || f.Event().ID != "e1500" || f.Window != "1.0" {
		t.Errorf("lists %s and then %s, window %s", f.Events[998].ID, f.Event().ID, f.Window)
	}
}

func TestNextIsTheEndOfAWindowThatFires(t *testing.T) {
	m := newMachine(t, correlate.Spec{Kind: correlate.Collect, Within: time.Hour})
	if _, ok := m.Next(); ok {
		t.Error("an empty machine has a deadline")
	}
	m.Add(match(1, "a", start))
	m.Add(match(2, "b", start.Add(time.Minute)))
	next, ok := m.Next()
	if !ok || !next.Equal(start.Add(time.Hour)) {
		t.Fatalf("next is %s, %t", next, ok)
	}
	if got := m.Advance(next.Add(-1)); len(got) > 0 {
		t.Errorf("fires %v before the end", got)
	}
	if got := m.Advance(next); len(got) != 1 || got[0].Key != "a" {
		t.Errorf("fires %v", got)
	}
	if again, _ := m.Next(); !again.Equal(next.Add(time.Minute)) {
		t.Errorf("next is %s", again)
	}
	count := newMachine(t, correlate.Spec{Kind: correlate.Count, Count: 2, Within: time.Hour})
	count.Add(match(1, "", start))
	if at, ok := count.Next(); ok {
		t.Errorf("nothing fires when a count's window ends, but next is %s", at)
	}
	if got := count.Advance(start.Add(time.Hour)); len(got) > 0 || count.Len() != 0 {
		t.Errorf("fires %v, %d groups are left", got, count.Len())
	}
}

func TestTimesAtTheEdge(t *testing.T) {
	for _, first := range []time.Time{{}, time.Unix(0, 0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		m := newMachine(t, correlate.Spec{Kind: correlate.Absence, Parts: []string{"a", "b"}, Within: 1<<63 - 1})
		m.Add(match(1, "", first))
		m.Add(match(2, "", time.Time{}))
		if fired := m.Advance(time.Date(9999, 12, 1, 0, 0, 0, 0, time.UTC)); len(fired) > 1 {
			t.Errorf("%s: fires %v", first, fired)
		}
	}
}

func TestExplain(t *testing.T) {
	m := newMachine(t, correlate.Spec{Kind: correlate.Sequence, Parts: []string{"build", "test", "release"}, Within: 15 * time.Minute})
	add := func(seq uint64, part int, key string, at time.Duration) {
		x := match(seq, key, start.Add(at))
		x.Part = part
		m.Add(x)
	}
	add(1, 0, "shop", 0)
	add(2, 1, "shop", time.Minute)
	add(3, 0, "shop", 2*time.Minute)
	add(4, 0, "cart", 3*time.Minute)
	list := m.Groups(10)
	if len(list) != 2 || list[0].Key != "cart" || list[1].Key != "shop" {
		t.Fatalf("groups are %+v", list)
	}
	shop := list[1]
	if names(shop.Events) != "e1+e2" || fmt.Sprint(shop.Missing) != "[release]" || shop.Need != 1 ||
		!shop.Since.Equal(start) || !shop.Until.Equal(start.Add(15*time.Minute)) {
		t.Errorf("shop is %+v", shop)
	}
	add(5, 0, "cart", 16*time.Minute)
	if shop, _ = m.Group("shop"); names(shop.Events) != "e3" || fmt.Sprint(shop.Missing) != "[test release]" {
		t.Errorf("once the first build is too long ago, shop is %+v", shop)
	}
	if len(m.Groups(1)) != 1 || len(m.Groups(0)) != 0 {
		t.Error("the limit is not kept")
	}
	if oldest, ok := m.Oldest(); !ok || oldest != (event.Pos{Seq: 3}) {
		t.Errorf("oldest is %v", oldest)
	}
}

func TestExplainOfTheOtherKinds(t *testing.T) {
	minute := time.Minute
	for _, test := range []struct {
		spec   correlate.Spec
		states string
		want   string
	}{
		{correlate.Spec{Kind: correlate.Count, Count: 4}, "xx", "e1+e2 [] 2"},
		{correlate.Spec{Kind: correlate.All, Parts: []string{"a", "b", "c"}}, "x", "e1 [b c] 2"},
		{correlate.Spec{Kind: correlate.Absence, Parts: []string{"a", "b"}}, "xx", "e1 [b] 1"},
		{correlate.Spec{Kind: correlate.Collect}, "xx", "e1+e2 [] 0"},
		{correlate.Spec{Kind: correlate.Flapping, Changes: 3}, "x", " [] 3 x"},
		{correlate.Spec{Kind: correlate.Flapping, Changes: 3}, "xyx", "e2+e3 [] 1 x"},
		{correlate.Spec{Kind: correlate.Flapping, Changes: 3}, "xyxyx", "e5 [] 2 x quiet"},
	} {
		test.spec.Within = 15 * minute
		m := newMachine(t, test.spec)
		for i, state := range test.states {
			x := match(uint64(i+1), "k", start.Add(time.Duration(i)*minute))
			x.State = string(state)
			m.Add(x)
		}
		w, ok := m.Group("k")
		got := fmt.Sprint(names(w.Events), " ", w.Missing, " ", w.Need)
		if test.spec.Kind == correlate.Flapping {
			got += " " + w.State
		}
		if w.Quiet {
			got += " quiet"
		}
		if !ok || got != test.want || !w.Until.Equal(w.Since.Add(15*minute)) {
			t.Errorf("%s %s: %q (since %s, until %s), want %q", test.spec.Kind, test.states, got, w.Since, w.Until, test.want)
		}
	}
}

func TestMatchesThatMakeNoSense(t *testing.T) {
	m := newMachine(t, correlate.Spec{Kind: correlate.All, Parts: []string{"a", "b"}, Within: time.Hour})
	x := match(1, "k", start)
	y, z := x, x
	y.Part, z.Part = -1, 2
	if got := m.Add(x, x, y, z); len(got) > 0 || m.Len() != 1 || len(m.Add()) > 0 {
		t.Errorf("fires %v, %d groups", got, m.Len())
	}
	if got := m.Add(match(0, "k", start)); len(got) > 0 || m.Position() != (event.Pos{Seq: 1}) {
		t.Errorf("fires %v at %v", got, m.Position())
	}
}
