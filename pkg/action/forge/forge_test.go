package forge_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/action/forge"
	hosts "github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/forge/forgetest"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

const (
	web  = "https://git.example.com"
	repo = "acme/shop"
)

var commit = strings.Repeat("c0", 20)

// table holds what is known of hosts; asked are the addresses that were looked up.
type table struct {
	hosts.Forge
	asked []string
}

func (t *table) open(address string) (hosts.Forge, string, error) {
	t.asked = append(t.asked, address)
	path, ok := strings.CutPrefix(address, web+"/")
	if !ok {
		return nil, "", errors.New("there is no token for " + address)
	}
	return t.Forge, strings.TrimSuffix(path, ".git"), nil
}

func definitions(f hosts.Forge) (map[string]action.Definition, *table) {
	t := &table{Forge: f}
	all := map[string]action.Definition{}
	for _, d := range forge.Definitions(forge.Options{
		Forge: t.open, Redact: func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }, Version: "1.2",
	}) {
		all[d.Name] = d
	}
	return all, t
}

func of(number int64) *action.EventInfo {
	return &action.EventInfo{Repo: repo, CloneURL: web + "/" + repo + ".git", PullRequest: number, Commit: commit}
}

func TestPullRequestComment(t *testing.T) {
	w := forgetest.NewWorld()
	p := w.Propose(repo, hosts.Pull{Author: "ana", Head: "x", Base: "main", Commit: commit})
	defs, asked := definitions(w)
	params := &forge.CommentParams{Key: "plan", Body: "Plan", Code: "+ bucket hunter2"}
	actiontest.Run(t, defs["pullrequest.comment"], []actiontest.Case{
		{Name: "first", Params: params, Event: of(p.Number), Outputs: action.Outputs{"number": p.Number, "new": true}},
		{Name: "again", Params: &forge.CommentParams{Key: "plan", Body: "Plan", Code: "- bucket"}, Event: of(p.Number), Outputs: action.Outputs{"new": false}},
		{Name: "elsewhere", Params: &forge.CommentParams{Repo: repo, Host: "git.example.com", Number: p.Number, Body: "by hand"}, Outputs: action.Outputs{"new": true}},
		{Name: "same repository", Params: &forge.CommentParams{Repo: "Acme/shop", Body: "x"}, Event: of(p.Number), Outputs: action.Outputs{"number": p.Number}},
		{Name: "another repository", Params: &forge.CommentParams{Repo: "acme/other", Body: "x"}, Event: of(p.Number), Want: actiontest.Permanent, ErrorHas: []string{"give number"}},
		{Name: "no pull request", Params: params, Event: of(0), Want: actiontest.Permanent, ErrorHas: []string{"give number"}},
		{Name: "no event", Params: params, Want: actiontest.Permanent, ErrorHas: []string{"give repo and host"}},
		{Name: "no host", Params: &forge.CommentParams{Repo: repo, Number: 1, Body: "x"}, Want: actiontest.Permanent, ErrorHas: []string{"give host"}},
		{Name: "no token", Params: params, Event: &action.EventInfo{CloneURL: "https://evil.example/acme/shop.git", PullRequest: 1}, Want: actiontest.Permanent, ErrorHas: []string{"no token", "evil.example"}},
		{Name: "an address as repo", Params: &forge.CommentParams{Repo: "https://x/y", Body: "x"}, Event: of(1), Want: actiontest.Permanent, ErrorHas: []string{"acme/shop"}},
		{Name: "long key", Params: &forge.CommentParams{Key: strings.Repeat("k", 201), Body: "x"}, Event: of(p.Number), Want: actiontest.Permanent, ErrorHas: []string{"200 bytes"}},
	})
	all, _, _ := w.All(hosts.Thread{Repo: repo, Kind: hosts.KindPull, Number: p.Number})
	if len(all) != 2 || !strings.Contains(all[0].Body, "```\n- bucket\n```") {
		t.Errorf("%+v", all)
	}
	if asked.asked[0] != web+"/acme/shop.git" || asked.asked[2] != web+"/acme/shop" {
		t.Errorf("asked for %q", asked.asked)
	}
}

