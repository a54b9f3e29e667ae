package app_test

import (
	"fmt"
	"testing"

	"github.com/riposte-dev/riposte/pkg/run"
)

type runList struct {
	Items []struct {
		ID, Rule, Event, Key string
		State                run.State
	}
}

// runsOf returns the runs of a rule that have ended.
func (s *server) runsOf(rule string) runList {
	s.t.Helper()
	var all, ended runList
	if !s.get("runs?rule="+rule, &all) {
		return ended
	}
	for _, r := range all.Items {
		if r.State.Ended() {
			ended.Items = append(ended.Items, r)
		}
	}
	return ended
}

func pushTo(repo string, n int) string {
	return fmt.Sprintf(`{"ref":"refs/heads/main","after":"1%039d","repository":{"full_name":"acme/%s","clone_url":"https://git.example.com/acme/%s.git"}}`, n, repo, repo)
}

const windowRules = githubSource + `apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: thrice}
spec:
  trigger: {source: github, type: push}
  correlate: {count: 3, within: 1h, by: event.git.repo}
  steps:
    - {uses: exec.run, with: {command: [echo, "${{ correlated.key }} ${{ len(correlated.events) }} ${{ correlated.events[0].git.commit }}"]}}
---
apiVersion: riposte.dev/v1
kind: Rule
metadata: {name: silent}
spec:
  correlate:
    within: 2s
    by: event.git.repo
    absence:
      - {as: first, trigger: {source: github, type: push}, when: event.git.repo == "acme/quiet"}
      - {as: second, trigger: {source: github, type: push}}
  steps:
    - {uses: exec.run, with: {command: [echo, "${{ correlated.first.git.commit }}"]}}
---
`

// TestWindowsOutliveTheServer counts over a restart, and lets a window end while the server is down.
func TestWindowsOutliveTheServer(t *testing.T) {
	data := t.TempDir()
	one := start(t, data, windowRules)
	for n := range 2 {
		one.push(pushTo("shop", n))
	}
	quiet := one.push(pushTo("quiet", 100))
	one.push(pushTo("cart", 200))
	one.wait("the last decision", func() bool {
		var e struct{ Decision *struct{ Why string } }
		return one.get("events/"+quiet.ID, &e) && e.Decision != nil
	})
	if err := one.stop(); err != nil {
		t.Fatal(err)
	}
	two := start(t, data, windowRules)
	third := two.push(pushTo("shop", 2))
	two.wait("both runs", func() bool { return len(two.runsOf("thrice").Items) == 1 && len(two.runsOf("silent").Items) == 1 })
	counted := two.runsOf("thrice").Items[0]
	if counted.Key != "acme/shop" || counted.Event != third.ID || counted.State != run.Succeeded {
		t.Errorf("the third push made %+v", counted)
	}
	r := two.ended(counted.ID)
	if out := r.Steps[0].Outputs["stdout"]; out != fmt.Sprintf("acme/shop 3 1%039d", 0) {
		t.Errorf("its step printed %q", out)
	}
	absent := two.runsOf("silent").Items[0]
	if out := two.ended(absent.ID).Steps[0].Outputs["stdout"]; absent.Event != quiet.ID || out != fmt.Sprintf("1%039d", 100) {
		t.Errorf("silence made %+v, which printed %q", absent, out)
	}
	if err := two.stop(); err != nil {
		t.Fatal(err)
	}
	three := start(t, data, windowRules)
	three.push(pushTo("shop", 3))
	three.push(pushTo("shop", 4))
	last := three.push(pushTo("shop", 5))
	three.wait("three more", func() bool { return len(three.runsOf("thrice").Items) == 2 })
	if newest := three.runsOf("thrice").Items[0]; newest.Event != last.ID {
		t.Errorf("after a firing it starts from zero; the second one is %+v", newest)
	}
	if n := len(three.runsOf("silent").Items); n != 1 {
		t.Errorf("the window that ended fired %d times", n)
	}
}
