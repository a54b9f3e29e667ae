package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/consent"
	"github.com/riposte-dev/riposte/pkg/run"
)

// token is a bearer token and who has it.
func token(name, role string, groups ...string) config.Token {
	sums := map[string]string{ // of the name
		"ana": "24d4b96f58da6d4a8512313bbd02a28ebf0ca95dec6e4c86ef78ce7f01e788ac",
		"bob": "81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9",
		"eve": "85262adf74518bbb70c7cb94cd6159d91669e5a81edf1efebd543eadbda9fa2b",
	}
	return config.Token{Name: name, SHA256: sums[name], Groups: groups, Role: role}
}

// change is an action that changes something.
func change(name string) action.Definition {
	d := probe(name, false, func(context.Context, *action.Call) error { return nil })
	d.Changes = true
	return d
}

// asking starts a server with a rule that waits for consent, and people as they are listed.
func asking(t *testing.T, approvals consent.Spec, rules string, tokens ...config.Token) *server {
	t.Helper()
	dir := t.TempDir()
	(&server{t: t, rules: dir}).write(githubSource + ruleDoc("r", "  mode: approve\n  steps: [{id: fix, uses: change, with: {text: \"${{ event.data.text }}\"}}]\n") + rules)
	c := testConfig(t, t.TempDir())
	c.Rules.Dirs, c.Approvals, c.Tokens, c.PublicURL = []string{dir}, approvals, tokens, "https://hooks.example.com"
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s := launch(t, c, change("change"))
	s.rules = dir
	return s
}

// as sends a request in the name of somebody, whose token is the name.
func (s *server) as(who, method, path string, body, into any) (int, string) {
	s.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequest(method, "http://"+s.listen.Admin+"/api/v1/"+path, bytes.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if who != "" {
		req.Header.Set("Authorization", "Bearer "+who)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var failure client.Error
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	_ = json.Unmarshal(buf.Bytes(), &failure)
	if into != nil {
		_ = json.Unmarshal(buf.Bytes(), into)
	}
	return resp.StatusCode, failure.Msg
}

// waits pushes an event and returns the run of it that waits for consent.
func (s *server) waits(who, body string) api.Run {
	s.t.Helper()
	id := s.push(body).ID + "-r"
	var r api.Run
	s.wait("run "+id+" to ask", func() bool {
		status, _ := s.as(who, http.MethodGet, "runs/"+id, nil, &r)
		return status == http.StatusOK && r.Approval != nil
	})
	return r
}

func (s *server) over(who, id string) api.Run {
	s.t.Helper()
	var r api.Run
	s.wait("the end of "+id, func() bool {
		status, _ := s.as(who, http.MethodGet, "runs/"+id, nil, &r)
		return status == http.StatusOK && r.State.Ended()
	})
	return r
}

// TestTwoOfAGroupApprove: the unentitled, the wrong digest and the second word of one person do not count, two persons do.
func TestTwoOfAGroupApprove(t *testing.T) {
	s := asking(t, consent.Spec{Policies: []consent.Policy{{Groups: []string{"sre"}, Needed: 2, Expires: "1h"}}}, "",
		token("ana", "operator", "sre"), token("bob", "operator", "sre"), token("eve", "operator", "dev"))
	r := s.waits("eve", `{"text":"now"}`)
	if a := r.Approval; a.Step != "fix" || a.Shown["text"] != "now" || a.Needed != 2 || a.ExpiresAt.Sub(a.RequestedAt).Hours() != 1 {
		t.Fatalf("it asks %+v", r.Approval)
	}
	var list api.List[api.Run]
	if s.as("eve", http.MethodGet, "runs?state=waiting", nil, &list); len(list.Items) != 1 || list.Items[0].Approval == nil || list.Items[0].Approval.Shown != nil {
		t.Errorf("the list has %+v", list.Items)
	}
	path := "runs/" + r.ID + "/approve"
	for _, tc := range []struct {
		who, digest string
		status      int
		says        string
	}{
		{"eve", r.Approval.Digest, http.StatusForbidden, "eve (in dev) may not consent"},
		{"ana", "another", http.StatusConflict, "what was shown is not what it waits for now"},
		{"ana", r.Approval.Digest, http.StatusOK, ""},
		{"ana", r.Approval.Digest, http.StatusConflict, "ana has consented already"},
		{"stranger", r.Approval.Digest, http.StatusUnauthorized, "not known"},
		{"bob", "", http.StatusOK, ""},
		{"bob", "", http.StatusConflict, "waits for nobody's consent"},
	} {
		status, says := s.as(tc.who, http.MethodPost, path, api.ConsentRequest{Digest: tc.digest, Comment: "fine"}, nil)
		if status != tc.status || !strings.Contains(says, tc.says) {
			t.Errorf("%s with digest %q: %d %s", tc.who, tc.digest, status, says)
		}
		if tc.who == "ana" && r.State.Ended() {
			t.Fatal("one was enough")
		}
	}
	if r = s.over("ana", r.ID); r.State != run.Succeeded || len(r.Approval.By) != 2 || r.Approval.By[0].Who != "ana" || r.Approval.By[1].Via != "api" || r.Approval.By[1].Comment != "fine" {
		t.Errorf("%+v", r)
	}
}

// TestOnLoopbackWhoeverHasTheMachineDecides: and a rejection ends the run.
func TestOnLoopbackWhoeverHasTheMachineDecides(t *testing.T) {
	s := asking(t, consent.Spec{Policies: []consent.Policy{{Groups: []string{"sre"}}}}, "")
	r := s.waits("", `{"text":"a"}`)
	var answer api.ConsentAnswer
	if status, says := s.as("", http.MethodPost, "runs/"+r.ID+"/approve", nil, &answer); status != http.StatusOK || !answer.Heard {
		t.Fatalf("%d %s", status, says)
	}
	if r = s.over("", r.ID); r.State != run.Succeeded || r.Approval.By[0].Who != consent.Loopback {
		t.Errorf("%+v", r)
	}
	r = s.waits("", `{"text":"b"}`)
	if status, says := s.as("", http.MethodPost, "runs/"+r.ID+"/reject", api.ConsentRequest{Comment: "not on Friday"}, &answer); status != http.StatusOK {
		t.Fatalf("%d %s", status, says)
	}
	if r = s.over("", r.ID); r.State != run.Refused || r.Reason != run.ReasonRejected || !strings.Contains(r.Message, "not on Friday") {
		t.Errorf("%+v", r)
	}
	if status, says := s.as("", http.MethodPost, "runs/"+r.ID+"/approve", map[string]string{"digset": "x"}, nil); status != http.StatusBadRequest || !strings.Contains(says, "digset") {
		t.Errorf("a misspelt body: %d %s", status, says)
	}
}
