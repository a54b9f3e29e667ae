package event_test

import (
	"reflect"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
)

func TestComparison(t *testing.T) {
	const url = "https://git.example.com/acme/shop.git"
	one := event.Comparison{CloneURL: url, Commit: "2", Ref: "refs/heads/x"}
	with := func(change func(*event.Comparison)) event.Comparison { c := one; change(&c); return c }
	for _, tt := range []struct {
		name string
		git  event.Git
		pr   *event.PullRequest
		want event.Comparison // zero: none
	}{
		{"push", event.Git{Commit: "2", Before: "1", Branch: "x"}, nil, with(func(c *event.Comparison) { c.Before = "1" })},
		{"forced", event.Git{Commit: "2", Before: "1", Branch: "x", Forced: true}, nil, with(func(c *event.Comparison) { c.Before = "1" })},
		{"new branch", event.Git{Commit: "2", Branch: "x", Created: true}, nil, one},
		{"deleted branch", event.Git{Before: "1", Branch: "x", Deleted: true}, nil, event.Comparison{}},
		{"new tag", event.Git{Commit: "2", Tag: "x", Created: true}, nil, event.Comparison{}},
		{"moved tag", event.Git{Commit: "2", Before: "1", Tag: "x"}, nil, with(func(c *event.Comparison) { c.Before = "1" })},
		{"status", event.Git{Commit: "2", Branch: "x"}, nil, event.Comparison{}},
		{"opened", event.Git{Commit: "2", Branch: "x"}, &event.PullRequest{Base: "main"}, with(func(c *event.Comparison) { c.Base = "main" })},
		{"synchronize", event.Git{Commit: "2", Before: "1", Branch: "x"}, &event.PullRequest{Base: "main", Fork: true}, with(func(c *event.Comparison) { c.Base = "main" })},
		{"merged", event.Git{Commit: "2", Branch: "x"}, &event.PullRequest{Base: "main", Merged: true}, with(func(c *event.Comparison) { c.Base, c.Merged = "main", true })},
		{"comment", event.Git{}, &event.PullRequest{}, event.Comparison{}},
		{"comment with a commit", event.Git{Commit: "2", Before: "1"}, &event.PullRequest{}, event.Comparison{}},
	} {
		tt.git.CloneURL, tt.git.Ref = url, "refs/heads/x"
		got, ok := (&event.Event{Git: &tt.git, PullRequest: tt.pr}).Comparison()
		if ok != (tt.want != event.Comparison{}) || ok && got != tt.want {
			t.Errorf("%s: %+v, %t", tt.name, got, ok)
		}
	}
	for name, e := range map[string]*event.Event{"no repository": {}, "no address": {Git: &event.Git{Commit: "2", Before: "1"}}} {
		if _, ok := e.Comparison(); ok {
			t.Errorf("%s: can be compared", name)
		}
	}
}

func TestPathsOfADiffAndOfTheEvent(t *testing.T) {
	e := &event.Event{Git: &event.Git{Paths: []string{"b", "c"}}}
	if got := e.ListedPaths(); got.Complete || !reflect.DeepEqual(got.List, e.Git.Paths) {
		t.Errorf("listed: %+v", got)
	}
	if got := e.FoundPaths([]string{"d", "b", "a"}); !got.Complete || !reflect.DeepEqual(got.List, []string{"a", "b", "c", "d"}) {
		t.Errorf("found: %+v", got)
	}
	if got := (&event.Event{}).ListedPaths(); got.Complete {
		t.Error("an event without a repository lists all its paths")
	}
}
