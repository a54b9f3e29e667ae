package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action/git"
	"github.com/riposte-dev/riposte/pkg/commitsig"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/rule"
	"github.com/riposte-dev/riposte/pkg/rulesync"
)

// maxRulesFetch bounds what a fetch of the rules' repository may bring, if git.maxBytes does not do so more tightly.
const maxRulesFetch = 256 << 20

// gitRules is the repository that rules come from.
type gitRules struct {
	config config.RulesGit
	files  *git.Files
	place  git.Place
	verify func(object []byte) (string, error)               // nil: commits need no signature
	status func(context.Context, string, forge.Status) error // nil: the host is told nothing
	redact func(string) string
}

// openGitRules goes on with the rules that were active last; the repository is first asked when the server runs, so that
// one that is away delays nothing. A server that never had rules is unready until it is there.
func (a *App) openGitRules(ctx context.Context) error {
	g, err := a.newGitRules()
	if err != nil {
		return fmt.Errorf("rules.git: %w", err)
	}
	o := rulesync.GitOptions{
		Read: g.read, Verify: g.verify, Load: a.rules.load, Activate: a.rules.activation,
		Interval: g.config.Interval, Random: rand.Float64, Logger: a.log, Registerer: a.metrics,
	}
	if g.status != nil {
		o.Report = g.report
	}
	switch err := a.rules.resume(ctx); {
	case err == nil:
		o.Active = a.rules.current()
	case !errors.Is(err, errNoRules):
		a.log.Error("the rules from before can't be loaded", "error", err)
	}
	sync, err := rulesync.NewGit(o)
	if err != nil {
		return err
	}
	if err := a.openProposals(g); err != nil {
		return fmt.Errorf("rules.git: %w", err)
	}
	a.rules.sync, a.rules.origin = sync, g.String()
	a.rules.watches = func(e *event.Event) bool { return isPush(e) || a.proposals != nil && isProposal(e) }
	a.rules.watched = func(e *event.Event) {
		if !g.isAbout(e) {
			return
		}
		if isPush(e) && g.follows(e.Git) {
			sync.Poke()
		}
		if a.proposals != nil {
			a.proposals.Poke()
		}
	}
	return nil
}

func (a *App) newGitRules() (*gitRules, error) {
	c := a.config.Rules.Git
	o := a.gitOptions(a.runner)
	o.Dir = filepath.Join(a.config.Data, "rules-git")
	o.MaxBytes = min(o.MaxBytes, maxRulesFetch)
	files, err := git.NewFiles(o)
	if err != nil {
		return nil, err
	}
	if err := files.Check(c.URL); err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	place, err := git.PlaceOf(c.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	g := &gitRules{config: c, files: files, place: place, redact: a.redactor.String}
	if c.AllowedSigners != "" || c.AllowedGPGKeys != "" {
		if _, err := g.signers(); err != nil {
			return nil, err
		}
		g.verify = g.checkSignature
	}
	g.status, err = a.rulesStatus(o, place)
	return g, err
}

func (g *gitRules) String() string {
	text := g.config.URL
	if g.config.Ref != "" {
		text += " " + g.config.Ref
	}
	if path := strings.Trim(g.config.Path, "/"); path != "" {
		text += " " + path
	}
	return text
}

func (g *gitRules) read(ctx context.Context, q rulesync.Query) (rulesync.Commit, error) {
	return readRules(ctx, g.files, git.FilesQuery{
		URL: g.config.URL, Ref: g.config.Ref, Path: g.config.Path, Known: q.Known, Reread: q.Reread, Want: rulesync.IsRuleFile,
	})
}

func readRules(ctx context.Context, files *git.Files, q git.FilesQuery) (rulesync.Commit, error) {
	s, err := files.Read(ctx, q)
	var refused *git.RefusedError
	if errors.As(err, &refused) {
		return rulesync.Commit{ID: refused.Commit, Object: refused.Object, Problem: refused.Err}, nil
	}
	if err != nil {
		return rulesync.Commit{}, err
	}
	c := rulesync.Commit{ID: s.Commit, Object: s.Object, Time: s.Time, Rewritten: s.Rewritten}
	for _, f := range s.Files {
		c.Files = append(c.Files, rule.File{Path: f.Path, Data: f.Data})
	}
	return c, nil
}

// signers reads the lists of those who may sign. It is asked for each commit, so that a changed list counts at once, and
// one that can't be read lets nothing through.
func (g *gitRules) signers() (*commitsig.Signers, error) {
	s := &commitsig.Signers{}
	for _, list := range []struct {
		setting, file string
		add           func([]byte) error
	}{
		{"allowedSigners", g.config.AllowedSigners, s.AddSSHSigners},
		{"allowedGPGKeys", g.config.AllowedGPGKeys, s.AddPGPKeys},
	} {
		if list.file == "" {
			continue
		}
		text, err := os.ReadFile(list.file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", list.setting, err)
		}
		if err := list.add(text); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", list.setting, list.file, err)
		}
	}
	return s, nil
}

