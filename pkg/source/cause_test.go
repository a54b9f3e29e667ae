package source_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/gitea"
	"github.com/riposte-dev/riposte/pkg/source/github"
	"github.com/riposte-dev/riposte/pkg/source/gitlab"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

// TestWhatARunDidIsRecognisedWhenItComesBack: the newest commit of a push, and what a run wrote and nobody changed since.
func TestWhatARunDidIsRecognisedWhenItComesBack(t *testing.T) {
	run := event.ID("src", "1") + "-heal-shop"
	message, err := json.Marshal(event.WithTrailers("Pin the last good version", run, "heal-shop"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal("<!-- riposte:0a1b " + strings.ReplaceAll(run, "-", "_") + ".comment -->\nPlan: 1 to add")
	if err != nil {
		t.Fatal(err)
	}
	repo := `"repository":{"full_name":"acme/shop","clone_url":"https://git.example/acme/shop.git"}`
	project := `"project":{"path_with_namespace":"acme/shop"}`
	for _, tc := range []struct {
		preset source.Type
		kind   string
		body   string
		caused bool
	}{
		{github.Type(), "push", `{"ref":"refs/heads/main","after":"b","head_commit":{"id":"b","message":MESSAGE},"commits":[],REPO}`, true},
		{github.Type(), "push", `{"ref":"refs/heads/main","after":"b","head_commit":{"id":"b","message":"Merge #3"},"commits":[{"id":"a","message":MESSAGE}],REPO}`, false},
		{github.Type(), "push", `{"ref":"refs/heads/main","head_commit":null,REPO}`, false},
		{github.Type(), "issue_comment", `{"action":"created","comment":{"body":BODY,"user":{"login":"bot"}},"sender":{"login":"bot"},REPO}`, true},
		{github.Type(), "issue_comment", `{"action":"edited","comment":{"body":BODY,"user":{"login":"bot"}},"sender":{"login":"ana"},REPO}`, false},
		{github.Type(), "issue_comment", `{"action":"deleted","comment":{"body":BODY,"user":{"login":"bot"}},"sender":{"login":"bot"},REPO}`, false},
		{github.Type(), "issues", `{"action":"opened","issue":{"body":BODY,"user":{"login":"bot"}},"sender":{"login":"bot"},REPO}`, true},
		{github.Type(), "issues", `{"action":"closed","issue":{"body":BODY,"user":{"login":"bot"}},"sender":{"login":"bot"},REPO}`, false},
		{github.Type(), "pull_request", `{"action":"opened","pull_request":{"number":1,"body":BODY,"user":{"login":"bot"}},"sender":{"login":"bot"},REPO}`, true},
		{github.Type(), "pull_request", `{"action":"synchronize","pull_request":{"number":1,"body":BODY,"user":{"login":"bot"}},"sender":{"login":"bot"},REPO}`, false},
		{gitlab.Type(), "push", `{"ref":"refs/heads/main","checkout_sha":"b","after":"b","commits":[{"id":"a","message":"x"},{"id":"b","message":MESSAGE}],PROJECT}`, true},
		{gitlab.Type(), "push", `{"ref":"refs/heads/main","checkout_sha":"b","after":"b","commits":[{"id":"b","message":"x"},{"id":"a","message":MESSAGE}],PROJECT}`, false},
		{gitlab.Type(), "note", `{"user":{"id":5},"object_attributes":{"note":BODY,"author_id":5},PROJECT}`, true},
		{gitlab.Type(), "note", `{"user":{"id":6},"object_attributes":{"note":BODY,"author_id":5,"action":"update"},PROJECT}`, false},
		{gitlab.Type(), "merge_request", `{"user":{"id":5},"object_attributes":{"action":"open","iid":1,"description":BODY,"author_id":5},PROJECT}`, true},
		{gitlab.Type(), "merge_request", `{"user":{"id":5},"object_attributes":{"action":"update","iid":1,"description":BODY,"author_id":5},PROJECT}`, false},
		{gitea.Type(), "push", `{"ref":"refs/heads/main","after":"b","head_commit":{"id":"b","message":MESSAGE},REPO}`, true},
		{gitea.Type(), "issue_comment", `{"action":"created","comment":{"body":BODY,"user":{"login":"bot"}},"sender":{"login":"bot"},"issue":{},REPO}`, true},
		{gitea.Type(), "issues", `{"action":"opened","issue":{"body":BODY,"user":{"login":"bot"}},"sender":{"login":"bot"},REPO}`, true},
		{gitea.Type(), "pull_request", `{"action":"opened","number":1,"pull_request":{"body":BODY,"user":{"login":"bot"}},"sender":{"login":"bot"},REPO}`, true},
		{gitea.Type(), "pull_request", `{"action":"closed","number":1,"pull_request":{"body":BODY,"user":{"login":"bot"}},"sender":{"login":"bot"},REPO}`, false},
	} {
		s := sourcetest.New(t, tc.preset, "secrets: [{secret: s}]", sourcetest.Env(map[string]string{"s": "s"}))
		text := strings.NewReplacer("MESSAGE", string(message), "BODY", string(body), "REPO", repo, "PROJECT", project).Replace(tc.body)
		for before, want := range map[string]string{"": map[bool]string{true: run}[tc.caused], "replayed": "replayed"} {
			e := &event.Event{Type: tc.kind, Body: []byte(text), CausedBy: before}
			if s.Normalise(e); e.CausedBy != want {
				t.Errorf("%s %s: caused by %q, want %q\n%s", tc.preset.Name, tc.kind, e.CausedBy, want, tc.body)
			}
		}
	}
}
