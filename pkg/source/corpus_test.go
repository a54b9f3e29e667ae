package source_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/alertmanager"
	"github.com/riposte-dev/riposte/pkg/source/generic"
	"github.com/riposte-dev/riposte/pkg/source/gitea"
	"github.com/riposte-dev/riposte/pkg/source/github"
	"github.com/riposte-dev/riposte/pkg/source/gitlab"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
	"github.com/riposte-dev/riposte/pkg/source/standardwebhooks"
)

// corpus returns the folder of real payloads, which is not part of the project.
func corpus(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("RIPOSTE_CORPUS")
	if dir == "" {
		root, err := filepath.Abs(".")
		if err != nil {
			t.Fatal(err)
		}
		for root != filepath.Dir(root) {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			root = filepath.Dir(root)
		}
		dir = filepath.Join(root, "..", "shared", "corpus", "dev")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the corpus of real payloads is not here; set RIPOSTE_CORPUS to its folder dev")
	}
	return dir
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	name   = sourcetest.SecretName
	signed = "secrets: [{secret: " + name + "}]"
)

type vector struct {
	ID, Scheme, Secret, Body, Now string
	Headers                       map[string]string
	Valid                         bool
}

// preset is how a vector's scheme is received, and whether we take it as valid.
func (v *vector) preset() (typ source.Type, spec string, valid, known bool) {
	switch v.Scheme {
	case "github-sha256":
		return github.Type(), signed, v.Valid, true
	case "github-sha1", "github-sha512", "github-malformed": // GitHub sends no sha512, and SHA-1 proves nothing
		return github.Type(), signed, false, true
	case "gitea-sha256", "forgejo-sha256":
		return gitea.Type(), signed, v.Valid, true
	case "standard-webhooks-v1", "standard-webhooks-v1a":
		return standardwebhooks.Type(), signed, v.Valid, true
	case "gitlab-token":
		return gitlab.Type(), signed, v.Valid, true
	case "generic-hmac-sha256", "bitbucket-dc-sha256":
		signature := "{header: X-Hub-Signature}"
		if s := v.Headers["X-Hub-Signature"]; strings.HasSuffix(s, "=") {
			signature = `{header: X-Hub-Signature, encoding: base64, prefix: "sha256="}`
		} else if strings.HasPrefix(s, "sha256=") {
			signature = `{header: X-Hub-Signature, prefix: "sha256="}`
		}
		return generic.Type(), "{" + signed + ", signature: " + signature + "}", v.Valid, true
	}
	return typ, "", false, false
}

func TestCorpusSignatures(t *testing.T) {
	dir := corpus(t)
	var raw []json.RawMessage
	if err := json.Unmarshal(read(t, dir, "vectors", "signatures.json"), &raw); err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, r := range raw {
		var v vector
		var now struct{ Now json.Number }
		if err := json.Unmarshal(r, &now); err != nil {
			continue // of a sender with another form
		}
		_ = json.Unmarshal(r, &v) // now is a number, read above
		typ, spec, valid, known := v.preset()
		if !known {
			continue
		}
		tried++
		env := sourcetest.Env(map[string]string{name: v.Secret})
		if seconds, err := strconv.ParseInt(now.Now.String(), 10, 64); err == nil {
			env.Now = func() time.Time { return time.Unix(seconds, 0) }
		}
		req := &source.Request{Method: http.MethodPost, Header: http.Header{}, Body: []byte(v.Body)}
		for k, val := range v.Headers {
			req.Header.Set(k, val)
		}
		err := sourcetest.New(t, typ, spec, env).Verify(req)
		if valid && err != nil || !valid && !errors.Is(err, source.ErrUnauthenticated) {
			t.Errorf("%s (%s): got %v, want valid %v", v.ID, v.Scheme, err, valid)
		}
	}
	if tried < 15 {
		t.Errorf("only %d vectors were tried", tried)
	}
}

type payload struct {
	File, Sender, Event, Note string
	ContentType               string `json:"content_type"`
	Headers                   map[string]string
	Golden                    string `json:"normalised_golden"`
	Signature                 *struct {
		Scheme, Header, Value, Secret string
		Verified                      bool
	}
}

// request is the payload as its sender posts it. Where the manifest says so, a form carries it.
func (p *payload) request(t *testing.T, dir string) *source.Request {
	t.Helper()
	body := read(t, dir, p.File)
	req := &source.Request{Method: http.MethodPost, Header: http.Header{}, Body: body}
	if filepath.Ext(p.File) == ".http" {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		if req.Body, err = io.ReadAll(r.Body); err != nil {
			t.Fatal(err)
		}
		req.Header = r.Header
	}
	for k, v := range p.Headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("Content-Type", p.ContentType)
	if strings.Contains(p.Note, "form field payload=") && filepath.Ext(p.File) == ".json" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Body = []byte("payload=" + url.QueryEscape(string(body)))
	}
	return req
}

