package explain_test

import (
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/correlate"
	"github.com/riposte-dev/riposte/pkg/explain"
)

// group is one that waits since 10:05, with an event for each part.
func group(key string, within time.Duration, need int, parts ...string) correlate.Waiting {
	g := correlate.Waiting{Key: key, Since: clock(10, 5, 0), Until: clock(10, 5, 0).Add(within), Need: need}
	for i, p := range parts {
		g.Events = append(g.Events, correlate.Ref{Part: p, ID: "01KAR7Q3", At: clock(10, 5+i, 0)})
	}
	return g
}

func with(g correlate.Waiting, change func(*correlate.Waiting)) correlate.Waiting {
	change(&g)
	return g
}

func TestWindows(t *testing.T) {
	const counted = `trigger: {source: alertmanager}, correlate: {count: 5, within: 1h, by: event.alert.labels.app}`
	const three = `correlate: {within: 1d, all: [{as: a, trigger: {source: alertmanager}}, {as: b, trigger: {type: push}}, {as: c, trigger: {type: push}}]}`
	for _, tc := range []struct {
		name, spec string
		answer     explain.Answer
		result     explain.Result
		want       string
	}{
		{"count", counted, explain.Answer{Groups: []correlate.Waiting{group("shop", time.Hour, 3, "", "")}, Total: 1}, explain.Waits, `
  count, within 1h
    2 of 5                                    1 waiting: shop (since 10:05:00Z, until 11:05:00Z)`},
		{"a group without a key, that ends tomorrow", three, explain.Answer{Groups: []correlate.Waiting{with(group("", 24*time.Hour, 1, "a", "b"), func(g *correlate.Waiting) { g.Missing = []string{"c"} })}, Total: 1}, explain.Waits, `
  all, within 1d
    a, b                                      1 waiting: since 10:05:00Z, until 2026-11-24T10:05:00Z, missing c`},
		{"collect", `trigger: {source: alertmanager}, correlate: {collect: true, within: 90s, by: event.subject}`,
			explain.Answer{Groups: []correlate.Waiting{with(group("a b", 90*time.Second, 0, "", ""), func(g *correlate.Waiting) { g.Rest = 3 })}, Total: 1}, explain.Waits, `
  collect, within 1m30s
    5 so far                                  1 waiting: "a b" (since 10:05:00Z, until 10:06:30Z)`},
		{"flapping", `trigger: {source: alertmanager}, correlate: {flapping: 3, within: 10m}`,
			explain.Answer{Groups: []correlate.Waiting{with(group("up", 10*time.Minute, 1, "", ""), func(g *correlate.Waiting) { g.State = "firing" }), with(group("calm", 10*time.Minute, 2, ""), func(g *correlate.Waiting) { g.State, g.Quiet = "resolved", true })}, Total: 2}, explain.Waits, `
  flapping, within 10m
    2 of 3 changes                            1 waiting: up (since 10:05:00Z, until 10:15:00Z, state firing)
    quiet until it is stable                  1 waiting: calm (since 10:05:00Z, until 10:15:00Z, state resolved)`},
		{"absence", `correlate: {within: 1h, absence: [{as: a, trigger: {source: alertmanager}}, {as: b, trigger: {type: push}}], by: event.subject}`,
			explain.Answer{Groups: []correlate.Waiting{group("x", time.Hour, 1, "a")}, Total: 1}, explain.Waits, `
  absence, within 1h
    a                                         1 waiting: x (since 10:05:00Z, until 11:05:00Z)`},
		{"a window that has ended is over", counted, explain.Answer{Groups: []correlate.Waiting{group("shop", 7*time.Minute, 3, "", "")}, Total: 1}, explain.TookPart, `
  count, within 1h
    nothing waits for shop now`},
		{"the event itself is not in it", counted, explain.Answer{Groups: []correlate.Waiting{with(group("shop", time.Hour, 4, ""), func(g *correlate.Waiting) { g.Events[0].ID = "OTHER" })}, Total: 1}, explain.TookPart, `
  count, within 1h
    1 of 5                                    1 waiting: shop (since 10:05:00Z, until 11:05:00Z)`},
		{"elsewhere", counted, explain.Answer{Elsewhere: []explain.Elsewhere{{Partition: 3, Owner: "riposte-1"}}}, explain.TookPart, `
  count, within 1h
    partition 3 waits on another replica, riposte-1`},
		{"owner unknown, or without time", counted, explain.Answer{Elsewhere: []explain.Elsewhere{{Partition: 3}, {Partition: 4, Busy: true}}}, explain.TookPart, `
  count, within 1h
    partition 3 waits on another replica
    partition 4 has no time to answer: ask again in a moment`},
		{"too early, and other rules", counted, explain.Answer{Behind: true, Changed: true}, explain.TookPart, `
  count, within 1h
    the active rules do not wait for this any more
    its windows have not come to this event yet: ask again in a moment`},
		{"many", counted, explain.Answer{Groups: []correlate.Waiting{
			group("a", time.Hour, 4, ""), group("b", time.Hour, 4, ""), group("c", time.Hour, 4, ""), group("d", time.Hour, 4, ""), group("e", time.Hour, 4, ""), group("f", time.Hour, 4, ""), group("g", time.Hour, 4, ""),
		}, Total: 100}, explain.Waits, `
  count, within 1h
    1 of 5                                    7 waiting: a (since 10:05:00Z, until 11:05:00Z), b (since 10:05:00Z, until 11:05:00Z), c (since 10:05:00Z, until 11:05:00Z), d (since 10:05:00Z, until 11:05:00Z), e (since 10:05:00Z, until 11:05:00Z), and 2 more
    up to 93 more wait`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := explain.Build(t.Context(), explain.Input{
				Event: alert(labels()), State: explain.Decided, Set: load(t, file("r.yaml", ruleOf("r", tc.spec))), Now: clock(10, 13, 0),
				Windows: func([]explain.Query) []explain.Answer { return []explain.Answer{tc.answer} },
			})
			if v := x.Rules[0]; v.Result != tc.result {
				t.Errorf("result is %s, want %s", v.Result, tc.result)
			}
			if got := render(t, x, false); !strings.HasSuffix(got, tc.want+"\n") {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestOfAGroupTheNewestEventsAreListed(t *testing.T) {
	g := group("shop", time.Hour, 0)
	for i := range 30 {
		g.Events = append(g.Events, correlate.Ref{ID: "E", At: clock(10, 5, i)})
	}
	x := explain.Build(t.Context(), explain.Input{
		Event: alert(labels()), Set: load(t, file("r.yaml", ruleOf("r", `trigger: {source: alertmanager}, correlate: {collect: true, within: 1h}`))), Now: clock(10, 13, 0),
		Windows: func([]explain.Query) []explain.Answer {
			return []explain.Answer{{Groups: []correlate.Waiting{g}, Total: 1}}
		},
	})
	got := x.Rules[0].Correlate.Windows.Groups[0]
	if len(got.Events) != 10 || got.Rest != 20 || !got.Events[9].At.Equal(clock(10, 5, 29)) {
		t.Errorf("%d events and %d more: %+v", len(got.Events), got.Rest, got.Events)
	}
}
