package gitlab

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

const (
	token     = "gitlab-token-value"
	key       = "d2hhdGV2ZXItdGhpcy1rZXktaXMtaGVyZQ=="
	one, two  = "1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"
	zero      = "0000000000000000000000000000000000000000"
	inProject = `"project":{"path_with_namespace":"acme/web/shop","git_http_url":"https://gitlab.example.com/acme/web/shop.git"}`
	user      = `"user":{"id":3,"username":"ana"}`
	pushBody  = `{"object_kind":"push","ref":"refs/heads/main","before":"` + one + `","after":"` + two + `","checkout_sha":"` + two + `","user_username":"ana",
		"total_commits_count":1,"commits":[{"added":["b"],"modified":["a"],"removed":[]}],` + inProject + `}`
)

func signToken(r *source.Request, secret string) { r.Header.Set("X-Gitlab-Token", secret) }

func signStandard(r *source.Request, secret string) { signAt(r, secret, sourcetest.Now()) }

func signAt(r *source.Request, secret string, at time.Time) {
	key, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		panic(err)
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	m := hmac.New(sha256.New, key)
	m.Write([]byte("id-1." + stamp + "." + string(r.Body)))
	r.Header.Set("webhook-id", "id-1")
	r.Header.Set("webhook-timestamp", stamp)
	r.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(m.Sum(nil)))
}

func header() http.Header {
	return http.Header{"X-Gitlab-Event": {"Push Hook"}, "Idempotency-Key": {"id-1"}, "X-Gitlab-Webhook-Uuid": {"random"}}
}

func tokenCase() sourcetest.Case {
	return sourcetest.Case{
		Name: "token", Spec: "secrets: [{secret: the-secret}]", Secret: token, Header: header(), Body: pushBody, Sign: signToken, Proof: "X-Gitlab-Token", Events: 1,
	}
}

func signingCase() sourcetest.Case {
	return sourcetest.Case{
		Name: "signing", Spec: "signingSecrets: [{secret: the-secret}]", Secret: key, Header: header(), Body: pushBody, Sign: signStandard, Proof: "Webhook-Signature",
		List: true, SignsBody: true, Events: 1,
	}
}

func TestConformance(t *testing.T) {
	sourcetest.Run(t, Type(), []sourcetest.Case{tokenCase(), signingCase()})
}

func FuzzToken(f *testing.F) {
	sourcetest.Fuzz(f, Type(), tokenCase(), "push", "tag_push", "merge_request", "pipeline", "job", "note", "release", "deployment")
}

func FuzzSigning(f *testing.F) { sourcetest.Fuzz(f, Type(), signingCase()) }

