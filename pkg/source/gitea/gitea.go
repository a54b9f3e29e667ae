// Package gitea receives from Gitea and Forgejo.
package gitea

import (
	"fmt"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Facts, from go-gitea/gitea services/webhook/deliver.go and Forgejo's API documentation: the signature is bare
// hexadecimal HMAC-SHA256 of the JSON, also where that travels in a form; without a secret the header is there but empty.
const (
	giteaSignature   = "X-Gitea-Signature"
	forgejoSignature = "X-Forgejo-Signature"
)

type spec struct {
	Secrets []source.SecretRef `yaml:"secrets" required:"true" doc:"the webhook's secret; several while rotating"`
}

// Type describes the preset.
func Type() source.Type {
	return source.Type{
		Name:    "gitea",
		Doc:     "Webhooks of Gitea and Forgejo. The signature covers the body alone, so the event's key is the body's hash. They wait 5 seconds and never repeat.",
		Headers: []string{"X-Gitea-Event", "X-Gitea-Event-Type", "X-Gitea-Delivery", "X-Forgejo-Event", "X-Forgejo-Delivery"},
		Spec:    &spec{},
		New: func(decode func(any) error, env source.Env) (source.Source, error) {
			s := &gitea{env: env}
			if err := decode(&s.spec); err != nil {
				return nil, err
			}
			return s, env.Check(s.spec.Secrets, "secrets")
		},
	}
}

type gitea struct {
	spec spec
	env  source.Env
}

func (g *gitea) Verify(r *source.Request) error {
	name := giteaSignature
	if len(r.Header.Values(name)) == 0 {
		name = forgejoSignature
	}
	given, err := source.One(r.Header, name)
	if err != nil {
		return err
	}
	secrets, err := g.env.Resolve(g.spec.Secrets)
	if err != nil {
		return err
	}
	body, err := source.FormPayload(r.Header, r.Body)
	if err != nil {
		return fmt.Errorf("%w: what is signed can't be found", source.ErrUnauthenticated)
	}
	return source.SHA256Hex().Verify(secrets, given, body)
}

func (g *gitea) Split(r *source.Request) ([]source.Delivery, error) {
	body, err := source.FormPayload(r.Header, r.Body)
	if err != nil {
		return nil, err
	}
	if err := source.ParseJSON(body); err != nil {
		return nil, err
	}
	return []source.Delivery{{
		Key: source.BodyKey(body), Type: source.Or(r.Header.Get("X-Gitea-Event"), r.Header.Get("X-Forgejo-Event"), "unknown"),
		DeliveryID: source.Or(r.Header.Get("X-Gitea-Delivery"), r.Header.Get("X-Forgejo-Delivery")),
		Headers:    source.Pick(r.Header, Type().Headers), Body: body,
	}}, nil
}

func (g *gitea) Normalise(e *event.Event) {
	b := source.Body(e)
	repo := b.At("repository")
	if !repo.Exists() {
		return
	}
	git := &event.Git{Repo: repo.At("full_name").Str(), CloneURL: repo.At("clone_url").Str()}
	git.Pusher = source.Or(b.At("pusher", "login").Str(), b.At("pusher", "username").Str(), b.At("sender", "login").Str())
	git.Owner = source.Or(repo.At("owner", "login").Str(), repo.At("owner", "username").Str(), source.Owner(git.Repo))
	e.Git, e.Subject = git, git.Repo
	switch {
	case b.At("pull_request").Exists():
		pullRequest(e, b, b.At("pull_request"))
	case e.Type == "push":
		push(e, b)
	case e.Type == "create" || e.Type == "delete":
		kind := map[string]string{"branch": "refs/heads/", "tag": "refs/tags/"}[b.At("ref_type").Str()]
		source.SetRef(git, kind+b.At("ref").Str())
		git.Commit, git.Created, git.Deleted = b.At("sha").Str(), e.Type == "create", e.Type == "delete"
	case b.At("release").Exists():
		source.SetRef(git, "refs/tags/"+b.At("release", "tag_name").Str())
	}
}

func push(e *event.Event, b source.Node) {
	g := e.Git
	source.SetRef(g, b.At("ref").Str())
	source.SetChange(g, b.At("before").Str(), b.At("after").Str())
	e.Time = b.At("head_commit", "timestamp").Time()
	commits := b.At("commits").List()
	g.Paths = source.ChangedPaths(commits)
	// total_commits counts also those that are not listed; Gitea does not say whether history was rewritten.
	g.PathsComplete = len(commits) > 0 && b.At("total_commits").Int() == int64(len(commits)) && !g.Created && !g.Deleted
}

func pullRequest(e *event.Event, b, pr source.Node) {
	base, head := pr.At("base"), pr.At("head")
	action := b.At("action").Str()
	if action == "synchronized" {
		action = "synchronize"
	}
	e.PullRequest = &event.PullRequest{
		Number: pr.At("number").Int(), Action: action, Base: base.At("ref").Str(), Head: head.At("ref").Str(),
		Fork:   head.At("repo", "full_name").Str() != base.At("repo", "full_name").Str(),
		Merged: pr.At("merged").Bool(), Author: source.Or(pr.At("user", "login").Str(), pr.At("user", "username").Str()), URL: pr.At("html_url").Str(),
	}
	e.Git.Branch, e.Git.Commit = head.At("ref").Str(), head.At("sha").Str()
	e.Time = pr.At("updated_at").Time()
}
