package source_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

// raw is a body as encoding/json reads it. What the views should say is read from it a second time, by other code than the
// presets use: the payloads are too many to write each one's views down.
type raw map[string]any

func (r raw) at(path ...string) any {
	var v any = map[string]any(r)
	for _, name := range path {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

func (r raw) text(path ...string) string {
	switch v := r.at(path...).(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

func (r raw) is(path ...string) bool {
	v, _ := r.at(path...).(bool)
	return v
}

func (r raw) sub(path ...string) raw {
	v, _ := r.at(path...).(map[string]any)
	return v
}

// first returns the first text that is there; each path is written with dots.
func (r raw) first(paths ...string) string {
	for _, p := range paths {
		if s := r.text(strings.Split(p, ".")...); s != "" {
			return s
		}
	}
	return ""
}

func rawOf(t *testing.T, body []byte) raw {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	var r raw
	if err := d.Decode(&r); err != nil {
		return nil // an array: no sender of these has views for it
	}
	return r
}

// want is what a payload's views should say.
type want struct {
	git  *event.Git
	pull *event.PullRequest
}

// expect checks an event's views against what its body says.
func expect(t *testing.T, sender string, e *event.Event) {
	t.Helper()
	r := rawOf(t, e.Body)
	var w want
	switch sender {
	case "github":
		w = wantGitHub(e.Type, r)
	case "gitea", "forgejo":
		w = wantGitea(e.Type, r)
	case "gitlab":
		w = wantGitLab(e.Type, r)
	case "alertmanager", "grafana":
		expectAlert(t, e, r)
		return
	}
	if (e.Git != nil) != (w.git != nil) || (e.PullRequest != nil) != (w.pull != nil) {
		t.Fatalf("the views are git %v and pull request %v, want %v and %v", e.Git, e.PullRequest, w.git, w.pull)
	}
	if w.git != nil {
		expectGit(t, e.Git, w.git)
	}
	if w.pull != nil {
		expectPull(t, e.PullRequest, w.pull)
	}
}

func expectGit(t *testing.T, got, want *event.Git) {
	t.Helper()
	same(t, "repo", got.Repo, want.Repo)
	same(t, "owner", got.Owner, want.Repo[:max(0, strings.LastIndex(want.Repo, "/"))])
	same(t, "cloneURL", got.CloneURL, want.CloneURL)
	same(t, "branch", got.Branch, want.Branch)
	same(t, "tag", got.Tag, want.Tag)
	same(t, "commit", got.Commit, want.Commit)
	same(t, "before", got.Before, want.Before)
	same(t, "pusher", got.Pusher, want.Pusher)
	same(t, "created", got.Created, want.Created)
	same(t, "deleted", got.Deleted, want.Deleted)
	same(t, "forced", got.Forced, want.Forced)
	same(t, "paths", fmt.Sprint(got.Paths), fmt.Sprint(want.Paths))
	if got.PathsComplete && (got.Created || got.Deleted || got.Forced) {
		t.Error("a list of paths is complete, and the push began nowhere that the event's commits could tell")
	}
	wantRef := ""
	if got.Branch != "" {
		wantRef = "refs/heads/" + got.Branch
	} else if got.Tag != "" {
		wantRef = "refs/tags/" + got.Tag
	}
	if !strings.HasPrefix(got.Ref, "refs/pull/") && !strings.HasPrefix(got.Ref, "refs/merge-requests/") && wantRef != "" {
		same(t, "ref", got.Ref, wantRef)
	}
}

func expectPull(t *testing.T, got, want *event.PullRequest) {
	t.Helper()
	same(t, "number", got.Number, want.Number)
	same(t, "action", got.Action, want.Action)
	same(t, "base", got.Base, want.Base)
	same(t, "head", got.Head, want.Head)
	same(t, "fork", got.Fork, want.Fork)
	same(t, "merged", got.Merged, want.Merged)
	same(t, "author", got.Author, want.Author)
	if got.URL == "" && want.URL != "" || strings.Contains(got.URL, "#") {
		t.Errorf("url is %q, not the page of the request, %q", got.URL, want.URL)
	}
}

func id(oid string) string {
	if strings.Trim(oid, "0") == "" {
		return ""
	}
	return oid
}

func setRef(g *event.Git, ref string) {
	if rest, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		g.Branch = rest
	} else if rest, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		g.Tag = rest
	}
}

func pathsOf(r raw) []string {
	commits, _ := r.at("commits").([]any)
	seen := map[string]bool{}
	for _, c := range commits {
		commit, _ := c.(map[string]any)
		for _, kind := range []string{"added", "modified", "removed"} {
			list, _ := commit[kind].([]any)
			for _, p := range list {
				if s, ok := p.(string); ok {
					seen[s] = true
				}
			}
		}
	}
	var paths []string
	for p := range seen {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

func repoOf(r raw) string {
	repo := r.sub("repository")
	if name := repo.first("full_name"); name != "" {
		return name
	}
	if owner, name := repo.first("owner.login", "owner.username"), repo.first("name"); owner != "" && name != "" {
		return owner + "/" + name
	}
	u, err := url.Parse(repo.first("clone_url", "html_url"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
}

// pushed fills what a push says in the words that all three hosts use.
func pushed(g *event.Git, r raw) {
	setRef(g, r.first("ref"))
	g.Before, g.Commit = id(r.first("before")), id(r.first("after"))
	g.Created = r.is("created") || r.first("before") != "" && g.Before == ""
	g.Deleted = r.is("deleted") || r.first("after") != "" && g.Commit == ""
	g.Forced, g.Paths = r.is("forced"), pathsOf(r)
}

// githubCommits says where the commit stands in events that are about one.
func githubCommits() map[string]string {
	return map[string]string{
		"check_run": "check_run.head_sha", "check_suite": "check_suite.head_sha", "workflow_run": "workflow_run.head_sha",
		"workflow_job": "workflow_job.head_sha", "status": "sha", "deployment": "deployment.sha", "deployment_status": "deployment.sha",
		"deployment_review": "deployment.sha", "deployment_protection_rule": "deployment.sha", "commit_comment": "comment.commit_id",
		"merge_group": "merge_group.head_sha", "page_build": "build.commit", "code_scanning_alert": "commit_oid",
	}
}

func wantGitHub(kind string, r raw) want {
	if repoOf(r) == "" {
		return want{}
	}
	g := &event.Git{Repo: repoOf(r), CloneURL: r.first("repository.clone_url"), Pusher: r.first("sender.login", "pusher.name")}
	w := want{git: g}
	if path := githubCommits()[kind]; path != "" {
		g.Commit = r.first(path)
	}
	switch {
	case kind == "push":
		pushed(g, r)
	case kind == "create" || kind == "delete":
		g.Created, g.Deleted = kind == "create", kind == "delete"
		if r.first("ref_type") != "repository" {
			short(g, r.first("ref"), r.first("ref_type") == "tag")
		}
	case strings.HasPrefix(kind, "pull_request"):
		w.pull = wantPull(g, r)
		g.Before = id(r.first("before"))
	case kind == "issue_comment":
		w.pull = wantComment(r)
	case kind == "release":
		g.Tag = r.first("release.tag_name")
	default:
		wantGitHubRef(kind, g, r)
	}
	return w
}

// wantGitHubRef fills the ref of events that are about a commit or a run.
func wantGitHubRef(kind string, g *event.Git, r raw) {
	switch kind {
	case "check_run":
		g.Branch = r.first("check_run.check_suite.head_branch")
	case "check_suite":
		g.Branch, g.Before = r.first("check_suite.head_branch"), id(r.first("check_suite.before"))
	case "repository_dispatch":
		g.Branch = r.first("branch")
	case "merge_group":
		setRef(g, r.first("merge_group.head_ref"))
	case "workflow_run":
		if r.first("workflow_run.head_repository.full_name") == g.Repo {
			g.Branch = r.first("workflow_run.head_branch")
		}
	case "status":
		if list, _ := r.at("branches").([]any); len(list) == 1 {
			branch, _ := list[0].(map[string]any)
			g.Branch = raw(branch).first("name")
		}
	case "deployment", "deployment_status", "deployment_review", "deployment_protection_rule":
		deployed(g, r.first("deployment.ref"), r.first("repository.default_branch"))
	default:
		setRef(g, r.first("ref"))
	}
}

func deployed(g *event.Git, ref, defaultBranch string) {
	if setRef(g, ref); ref == defaultBranch {
		g.Branch = ref
	}
}

func wantPull(g *event.Git, r raw) *event.PullRequest {
	pr := r.sub("pull_request")
	number := pr.first("number")
	if number == "" {
		number = r.first("number")
	}
	from := pr.first("head.repo.full_name")
	g.Branch, g.Commit = pr.first("head.ref"), pr.first("head.sha")
	return &event.PullRequest{
		Number: integer(number), Action: r.first("action"), Base: pr.first("base.ref"), Head: pr.first("head.ref"),
		Fork: from == "" || from != pr.first("base.repo.full_name"), Merged: pr.is("merged") || pr.first("merged_at") != "",
		Author: pr.first("user.login", "user.username"), URL: pr.first("html_url"),
	}
}

// wantComment is a comment's view: where the request comes from is unknown, and counts as a fork.
func wantComment(r raw) *event.PullRequest {
	issue := r.sub("issue")
	if issue.sub("pull_request") == nil && !r.is("is_pull") {
		return nil
	}
	return &event.PullRequest{
		Number: integer(issue.first("number")), Action: r.first("action"), Fork: true,
		Merged: issue.is("pull_request", "merged") || issue.first("pull_request.merged_at") != "", Author: issue.first("user.login", "user.username"),
		URL: r.first("issue.html_url", "issue.pull_request.html_url", "comment.pull_request_url"),
	}
}

func integer(s string) int64 {
	n, _ := json.Number(s).Int64()
	return n
}

func wantGitea(kind string, r raw) want {
	if repoOf(r) == "" {
		return want{}
	}
	g := &event.Git{
		Repo: repoOf(r), CloneURL: r.first("repository.clone_url"),
		Pusher: r.first("pusher.login", "pusher.username", "sender.login", "sender.username"),
	}
	w := want{git: g}
	words := map[string]string{"synchronized": "synchronize", "label_updated": "labeled", "label_cleared": "unlabeled"}
	switch {
	case r.sub("pull_request") != nil:
		w.pull = wantPull(g, r)
		if word := words[w.pull.Action]; word != "" {
			w.pull.Action = word
		}
	case kind == "push":
		pushed(g, r)
	case kind == "create" || kind == "delete":
		g.Created, g.Deleted = kind == "create", kind == "delete"
		if g.Created {
			g.Commit = id(r.first("sha"))
		}
		name := strings.TrimPrefix(strings.TrimPrefix(r.first("ref"), "refs/heads/"), "refs/tags/")
		short(g, name, r.first("ref_type") == "tag")
	case strings.HasSuffix(kind, "_comment"):
		w.pull = wantComment(r)
	case kind == "release":
		g.Tag = r.first("release.tag_name")
	case kind == "status":
		g.Commit = r.first("sha")
	}
	return w
}

func wantGitLab(kind string, r raw) want {
	clone := r.first("project.git_http_url", "project.http_url", "repository.git_http_url")
	name := r.first("project.path_with_namespace", "path_with_namespace", "project_path_with_namespace")
	if u, err := url.Parse(clone); name == "" && err == nil {
		name = strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	}
	if name == "" {
		return want{}
	}
	g := &event.Git{Repo: name, CloneURL: clone, Pusher: r.first("user_username", "user.username")}
	w := want{git: g}
	switch kind {
	case "push", "tag_push":
		pushed(g, r)
		if commit := r.first("checkout_sha"); commit != "" && !g.Deleted {
			g.Commit = commit
		}
	case "repository_update":
		if changes, _ := r.at("changes").([]any); len(changes) == 1 {
			change, _ := changes[0].(map[string]any)
			pushed(g, change)
		}
	case "merge_request":
		w.pull = wantMerge(g, r, r.sub("object_attributes"))
		w.pull.Action = mergeAction(r)
		w.pull.Merged = w.pull.Merged || r.first("object_attributes.action") == "merge"
		g.Before = id(r.first("object_attributes.oldrev"))
		if r.first("object_attributes.action") == "open" {
			w.pull.Author = r.first("user.username")
		}
	case "note":
		g.Commit = r.first("commit.id")
		if mr := r.sub("merge_request"); mr != nil {
			w.pull = wantMerge(g, r, mr)
			w.pull.Action = map[bool]string{true: "edited", false: "created"}[r.first("object_attributes.action") == "update"]
		}
	case "pipeline":
		if mr := r.sub("merge_request"); mr != nil {
			w.pull = wantMerge(g, r, mr)
		}
		g.Branch, g.Commit, g.Before = "", r.first("object_attributes.sha"), id(r.first("object_attributes.before_sha"))
		if foreign := w.pull != nil && w.pull.Fork || w.pull == nil && r.first("object_attributes.source") == "merge_request_event"; !foreign {
			short(g, r.first("object_attributes.ref"), r.is("object_attributes", "tag"))
		}
	case "job":
		g.Commit, g.Before = r.first("sha"), id(r.first("before_sha"))
		short(g, r.first("ref"), r.is("tag"))
	case "release":
		g.Tag, g.Commit = r.first("tag"), r.first("commit.id")
	case "deployment":
		_, g.Commit, _ = strings.Cut(r.first("commit_url"), "/commit/")
		deployed(g, r.first("ref"), r.first("project.default_branch"))
	}
	return w
}

func short(g *event.Git, name string, tag bool) {
	if tag {
		g.Tag = name
	} else {
		g.Branch = name
	}
}

func mergeAction(r raw) string {
	word := r.first("object_attributes.action")
	words := map[string]string{"open": "opened", "reopen": "reopened", "close": "closed", "merge": "closed", "update": "edited"}
	if word == "update" && id(r.first("object_attributes.oldrev")) != "" {
		return "synchronize"
	}
	if w := words[word]; w != "" {
		return w
	}
	return word
}

func wantMerge(g *event.Git, r, mr raw) *event.PullRequest {
	from := mr.first("source_project_id")
	g.Branch, g.Commit = mr.first("source_branch"), mr.first("last_commit.id")
	pr := &event.PullRequest{
		Number: integer(mr.first("iid")), Base: mr.first("target_branch"), Head: mr.first("source_branch"),
		Fork: from == "" || from != mr.first("target_project_id"), Merged: mr.first("state") == "merged",
		URL: mr.first("url", "target.web_url"),
	}
	if author := mr.first("author_id"); author != "" && author == r.first("user.id") {
		pr.Author = r.first("user.username")
	}
	return pr
}

// expectAlert checks the view of one alert, whose body holds that alert alone.
func expectAlert(t *testing.T, e *event.Event, r raw) {
	t.Helper()
	alerts, _ := r.at("alerts").([]any)
	if len(alerts) != 1 || e.Alert == nil {
		t.Fatalf("the event holds %d alerts, and the view %v", len(alerts), e.Alert)
	}
	object, _ := alerts[0].(map[string]any)
	a, status := raw(object), r.first("status")
	if own := a.first("status"); own != "" {
		status = own
	}
	same(t, "type", e.Type, "alert."+status)
	same(t, "status", e.Alert.Status, status)
	same(t, "name", e.Alert.Name, a.first("labels.alertname"))
	same(t, "subject", e.Subject, e.Alert.Name)
	same(t, "severity", e.Alert.Severity, a.first("labels.severity"))
	same(t, "labels", fmt.Sprint(e.Alert.Labels), fmt.Sprint(map[string]any(a.sub("labels"))))
	same(t, "annotations", fmt.Sprint(e.Alert.Annotations), fmt.Sprint(map[string]any(a.sub("annotations"))))
	same(t, "generatorURL", e.Alert.GeneratorURL, a.first("generatorURL"))
	if f := a.first("fingerprint"); f != "" {
		same(t, "fingerprint", e.Alert.Fingerprint, f)
	} else if len(e.Alert.Fingerprint) != 16 {
		t.Errorf("fingerprint is %q", e.Alert.Fingerprint)
	}
	if starts, err := time.Parse(time.RFC3339, a.first("startsAt")); err == nil && starts.Year() > 1 && !e.Alert.StartsAt.Equal(starts) {
		t.Errorf("startsAt is %s, want %s", e.Alert.StartsAt, starts)
	}
}
