package gitea

import (
	"strconv"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

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
		Pusher:   source.Or(account(b.At("pusher")), account(b.At("sender"))),
	}
	written(e, b)
	switch {
	case b.At("pull_request").Exists():
		pullRequest(e, b)
	case e.Type == "push":
		push(e, b)
	case e.Type == "create", e.Type == "delete":
		named(e, b)
	case e.Type == "issue_comment", e.Type == "pull_request_comment":
		comment(e, b)
	case e.Type == "release":
		source.SetNamed(e.Git, source.Tags, b.At("release", "tag_name").Str())
		source.SetTime(e, b.At("release", "published_at"), b.At("release", "created_at"))
	case e.Type == "status":
		e.Git.Commit = b.At("sha").Str()
	case e.Type == "workflow_run":
		workflow(e, b.At("workflow_run"))
	case e.Type == "workflow_job": // does not say whose branch head_branch is
		e.Git.Commit = b.At("workflow_job", "head_sha").Str()
	}
}

// written finds out which run wrote what the event brings: a comment, or an issue or pull request that is opened. Other
// events about them are other people's doing.
func written(e *event.Event, b source.Node) {
	text, action := b.At("comment"), b.At("action").Str()
	if !text.Exists() && action == "opened" {
		if text = b.At("pull_request"); !text.Exists() {
			text = b.At("issue")
		}
	}
	if action != "deleted" {
		source.SetTextCause(e, text.At("body").Str(), account(text.At("user")), account(b.At("sender")))
	}
}

// account returns a user's name, which old versions call username.
func account(user source.Node) string {
	return source.Or(user.At("login").Str(), user.At("username").Str())
}

// push reads a push. total_commits counts also the commits that are not listed (Gitea lists 5, by its setting
// FEED_MAX_COMMIT_NUM); old versions lack it. Whether history was rewritten is not said.
func push(e *event.Event, b source.Node) {
	g := e.Git
	source.SetRef(g, b.At("ref").Str())
	source.SetChange(g, b.At("before").Str(), b.At("after").Str())
	source.SetCommitCause(e, b.At("head_commit", "message").Str())
	changes := source.ChangesOf(b.At("commits"))
	g.Paths = changes.Paths
	g.PathsComplete = changes.Listed && b.At("total_commits").Int() == int64(changes.Commits) && !g.Created && !g.Deleted
}

// named reads create and delete, whose ref is a short name.
func named(e *event.Event, b source.Node) {
	g := e.Git
	g.Created, g.Deleted = e.Type == "create", e.Type == "delete"
	prefix := source.Heads
	if b.At("ref_type").Str() == "tag" {
		prefix = source.Tags
	}
	source.SetNamed(g, prefix, strings.TrimPrefix(b.At("ref").Str(), prefix))
	if g.Created {
		g.Commit = source.NotZero(b.At("sha").Str())
	}
}

func pullRequest(e *event.Event, b source.Node) {
	pr := b.At("pull_request")
	base, head, number := pr.At("base"), pr.At("head"), b.At("number")
	if !number.Exists() { // reviews and comments
		number = pr.At("number")
	}
	if number.Int() <= 0 {
		return
	}
	from := head.At("repo", "full_name").Str()
	e.PullRequest = &event.PullRequest{
		Number: number.Int(),
		Action: action(b.At("action").Str()),
		Base:   base.At("ref").Str(),
		Head:   head.At("ref").Str(),
		Fork:   from == "" || from != base.At("repo", "full_name").Str(),
		Merged: pr.At("merged").Bool(),
		Author: account(pr.At("user")),
		URL:    source.Or(pr.At("html_url").Str(), pr.At("url").Str()),
	}
	e.Git.Ref = "refs/pull/" + strconv.FormatInt(e.PullRequest.Number, 10) + "/head"
	e.Git.Branch, e.Git.Commit = e.PullRequest.Head, head.At("sha").Str()
	source.SetTime(e, b.At("comment", "updated_at"), pr.At("updated_at"))
}

// action returns GitHub's word for what happened to a pull request, where that has one (go-gitea/gitea
// modules/structs/hook.go).
func action(word string) string {
	switch word {
	case "synchronized":
		return "synchronize"
	case "label_updated":
		return "labeled"
	case "label_cleared":
		return "unlabeled"
	}
	return word
}

// comment reads a comment on a pull request of versions that do not send the pull request itself: where it comes from is
// unknown, and so counts as a fork.
func comment(e *event.Event, b source.Node) {
	issue := b.At("issue")
	source.SetTime(e, b.At("comment", "updated_at"))
	if !b.At("is_pull").Bool() && !issue.At("pull_request").Exists() {
		return
	}
	e.PullRequest = &event.PullRequest{
		Number: issue.At("number").Int(),
		Action: b.At("action").Str(),
		Fork:   true,
		Merged: issue.At("pull_request", "merged").Bool(),
		Author: account(issue.At("user")),
		URL:    source.Or(issue.At("html_url").Str(), b.At("comment", "pull_request_url").Str()),
	}
}

// workflow reads a run of Gitea's actions; the branch of a fork's is not one of this repository.
func workflow(e *event.Event, run source.Node) {
	e.Git.Commit = run.At("head_sha").Str()
	if run.At("head_repository", "full_name").Str() == e.Git.Repo {
		source.SetNamed(e.Git, source.Heads, run.At("head_branch").Str())
	}
	source.SetTime(e, run.At("completed_at"), run.At("started_at"))
}
