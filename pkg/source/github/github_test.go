package github

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

const (
	secret   = "It is a secret to nobody"
	specYAML = "secrets: [{secret: the-secret}]"
	repo     = `"repository":{"full_name":"acme/shop","clone_url":"https://github.com/acme/shop.git","owner":{"login":"acme"}},"sender":{"login":"ana"}`
	pushBody = `{"ref":"refs/heads/main","before":"1111111111111111111111111111111111111111","after":"2222222222222222222222222222222222222222",
		"created":false,"deleted":false,"forced":false,"commits":[{"id":"2222222222222222222222222222222222222222","added":["b"],"modified":["a"],"removed":[]}],` + repo + `}`
)

func sign(r *source.Request, secret string) {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write(r.Body)
	r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(m.Sum(nil)))
}

func header(kind string) http.Header {
	h := http.Header{}
	h.Set("X-GitHub-Event", kind)
	h.Set("X-GitHub-Delivery", "d-1")
	h.Set("X-GitHub-Hook-ID", "7")
	h.Set("Authorization", "Bearer other")
	return h
}

func conformance() sourcetest.Case {
	return sourcetest.Case{
		Name: "json", Spec: specYAML, Secret: secret, Header: header("push"), Body: pushBody, Sign: sign, Proof: "X-Hub-Signature-256", SignsBody: true, Events: 1,
	}
}

func TestConformance(t *testing.T) {
	form := conformance()
	form.Name, form.Body = "form", "payload="+url.QueryEscape(pushBody)
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	ping := conformance()
	ping.Name, ping.Header, ping.Events = "ping", header("ping"), 0
	sourcetest.Run(t, Type(), []sourcetest.Case{conformance(), form, ping})
}

func FuzzGitHub(f *testing.F) {
	sourcetest.Fuzz(f, Type(), conformance(), "push", "create", "pull_request", "issue_comment", "release", "workflow_run", "status", "deployment", "check_run")
}

func TestSHA1IsNoProof(t *testing.T) {
	s := sourcetest.New(t, Type(), specYAML, sourcetest.Env(map[string]string{"the-secret": secret}))
	m := hmac.New(sha1.New, []byte(secret))
	m.Write([]byte(pushBody))
	sum := hex.EncodeToString(m.Sum(nil))
	for _, h := range []http.Header{
		{"X-Hub-Signature": {"sha1=" + sum}},
		{"X-Hub-Signature-256": {"sha1=" + sum}},
		{"X-Hub-Signature-256": {"sha256=" + sum}},
		{"X-Hub-Signature-256": {sum}},
	} {
		if err := s.Verify(&source.Request{Header: h, Body: []byte(pushBody)}); !errors.Is(err, source.ErrUnauthenticated) {
			t.Errorf("%v: got %v, want ErrUnauthenticated", h, err)
		}
	}
}

func TestRotation(t *testing.T) {
	env := sourcetest.Env(map[string]string{"old": "old value", "new": "new value"})
	s := sourcetest.New(t, Type(), "secrets: [{secret: old}, {secret: new}]", env)
	for _, secret := range []string{"old value", "new value"} {
		r := &source.Request{Header: header("push"), Body: []byte(pushBody)}
		sign(r, secret)
		if err := s.Verify(r); err != nil {
			t.Errorf("signed with the %s: %v", secret, err)
		}
	}
	// While one of the secrets does not resolve, what the other proves still passes, and nothing else is judged.
	half := env
	half.Secret = sourcetest.Env(map[string]string{"new": "new value"}).Secret
	s = sourcetest.New(t, Type(), "secrets: [{secret: old}, {secret: new}]", half)
	for secret, want := range map[string]error{"new value": nil, "old value": source.ErrUnavailable} {
		r := &source.Request{Header: header("push"), Body: []byte(pushBody)}
		sign(r, secret)
		if err := s.Verify(r); !errors.Is(err, want) {
			t.Errorf("signed with the %s: got %v, want %v", secret, err, want)
		}
	}
}

