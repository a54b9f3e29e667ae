package engine

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// A line has no room for many rules; what is left out is counted, and the line says where it can be read.
func TestALineThatIsNotAllPointsToExplain(t *testing.T) {
	text := strings.SplitN(oneRule(""), "---\n", 2)[0]
	for i := range 30 {
		when := `event.subject == "x"`
		if i%2 == 0 {
			when = `event.data.gone == "x"`
		}
		text += fmt.Sprintf("---\napiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r%d}\nspec:\n  trigger: {type: go}\n  when: %s\n  steps: [{uses: do}]\n", i, when)
	}
	few := "apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: r0}\nspec:\n  trigger: {type: go}\n  when: event.type == \"x\"\n  steps: [{uses: do}]\n"
	for rules, wanted := range map[string]string{text: " says it of each", few: ""} {
		set := loadRules(t, rules)
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, set)
			r := w.boot("a").grantAll()
			e := eventOf("go", 1)
			w.append(e)
			w.await("the decision", w.settled)
			why := w.decided[e.Event.ID].Why
			if points := strings.HasSuffix(why, "; riposte explain "+e.Event.ID+wanted); points != (wanted != "") {
				t.Errorf("why is %q", why)
			}
			r.stop()
		})
	}
}
