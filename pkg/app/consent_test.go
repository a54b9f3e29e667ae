package app_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
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

// TestNobodyIsAskedAboutWhatIsLeftOut: a step whose condition is not true waits for nobody, and the one after it does.
func TestNobodyIsAskedAboutWhatIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	(&server{t: t, rules: dir}).write(githubSource + ruleDoc("r", "  mode: approve\n  steps:\n"+
		"  - {id: absent, if: event.data.missing == 1, uses: change, with: {text: \"${{ event.data.missing }}\"}}\n"+
		"  - {id: no, if: event.data.fix == \"all\", uses: change, with: {text: a}}\n"+
		"  - {id: fix, if: event.data.fix != \"none\", uses: change, with: {text: a}}\n"))
	c := testConfig(t, t.TempDir())
	c.Rules.Dirs = []string{dir}
	s := launch(t, c, change("change"))
	s.rules = dir
	if r := s.over("", s.push(`{"fix":"none"}`).ID+"-r"); r.State != run.Succeeded {
		t.Errorf("a run in which nothing is changed: %s %s", r.State, r.Message)
	}
	if r := s.waits("", `{"fix":"one"}`); r.Approval.Step != "fix" {
		t.Errorf("it asks %+v", r.Approval)
	}
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

// links are rules that may hand out ana's links: in the event that starts the run that asks, and in what tells of one.
const linkRules = "apiVersion: riposte.dev/v1\nkind: Rule\nmetadata: {name: tell}\nspec:\n  trigger: {source: riposte, type: approval.requested}\n  steps: [{uses: take, with: {text: \"${{ run.approveURLs.ana }}\"}}]\n---\n"