func TestSplit(t *testing.T) {
	s := sourcetest.New(t, Type(), specYAML, sourcetest.Env(map[string]string{"the-secret": secret}))
	form := header("push")
	form.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	tests := []struct {
		name   string
		header http.Header
		body   string
		want   string // the event's body; empty: unparsable
	}{
		{"json", header("push"), `{"a":1}`, `{"a":1}`},
		{"form", form, "a=b&payload=%7B%22a%22%3A+1%7D", `{"a": 1}`},
		{"form without its type", header("push"), "payload=%7B%22a%22%3A1%7D", `{"a":1}`},
		{"JSON with the type of a form", form, ` {"a":1}`, ` {"a":1}`},
		{"two payloads", form, "payload=1&payload=2", ""},
		{"no payload", form, "pay=1", ""},
		{"wrongly escaped", form, "payload=%7", ""},
		{"payload is not JSON", form, "payload=%7B", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			deliveries, err := s.Split(&source.Request{Header: tt.header, Body: []byte(tt.body)})
			if tt.want == "" {
				if !errors.Is(err, source.ErrUnparsable) {
					t.Errorf("got %v, want ErrUnparsable", err)
				}
				return
			}
			if err != nil || len(deliveries) != 1 {
				t.Fatalf("got %d events, %v", len(deliveries), err)
			}
			sum := sha256.Sum256([]byte(tt.body))
			want := source.Delivery{
				Key: hex.EncodeToString(sum[:]), Type: "push", DeliveryID: "d-1", Body: []byte(tt.want),
				Headers: map[string]string{"X-Github-Event": "push", "X-Github-Delivery": "d-1", "X-Github-Hook-Id": "7"},
			}
			if !reflect.DeepEqual(deliveries[0], want) {
				t.Errorf("got  %+v\nwant %+v", deliveries[0], want)
			}
		})
	}
}

func normalised(kind, body string) *event.Event {
	e := &event.Event{Type: kind, Body: []byte(body)}
	normalise(e)
	return e
}

