package github

import (
	"strconv"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// Limits of a push, from docs.github.com "Webhook events and payloads", push: "The array includes a maximum of 2048
// commits"; of added, modified and removed "A maximum of 3000 changed files will be reported per commit", and the lists of
// an extremely large commit may be empty.
const (
	maxCommits = 2048
	maxFiles   = 3000
)

// normalise reads only what stands in the body of each type of event. A branch is set where it is known to be one of this
// repository, or the pull request's head; whoever can open a pull request from a fork chooses that branch's name.
func normalise(e *event.Event) {
	b := source.Stored(e)
	repo := b.At("repository")
	name := source.RepoOf(repo)
	if name == "" {
		return
	}
	e.Subject = name
	e.Git = &event.Git{
		Repo:     name,
		Owner:    source.Owner(name),
		CloneURL: repo.At("clone_url").Str(),
		Pusher:   source.Or(b.At("sender", "login").Str(), b.At("pusher", "name").Str()),
	}
	written(e, b)
	switch e.Type {
	case "push":
		push(e, b)
	case "create", "delete":
		named(e, b)
	case "pull_request", "pull_request_target", "pull_request_review", "pull_request_review_comment", "pull_request_review_thread":
		pullRequest(e, b)
	case "issue_comment":
		comment(e, b)
	case "merge_group":
		group := b.At("merge_group")
		source.SetRef(e.Git, group.At("head_ref").Str())
		e.Git.Commit = group.At("head_sha").Str()
	case "release":
		release := b.At("release")
		source.SetNamed(e.Git, source.Tags, release.At("tag_name").Str())
		source.SetTime(e, release.At("published_at"), release.At("created_at"))
	default:
		commit(e, b)
	}
}

func push(e *event.Event, b source.Node) {
	g := e.Git
	source.SetRef(g, b.At("ref").Str())
	g.Forced, g.Created, g.Deleted = b.At("forced").Bool(), b.At("created").Bool(), b.At("deleted").Bool()
	source.SetChange(g, b.At("before").Str(), b.At("after").Str())
	source.SetTime(e, b.At("repository", "pushed_at"))
	source.SetCommitCause(e, b.At("head_commit", "message").Str())
	changes := source.ChangesOf(b.At("commits"))
	g.Paths = changes.Paths
	g.PathsComplete = changes.Listed && changes.Most < maxFiles && changes.Commits < maxCommits &&
		b.At("size").Int() <= int64(changes.Commits) && !g.Forced && !g.Created && !g.Deleted
}

// written finds out which run wrote what the event brings: a comment, or an issue or pull request that is opened. Other
// events about them are other people's doing.
func written(e *event.Event, b source.Node) {
	of := ""
	switch e.Type {
	case "issue_comment", "pull_request_review_comment", "commit_comment":
		of = "comment"
	case "issues":
		of = "issue"
	case "pull_request", "pull_request_target":
		of = "pull_request"
	}
	if action := b.At("action").Str(); of == "comment" && action != "deleted" || action == "opened" {
		text := b.At(of)
		source.SetTextCause(e, text.At("body").Str(), text.At("user", "login").Str(), b.At("sender", "login").Str())
	}
}

// named reads create and delete, whose ref is a short name.
func named(e *event.Event, b source.Node) {
	e.Git.Created, e.Git.Deleted = e.Type == "create", e.Type == "delete"
	switch ref := b.At("ref").Str(); b.At("ref_type").Str() {
	case "branch":
		source.SetNamed(e.Git, source.Heads, ref)
	case "tag":
		source.SetNamed(e.Git, source.Tags, ref)
	}
	source.SetTime(e, b.At("repository", "pushed_at"))
}

func pullRequest(e *event.Event, b source.Node) {
	pr := b.At("pull_request")
	base, head := pr.At("base"), pr.At("head")
	number := pr.At("number").Int()
	if number <= 0 {
		return
	}
	from := head.At("repo", "full_name").Str() // the repository of a head is null once it is deleted
	e.PullRequest = &event.PullRequest{
		Number: number,
		Action: b.At("action").Str(),
		Base:   base.At("ref").Str(),
		Head:   head.At("ref").Str(),
		Fork:   from == "" || from != base.At("repo", "full_name").Str(),
		Merged: pr.At("merged").Bool() || pr.At("merged_at").Exists(),
		Author: pr.At("user", "login").Str(),
		URL:    pr.At("html_url").Str(),
	}
	e.Git.Ref = "refs/pull/" + strconv.FormatInt(number, 10) + "/head"
	e.Git.Branch, e.Git.Commit = e.PullRequest.Head, head.At("sha").Str()
	e.Git.Before = source.NotZero(b.At("before").Str()) // of synchronize
	source.SetTime(e, b.At("review", "submitted_at"), b.At("comment", "updated_at"), pr.At("updated_at"))
}

// comment reads a comment on a pull request, which says nothing of branches: where it comes from is unknown, and so
// counts as a fork.
func comment(e *event.Event, b source.Node) {
	issue := b.At("issue")
	source.SetTime(e, b.At("comment", "updated_at"))
	if !issue.At("pull_request").Exists() {
		return
	}
	e.PullRequest = &event.PullRequest{
		Number: issue.At("number").Int(),
		Action: b.At("action").Str(),
		Fork:   true,
		Merged: issue.At("pull_request", "merged_at").Exists(),
		Author: issue.At("user", "login").Str(),
		URL:    source.Or(issue.At("pull_request", "html_url").Str(), issue.At("html_url").Str()),
	}
}

// commit reads the events that are about a commit.
func commit(e *event.Event, b source.Node) {
	g := e.Git
	switch e.Type {
	case "workflow_run":
		run := b.At("workflow_run")
		g.Commit = run.At("head_sha").Str()
		if run.At("head_repository", "full_name").Str() == g.Repo { // else the branch is one of a fork
			source.SetNamed(g, source.Heads, run.At("head_branch").Str())
		}
		source.SetTime(e, run.At("updated_at"))
	case "workflow_job": // does not say whose branch head_branch is
		job := b.At("workflow_job")
		g.Commit = job.At("head_sha").Str()
		source.SetTime(e, job.At("completed_at"), job.At("started_at"), job.At("created_at"))
	case "check_suite": // head_branch is null for a fork
		suite := b.At("check_suite")
		g.Commit, g.Before = suite.At("head_sha").Str(), source.NotZero(suite.At("before").Str())
		source.SetNamed(g, source.Heads, suite.At("head_branch").Str())
		source.SetTime(e, suite.At("updated_at"))
	case "check_run":
		run := b.At("check_run")
		g.Commit = run.At("head_sha").Str()
		source.SetNamed(g, source.Heads, run.At("check_suite", "head_branch").Str())
		source.SetTime(e, run.At("completed_at"), run.At("started_at"))
	case "status":
		g.Commit = b.At("sha").Str()
		if branches := b.At("branches").List(); len(branches) == 1 { // the branches that hold the commit
			source.SetNamed(g, source.Heads, branches[0].At("name").Str())
		}
		source.SetTime(e, b.At("updated_at"))
	case "deployment", "deployment_status", "deployment_review", "deployment_protection_rule":
		deployment := b.At("deployment")
		g.Commit = deployment.At("sha").Str()
		source.SetDeployed(g, deployment.At("ref").Str(), b.At("repository", "default_branch").Str())
		source.SetTime(e, b.At("deployment_status", "updated_at"), b.At("deployment", "updated_at"))
	case "page_build":
		g.Commit = b.At("build", "commit").Str()
		source.SetTime(e, b.At("build", "updated_at"))
	case "commit_comment":
		g.Commit = b.At("comment", "commit_id").Str()
	case "repository_dispatch":
		source.SetNamed(g, source.Heads, b.At("branch").Str())
	default:
		if ref := b.At("ref").Str(); strings.HasPrefix(ref, "refs/") { // workflow_dispatch, code_scanning_alert
			source.SetRef(g, ref)
		}
		g.Commit = b.At("commit_oid").Str()
	}
}
