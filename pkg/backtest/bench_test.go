package backtest_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/backtest"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/github"
)

// manyRules have four conjuncts each, of which a few rules' are true for an event; every fifth is for other senders.
func manyRules(n int) []string {
	rules := make([]string, n)
	for i := range rules {
		head := fmt.Sprintf(`trigger: {source: github, type: push}
  when: event.git.repo == "acme/service-%d" && event.git.branch == "main" && event.data.pusher.name != "bot" && changed("src/**", "deploy/**")`, i)
		if i%5 == 4 {
			head = fmt.Sprintf("trigger: {source: alertmanager, type: alert.firing}\n  when: event.alert.labels.service == \"service-%d\"", i)
		}
		rules[i] = ruleOf(fmt.Sprintf("rule-%d", i), head)
	}
	return rules
}

// recordingOf has pushes of 2.3 KB to n repositories, a second apart.
func recordingOf(t testing.TB, events, repositories int) string {
	src := load(t).Sources["github"].Source
	var body string
	for _, e := range github.Type().Examples() {
		if e.Name == "push" {
			body = strings.Join(strings.Fields(string(e.Body)), " ")
		}
	}
	var b strings.Builder
	random := rand.New(rand.NewPCG(1, 2))
	for i := range events {
		at := start().Add(time.Duration(i) * time.Second).Format(time.RFC3339Nano)
		data := strings.ReplaceAll(body, "acme/shop", fmt.Sprintf("acme/service-%d", random.IntN(repositories)))
		data = strings.Replace(data, "tax/rates.go", "src/rates.go", 2)
		data = strings.Replace(data, "Charge the right tax", strings.Repeat("x", max(1, 2300-len(data))), 1)
		fmt.Fprintf(&b, `{"id":%q,"source":"github","type":"push","time":%q,"receivedAt":%q,"deliveryID":"d","subject":"acme/shop","headers":{"X-Github-Event":"push"},"git":%s,"data":%s}`+"\n",
			event.ID("bench", fmt.Sprint(i)), at, at, view(t, src, data), data)
	}
	return b.String()
}

// BenchmarkAgainstScan plays events to 1,000 rules, and reads and scans the same events alone, by turns. It reports the
// best of each in microseconds an event, which other work on the machine disturbs least, and their ratio.
func BenchmarkAgainstScan(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(300)) // as serve and the command set it
	const events = 500
	text, set := recordingOf(b, events, 1000), load(b, manyRules(1000)...)
	scanned, played := time.Hour, time.Hour
	for b.Loop() {
		begin := time.Now()
		if err := open(b, text).Each(start(), start().Add(24*time.Hour), func(*backtest.Recorded) error { return nil }); err != nil {
			b.Fatal(err)
		}
		scanned = min(scanned, time.Since(begin))
		begin = time.Now()
		report, err := backtest.Run(b.Context(), open(b, text), backtest.Options{Candidate: set, Since: start(), Until: start().Add(24 * time.Hour)})
		if err != nil || report.Appear < events/2 {
			b.Fatal(report, err)
		}
		played = min(played, time.Since(begin))
	}
	b.ReportMetric(float64(scanned.Nanoseconds())/events/1000, "µs/scan")
	b.ReportMetric(float64(played.Nanoseconds())/events/1000, "µs/event")
	b.ReportMetric(float64(scanned)/float64(played), "x-scan")
}

// view is the git view that the API prints of a push.
func view(t testing.TB, src source.Source, body string) string {
	e := &event.Event{Type: "push", Body: []byte(body)}
	src.Normalise(e)
	text, err := json.Marshal(e.Git)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