func TestNormalise(t *testing.T) {
	const one, two, zero = "1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222", "0000000000000000000000000000000000000000"
	git := func(change func(g *event.Git)) *event.Git {
		g := &event.Git{Repo: "acme/shop", Owner: "acme", CloneURL: "https://github.com/acme/shop.git", Pusher: "ana"}
		change(g)
		return g
	}
	branch := func(g *event.Git, name string) { g.Ref, g.Branch = "refs/heads/"+name, name }
	pr := func(head string) string {
		return `{"number":7,"html_url":"https://github.com/acme/shop/pull/7","user":{"login":"bob"},"merged":false,"updated_at":"2026-11-23T10:00:00Z",
			"base":{"ref":"main","repo":{"full_name":"acme/shop"}},"head":{"ref":"topic","sha":"` + two + `","repo":` + head + `}}`
	}
	pull := func(change func(p *event.PullRequest)) *event.PullRequest {
		p := &event.PullRequest{Number: 7, Action: "opened", Base: "main", Head: "topic", Author: "bob", URL: "https://github.com/acme/shop/pull/7"}
		change(p)
		return p
	}
	pulled := git(func(g *event.Git) { g.Ref, g.Branch, g.Commit = "refs/pull/7/head", "topic", two })
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	tests := []struct {
		name, kind, body string
		git              *event.Git
		pull             *event.PullRequest
		time             time.Time
	}{
		{"push", "push", pushBody, git(func(g *event.Git) {
			branch(g, "main")
			g.Commit, g.Before, g.Paths, g.PathsComplete = two, one, []string{"a", "b"}, true
		}), nil, time.Time{}},
		{"time of a push", "push", `{"ref":"refs/heads/main","repository":{"full_name":"acme/shop","pushed_at":1795428000}}`,
			&event.Git{Repo: "acme/shop", Owner: "acme", Ref: "refs/heads/main", Branch: "main"}, nil, time.Unix(1795428000, 0).UTC()},
		{"new branch", "push", `{"ref":"refs/heads/a/b","before":"` + zero + `","after":"` + two + `","created":true,"commits":[{"added":["x"]}],` + repo + `}`,
			git(func(g *event.Git) { branch(g, "a/b"); g.Commit, g.Created, g.Paths = two, true, []string{"x"} }), nil, time.Time{}},
		{"deleted tag", "push", `{"ref":"refs/tags/v1","before":"` + one + `","after":"` + zero + `","deleted":true,"commits":[],` + repo + `}`,
			git(func(g *event.Git) { g.Ref, g.Tag, g.Before, g.Deleted = "refs/tags/v1", "v1", one, true }), nil, time.Time{}},
		{"forced", "push", `{"ref":"refs/heads/main","before":"` + one + `","after":"` + two + `","forced":true,"commits":[{"modified":["x"]}],` + repo + `}`,
			git(func(g *event.Git) {
				branch(g, "main")
				g.Commit, g.Before, g.Forced, g.Paths = two, one, true, []string{"x"}
			}), nil, time.Time{}},
		{"create", "create", `{"ref":"v1","ref_type":"tag","master_branch":"main",` + repo + `}`,
			git(func(g *event.Git) { g.Ref, g.Tag, g.Created = "refs/tags/v1", "v1", true }), nil, time.Time{}},
		{"delete", "delete", `{"ref":"topic","ref_type":"branch",` + repo + `}`, git(func(g *event.Git) { branch(g, "topic"); g.Deleted = true }), nil, time.Time{}},
		{"pull request", "pull_request", `{"action":"opened","number":7,"pull_request":` + pr(`{"full_name":"acme/shop"}`) + `,` + repo + `}`,
			pulled, pull(func(*event.PullRequest) {}), at},
		{"fork", "pull_request", `{"action":"opened","pull_request":` + pr(`{"full_name":"eve/shop"}`) + `,` + repo + `}`,
			pulled, pull(func(p *event.PullRequest) { p.Fork = true }), at},
		{"fork that is gone", "pull_request", `{"action":"opened","pull_request":` + pr(`null`) + `,` + repo + `}`,
			pulled, pull(func(p *event.PullRequest) { p.Fork = true }), at},
		{"synchronize", "pull_request", `{"action":"synchronize","before":"` + one + `","pull_request":` + pr(`{"full_name":"acme/shop"}`) + `,` + repo + `}`,
			git(func(g *event.Git) { *g = *pulled; g.Before = one }), pull(func(p *event.PullRequest) { p.Action = "synchronize" }), at},
		{"review", "pull_request_review", `{"action":"submitted","review":{"submitted_at":"2026-11-23T12:00:00+02:00"},"pull_request":` + pr(`{"full_name":"acme/shop"}`) + `,` + repo + `}`,
			pulled, pull(func(p *event.PullRequest) { p.Action = "submitted" }), at},
		{"comment on a pull request", "issue_comment", `{"action":"created","issue":{"number":7,"user":{"login":"bob"},"html_url":"https://github.com/acme/shop/issues/7","pull_request":{"html_url":"https://github.com/acme/shop/pull/7","merged_at":null}},` + repo + `}`,
			git(func(*event.Git) {}), pull(func(p *event.PullRequest) { p.Action, p.Base, p.Head, p.Fork = "created", "", "", true }), time.Time{}},
		{"comment on an issue", "issue_comment", `{"action":"created","issue":{"number":7},` + repo + `}`, git(func(*event.Git) {}), nil, time.Time{}},
		{"release", "release", `{"action":"published","release":{"tag_name":"v1","published_at":"2026-11-23T10:00:00Z"},` + repo + `}`,
			git(func(g *event.Git) { g.Ref, g.Tag = "refs/tags/v1", "v1" }), nil, at},
		{"workflow run", "workflow_run", `{"workflow_run":{"head_branch":"main","head_sha":"` + two + `","head_repository":{"full_name":"acme/shop"}},` + repo + `}`,
			git(func(g *event.Git) { branch(g, "main"); g.Commit = two }), nil, time.Time{}},
		{"workflow run of a fork's main", "workflow_run", `{"workflow_run":{"head_branch":"main","head_sha":"` + two + `","head_repository":{"full_name":"eve/shop"}},` + repo + `}`,
			git(func(g *event.Git) { g.Commit = two }), nil, time.Time{}},
		{"workflow job", "workflow_job", `{"workflow_job":{"head_branch":"main","head_sha":"` + two + `"},` + repo + `}`, git(func(g *event.Git) { g.Commit = two }), nil, time.Time{}},
		{"check suite", "check_suite", `{"check_suite":{"head_branch":"main","head_sha":"` + two + `","before":"` + one + `"},` + repo + `}`,
			git(func(g *event.Git) { branch(g, "main"); g.Commit, g.Before = two, one }), nil, time.Time{}},
		{"check run of a fork", "check_run", `{"check_run":{"head_sha":"` + two + `","check_suite":{"head_branch":null}},` + repo + `}`, git(func(g *event.Git) { g.Commit = two }), nil, time.Time{}},
		{"status", "status", `{"sha":"` + two + `","branches":[{"name":"main"}],` + repo + `}`, git(func(g *event.Git) { branch(g, "main"); g.Commit = two }), nil, time.Time{}},
		{"status of several branches", "status", `{"sha":"` + two + `","branches":[{"name":"main"},{"name":"b"}],` + repo + `}`, git(func(g *event.Git) { g.Commit = two }), nil, time.Time{}},
		{"deployment status", "deployment_status", `{"deployment_status":{"state":"success","updated_at":"2026-11-23T10:00:00Z"},"deployment":{"sha":"` + two + `","ref":"main"},` + repo + `}`,
			git(func(g *event.Git) { g.Commit = two }), nil, at},
		{"deployment of a full ref", "deployment", `{"deployment":{"sha":"` + two + `","ref":"refs/tags/v1"},` + repo + `}`,
			git(func(g *event.Git) { g.Ref, g.Tag, g.Commit = "refs/tags/v1", "v1", two }), nil, time.Time{}},
		{"deployment of the default branch, in a repository without its full name", "deployment", `{"deployment":{"sha":"` + two + `","ref":"main"},"sender":{"login":"ana"},
			"repository":{"name":"shop","owner":{"login":"acme"},"clone_url":"https://github.com/acme/shop.git","default_branch":"main"}}`,
			git(func(g *event.Git) { branch(g, "main"); g.Commit = two }), nil, time.Time{}},
		{"build of pages", "page_build", `{"build":{"commit":"` + two + `","updated_at":"2026-11-23T10:00:00Z"},` + repo + `}`, git(func(g *event.Git) { g.Commit = two }), nil, at},
		{"merge group", "merge_group", `{"merge_group":{"head_sha":"` + two + `","head_ref":"refs/heads/gh-readonly-queue/main/pr-7"},` + repo + `}`,
			git(func(g *event.Git) { branch(g, "gh-readonly-queue/main/pr-7"); g.Commit = two }), nil, time.Time{}},
		{"workflow dispatch", "workflow_dispatch", `{"ref":"refs/heads/main",` + repo + `}`, git(func(g *event.Git) { branch(g, "main") }), nil, time.Time{}},
		{"repository", "repository", `{"action":"renamed",` + repo + `}`, git(func(*event.Git) {}), nil, time.Time{}},
		{"organisation", "organization", `{"action":"member_added","organization":{"login":"acme"}}`, nil, nil, time.Time{}},
		{"keys that differ in case", "push", `{"REF":"refs/heads/other","ref":"refs/heads/main",` + repo + `}`, git(func(g *event.Git) { branch(g, "main") }), nil, time.Time{}},
		{"a key twice", "push", `{"ref":"refs/heads/other","r\u0065f":"refs/heads/main",` + repo + `}`, git(func(g *event.Git) { branch(g, "main") }), nil, time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := normalised(tt.kind, tt.body)
			if !reflect.DeepEqual(e.Git, tt.git) {
				t.Errorf("git is  %+v\nwant    %+v", e.Git, tt.git)
			}
			if !reflect.DeepEqual(e.PullRequest, tt.pull) {
				t.Errorf("pull request is  %+v\nwant             %+v", e.PullRequest, tt.pull)
			}
			if !e.Time.Equal(tt.time) {
				t.Errorf("time is %v, want %v", e.Time, tt.time)
			}
			if tt.git != nil && e.Subject != "acme/shop" {
				t.Errorf("subject is %q", e.Subject)
			}
			sourcetest.CheckEvent(t, e)
		})
	}
}

