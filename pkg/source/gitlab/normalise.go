package gitlab

import (
	"strconv"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// normalise reads only what stands in the body of each type of event. A branch is set where it is known to be one of
// this project, or the merge request's source.
func normalise(e *event.Event) {
	b := source.Stored(e)
	if !project(e, b) {
		return
	}
	attributes := b.At("object_attributes")
	written(e, b, attributes)
	source.SetTime(e, attributes.At("finished_at"), attributes.At("updated_at"), attributes.At("created_at"),
		b.At("build_finished_at"), b.At("build_started_at"), b.At("build_created_at"), b.At("status_changed_at"), b.At("released_at"))
	switch e.Type {
	case "push", "tag_push":
		push(e, b)
	case "repository_update": // a system hook, after the pushes that it tells of
		if changes := b.At("changes").List(); len(changes) == 1 {
			source.SetRef(e.Git, changes[0].At("ref").Str())
			source.SetChange(e.Git, changes[0].At("before").Str(), changes[0].At("after").Str())
		}
	case "merge_request":
		mergeRequest(e, b, attributes)
	case "pipeline":
		pipeline(e, b, attributes)
	case "job":
		e.Git.Commit, e.Git.Before = b.At("sha").Str(), source.NotZero(b.At("before_sha").Str())
		setRef(e.Git, b.At("ref").Str(), b.At("tag").Bool())
	case "note":
		note(e, b, attributes)
	case "release":
		source.SetNamed(e.Git, source.Tags, b.At("tag").Str())
		e.Git.Commit = b.At("commit", "id").Str()
	case "deployment": // only the address holds the whole commit
		source.SetDeployed(e.Git, b.At("ref").Str(), b.At("project", "default_branch").Str())
		if _, commit, ok := strings.Cut(b.At("commit_url").Str(), "/commit/"); ok {
			e.Git.Commit = commit
		}
	}
}

// written finds out which run wrote what the event brings: a note, or an issue or merge request that is opened. Other events
// about them are other people's doing.
func written(e *event.Event, b, attributes source.Node) {
	text := ""
	switch {
	case e.Type == "note":
		text = attributes.At("note").Str()
	case attributes.At("action").Str() == "open" && (e.Type == "issue" || e.Type == "merge_request"):
		text = attributes.At("description").Str()
	}
	source.SetTextCause(e, text, attributes.At("author_id").Str(), b.At("user", "id").Str())
}

// project fills what every event of a project says.
func project(e *event.Event, b source.Node) bool {
	p := b.At("project")
	clone := source.Or(p.At("git_http_url").Str(), p.At("http_url").Str(), b.At("repository", "git_http_url").Str())
	name := source.Or(p.At("path_with_namespace").Str(), b.At("path_with_namespace").Str(), b.At("project_path_with_namespace").Str(), source.PathOf(clone))
	if name == "" {
		return false
	}
	e.Subject = name
	e.Git = &event.Git{
		Repo: name, Owner: source.Owner(name), CloneURL: clone,
		Pusher: source.Or(b.At("user_username").Str(), b.At("user", "username").Str()),
	}
	return true
}

// setRef reads a short ref of a pipeline or job.
func setRef(g *event.Git, ref string, tag bool) {
	switch {
	case strings.HasPrefix(ref, "refs/"):
		source.SetRef(g, ref)
	case tag:
		source.SetNamed(g, source.Tags, ref)
	default:
		source.SetNamed(g, source.Heads, ref)
	}
}

// push reads a push. commits holds at most 20, total_commits_count counts all (gitlab-org/gitlab
// lib/gitlab/data_builder/push.rb). Whether history was rewritten is not said.
func push(e *event.Event, b source.Node) {
	g := e.Git
	source.SetRef(g, b.At("ref").Str())
	source.SetChange(g, b.At("before").Str(), b.At("after").Str())
	if commit := b.At("checkout_sha").Str(); commit != "" && !g.Deleted {
		g.Commit = commit // of an annotated tag, whose own object is `after`
	}
	source.SetCommitCause(e, source.MessageOf(b.At("commits").List(), g.Commit))
	changes := source.ChangesOf(b.At("commits"))
	g.Paths = changes.Paths
	g.PathsComplete = changes.Listed && b.At("total_commits_count").Int() == int64(changes.Commits) &&
		e.Type == "push" && !g.Created && !g.Deleted
}

func mergeRequest(e *event.Event, b, mr source.Node) {
	pullRequest(e, b, mr)
	if e.PullRequest == nil {
		return
	}
	oldrev := source.NotZero(mr.At("oldrev").Str()) // only where commits came or went
	e.PullRequest.Action = action(mr.At("action").Str(), oldrev != "")
	e.PullRequest.Merged = e.PullRequest.Merged || mr.At("action").Str() == "merge"
	if mr.At("action").Str() == "open" { // nobody opens another one's
		e.PullRequest.Author = source.Or(e.PullRequest.Author, b.At("user", "username").Str())
	}
	e.Git.Before = oldrev
}

// action returns GitHub's word for what happened to a merge request, where that has one.
func action(word string, pushed bool) string {
	switch word {
	case "open":
		return "opened"
	case "reopen":
		return "reopened"
	case "close", "merge":
		return "closed"
	case "update":
		if pushed {
			return "synchronize"
		}
		return "edited"
	}
	return word
}

// pullRequest fills the view, and what git says of a merge request, from the merge request's object.
func pullRequest(e *event.Event, b, mr source.Node) {
	number := mr.At("iid").Int()
	if number <= 0 {
		return
	}
	from := mr.At("source_project_id").Str()
	pr := &event.PullRequest{
		Number: number,
		Base:   mr.At("target_branch").Str(),
		Head:   mr.At("source_branch").Str(),
		Fork:   from == "" || from != mr.At("target_project_id").Str(),
		Merged: mr.At("state").Str() == "merged",
		URL:    mr.At("url").Str(),
	}
	if page := source.Or(mr.At("target", "web_url").Str(), b.At("project", "web_url").Str()); pr.URL == "" && page != "" {
		pr.URL = page + "/-/merge_requests/" + strconv.FormatInt(number, 10)
	}
	// Only the author's id is told; its name is known where the author caused the event.
	if author := mr.At("author_id").Str(); author != "" && author == b.At("user", "id").Str() {
		pr.Author = b.At("user", "username").Str()
	}
	e.PullRequest = pr
	e.Git.Ref = "refs/merge-requests/" + strconv.FormatInt(number, 10) + "/head"
	e.Git.Branch, e.Git.Commit = pr.Head, mr.At("last_commit", "id").Str()
}

// pipeline reads a pipeline. One for a merge request names that request's source branch, also of a fork.
func pipeline(e *event.Event, b, attributes source.Node) {
	pullRequest(e, b, b.At("merge_request"))
	g := e.Git
	g.Ref, g.Branch = "", ""
	g.Commit, g.Before = attributes.At("sha").Str(), source.NotZero(attributes.At("before_sha").Str())
	foreign := e.PullRequest != nil && e.PullRequest.Fork
	if e.PullRequest == nil {
		foreign = attributes.At("source").Str() == "merge_request_event"
	}
	if !foreign {
		setRef(g, attributes.At("ref").Str(), attributes.At("tag").Bool())
	}
}

// note reads a comment on a merge request or a commit.
func note(e *event.Event, b, attributes source.Node) {
	pullRequest(e, b, b.At("merge_request"))
	if e.PullRequest == nil {
		e.Git.Commit = b.At("commit", "id").Str()
		return
	}
	e.PullRequest.Action = "created"
	if address, _, ok := strings.Cut(attributes.At("url").Str(), "#"); ok && e.PullRequest.URL == "" {
		e.PullRequest.URL = address
	}
	if attributes.At("action").Str() == "update" {
		e.PullRequest.Action = "edited"
	}
}
