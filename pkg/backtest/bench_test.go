package backtest_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/backtest"
	"github.com/riposte-dev/riposte/pkg/event"
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
func recordingOf(events, repositories int) string {
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
		data = strings.ReplaceAll(data, "tax/rates.go", "src/"+strings.Repeat("x", max(1, 2300-len(data)))+".go")
		fmt.Fprintf(&b, `{"id":%q,"source":"github","type":"push","time":%q,"receivedAt":%q,"deliveryID":"d","subject":"acme/shop","headers":{"X-Github-Event":"push"},"data":%s}`+"\n",
			event.ID("bench", fmt.Sprint(i)), at, at, data)
	}
	return b.String()
}

const benchEvents = 2_000

// BenchmarkScan reads and scans the events alone: what a backtest is compared with.
func BenchmarkScan(b *testing.B) {
	text := recordingOf(benchEvents, 1000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		rec := open(b, text)
		if err := rec.Each(start(), start().Add(24*time.Hour), func(*backtest.Recorded) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBacktest is the same with 1,000 rules.
func BenchmarkBacktest(b *testing.B) {
	text := recordingOf(benchEvents, 1000)
	set := load(b, manyRules(1000)...)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		report, err := backtest.Run(b.Context(), open(b, text), backtest.Options{Candidate: set, Since: start(), Until: start().Add(24 * time.Hour)})
		if err != nil || report.Appear < benchEvents/2 {
			b.Fatal(report, err)
		}
	}
}