func TestIncompletePaths(t *testing.T) {
	commits := func(n int, commit string) string { return strings.TrimSuffix(strings.Repeat(commit+",", n), ",") }
	files := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"%d",`, i)
		}
		return `{"added":[` + strings.TrimSuffix(b.String(), ",") + `]}`
	}
	tests := []struct {
		name, members string
		complete      bool
	}{
		{"one commit", `"commits":[{"added":["a"]}]`, true},
		{"2047 commits", `"commits":[` + commits(2047, `{"added":["a"]}`) + `]`, true},
		{"2048 commits, the most that are listed", `"commits":[` + commits(2048, `{"added":["a"]}`) + `]`, false},
		{"2999 files", `"commits":[` + files(2999) + `]`, true},
		{"3000 files, the most that are listed", `"commits":[` + files(3000) + `]`, false},
		{"more commits than listed", `"size":2,"commits":[{"added":["a"]}]`, false},
		{"a commit without files", `"commits":[{"added":["a"]},{"added":[],"modified":[],"removed":[]}]`, false},
		{"a commit without lists", `"commits":[{"id":"1"}]`, false},
		{"no commits", `"commits":[]`, false},
		{"nothing about commits", `"x":1`, false},
		{"created, by the object id", `"before":"0000000000000000000000000000000000000000","commits":[{"added":["a"]}]`, false},
		{"forced", `"forced":true,"commits":[{"added":["a"]}]`, false},
	}
	for _, tt := range tests {
		e := normalised("push", `{`+tt.members+`,`+repo+`}`)
		if e.Git.PathsComplete != tt.complete {
			t.Errorf("%s: complete is %v", tt.name, e.Git.PathsComplete)
		}
	}
}

func BenchmarkReceive(b *testing.B) {
	s := sourcetest.New(b, Type(), specYAML, sourcetest.Env(map[string]string{"the-secret": secret}))
	body := strings.Replace(pushBody, `"ref"`, `"x":"`+strings.Repeat("0123456789", 700)+`","ref"`, 1)
	r := &source.Request{Method: http.MethodPost, Header: header("push"), Body: []byte(body)}
	sign(r, secret)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Verify(r); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Split(r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNormalise makes the views of an event and what rules then read its body with, which share their work.
func BenchmarkNormalise(b *testing.B) {
	b.SetBytes(int64(len(pushBody)))
	b.ReportAllocs()
	for b.Loop() {
		e := &event.Event{Type: "push", Body: []byte(pushBody)}
		normalise(e)
		if _, ok := e.Part(); !ok {
			b.Fatal("the body is no object")
		}
	}
}
