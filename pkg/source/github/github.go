// Package github receives from GitHub: repository, organisation and app webhooks.
package github

import (
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Facts, from GitHub's documentation (docs.github.com: "Validating webhook deliveries", "Webhook events and payloads").
const (
	signatureHeader = "X-Hub-Signature-256" // sha256= and the hexadecimal HMAC of the raw body, also of a form
	prefix          = "sha256="
	typeHeader      = "X-GitHub-Event"
	deliveryHeader  = "X-GitHub-Delivery" // kept by a redelivery; not signed
	// A push's payload lists at most 2048 commits.
	maxCommits = 2048
)

type spec struct {
	Secrets []source.SecretRef `yaml:"secrets" required:"true" doc:"the webhook's secret; several while rotating"`
}

// Type describes the preset.
func Type() source.Type {
	return source.Type{
		Name: "github",
		Doc: "Webhooks of GitHub and GitHub Enterprise Server. The signature covers the body alone, so the event's key is the body's hash. " +
			"GitHub waits 10 seconds and never repeats by itself; a redelivery by hand adds an attempt to a failed run.",
		Headers:    []string{typeHeader, deliveryHeader, "X-GitHub-Hook-ID", "X-GitHub-Hook-Installation-Target-ID", "X-GitHub-Hook-Installation-Target-Type"},
		Redelivers: true,
		Spec:       &spec{},
		New: func(decode func(any) error, env source.Env) (source.Source, error) {
			s := &github{env: env}
			if err := decode(&s.spec); err != nil {
				return nil, err
			}
			return s, env.Check(s.spec.Secrets, "secrets")
		},
	}
}

type github struct {
	spec spec
	env  source.Env
}

func (g *github) Verify(r *source.Request) error {
	given, err := source.One(r.Header, signatureHeader)
	if err != nil {
		return err
	}
	secrets, err := g.env.Resolve(g.spec.Secrets)
	if err != nil {
		return err
	}
	return source.VerifyPrefixed(source.SHA256Hex(), prefix, secrets, given, r.Body)
}

func (g *github) Split(r *source.Request) ([]source.Delivery, error) {
	kind := r.Header.Get(typeHeader)
	if kind == "ping" {
		return nil, nil
	}
	body, err := source.FormPayload(r.Header, r.Body)
	if err != nil {
		return nil, err
	}
	if err := source.ParseJSON(body); err != nil {
		return nil, err
	}
	return []source.Delivery{{
		Key: source.BodyKey(r.Body), Type: source.Or(kind, "unknown"), DeliveryID: r.Header.Get(deliveryHeader),
		Headers: source.Pick(r.Header, Type().Headers), Body: body,
	}}, nil
}

func (g *github) Normalise(e *event.Event) {
	b := source.Body(e)
	repo := b.At("repository")
	if !repo.Exists() {
		return
	}
	git := &event.Git{Repo: repo.At("full_name").Str(), CloneURL: repo.At("clone_url").Str(), Pusher: source.Or(b.At("pusher", "name").Str(), b.At("sender", "login").Str())}
	git.Owner = source.Or(repo.At("owner", "login").Str(), repo.At("owner", "name").Str(), source.Owner(git.Repo))
	e.Git, e.Subject = git, git.Repo
	switch e.Type {
	case "push":
		push(e, b)
	case "create", "delete":
		named(git, b)
	default:
		other(e, b)
	}
}

func push(e *event.Event, b source.Node) {
	g := e.Git
	source.SetRef(g, b.At("ref").Str())
	source.SetChange(g, b.At("before").Str(), b.At("after").Str())
	g.Forced, g.Created, g.Deleted = b.At("forced").Bool(), g.Created || b.At("created").Bool(), g.Deleted || b.At("deleted").Bool()
	e.Time = b.At("head_commit", "timestamp").Time()
	commits := b.At("commits").List()
	g.Paths = source.ChangedPaths(commits)
	listed := len(commits) > 0 && len(commits) < maxCommits && commits[0].At("modified").Exists()
	g.PathsComplete = listed && !g.Forced && !g.Created && !g.Deleted
}

// named reads create and delete, whose ref is a short name.
func named(g *event.Git, b source.Node) {
	switch name := b.At("ref").Str(); b.At("ref_type").Str() {
	case "branch":
		source.SetRef(g, "refs/heads/"+name)
	case "tag":
		source.SetRef(g, "refs/tags/"+name)
	}
}

// other reads the events whose object says which commit it is about.
func other(e *event.Event, b source.Node) {
	g := e.Git
	if pr := b.At("pull_request"); pr.Exists() {
		pullRequest(e, b, pr)
		return
	}
	for _, object := range []string{"deployment", "workflow_run", "check_suite", "check_run", "workflow_job"} {
		o := b.At(object)
		if !o.Exists() {
			continue
		}
		g.Commit = source.Or(o.At("sha").Str(), o.At("head_sha").Str())
		g.Branch = source.Or(o.At("head_branch").Str(), o.At("check_suite", "head_branch").Str())
		if ref := o.At("ref").Str(); g.Branch == "" && ref != g.Commit {
			g.Branch = ref
		}
		break
	}
	if release := b.At("release"); release.Exists() {
		source.SetRef(g, "refs/tags/"+release.At("tag_name").Str())
	}
	if e.Type == "status" {
		g.Commit = b.At("sha").Str()
		if branches := b.At("branches").List(); len(branches) == 1 {
			g.Branch = branches[0].At("name").Str()
		}
	}
	if ref := b.At("ref").Str(); g.Ref == "" && len(ref) > 5 && ref[:5] == "refs/" {
		source.SetRef(g, ref)
	}
}

func pullRequest(e *event.Event, b, pr source.Node) {
	base, head := pr.At("base"), pr.At("head")
	e.PullRequest = &event.PullRequest{
		Number: pr.At("number").Int(), Action: b.At("action").Str(), Base: base.At("ref").Str(), Head: head.At("ref").Str(),
		// A head repository that was deleted is null: it was a fork.
		Fork:   head.At("repo", "full_name").Str() != base.At("repo", "full_name").Str(),
		Merged: pr.At("merged").Bool(), Author: pr.At("user", "login").Str(), URL: pr.At("html_url").Str(),
	}
	e.Git.Branch, e.Git.Commit = head.At("ref").Str(), head.At("sha").Str()
	e.Time = pr.At("updated_at").Time()
}
