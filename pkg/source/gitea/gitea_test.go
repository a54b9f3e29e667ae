package gitea

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

const (
	secret   = "gitea-hook-secret"
	specYAML = "secrets: [{secret: the-secret}]"
	one, two = "1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"
	zero     = "0000000000000000000000000000000000000000"
	repo     = `"repository":{"full_name":"acme/shop","clone_url":"https://git.example.com/acme/shop.git"},"sender":{"login":"ana"}`
	pushBody = `{"ref":"refs/heads/main","before":"` + one + `","after":"` + two + `","total_commits":1,"commits":[{"added":["b"],"modified":["a"],"removed":null}],"pusher":{"login":"bob"},` + repo + `}`
)

func sum(secret string, text []byte) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write(text)
	return hex.EncodeToString(m.Sum(nil))
}

func signer(header, prefix string) func(r *source.Request, secret string) {
	return func(r *source.Request, secret string) {
		signed, err := source.FormPayload(r.Header, r.Body)
		if err != nil {
			signed = r.Body
		}
		r.Header.Set(header, prefix+sum(secret, signed))
	}
}

func conformance(name, proof, prefix string) sourcetest.Case {
	return sourcetest.Case{
		Name: name, Spec: specYAML, Secret: secret, Body: pushBody, Proof: proof, Sign: signer(proof, prefix), SignsBody: true, Events: 1,
		Header: http.Header{"X-Gitea-Event": {"push"}, "X-Gitea-Delivery": {"d-1"}, "X-Github-Event": {"push"}},
	}
}

func TestConformance(t *testing.T) {
	form := conformance("form", "X-Gitea-Signature", "")
	form.Body = "payload=" + url.QueryEscape(pushBody)
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	form.SignsBody = false // the signature is over the payload, which a space behind changes, but not always
	sourcetest.Run(t, Type(), []sourcetest.Case{
		conformance("gitea", "X-Gitea-Signature", ""),
		conformance("forgejo", "X-Forgejo-Signature", ""),
		conformance("hub", "X-Hub-Signature-256", "sha256="),
		form,
	})
}

func FuzzGitea(f *testing.F) {
	sourcetest.Fuzz(f, Type(), conformance("gitea", "X-Gitea-Signature", ""), "push", "create", "delete", "pull_request", "issue_comment", "release", "status")
}