func TestPullRequestOpenAndMerge(t *testing.T) {
	w := forgetest.NewWorld()
	defs, _ := definitions(w)
	open := func(title string) *forge.OpenParams {
		return &forge.OpenParams{Head: "bump", Base: "main", Title: title, Body: "see"}
	}
	actiontest.Run(t, defs["pullrequest.open"], []actiontest.Case{
		{Name: "first", Params: open("Bump"), Event: of(0), Outputs: action.Outputs{"number": int64(1), "new": true, "commit": strings.Repeat("a", 40)}},
		{Name: "again", Params: open("Bump more"), Event: of(0), Outputs: action.Outputs{"number": int64(1), "new": false}},
	})
	ours := w.Propose(repo, hosts.Pull{Author: "ana", Head: "x", Base: "main", Commit: commit})
	moved := w.Propose(repo, hosts.Pull{Author: "ana", Head: "y", Base: "main", Commit: strings.Repeat("d", 40)})
	fork := w.Propose(repo, hosts.Pull{Author: "eve", Head: "z", Base: "main", Fork: true, Commit: commit})
	actiontest.Run(t, defs["pullrequest.merge"], []actiontest.Case{
		{Name: "the event's", Params: &forge.MergeParams{Method: "squash"}, Event: of(ours.Number), Outputs: action.Outputs{"number": ours.Number, "commit": strings.Repeat("f", 40)}},
		{Name: "once more", Params: &forge.MergeParams{}, Event: of(ours.Number), Outputs: action.Outputs{"commit": strings.Repeat("f", 40)}},
		{Name: "moved", Params: &forge.MergeParams{}, Event: of(moved.Number), Want: actiontest.Superseded, ErrorHas: []string{"dddd"}},
		{Name: "fork", Params: &forge.MergeParams{}, Event: of(fork.Number), Want: actiontest.Refused, ErrorHas: []string{"allowForks"}},
		{Name: "another than the event's", Params: &forge.MergeParams{Number: fork.Number}, Event: of(ours.Number), Want: actiontest.Permanent, ErrorHas: []string{"give commit"}},
		{Name: "no commit", Params: &forge.MergeParams{Commit: "main"}, Event: of(fork.Number), Want: actiontest.Permanent, ErrorHas: []string{"full id"}},
		{Name: "allowed fork", Params: &forge.MergeParams{AllowForks: true}, Event: of(fork.Number)},
		{Name: "not there", Params: &forge.MergeParams{}, Event: of(99), Want: actiontest.Permanent, ErrorHas: []string{"404", "#99"}},
	})
}