func (g *gitRules) checkSignature(object []byte) (string, error) {
	s, err := g.signers()
	if err != nil {
		return "", err
	}
	return s.Verify(object, time.Now())
}

// isPush tells by the words that all presets have for it, so that the bodies of other events need not be read.
func isPush(e *event.Event) bool { return strings.Contains(e.Type, "push") }

// isAbout says whether an event is about the followed repository. Whoever can send such an event causes a look at the
// repository, which is limited, and nothing else: what is there counts, not what the event says. The host is not compared,
// since senders may know the repository by another address.
func (g *gitRules) isAbout(e *event.Event) bool {
	if e.Git == nil || e.Git.Repo == "" {
		return false
	}
	path, repo := "/"+strings.ToLower(g.place.Path), "/"+strings.ToLower(e.Git.Repo)
	return strings.HasSuffix(path, repo)
}

// follows says whether an event's reference is the followed one.
func (g *gitRules) follows(e *event.Git) bool {
	switch g.config.Ref {
	case "", "HEAD", e.Ref, e.Branch, e.Tag:
		return true
	}
	return false
}

// rulesStatus returns what sets the commit status of the rules, or nil where the host or a token for it is not known.
func (a *App) rulesStatus(o git.Options, place git.Place) (func(context.Context, string, forge.Status) error, error) {
	f, err := a.newHosts(o).rulesForge(a.config.Rules.Git, place, a.secrets.Get)
	if f == nil || err != nil {
		return nil, err
	}
	return func(ctx context.Context, commit string, s forge.Status) error {
		return f.SetStatus(ctx, place.Path, commit, s)
	}, nil
}

// statusContext names the commit status, for people and for branch protection.
const statusContext = "riposte/rules"

// report tells the repository's host what became of a commit.
func (g *gitRules) report(ctx context.Context, commit string, set *rule.Set, problem error) error {
	s := forge.Status{Context: statusContext} // no page shows rules to whoever sees the status
	if problem != nil {
		s.State, s.Description = forge.Failure, g.redact(summary(problem))
	} else {
		s.State, s.Description = forge.Success, fmt.Sprintf("active: %d rules, %d sources", len(set.Rules), len(set.Sources))
	}
	return g.status(ctx, commit, s)
}

// summary says the first problems in the line that a commit status has, each with its place.
func summary(err error) string {
	var all document.Problems
	if !errors.As(err, &all) {
		return err.Error()
	}
	var b strings.Builder
	for i, p := range all {
		if i > 0 {
			b.WriteString("; ")
		}
		if i == 3 {
			fmt.Fprintf(&b, "and %d more", len(all)-i)
			break
		}
		if p.File != "" {
			fmt.Fprintf(&b, "%s:%d: ", p.File, p.Line)
		}
		b.WriteString(p.Msg)
	}
	return b.String()
}
