package source_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
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
	case "gitea-sha256":
		return gitea.Type(), signed, v.Valid, true
	case "standard-webhooks-v1":
		return standardwebhooks.Type(), signed, v.Valid, true
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
	File, Sender, Event, ContentType string
	Headers                          map[string]string
	Golden                           string `json:"normalised_golden"`
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
	var manifest struct{ Entries []payload }
	if err := json.Unmarshal(read(t, dir, "manifest.json"), &manifest); err != nil {
		t.Fatal(err)
	}
	tried := map[string]int{}
	for _, p := range manifest.Entries {
		s := sources[p.Sender]
		if s == nil || filepath.Ext(p.File) != ".json" {
			continue
		}
		tried[p.Sender]++
		t.Run(p.File, func(t *testing.T) {
			req := &source.Request{Method: http.MethodPost, Header: http.Header{}, Body: read(t, dir, p.File)}
			for k, v := range p.Headers {
				req.Header.Set(k, v)
			}
			deliveries, err := s.Split(req)
			if err != nil {
				if !json.Valid(req.Body) || p.Sender == "alertmanager" {
					t.Skipf("the payload is not as the sender sends it: %v", err)
				}
				t.Fatal(err)
			}
			for _, d := range deliveries {
				e := sourcetest.Event(d)
				s.Normalise(e)
				sourcetest.CheckEvent(t, e)
				if _, err := e.Data(); err != nil {
					t.Error(err)
				}
				p.check(t, dir, e)
			}
		})
	}
	for sender := range sources {
		if tried[sender] == 0 {
			t.Errorf("no payload of %s was tried", sender)
		}
	}
}

// golden is what another normaliser of webhooks makes of the payload.
type golden struct {
	Ref         json.RawMessage // a name, or an object with its short name
	Before      string
	Commit      *struct{ Sha string }
	Repo        *struct{ Namespace, Name, Clone string }
	PullRequest *struct {
		Number                   int64
		Sha, Ref, Source, Target string
		Fork, Link               string
		Merged                   bool
		Author                   struct{ Login string }
	}
}

func (p *payload) check(t *testing.T, dir string, e *event.Event) {
	if p.Sender != "alertmanager" {
		p.checkKind(t, e)
	} else if e.Alert == nil {
		t.Error("there is no alert")
	}
	if p.Golden == "" {
		return
	}
	var g golden
	if err := json.Unmarshal(read(t, dir, p.Golden), &g); err != nil {
		t.Fatal(err)
	}
	if g.Repo != nil && e.Git != nil {
		same(t, "repo", e.Git.Repo, g.Repo.Namespace+"/"+g.Repo.Name)
		same(t, "owner", e.Git.Owner, g.Repo.Namespace)
		same(t, "cloneURL", e.Git.CloneURL, g.Repo.Clone)
	}
	if pr := g.PullRequest; pr != nil && e.PullRequest != nil {
		same(t, "number", e.PullRequest.Number, pr.Number)
		same(t, "ref", e.Git.Ref, pr.Ref)
		same(t, "commit", e.Git.Commit, pr.Sha)
		same(t, "head", e.PullRequest.Head, pr.Source)
		same(t, "base", e.PullRequest.Base, pr.Target)
		same(t, "merged", e.PullRequest.Merged, pr.Merged)
		same(t, "url", e.PullRequest.URL, pr.Link)
		if p.Sender != "gitlab" { // of GitLab the other one puts the author's name before the project's
			same(t, "fork", e.PullRequest.Fork, !strings.EqualFold(pr.Fork, e.Git.Repo))
		}
	}
	if ref := ""; e.Type == "push" && json.Unmarshal(g.Ref, &ref) == nil {
		same(t, "ref", e.Git.Ref, ref)
		same(t, "before", e.Git.Before, source.NotZero(g.Before))
		if g.Commit != nil {
			same(t, "commit", e.Git.Commit, source.NotZero(g.Commit.Sha))
		}
	}
	var short struct{ Name string }
	if json.Unmarshal(g.Ref, &short) == nil && (e.Type == "create" || e.Type == "delete") {
		same(t, "branch or tag", e.Git.Branch+e.Git.Tag, short.Name)
	}
}

// checkKind compares with the manifest's label, "event.action".
func (p *payload) checkKind(t *testing.T, e *event.Event) {
	kind, _, _ := strings.Cut(p.Event, ".")
	if (kind == "push" || strings.HasPrefix(kind, "pull_request")) && p.Sender != "gitlab" && e.Git == nil && bytes.Contains(e.Body, []byte("full_name")) {
		t.Errorf("%s has no git view", p.Event)
	}
	if kind == "pull_request" && e.PullRequest == nil {
		t.Errorf("%s has no view of the pull request", p.Event)
	}
	if p.Sender == "gitlab" && (kind == "merge_request") != (e.Type == "merge_request") {
		t.Errorf("%s is taken for %s", p.Event, e.Type)
	}
	if p.Sender == "gitlab" && kind == "merge_request" && e.PullRequest == nil {
		t.Error("a merge request has no view")
	}
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, and elsewhere %v", what, got, want)
	}
}
