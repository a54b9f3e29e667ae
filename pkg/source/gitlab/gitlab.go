// Package gitlab receives from GitLab: project, group and system hooks.
package gitlab

import (
	"errors"
	"fmt"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Facts, from gitlab-org/gitlab app/services/web_hook_service.rb and GitLab's webhook documentation: the old way is a plain
// token in X-Gitlab-Token; since 19.0 hooks can sign as Standard Webhooks. webhook-id equals Idempotency-Key and is kept when
// a delivery is sent again. A push lists at most 20 commits and counts all in total_commits_count.
const tokenHeader = "X-Gitlab-Token"

type spec struct {
	Secrets        []source.SecretRef `yaml:"secrets,omitempty" doc:"the hook's secret token; several while rotating"`
	SigningSecrets []source.SecretRef `yaml:"signingSecrets,omitempty" doc:"the hook's signing keys, whsec_ and base64; where there are any, a request that carries a signature must carry a right one"`
}

// Type describes the preset.
func Type() source.Type {
	return source.Type{
		Name: "gitlab",
		Doc: "Webhooks of GitLab, with a secret token, a signing key, or both. GitLab waits 10 seconds; a hook that fails four times in a row is switched off for a while, " +
			"and after 40 failures for good. A push of more than three branches sends no event.",
		Headers:    []string{"X-Gitlab-Event", "Idempotency-Key", "X-Gitlab-Event-Uuid", "X-Gitlab-Instance"},
		Redelivers: true,
		Spec:       &spec{},
		New:        build,
	}
}

func build(decode func(any) error, env source.Env) (source.Source, error) {
	s := &gitlab{env: env}
	if err := decode(&s.spec); err != nil {
		return nil, err
	}
	if len(s.spec.Secrets)+len(s.spec.SigningSecrets) == 0 {
		return nil, errors.New("secrets: name the hook's token here, or its signing key under signingSecrets, or anyone could send")
	}
	var errs []error
	if len(s.spec.Secrets) > 0 {
		errs = append(errs, env.Check(s.spec.Secrets, "secrets"))
	}
	if len(s.spec.SigningSecrets) > 0 {
		errs = append(errs, env.Check(s.spec.SigningSecrets, "signingSecrets"))
	}
	return s, errors.Join(errs...)
}

type gitlab struct {
	spec spec
	env  source.Env
}

func (g *gitlab) signed(r *source.Request) bool {
	return len(g.spec.SigningSecrets) > 0 && len(r.Header.Values("Webhook-Signature")) > 0
}

func (g *gitlab) Verify(r *source.Request) error {
	if g.signed(r) {
		keys, err := g.env.Resolve(g.spec.SigningSecrets)
		if err != nil {
			return err
		}
		_, err = source.VerifyStandard(&g.env, keys, r)
		return err
	}
	if len(g.spec.Secrets) == 0 {
		return fmt.Errorf("%w: header Webhook-Signature is missing", source.ErrUnauthenticated)
	}
	given, err := source.One(r.Header, tokenHeader)
	if err != nil {
		return err
	}
	tokens, err := g.env.Resolve(g.spec.Secrets)
	if err != nil {
		return err
	}
	ok := false
	for _, t := range tokens {
		ok = source.Equal([]byte(given), t) || ok
	}
	if !ok {
		return fmt.Errorf("%w: the token is wrong", source.ErrUnauthenticated)
	}
	return nil
}

func (g *gitlab) Split(r *source.Request) ([]source.Delivery, error) {
	if err := source.ParseJSON(r.Body); err != nil {
		return nil, err
	}
	id := source.Or(r.Header.Get("Webhook-Id"), r.Header.Get("Idempotency-Key"))
	return []source.Delivery{{
		Key: id, Type: typeOf(r), DeliveryID: source.Or(id, r.Header.Get("X-Gitlab-Webhook-Uuid")),
		Headers: source.Pick(r.Header, Type().Headers), Body: r.Body,
	}}, nil
}

// typeOf returns the event in the words of the body's object_kind, from the header where that says it.
func typeOf(r *source.Request) string {
	words := map[string]string{
		"Push Hook": "push", "Tag Push Hook": "tag_push", "Merge Request Hook": "merge_request", "Pipeline Hook": "pipeline",
		"Job Hook": "build", "Note Hook": "note", "Issue Hook": "issue", "Confidential Issue Hook": "issue", "Confidential Note Hook": "note",
		"Release Hook": "release", "Deployment Hook": "deployment", "Wiki Page Hook": "wiki_page", "Feature Flag Hook": "feature_flag", "Emoji Hook": "emoji",
	}
	if t := words[r.Header.Get("X-Gitlab-Event")]; t != "" {
		return t
	}
	e := &event.Event{Body: r.Body}
	b := source.Body(e)
	return source.Or(b.At("object_kind").Str(), b.At("event_name").Str(), "unknown")
}

func (g *gitlab) Normalise(e *event.Event) {
	b := source.Body(e)
	p := b.At("project")
	if !p.Exists() {
		return
	}
	git := &event.Git{Repo: p.At("path_with_namespace").Str(), CloneURL: source.Or(p.At("git_http_url").Str(), p.At("http_url").Str())}
	git.Owner, git.Pusher = source.Owner(git.Repo), source.Or(b.At("user_username").Str(), b.At("user", "username").Str())
	e.Git, e.Subject = git, git.Repo
	a := b.At("object_attributes")
	switch {
	case e.Type == "push" || e.Type == "tag_push":
		push(e, b)
	case e.Type == "merge_request":
		mergeRequest(e, b, a)
	case e.Type == "pipeline":
		git.Commit = a.At("sha").Str()
		if ref := a.At("ref").Str(); a.At("tag").Bool() {
			source.SetRef(git, "refs/tags/"+ref)
		} else if a.At("source").Str() != "merge_request_event" {
			source.SetRef(git, "refs/heads/"+ref)
		}
	case e.Type == "build":
		git.Commit, git.Branch = b.At("sha").Str(), b.At("ref").Str()
		if b.At("tag").Bool() {
			git.Tag, git.Branch = git.Branch, ""
		}
	case b.At("merge_request").Exists():
		mr := b.At("merge_request")
		git.Branch, git.Commit = mr.At("source_branch").Str(), mr.At("last_commit", "id").Str()
		e.PullRequest = pullRequest(mr, "commented")
	}
}

func push(e *event.Event, b source.Node) {
	g := e.Git
	source.SetRef(g, b.At("ref").Str())
	source.SetChange(g, b.At("before").Str(), b.At("after").Str())
	commits := b.At("commits").List()
	g.Paths = source.ChangedPaths(commits)
	total := b.At("total_commits_count").Int()
	// A push that rewrites history is not marked as such, but then lists no commit that reaches before; a new branch lists none.
	g.PathsComplete = len(commits) > 0 && total == int64(len(commits)) && !g.Created && !g.Deleted
	if n := len(commits); n > 0 {
		e.Time = commits[n-1].At("timestamp").Time()
	}
}

func mergeRequest(e *event.Event, b, a source.Node) {
	action := a.At("action").Str()
	words := map[string]string{"open": "opened", "close": "closed", "merge": "closed", "reopen": "reopened", "update": "edited"}
	if action == "update" && a.At("oldrev").Exists() {
		action = "synchronize"
	} else {
		action = source.Or(words[action], action)
	}
	e.PullRequest = pullRequest(a, action)
	if e.PullRequest.Author = b.At("user", "username").Str(); action != "opened" {
		e.PullRequest.Author = source.Or(a.At("author", "username").Str(), a.At("last_commit", "author", "name").Str(), e.PullRequest.Author)
	}
	e.Git.Branch, e.Git.Commit, e.Git.Before = a.At("source_branch").Str(), a.At("last_commit", "id").Str(), a.At("oldrev").Str()
}

func pullRequest(mr source.Node, action string) *event.PullRequest {
	return &event.PullRequest{
		Number: mr.At("iid").Int(), Action: action, Base: mr.At("target_branch").Str(), Head: mr.At("source_branch").Str(),
		Fork:   mr.At("source_project_id").Str() != mr.At("target_project_id").Str(),
		Merged: strings.EqualFold(mr.At("state").Str(), "merged"), URL: mr.At("url").Str(),
	}
}