func TestTokenAndSigning(t *testing.T) {
	env := sourcetest.Env(map[string]string{"t": token, "k": "whsec_" + key})
	both := sourcetest.New(t, Type(), "{secrets: [{secret: t}], signingSecrets: [{secret: k}]}", env)
	tests := []struct {
		name string
		sign func(r *source.Request)
		want error
	}{
		{"signed", func(r *source.Request) { signStandard(r, key) }, nil},
		{"token alone", func(r *source.Request) { signToken(r, token) }, nil},
		{"both", func(r *source.Request) { signStandard(r, key); signToken(r, token) }, nil},
		{"wrong signature, right token", func(r *source.Request) { signStandard(r, "d3Jvbmc="); signToken(r, token) }, source.ErrUnauthenticated},
		{"signed, wrong token", func(r *source.Request) { signStandard(r, key); signToken(r, "x") }, nil},
		{"signed too long ago", func(r *source.Request) { signAt(r, key, sourcetest.Now().Add(-5*time.Minute-time.Second)) }, source.ErrUnauthenticated},
		{"signed too far ahead", func(r *source.Request) { signAt(r, key, sourcetest.Now().Add(5*time.Minute+time.Second)) }, source.ErrUnauthenticated},
		{"signed within the tolerance", func(r *source.Request) { signAt(r, key, sourcetest.Now().Add(-5*time.Minute)) }, nil},
		{"empty signature, right token", func(r *source.Request) { r.Header.Set("Webhook-Signature", ""); signToken(r, token) }, source.ErrUnauthenticated},
		{"nothing", func(*source.Request) {}, source.ErrUnauthenticated},
	}
	for _, tt := range tests {
		r := &source.Request{Header: header(), Body: []byte(pushBody)}
		tt.sign(r)
		if err := both.Verify(r); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	signing := sourcetest.New(t, Type(), "signingSecrets: [{secret: k}]", env)
	r := &source.Request{Header: header(), Body: []byte(pushBody)}
	signToken(r, token)
	if err := signing.Verify(r); !errors.Is(err, source.ErrUnauthenticated) {
		t.Errorf("unsigned where only signing is configured: got %v", err)
	}
}

func TestTypeAndKey(t *testing.T) {
	s := sourcetest.New(t, Type(), "secrets: [{secret: the-secret}]", sourcetest.Env(map[string]string{"the-secret": token}))
	tests := []struct {
		body        string
		header      http.Header
		kind, theID string
	}{
		{`{"object_kind":"push"}`, header(), "push", "id-1"},
		{`{"object_kind":"build"}`, http.Header{"X-Gitlab-Event": {"Job Hook"}}, "job", ""},
		{`{"event_name":"project_create"}`, http.Header{"X-Gitlab-Event": {"System Hook"}}, "project_create", ""},
		{`{"object_kind":"merge_request","event_type":"merge_request"}`, http.Header{"X-Gitlab-Event": {"System Hook"}}, "merge_request", ""},
		{`{}`, http.Header{"X-Gitlab-Event": {"Tag Push Hook"}}, "tag_push", ""},
		{`[]`, http.Header{"X-Gitlab-Event": {"push"}}, "push", ""},
		{`{}`, http.Header{}, "unknown", ""},
		{`{"object_kind":7}`, http.Header{"Webhook-Id": {"w"}, "Idempotency-Key": {"k"}}, "unknown", "w"},
	}
	for _, tt := range tests {
		d, err := s.Split(&source.Request{Header: tt.header, Body: []byte(tt.body)})
		if err != nil {
			t.Fatal(err)
		}
		if d[0].Type != tt.kind || d[0].Key != tt.theID || d[0].DeliveryID != tt.theID {
			t.Errorf("%s: got %+v", tt.body, d[0])
		}
	}
}

func TestNormalise(t *testing.T) {
	git := func(change func(g *event.Git)) *event.Git {
		g := &event.Git{Repo: "acme/web/shop", Owner: "acme/web", CloneURL: "https://gitlab.example.com/acme/web/shop.git", Pusher: "ana"}
		change(g)
		return g
	}
	branch := func(g *event.Git, name string) { g.Ref, g.Branch = "refs/heads/"+name, name }
	mr := func(from, extra string) string {
		return `{"iid":7,"source_branch":"topic","target_branch":"main","source_project_id":` + from + `,"target_project_id":1,"author_id":3,
			"last_commit":{"id":"` + two + `"},"url":"https://gitlab.example.com/acme/web/shop/-/merge_requests/7","updated_at":"2026-11-23 10:00:00 UTC"` + extra + `}`
	}
	merge := func(action string, change func(p *event.PullRequest)) *event.PullRequest {
		p := &event.PullRequest{Number: 7, Action: action, Base: "main", Head: "topic", Author: "ana", URL: "https://gitlab.example.com/acme/web/shop/-/merge_requests/7"}
		if change != nil {
			change(p)
		}
		return p
	}
	merged := git(func(g *event.Git) { g.Ref, g.Branch, g.Commit = "refs/merge-requests/7/head", "topic", two })
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	request := func(from, extra string) string {
		return `{"object_attributes":` + mr(from, extra) + `,` + user + `,` + inProject + `}`
	}
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
		{"more commits than listed", "push", `{"ref":"refs/heads/main","user_username":"ana","total_commits_count":21,"commits":[{"added":["a"]}],` + inProject + `}`,
			git(func(g *event.Git) { branch(g, "main"); g.Paths = []string{"a"} }), nil, time.Time{}},
		{"new branch", "push", `{"ref":"refs/heads/b","before":"` + zero + `","after":"` + two + `","user_username":"ana","total_commits_count":1,"commits":[{"added":["a"]}],` + inProject + `}`,
			git(func(g *event.Git) { branch(g, "b"); g.Commit, g.Created, g.Paths = two, true, []string{"a"} }), nil, time.Time{}},
		{"deleted branch", "push", `{"ref":"refs/heads/b","before":"` + one + `","after":"` + zero + `","checkout_sha":null,"user_username":"ana","commits":[],` + inProject + `}`,
			git(func(g *event.Git) { branch(g, "b"); g.Before, g.Deleted = one, true }), nil, time.Time{}},
		{"annotated tag", "tag_push", `{"ref":"refs/tags/v1","before":"` + zero + `","after":"` + one + `","checkout_sha":"` + two + `","user_username":"ana",` + inProject + `}`,
			git(func(g *event.Git) { g.Ref, g.Tag, g.Commit, g.Created = "refs/tags/v1", "v1", two, true }), nil, time.Time{}},
		{"opened", "merge_request", request("1", `,"action":"open"`), merged, merge("opened", nil), at},
		{"reopened", "merge_request", request("1", `,"action":"reopen"`), merged, merge("reopened", nil), at},
		{"pushed to", "merge_request", request("1", `,"action":"update","oldrev":"`+one+`"`), git(func(g *event.Git) { *g = *merged; g.Before = one }), merge("synchronize", nil), at},
		{"edited", "merge_request", request("1", `,"action":"update"`), merged, merge("edited", nil), at},
		{"closed", "merge_request", request("1", `,"action":"close","state":"closed"`), merged, merge("closed", nil), at},
		{"merged", "merge_request", request("1", `,"action":"merge","state":"merged"`), merged, merge("closed", func(p *event.PullRequest) { p.Merged = true }), at},
		{"approved", "merge_request", request("1", `,"action":"approved"`), merged, merge("approved", nil), at},
		{"from a fork", "merge_request", request("2", `,"action":"open"`), merged, merge("opened", func(p *event.PullRequest) { p.Fork = true }), at},
		{"from who knows where", "merge_request", request("null", `,"action":"open"`), merged, merge("opened", func(p *event.PullRequest) { p.Fork = true }), at},
		{"by another than its author", "merge_request", request("1", `,"action":"close","author_id":4`), merged, merge("closed", func(p *event.PullRequest) { p.Author = "" }), at},
		{"pipeline", "pipeline", `{"object_attributes":{"ref":"main","tag":false,"sha":"` + two + `","before_sha":"` + one + `","source":"push","finished_at":"2026-11-23 10:00:00 UTC"},"merge_request":null,` + user + `,` + inProject + `}`,
			git(func(g *event.Git) { branch(g, "main"); g.Commit, g.Before = two, one }), nil, at},
		{"pipeline of a tag", "pipeline", `{"object_attributes":{"ref":"v1","tag":true,"sha":"` + two + `","before_sha":"` + zero + `"},` + user + `,` + inProject + `}`,
			git(func(g *event.Git) { g.Ref, g.Tag, g.Commit = "refs/tags/v1", "v1", two }), nil, time.Time{}},
		{"pipeline of a merge request", "pipeline", `{"object_attributes":{"ref":"topic","sha":"` + two + `","source":"merge_request_event"},"merge_request":` + mr("1", "") + `,` + user + `,` + inProject + `}`,
			git(func(g *event.Git) { branch(g, "topic"); g.Commit = two }), merge("", nil), time.Time{}},
		{"pipeline of a fork's main", "pipeline", `{"object_attributes":{"ref":"main","sha":"` + two + `","source":"merge_request_event"},"merge_request":` + mr("2", "") + `,` + user + `,` + inProject + `}`,
			git(func(g *event.Git) { g.Commit = two }), merge("", func(p *event.PullRequest) { p.Fork = true }), time.Time{}},
		{"pipeline of a merge request that is not told", "pipeline", `{"object_attributes":{"ref":"main","sha":"` + two + `","source":"merge_request_event"},` + user + `,` + inProject + `}`,
			git(func(g *event.Git) { g.Commit = two }), nil, time.Time{}},
		{"job", "job", `{"ref":"main","tag":false,"sha":"` + two + `","build_finished_at":"2026-11-23 10:00:00 UTC","user":{"username":"ana"},"repository":{"git_http_url":"https://gitlab.example.com/acme/web/shop.git"}}`,
			git(func(g *event.Git) { branch(g, "main"); g.Commit = two }), nil, at},
		{"note on a merge request", "note", `{"object_attributes":{"note":"x","action":"create","created_at":"2026-11-23T10:00:00Z"},"merge_request":` + mr("1", "") + `,` + user + `,` + inProject + `}`, merged, merge("created", nil), at},
		{"note on a commit", "note", `{"object_attributes":{"note":"x"},"commit":{"id":"` + two + `"},` + user + `,` + inProject + `}`, git(func(g *event.Git) { g.Commit = two }), nil, time.Time{}},
		{"release", "release", `{"tag":"v1","commit":{"id":"` + two + `"},"released_at":"2026-11-23 10:00:00 UTC",` + user + `,` + inProject + `}`,
			git(func(g *event.Git) { g.Ref, g.Tag, g.Commit = "refs/tags/v1", "v1", two }), nil, at},
		{"deployment", "deployment", `{"status":"success","status_changed_at":"2026-11-23 12:00:00 +0200","ref":"main","commit_url":"https://gitlab.example.com/acme/web/shop/-/commit/` + two + `",` + user + `,` + inProject + `}`,
			git(func(g *event.Git) { g.Commit = two }), nil, at},
		{"deployment of the default branch", "deployment", `{"status":"success","ref":"main","user":{"username":"ana"},"project":{"path_with_namespace":"acme/web/shop","git_http_url":"https://gitlab.example.com/acme/web/shop.git","default_branch":"main"}}`,
			git(func(g *event.Git) { branch(g, "main") }), nil, time.Time{}},
		{"opened, of a version that tells no ids of users", "merge_request", `{"object_attributes":{"iid":7,"action":"open","source_branch":"topic","target_branch":"main","source_project_id":1,"target_project_id":1,"author_id":3,"last_commit":{"id":"` + two + `"}},
			"user":{"username":"ana"},"project":{"path_with_namespace":"acme/web/shop","git_http_url":"https://gitlab.example.com/acme/web/shop.git","web_url":"https://gitlab.example.com/acme/web/shop"}}`, merged, merge("opened", nil), time.Time{}},
		{"note that alone has the address", "note", `{"object_attributes":{"url":"https://gitlab.example.com/acme/web/shop/-/merge_requests/7#note_1"},"merge_request":{"iid":7,"source_branch":"topic","target_branch":"main","source_project_id":1,"target_project_id":1,"author_id":3,"last_commit":{"id":"` + two + `"}},` + user + `,` + inProject + `}`,
			merged, merge("created", nil), time.Time{}},
		{"update of one ref", "repository_update", `{"event_name":"repository_update","user":{"username":"ana"},"changes":[{"before":"` + one + `","after":"` + two + `","ref":"refs/heads/main"}],` + inProject + `}`,
			git(func(g *event.Git) { branch(g, "main"); g.Before, g.Commit = one, two }), nil, time.Time{}},
		{"update of two refs", "repository_update", `{"event_name":"repository_update","user":{"username":"ana"},"changes":[{"ref":"refs/heads/a"},{"ref":"refs/heads/b"}],` + inProject + `}`,
			git(func(*event.Git) {}), nil, time.Time{}},
		{"member of a project", "user_add_to_team", `{"event_name":"user_add_to_team","project_path_with_namespace":"acme/web/shop","user_username":"ana"}`,
			git(func(g *event.Git) { g.CloneURL = "" }), nil, time.Time{}},
		{"issue", "issue", `{"object_attributes":{"iid":1,"action":"open"},` + user + `,` + inProject + `}`, git(func(*event.Git) {}), nil, time.Time{}},
		{"user", "user_create", `{"event_name":"user_create","username":"ana"}`, nil, nil, time.Time{}},
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
			if !e.Time.Equal(tt.time) {
				t.Errorf("time is %v, want %v", e.Time, tt.time)
			}
			sourcetest.CheckEvent(t, e)
		})
	}
}