func TestIssues(t *testing.T) {
	w := forgetest.NewWorld()
	defs, _ := definitions(w)
	run := func(id string) func(*testing.T, *action.Call) {
		return func(_ *testing.T, c *action.Call) { c.RunID = id }
	}
	open := &forge.IssueParams{Key: "red", Title: "main is red", Body: "job 7"}
	actiontest.Run(t, defs["issue.open"], []actiontest.Case{
		{Name: "first", Params: open, Event: of(0), Prepare: run("r1"), Outputs: action.Outputs{"number": int64(1), "new": true}},
		{Name: "made again", Params: open, Event: of(0), Prepare: run("r1"), Outputs: action.Outputs{"number": int64(1), "new": true}},
		{Name: "next run", Params: open, Event: of(0), Prepare: run("r2"), Outputs: action.Outputs{"number": int64(1), "new": false}},
		{Name: "empty key", Params: &forge.IssueParams{Title: "x"}, Event: of(0), Want: actiontest.Permanent, ErrorHas: []string{"key"}},
	})
	actiontest.Run(t, defs["issue.comment"], []actiontest.Case{
		{Name: "comment", Params: &forge.IssueCommentParams{Number: 1, Body: "still"}, Event: of(0), Outputs: action.Outputs{"number": int64(1), "new": true}},
		{Name: "no number", Params: &forge.IssueCommentParams{Body: "still"}, Event: of(0), Want: actiontest.Permanent, ErrorHas: []string{"number"}},
	})
	if all, _, _ := w.All(hosts.Thread{Repo: repo, Kind: hosts.KindIssue, Number: 1}); len(all) != 2 {
		t.Errorf("%d comments", len(all))
	}
	actiontest.Run(t, defs["issue.close"], []actiontest.Case{
		{Name: "neither", Params: &forge.CloseParams{}, Event: of(0), Want: actiontest.Permanent, ErrorHas: []string{"number or key"}},
		{Name: "of another rule", Params: &forge.CloseParams{Key: "red", Rule: "other"}, Event: of(0), Outputs: action.Outputs{"closed": false}},
		{Name: "by key", Params: &forge.CloseParams{Key: "red", Rule: "conformance", Body: "green again"}, Event: of(0), Prepare: run("r3"), Outputs: action.Outputs{"number": int64(1), "closed": true}},
		{Name: "nothing is open", Params: &forge.CloseParams{Key: "red"}, Event: of(0), Outputs: action.Outputs{"closed": false}},
		{Name: "by number", Params: &forge.CloseParams{Number: 77}, Event: of(0), Want: actiontest.Permanent, ErrorHas: []string{"404"}},
	})
	if all, issues, _ := w.All(hosts.Thread{Repo: repo, Kind: hosts.KindIssue, Number: 1}); len(all) != 3 || len(issues) != 0 {
		t.Errorf("%d comments, %d issues", len(all), len(issues))
	}
}

func TestStatus(t *testing.T) {
	w := forgetest.NewWorld()
	defs, _ := definitions(w)
	set := func(change func(*forge.StatusParams)) *forge.StatusParams {
		p := &forge.StatusParams{Context: "riposte/plan", State: "success", Description: "hunter2 to add", URL: "https://x.example/r"}
		change(p)
		return p
	}
	actiontest.Run(t, defs["status.set"], []actiontest.Case{
		{Name: "the event's commit", Params: set(func(*forge.StatusParams) {}), Event: of(0), Outputs: action.Outputs{"commit": commit}},
		{Name: "the server's own", Params: set(func(p *forge.StatusParams) { p.Context = "Riposte/Rules " }), Event: of(0), Want: actiontest.Permanent, ErrorHas: []string{"another name"}},
		{Name: "a state there is not", Params: set(func(p *forge.StatusParams) { p.State = "green" }), Event: of(0), Want: actiontest.Permanent, ErrorHas: []string{"none of"}},
		{Name: "a branch", Params: set(func(p *forge.StatusParams) { p.Commit = "main" }), Event: of(0), Want: actiontest.Permanent, ErrorHas: []string{"full id"}},
		{Name: "no address", Params: set(func(p *forge.StatusParams) { p.URL = "javascript:x" }), Event: of(0), Want: actiontest.Permanent, ErrorHas: []string{"url"}},
		{Name: "no state", Params: set(func(p *forge.StatusParams) { p.State = "" }), Event: of(0), Want: actiontest.Permanent, ErrorHas: []string{"empty"}},
		{Name: "commit of another repository", Params: set(func(p *forge.StatusParams) { p.Repo = "acme/other" }), Event: of(0), Want: actiontest.Permanent, ErrorHas: []string{"give commit"}},
	})
	got := w.Statuses(commit)
	if len(got) != 1 || got[0] != (hosts.Status{State: hosts.Success, Context: "riposte/plan", Description: "*** to add", TargetURL: "https://x.example/r"}) {
		t.Errorf("%+v", got)
	}
}

// failing answers all that matters here with one error.
type failing struct {
	*forgetest.World
	err   error
	seen  context.Context
	while func()
}

