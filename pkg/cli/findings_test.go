package cli

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/lint"
)

func found() *checked {
	return &checked{
		problems: document.Problems{
			{File: "a b/100%,c:d.yaml", Line: 3, Column: 7, Msg: "50% of\nit", Hint: "write\rmore"},
			{File: "big.yaml", Msg: "too large"},
		},
		warnings: []lint.Finding{{ID: "loop", Problem: document.Problem{File: "rules/a.yaml", Line: 1, Column: 1, Msg: "a < b & c"}}},
	}
}

func TestAnnotationsAreEscaped(t *testing.T) {
	var b bytes.Buffer
	if err := found().annotate(&b); err != nil {
		t.Fatal(err)
	}
	want := `::error file=a b/100%25%2Cc%3Ad.yaml,line=3,col=7,title=riposte check::50%25 of%0Ait%0Ahint: write%0Dmore
::error file=big.yaml,title=riposte check::too large
::warning file=rules/a.yaml,line=1,col=1,title=loop::a < b & c
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// TestSARIF holds the results against a golden form, and the rest against what SARIF 2.1.0 requires.
func TestSARIF(t *testing.T) {
	var b bytes.Buffer
	if err := writeJSON(&b, found().sarif("1.2.3")); err != nil {
		t.Fatal(err)
	}
	var log struct {
		Version string
		Schema  string `json:"$schema"`
		Runs    []struct {
			ColumnKind string
			Tool       struct {
				Driver struct {
					Name, Version string
					Rules         []struct {
						ID                                      string
						ShortDescription, FullDescription, Help struct{ Text string }
						DefaultConfiguration                    struct{ Level string }
					}
				}
			}
			Results []json.RawMessage
		}
	}
	if err := json.Unmarshal(b.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || log.Schema == "" || len(log.Runs) != 1 || log.Runs[0].ColumnKind != "unicodeCodePoints" {
		t.Fatalf("%s", b.String())
	}
	run := log.Runs[0]
	driver := run.Tool.Driver
	if driver.Name != "riposte check" || driver.Version != "1.2.3" || len(driver.Rules) != len(lint.Checks())+1 {
		t.Errorf("the tool is %+v", driver)
	}
	for _, r := range driver.Rules {
		if r.ID == "" || r.ShortDescription.Text == "" || r.FullDescription.Text == "" || r.Help.Text == "" || r.DefaultConfiguration.Level == "" {
			t.Errorf("rule %+v", r)
		}
	}
	want := []string{
		`{"level":"error","locations":[{"physicalLocation":{"artifactLocation":{"uri":"a%20b/100%25,c:d.yaml"},"region":{"startColumn":7,"startLine":3}}}],"message":{"text":"50% of\nit\nhint: write\rmore"},"ruleId":"invalid","ruleIndex":0}`,
		`{"level":"error","locations":[{"physicalLocation":{"artifactLocation":{"uri":"big.yaml"}}}],"message":{"text":"too large"},"ruleId":"invalid","ruleIndex":0}`,
		`{"level":"warning","locations":[{"physicalLocation":{"artifactLocation":{"uri":"rules/a.yaml"},"region":{"startColumn":1,"startLine":1}}}],"message":{"text":"a < b & c"},"ruleId":"loop","ruleIndex":4}`,
	}
	if len(run.Results) != len(want) {
		t.Fatalf("%d results", len(run.Results))
	}
	for i, raw := range run.Results {
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil || compact.String() != want[i] {
			t.Errorf("result %d: %v\n got %s\nwant %s", i, err, compact.String(), want[i])
		}
	}
}

func TestNothingFoundIsAnEmptyList(t *testing.T) {
	var b bytes.Buffer
	if err := writeJSON(&b, (&checked{}).sarif("")); err != nil || !bytes.Contains(b.Bytes(), []byte(`"results": []`)) {
		t.Errorf("%v: %s", err, b.String())
	}
}
