package consent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

func commented(typ, body string) *event.Event {
	return &event.Event{
		Source: "forge", Type: typ, Body: []byte(body), ReceivedAt: time.Unix(1000, 0).UTC(),
		Git: &event.Git{Repo: "acme/shop"}, PullRequest: &event.PullRequest{Number: 7},
	}
}

func hub(action, account, text string) *event.Event {
	return commented("issue_comment", fmt.Sprintf(`{"action":%q,"sender":{"login":%q},"comment":{"user":{"login":%q},"body":%q,"created_at":"1970-01-01T00:00:10Z"}}`, action, account, account, text))
}

func TestOrdersByComment(t *testing.T) {
	at := time.Unix(10, 0).UTC()
	lab := `{"user":{"username":"ana"},"object_attributes":{"action":"create","note":"/riposte reject E-r\n\nnot on Friday","created_at":"1970-01-01 00:00:10 UTC"}}`
	changed := func(e *event.Event, change func(*event.Event)) *event.Event { change(e); return e }
	for name, tc := range map[string]struct {
		kind string
		e    *event.Event
		want Comment // zero is none
	}{
		"GitHub":              {"github", hub("created", "ana", "/riposte approve"), Comment{Order: run.CommandApprove, Account: "ana", At: at}},
		"with a run":          {"github", hub("created", "ana", "  /riposte   approve  E-r \r\nfine"), Comment{Order: run.CommandApprove, Run: "E-r", Text: "fine", Account: "ana", At: at}},
		"with a digest":       {"github", hub("created", "ana", "/riposte approve E-r 0123456789abcdef"), Comment{Order: run.CommandApprove, Run: "E-r", Digest: "0123456789abcdef", Account: "ana", At: at}},
		"a digest too short":  {"github", hub("created", "ana", "/riposte approve E-r 0123456789abcde"), Comment{}},
		"GitLab":              {"gitlab", commented("note", lab), Comment{Order: run.CommandReject, Run: "E-r", Text: "not on Friday", Account: "ana", At: at}},
		"Gitea":               {"gitea", commented("pull_request_comment", `{"action":"created","comment":{"user":{"username":"ana"},"body":"/riposte approve"}}`), Comment{Order: run.CommandApprove, Account: "ana", At: time.Unix(1000, 0).UTC()}},
		"edited":              {"github", hub("edited", "ana", "/riposte approve"), Comment{}},
		"deleted":             {"github", hub("deleted", "ana", "/riposte approve"), Comment{}},
		"GitLab, edited":      {"gitlab", commented("note", strings.Replace(lab, `"create"`, `"update"`, 1)), Comment{}},
		"GitLab, by itself":   {"gitlab", commented("note", strings.Replace(lab, `"action"`, `"system":true,"action"`, 1)), Comment{}},
		"sent by another":     {"github", commented("issue_comment", `{"action":"created","sender":{"login":"eve"},"comment":{"user":{"login":"ana"},"body":"/riposte approve"}}`), Comment{}},
		"replayed":            {"github", changed(hub("created", "ana", "/riposte approve"), func(e *event.Event) { e.CausedBy = "E" }), Comment{}},
		"on an issue":         {"github", changed(hub("created", "ana", "/riposte approve"), func(e *event.Event) { e.PullRequest = nil }), Comment{}},
		"no repository":       {"github", changed(hub("created", "ana", "/riposte approve"), func(e *event.Event) { e.Git = nil }), Comment{}},
		"another kind":        {"generic", hub("created", "ana", "/riposte approve"), Comment{}},
		"another type":        {"github", changed(hub("created", "ana", "/riposte approve"), func(e *event.Event) { e.Type = "push" }), Comment{}},
		"a quotation":         {"github", hub("created", "ana", "> /riposte approve"), Comment{}},
		"further down":        {"github", hub("created", "ana", "I would say\n/riposte approve"), Comment{}},
		"in a sentence":       {"github", hub("created", "ana", "/riposte approve this please"), Comment{}},
		"another order":       {"github", hub("created", "ana", "/riposte destroy"), Comment{}},
		"no order":            {"github", hub("created", "ana", "/riposte"), Comment{}},
		"nothing":             {"github", hub("created", "ana", ""), Comment{}},
		"by nobody":           {"github", hub("created", "", "/riposte approve"), Comment{}},
		"a body that is none": {"github", commented("issue_comment", "{"), Comment{}},
	} {
		got, ok := ReadComment(tc.kind, tc.e)
		if ok != (tc.want != Comment{}) || ok && got != tc.want {
			t.Errorf("%s: %+v %t", name, got, ok)
		}
	}
	if c, ok := ReadComment("github", hub("created", "ana", "/riposte approve\n"+strings.Repeat("ü", 2000))); !ok || len(c.Text) > maxText {
		t.Errorf("a long text: %d bytes", len(c.Text))
	}
}

func FuzzReadComment(f *testing.F) {
	f.Add("github", "issue_comment", string(hub("created", "ana", "/riposte approve E-r\nfine").Body))
	f.Add("gitlab", "note", `{"user":{"username":"ana"},"object_attributes":{"note":"/riposte reject"}}`)
	f.Fuzz(func(t *testing.T, kind, typ, body string) {
		c, ok := ReadComment(kind, commented(typ, body))
		if ok && (c.Account == "" || c.Order != run.CommandApprove && c.Order != run.CommandReject || len(c.Text) > maxText) {
			t.Errorf("%+v", c)
		}
	})
}