func (f *failing) Self(ctx context.Context) (string, error) {
	f.seen = ctx
	if f.while != nil {
		f.while()
		<-ctx.Done()
		return "", ctx.Err()
	}
	return "", f.err
}

func TestOutcomes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want actiontest.Outcome
	}{
		{&hosts.Error{Status: http.StatusTooManyRequests, Limited: true}, actiontest.Fails},
		{&hosts.Error{Status: http.StatusForbidden, Limited: true, Again: "in 7 s"}, actiontest.Fails},
		{&hosts.Error{Status: http.StatusBadGateway}, actiontest.Fails},
		{&hosts.Error{Status: http.StatusConflict}, actiontest.Fails},
		{&hosts.Error{Status: http.StatusMethodNotAllowed}, actiontest.Fails},
		{errors.New("connection reset"), actiontest.Fails},
		{&hosts.Error{Status: http.StatusUnauthorized}, actiontest.Permanent},
		{&hosts.Error{Status: http.StatusForbidden}, actiontest.Permanent},
		{&hosts.Error{Status: http.StatusNotFound}, actiontest.Permanent},
		{&hosts.Error{Status: http.StatusGone}, actiontest.Permanent},
		{&hosts.Error{Status: http.StatusUnprocessableEntity}, actiontest.Permanent},
		{fmt.Errorf("dial: %w", outbound.ErrForbidden), actiontest.Permanent},
	} {
		f := &failing{World: forgetest.NewWorld(), err: tt.err}
		defs, _ := definitions(f)
		call, _ := actiontest.Call(t, actiontest.Case{Params: &forge.IssueParams{Key: "k", Title: "t"}, Event: of(0)})
		_, err := defs["issue.open"].Run(t.Context(), call)
		if (tt.want == actiontest.Permanent) != action.IsPermanent(err) || !errors.Is(err, tt.err) || !strings.Contains(err.Error(), "open an issue of acme/shop") {
			t.Errorf("%v is %v", tt.err, err)
		}
		if err, ok := f.seen.Deadline(); !ok {
			t.Errorf("nothing bounds the call: %v", err)
		}
	}
	reached := make(chan struct{})
	defs, _ := definitions(&failing{World: forgetest.NewWorld(), while: func() { close(reached) }})
	actiontest.Run(t, defs["issue.open"], []actiontest.Case{{Name: "cancelled", Params: &forge.IssueParams{Key: "k", Title: "t"}, Event: of(0), Cancel: reached}})
}

func TestLiteralsAreChecked(t *testing.T) {
	defs, _ := definitions(forgetest.NewWorld())
	for _, tt := range []struct {
		name   string
		params any
		want   string // empty: right
	}{
		{"pullrequest.open", &forge.OpenParams{Head: "a", Base: "a"}, "head"},
		{"pullrequest.open", &forge.OpenParams{}, ""},
		{"pullrequest.comment", &forge.CommentParams{Repo: "shop"}, "repo"},
		{"pullrequest.comment", &forge.CommentParams{Number: -1}, "number"},
		{"pullrequest.merge", &forge.MergeParams{Method: "octopus"}, "method"},
		{"pullrequest.merge", &forge.MergeParams{Commit: "abc"}, "commit"},
		{"issue.open", &forge.IssueParams{Key: strings.Repeat("x", 300)}, "key"},
		{"issue.comment", &forge.IssueCommentParams{}, ""},
		{"issue.close", &forge.CloseParams{Repo: "https://x/y/z"}, "repo"},
		{"status.set", &forge.StatusParams{Context: "riposte/backtest"}, "context"},
		{"status.set", &forge.StatusParams{State: "ok"}, "state"},
		{"status.set", &forge.StatusParams{Context: "a\nb"}, "context"},
		{"status.set", &forge.StatusParams{}, ""},
	} {
		err := defs[tt.name].Check(tt.params)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want+":")) {
			t.Errorf("%s %+v: %v", tt.name, tt.params, err)
		}
	}
}