func TestVerify(t *testing.T) {
	s := sourcetest.New(t, Type(), specYAML, sourcetest.Env(map[string]string{"the-secret": secret}))
	right := sum(secret, []byte(pushBody))
	tests := []struct {
		name   string
		method string
		header http.Header
		want   error
	}{
		{"gitea and its copies", "POST", http.Header{"X-Gitea-Signature": {right}, "X-Gogs-Signature": {right}, "X-Hub-Signature-256": {"sha256=" + right}}, nil},
		{"a hook without a secret", "POST", http.Header{"X-Gitea-Signature": {""}, "X-Gogs-Signature": {""}, "X-Hub-Signature-256": {"sha256="}}, source.ErrUnauthenticated},
		{"empty, though another is right", "POST", http.Header{"X-Gitea-Signature": {""}, "X-Hub-Signature-256": {"sha256=" + right}}, source.ErrUnauthenticated},
		{"Gogs alone", "POST", http.Header{"X-Gogs-Signature": {right}}, source.ErrUnauthenticated},
		{"GET", "GET", http.Header{"X-Gitea-Signature": {right}}, source.ErrUnauthenticated},
		{"form over the form", "POST", http.Header{"X-Gitea-Signature": {sum(secret, []byte("payload=1"))}, "Content-Type": {"application/x-www-form-urlencoded"}}, source.ErrUnauthenticated},
	}
	for _, tt := range tests {
		body := pushBody
		if tt.header.Get("Content-Type") != "" {
			body = "payload=1"
		}
		if err := s.Verify(&source.Request{Method: tt.method, Header: tt.header, Body: []byte(body)}); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestSplit(t *testing.T) {
	s := sourcetest.New(t, Type(), specYAML, sourcetest.Env(map[string]string{"the-secret": secret}))
	h := http.Header{}
	h.Set("X-Forgejo-Event", "pull_request")
	h.Set("X-Gitea-Event", "pull_request")
	h.Set("X-Gitea-Event-Type", "pull_request_label")
	h.Set("X-Gitea-Delivery", "d-1")
	h.Set("X-Gitea-Signature", "0")
	plain, err := s.Split(&source.Request{Header: h, Body: []byte(`{"a":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	body := sha256.Sum256([]byte(`{"a":1}`))
	want := []source.Delivery{{
		Key: hex.EncodeToString(body[:]), Type: "pull_request", DeliveryID: "d-1", Body: []byte(`{"a":1}`),
		Headers: map[string]string{"X-Gitea-Event": "pull_request", "X-Gitea-Event-Type": "pull_request_label", "X-Gitea-Delivery": "d-1", "X-Forgejo-Event": "pull_request"},
	}}
	if !reflect.DeepEqual(plain, want) {
		t.Errorf("got  %+v\nwant %+v", plain, want)
	}
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	form, err := s.Split(&source.Request{Header: h, Body: []byte("payload=%7B%22a%22%3A1%7D")})
	if err != nil || !reflect.DeepEqual(form, want) {
		t.Errorf("as a form: %+v, %v", form, err)
	}
}

func TestNormalise(t *testing.T) {
	git := func(change func(g *event.Git)) *event.Git {
		g := &event.Git{Repo: "acme/shop", Owner: "acme", CloneURL: "https://git.example.com/acme/shop.git", Pusher: "ana"}
		change(g)
		return g
	}
	branch := func(g *event.Git, name string) { g.Ref, g.Branch = "refs/heads/"+name, name }
	pr := func(head string) string {
		return `"pull_request":{"number":7,"html_url":"https://git.example.com/acme/shop/pulls/7","user":{"username":"bob"},"merged":true,
			"base":{"ref":"main","repo":{"full_name":"acme/shop"}},"head":{"ref":"topic","sha":"` + two + `","repo":` + head + `}}`
	}
	pull := &event.PullRequest{Number: 7, Action: "synchronize", Base: "main", Head: "topic", Merged: true, Author: "bob", URL: "https://git.example.com/acme/shop/pulls/7"}
	fork := *pull
	fork.Fork, fork.Action = true, "labeled"
	tests := []struct {
		name, kind, body string
		git              *event.Git
		pull             *event.PullRequest
	}{
		{"push", "push", pushBody, git(func(g *event.Git) {
			branch(g, "main")
			g.Commit, g.Before, g.Paths, g.PathsComplete, g.Pusher = two, one, []string{"a", "b"}, true, "bob"
		}), nil},
		{"more commits than listed", "push", `{"ref":"refs/heads/main","total_commits":6,"commits":[{"added":["a"]}],` + repo + `}`,
			git(func(g *event.Git) { branch(g, "main"); g.Paths = []string{"a"} }), nil},
		{"old version without a total", "push", `{"ref":"refs/heads/main","commits":[{"added":["a"]}],` + repo + `}`,
			git(func(g *event.Git) { branch(g, "main"); g.Paths = []string{"a"} }), nil},
		{"new tag", "push", `{"ref":"refs/tags/v1","before":"` + zero + `","after":"` + two + `",` + repo + `}`,
			git(func(g *event.Git) { g.Ref, g.Tag, g.Commit, g.Created = "refs/tags/v1", "v1", two, true }), nil},
		{"create", "create", `{"ref":"topic","ref_type":"branch","sha":"` + two + `",` + repo + `}`,
			git(func(g *event.Git) { branch(g, "topic"); g.Commit, g.Created = two, true }), nil},
		{"delete", "delete", `{"ref":"v1","ref_type":"tag",` + repo + `}`, git(func(g *event.Git) { g.Ref, g.Tag, g.Deleted = "refs/tags/v1", "v1", true }), nil},
		{"pull request", "pull_request", `{"action":"synchronized",` + pr(`{"full_name":"acme/shop"}`) + `,` + repo + `}`,
			git(func(g *event.Git) { g.Ref, g.Branch, g.Commit = "refs/pull/7/head", "topic", two }), pull},
		{"fork", "pull_request", `{"action":"label_updated",` + pr(`null`) + `,` + repo + `}`,
			git(func(g *event.Git) { g.Ref, g.Branch, g.Commit = "refs/pull/7/head", "topic", two }), &fork},
		{"comment on a pull request", "issue_comment", `{"action":"created","is_pull":true,"issue":{"number":7,"user":{"login":"bob"}},` + repo + `}`,
			git(func(*event.Git) {}), &event.PullRequest{Number: 7, Action: "created", Author: "bob", Fork: true}},
		{"comment on a pull request, by its own name", "pull_request_comment", `{"action":"created","is_pull":true,"issue":{"number":7,"user":{"login":"bob"}},"comment":{"pull_request_url":"https://git.example.com/acme/shop/pulls/7"},` + repo + `}`,
			git(func(*event.Git) {}), &event.PullRequest{Number: 7, Action: "created", Author: "bob", Fork: true, URL: "https://git.example.com/acme/shop/pulls/7"}},
		{"run of a workflow", "workflow_run", `{"action":"completed","workflow_run":{"head_branch":"topic","head_sha":"` + two + `","head_repository":{"full_name":"acme/shop"}},` + repo + `}`,
			git(func(g *event.Git) { branch(g, "topic"); g.Commit = two }), nil},
		{"run of a fork's workflow", "workflow_run", `{"action":"completed","workflow_run":{"head_branch":"main","head_sha":"` + two + `","head_repository":{"full_name":"eve/shop"}},` + repo + `}`,
			git(func(g *event.Git) { g.Commit = two }), nil},
		{"repository by its address alone", "push", `{"ref":"refs/heads/main","pusher":{"login":"ana"},"repository":{"clone_url":"https://git.example.com/acme/shop.git"}}`,
			git(func(g *event.Git) { branch(g, "main") }), nil},
		{"comment on an issue", "issue_comment", `{"action":"created","is_pull":false,"issue":{"number":7},` + repo + `}`, git(func(*event.Git) {}), nil},
		{"release", "release", `{"action":"published","release":{"tag_name":"v1"},` + repo + `}`, git(func(g *event.Git) { g.Ref, g.Tag = "refs/tags/v1", "v1" }), nil},
		{"nothing of a repository", "push", `{"ref":"refs/heads/main"}`, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &event.Event{Type: tt.kind, Body: []byte(tt.body)}
			normalise(e)
			if !reflect.DeepEqual(e.Git, tt.git) {
				t.Errorf("git is  %+v\nwant    %+v", e.Git, tt.git)
			}
			if !reflect.DeepEqual(e.PullRequest, tt.pull) {
				t.Errorf("pull request is  %+v\nwant             %+v", e.PullRequest, tt.pull)
			}
			sourcetest.CheckEvent(t, e)
		})
	}
}
