package lint_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestManyRules keeps what check takes in proportion: rules are compared with each other, and each with every type of event.
func TestManyRules(t *testing.T) {
	specs := make([]string, 500)
	for i := range specs {
		specs[i] = fmt.Sprintf("trigger: {source: gh}\nwhen: event.git.branch == \"b%d\" && event.git.repo in [\"a\", \"b\"] && event.type in [\"push\", \"create\"] && event.data.ref != \"x\"\nsteps: [{uses: send, with: {to: chat, text: hello}}]", i)
	}
	set := load(t, base+strings.TrimSuffix(rules(specs...), "\n"))
	began := time.Now()
	found := run(t, set)
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %s", took)
	} else {
		t.Logf("%d rules took %s, %d findings", len(specs), took, len(found))
	}
}