func TestCorpusPayloads(t *testing.T) {
	dir := corpus(t)
	env := sourcetest.Env(map[string]string{name: "value"})
	sources := map[string]source.Source{
		"github":       sourcetest.New(t, github.Type(), signed, env),
		"gitlab":       sourcetest.New(t, gitlab.Type(), signed, env),
		"gitea":        sourcetest.New(t, gitea.Type(), signed, env),
		"forgejo":      sourcetest.New(t, gitea.Type(), signed, env),
		"alertmanager": sourcetest.New(t, alertmanager.Type(), "auth: {bearer: {secret: "+name+"}}", env),
	}
	sources["grafana"] = sources["alertmanager"] // its unified alerts have that form, and its older ones are refused
	tried := map[string]int{}
	for _, p := range manifest(t, dir) {
		s := sources[p.Sender]
		if s == nil {
			continue
		}
		tried[p.Sender]++
		t.Run(p.File, func(t *testing.T) { p.normalises(t, dir, s) })
	}
	for sender := range sources {
		if tried[sender] == 0 {
			t.Errorf("no payload of %s was tried", sender)
		}
	}
}

func manifest(t *testing.T, dir string) []payload {
	t.Helper()
	var m struct{ Entries []payload }
	if err := json.Unmarshal(read(t, dir, "manifest.json"), &m); err != nil {
		t.Fatal(err)
	}
	return m.Entries
}

func (p *payload) normalises(t *testing.T, dir string, s source.Source) {
	req := p.request(t, dir)
	deliveries, err := s.Split(req)
	if want := p.events(req.Body); want < 0 {
		if !errors.Is(err, source.ErrUnparsable) {
			t.Errorf("it is not as the sender sends it, and gives %v", err)
		}
		return
	} else if err != nil || len(deliveries) != want {
		t.Fatalf("it gives %d events and %v, want %d", len(deliveries), err, want)
	}
	keys := map[string]bool{}
	for _, d := range deliveries {
		if d.Key != "" && keys[d.Key] {
			t.Errorf("two events have the key %q", d.Key)
		}
		keys[d.Key] = true
		p.checkType(t, d)
		e := sourcetest.Event(d)
		s.Normalise(e)
		sourcetest.CheckEvent(t, e)
		if _, err := e.Data(); err != nil {
			t.Error(err)
		}
		expect(t, p.Sender, e)
		p.checkGolden(t, dir, e)
	}
}

// events is how many events a body holds; -1 says that it can't be parsed.
func (p *payload) events(body []byte) int {
	if form, err := url.ParseQuery(string(body)); err == nil && len(form["payload"]) == 1 {
		body = []byte(form.Get("payload"))
	}
	if !json.Valid(body) {
		return -1
	}
	if !p.alerts() {
		if kind, _, _ := strings.Cut(p.Event, "."); p.Sender == "github" && kind == "ping" {
			return 0
		}
		return 1
	}
	var alerts struct{ Alerts []json.RawMessage }
	if json.Unmarshal(body, &alerts) != nil || alerts.Alerts == nil {
		return -1
	}
	return len(alerts.Alerts)
}

// alerts says whether the payload comes in Alertmanager's form.
func (p *payload) alerts() bool { return p.Sender == "alertmanager" || p.Sender == "grafana" }

// checkType compares with the manifest's label, "event.action", of senders that name the event in a header or the body.
func (p *payload) checkType(t *testing.T, d source.Delivery) {
	t.Helper()
	kind, _, _ := strings.Cut(strings.TrimPrefix(p.Event, "system."), ".")
	if kind == "build" && p.Sender == "gitlab" {
		kind = "job"
	}
	if !p.alerts() && d.Type != kind {
		t.Errorf("it is of the type %s, want %s", d.Type, kind)
	}
}

// golden is what another normaliser of webhooks makes of the payload.
type golden struct {
	Action      string
	Ref         json.RawMessage // a name, or an object with its short name
	Before      string
	Branch, Sha string // of a merge group
	Commit      *struct{ Sha string }
	Repo        *struct{ Namespace, Name, Clone string }
	Sender      *struct{ Login string }
	Release     *struct{ Tag string }
	PullRequest *goldenPull
}

type goldenPull struct {
	Number                   int64
	Sha, Ref, Source, Target string
	Fork, Link               string
	Merged                   bool
	Author                   struct{ Login string }
}

