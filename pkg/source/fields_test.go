package source_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/source"
)

func TestFieldsAreRead(t *testing.T) {
	types, err := source.ParseFields(`
# what users are
User = login id manager:User
Common = sender:User
push create = @git ...Common ref commits[]{id
  author{name} added[]} labels*
release = ...push release{tag_name}
other = *
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(types) != 4 {
		t.Fatalf("%d types: %v", len(types), types)
	}
	push := types["push"]
	if types["create"].Data != push.Data || !slices.Equal(push.Views, []string{"git"}) || !slices.Equal(types["release"].Views, []string{"git"}) {
		t.Errorf("push is %+v, create %+v, release %+v", push, types["create"], types["release"])
	}
	if got := strings.Join(push.Data.Names(), " "); got != "commits labels ref sender" {
		t.Errorf("push has %s", got)
	}
	commit := push.Data.Members["commits"].Element
	if commit == nil || commit.Members["author"].Members["name"] == nil || commit.Members["added"].Element == nil {
		t.Errorf("a commit is %+v", commit)
	}
	user := push.Data.Members["sender"]
	if user.Members["manager"] != user {
		t.Error("a shape can't hold itself")
	}
	if !push.Data.Members["labels"].Open || push.Data.Open || !types["other"].Data.Open || types["release"].Data.Members["release"] == nil {
		t.Error("what is open is not as written")
	}
}

func TestBrokenFieldsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"  a":                "is no definition",
		"push ref":           "is no definition",
		"push = a\npush = b": "defined twice",
		"push = a:User":      "no shape User",
		"push = ...Common":   "not defined above",
		"push = a{b":         "a } is missing",
		"push = a}":          "a } too many",
		"push = {a}":         "is no member",
	} {
		if _, err := source.ParseFields(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}