// linked starts a server whose rules hand out ana's links, and returns where they arrive.
func linked(t *testing.T) (*server, <-chan string) {
	t.Helper()
	urls := make(chan string, 10)
	take := probe("take", false, func(_ context.Context, call *action.Call) error {
		urls <- call.Params.(*noParams).Text
		return nil
	})
	take.Outputs, take.Run = struct {
		Summary string `yaml:"summary"`
	}{}, func(_ context.Context, call *action.Call) (action.Outputs, error) {
		urls <- call.Params.(*noParams).Text
		return action.Outputs{"summary": "+ 1 <b>bucket</b> " + call.Params.(*noParams).Text}, nil
	}
	dir := t.TempDir()
	(&server{t: t, rules: dir}).write(githubSource + ruleDoc("r", "  mode: approve\n  steps:\n  - {id: plan, uses: take, with: {text: \"${{ run.approveURLs.ana }}\"}}\n  - {id: fix, uses: change, with: {text: \"${{ event.data.text }}\"}}\n") + linkRules)
	c := testConfig(t, t.TempDir())
	c.Rules.Dirs, c.PublicURL = []string{dir}, "https://hooks.example.com/"
	c.Approvals = consent.Spec{
		Policies: []consent.Policy{{Groups: []string{"sre"}}},
		People:   []consent.Person{{Name: "ana", Groups: []string{"sre"}, Links: []string{"rules.yaml"}}, {Name: "bob", Groups: []string{"sre"}, Links: []string{"elsewhere/**"}}},
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s := launch(t, c, change("change"), take)
	return s, urls
}

// open asks for a link as a browser does; form is what its page sends.
func (s *server) open(link string, form url.Values) (int, string, http.Header) {
	s.t.Helper()
	path, ours := strings.CutPrefix(link, "https://hooks.example.com/approve/")
	if !ours {
		s.t.Fatalf("%q is no link", link)
	}
	var resp *http.Response
	var err error
	if address := "http://" + s.listen.Hooks + "/approve/" + path; form == nil {
		resp, err = http.Get(address)
	} else {
		resp, err = http.PostForm(address, form)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

func decision(word string, r api.Run) url.Values {
	return url.Values{"decision": {word}, "digest": {r.Approval.Digest}, "comment": {"by <link>"}}
}

func TestASignedLinkShowsAndDecidesOnce(t *testing.T) {
	s, urls := linked(t)
	text := `</pre><script>alert(1)</script><img src=x onerror=alert(1)>{{.Run}}`
	body, _ := json.Marshal(map[string]string{"text": text})
	r := s.waits("", string(body))
	early, told := <-urls, <-urls
	if early == told {
		t.Error("a link that was made before the run waited is not that of the request")
	}
	for range 3 { // opening decides nothing, whoever previews it
		status, page, header := s.open(early, nil)
		if status != http.StatusOK || !strings.Contains(page, "Approve as ana") || !strings.Contains(page, "&lt;script&gt;alert(1)") || !strings.Contains(page, "&lt;b&gt;bucket&lt;/b&gt;") {
			t.Fatalf("%d %s", status, page)
		}
		if strings.Contains(page, "<script") || strings.Contains(page, "<img") || strings.Contains(page, "rpl_") {
			t.Fatalf("it is no text: %s", page)
		}
		if policy := header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || header.Get("Cache-Control") != "no-store" || header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("headers: %v", header)
		}
		style := page[strings.Index(page, "<style>")+7 : strings.Index(page, "</style>")]
		if sum := sha256.Sum256([]byte(style)); !strings.Contains(header.Get("Content-Security-Policy"), base64.StdEncoding.EncodeToString(sum[:])) {
			t.Error("the policy does not know the style")
		}
	}
	for name, tc := range map[string]struct {
		link   string
		form   url.Values
		status int
		says   string
	}{
		"another digest":  {early, url.Values{"decision": {"approve"}, "digest": {"d"}}, http.StatusConflict, "what was shown is not what it waits for now"},
		"no digest":       {early, url.Values{"decision": {"approve"}}, http.StatusConflict, "what was shown is not"},
		"no decision":     {early, url.Values{"digest": {r.Approval.Digest}}, http.StatusBadRequest, "Not like this"},
		"another word":    {early, decision("destroy", r), http.StatusBadRequest, "Not like this"},
		"a forged link":   {early[:len(early)-3] + "AAA", decision("approve", r), http.StatusNotFound, "not valid"},
		"no link":         {"https://hooks.example.com/approve/", decision("approve", r), http.StatusNotFound, "not valid"},
		"a long comment":  {early, url.Values{"decision": {"approve"}, "comment": {strings.Repeat("x", 5000)}}, http.StatusBadRequest, "Not like this"},
		"an endless form": {early, url.Values{"decision": {"approve"}, "comment": {strings.Repeat("x", 1<<20)}}, http.StatusBadRequest, "Not like this"},
	} {
		if status, page, _ := s.open(tc.link, tc.form); status != tc.status || !strings.Contains(page, tc.says) {
			t.Errorf("%s: %d %s", name, status, page)
		}
	}
	if got := s.waiting(r.ID); len(got.Approval.By) > 0 {
		t.Fatalf("one of them counted: %+v", got.Approval)
	}
	if status, page, _ := s.open(told, decision("approve", r)); status != http.StatusOK || !strings.Contains(page, "Approved") {
		t.Fatalf("%d %s", status, page)
	}
	if r = s.over("", r.ID); r.State != run.Succeeded || r.Approval.By[0].Who != "ana" || r.Approval.By[0].Via != "link" {
		t.Errorf("%+v", r)
	}
	for _, link := range []string{early, told} { // one word, whichever link
		for _, form := range []url.Values{nil, decision("approve", r), decision("reject", r)} {
			if status, page, _ := s.open(link, form); status != http.StatusGone || !strings.Contains(page, "This link was used: ana has consented already") {
				t.Errorf("used again: %d %s", status, page)
			}
		}
	}
	if strings.Contains(s.log.String(), "rpl_") {
		t.Error("the log shows a link")
	}
	if outputs, _ := json.Marshal(r.Steps); strings.Contains(string(outputs), "rpl_") || !strings.Contains(string(outputs), "approve/***") {
		t.Errorf("the outputs: %s", outputs)
	}
}

func (s *server) waiting(id string) (r api.Run) {
	s.t.Helper()
	s.as("", http.MethodGet, "runs/"+id, nil, &r)
	return r
}

// TestALinkIsForOneAttempt: and a rejection by link ends the run.
func TestALinkIsForOneAttempt(t *testing.T) {
	s, urls := linked(t)
	r := s.waits("", `{"text":"a"}`)
	old := <-urls
	<-urls
	if status, page, _ := s.open(old, decision("reject", r)); status != http.StatusOK || !strings.Contains(page, "Rejected") {
		t.Fatalf("%d %s", status, page)
	}
	if r = s.over("", r.ID); r.State != run.Refused || !strings.Contains(r.Message, "rejected by ana: by <link>") {
		t.Errorf("%+v", r)
	}
	if status, page, _ := s.open(old, nil); status != http.StatusGone || !strings.Contains(page, "decided meanwhile: the run is refused") {
		t.Errorf("%d %s", status, page)
	}
	if status, says := s.as("", http.MethodPost, "runs/"+r.ID+"/retry", nil, nil); status != http.StatusAccepted {
		t.Fatal(status, says)
	}
	s.wait("the second attempt to ask", func() bool { r = s.waiting(r.ID); return r.Attempt == 2 && r.State == run.Waiting && r.Approval != nil })
	if status, page, _ := s.open(old, decision("approve", r)); status != http.StatusGone || !strings.Contains(page, "for an earlier attempt") {
		t.Errorf("%d %s", status, page)
	}
	if got := s.waiting(r.ID); len(got.Approval.By) > 0 {
		t.Errorf("it counted: %+v", got.Approval)
	}
}

// TestAStoreFullOfWorkThatWaitsForConsentCanBeEmptied: senders are told to come again, and a yes still finds room.
func TestAStoreFullOfWorkThatWaitsForConsentCanBeEmptied(t *testing.T) {
	dir := t.TempDir()
	(&server{t: t, rules: dir}).write(githubSource + ruleDoc("r", "  mode: approve\n  steps: [{id: fix, uses: change, with: {text: \"${{ event.data.text }}\"}}]\n"))
	c := testConfig(t, t.TempDir())
	c.Rules.Dirs, c.EventLog.MaxBytes = []string{dir}, 32<<20
	s := launch(t, c, change("change"))
	body := func(n int) string {
		return fmt.Sprintf(`{"text":"%d","padding":"%s"}`, n, strings.Repeat("x", 200<<10))
	}
	var ids []string
	for n := 0; ; n++ {
		a := s.push(body(n))
		if a.Status == http.StatusServiceUnavailable {
			break
		}
		if a.Status != http.StatusAccepted || n > 1000 {
			t.Fatalf("event %d: %+v", n, a)
		}
		ids = append(ids, a.ID+"-r")
	}
	for _, id := range ids {
		s.wait("run "+id+" to ask", func() bool {
			var r api.Run
			return s.get("runs/"+id, &r) && r.Approval != nil
		})
	}
	for _, id := range ids {
		if status, says := s.as("", http.MethodPost, "runs/"+id+"/approve", nil, nil); status != http.StatusOK {
			t.Fatalf("%s: %d %s", id, status, says)
		}
		if r := s.over("", id); r.State != run.Succeeded {
			t.Fatalf("%+v", r)
		}
	}
	s.wait("room for more", func() bool { return s.push(body(-1)).Status == http.StatusAccepted })
}