func (p *payload) checkGolden(t *testing.T, dir string, e *event.Event) {
	t.Helper()
	if p.Golden == "" {
		return
	}
	var g golden
	if err := json.Unmarshal(read(t, dir, p.Golden), &g); err != nil {
		t.Fatal(err)
	}
	if g.Repo == nil {
		return // of an account, not of a repository
	}
	if e.Git == nil {
		t.Fatal("there is no git view")
	}
	same(t, "repo", e.Git.Repo, g.Repo.Namespace+"/"+g.Repo.Name)
	same(t, "owner", e.Git.Owner, g.Repo.Namespace)
	same(t, "cloneURL", e.Git.CloneURL, g.Repo.Clone)
	if g.Sender != nil && g.Sender.Login != "" && !strings.Contains(e.Type, "_review") && !strings.HasSuffix(e.Type, "_comment") {
		// Of these the other one takes the author of the review or comment.
		same(t, "pusher", e.Git.Pusher, g.Sender.Login)
	}
	if g.Release != nil && g.Release.Tag != "" {
		same(t, "tag", e.Git.Tag, g.Release.Tag)
	}
	if e.Type == "merge_group" {
		same(t, "commit", e.Git.Commit, g.Sha)
	}
	p.checkGoldenPull(t, g.PullRequest, e)
	p.checkGoldenRef(t, g, e)
}

func (p *payload) checkGoldenPull(t *testing.T, pr *goldenPull, e *event.Event) {
	t.Helper()
	if pr == nil || pr.Number == 0 {
		return
	}
	if e.PullRequest == nil {
		t.Fatal("there is no view of the pull request")
	}
	same(t, "number", e.PullRequest.Number, pr.Number)
	same(t, "merged", e.PullRequest.Merged, pr.Merged)
	same(t, "url", e.PullRequest.URL, pr.Link)
	if strings.HasSuffix(e.Type, "_comment") && e.Git.Ref == "" {
		return // of a comment the other one asks the host for the rest
	}
	same(t, "ref", e.Git.Ref, pr.Ref)
	same(t, "commit", e.Git.Commit, pr.Sha)
	same(t, "head", e.PullRequest.Head, pr.Source)
	same(t, "base", e.PullRequest.Base, pr.Target)
	if p.Sender == "gitlab" { // of GitLab the other one takes who caused the event for the author
		return
	}
	same(t, "author", e.PullRequest.Author, pr.Author.Login)
	same(t, "fork", e.PullRequest.Fork, !strings.EqualFold(pr.Fork, e.Git.Repo))
}

func (p *payload) checkGoldenRef(t *testing.T, g golden, e *event.Event) {
	t.Helper()
	if ref := ""; e.Type == "push" && json.Unmarshal(g.Ref, &ref) == nil {
		same(t, "ref", e.Git.Ref, ref)
		same(t, "before", e.Git.Before, source.NotZero(g.Before))
		if g.Commit != nil {
			same(t, "commit", e.Git.Commit, source.NotZero(g.Commit.Sha))
		}
	}
	var ref struct{ Name, Path, Sha string }
	if len(g.Ref) == 0 || json.Unmarshal(g.Ref, &ref) != nil {
		return
	}
	switch {
	case e.Type == "create", e.Type == "delete", e.Type == "tag_push":
		same(t, "branch or tag", e.Git.Branch+e.Git.Tag, ref.Name)
		same(t, "deleted", e.Git.Deleted, g.Action == "deleted")
		same(t, "created", e.Git.Created, g.Action == "created")
	case strings.HasPrefix(e.Type, "deployment"):
		same(t, "commit", e.Git.Commit, ref.Sha)
		if e.Git.Ref != "" { // the other one takes every short name for a branch
			same(t, "ref", e.Git.Ref, ref.Path)
		}
	}
}

// TestCorpusSignedPayloads verifies the payloads that came with a signature and the secret, and none that was altered.
func TestCorpusSignedPayloads(t *testing.T) {
	dir := corpus(t)
	types := map[string]source.Type{"github": github.Type(), "gitlab": gitlab.Type(), "gitea": gitea.Type(), "forgejo": gitea.Type()}
	for _, p := range manifest(t, dir) {
		typ, known := types[p.Sender]
		if !known || p.Signature == nil || !p.Signature.Verified {
			continue
		}
		t.Run(p.File, func(t *testing.T) {
			s := sourcetest.New(t, typ, signed, sourcetest.Env(map[string]string{name: p.Signature.Secret}))
			req := p.request(t, dir)
			req.Header.Set(p.Signature.Header, p.Signature.Value)
			valid := !strings.Contains(p.Signature.Scheme, "sha1") // which proves nothing
			if err := s.Verify(req); valid && err != nil || !valid && !errors.Is(err, source.ErrUnauthenticated) {
				t.Errorf("%s gives %v", p.Signature.Scheme, err)
			}
			req.Body = append(bytes.Clone(req.Body), ' ')
			if err := s.Verify(req); !strings.Contains(p.Signature.Scheme, "token") && !errors.Is(err, source.ErrUnauthenticated) {
				t.Errorf("another body gives %v", err)
			}
		})
	}
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, and elsewhere %v", what, got, want)
	}
}
