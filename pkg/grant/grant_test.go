package grant_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/grant"
)

func list() grant.List {
	return grant.List{
		{
			Paths: []string{"teams/payments/**"}, Sources: []string{"github", "alert*"}, Actions: []string{"git.pull", "kubernetes.*"},
			Secrets: []string{"payments-*"}, Targets: []string{"payments", "oncall"}, Kubernetes: grant.Kubernetes{ServiceAccount: "riposte-payments"},
			MaxMode: "approve",
		},
		{Paths: []string{"teams/shop/*.yaml", "shop.yaml"}, Actions: []string{"*"}},
		{Paths: []string{"teams/**"}, Allow: grant.Everything, MaxMode: "observe"},
		{Paths: []string{"platform/**"}, Allow: grant.Everything},
	}
}

func TestTheFirstGrantThatMatchesAFileHolds(t *testing.T) {
	for file, want := range map[string]int{
		"teams/payments/a.yaml":      0,
		"teams/payments/deep/b.yaml": 0,
		"teams/shop/a.yaml":          1,
		"teams/shop/deep/a.yaml":     2,
		"shop.yaml":                  1,
		"teams/other.yaml":           2,
		"platform/x.yaml":            3,
		// Nothing holds for these, and so nothing is allowed.
		"other/x.yaml":                            -1,
		"Platform/x.yaml":                         -1,
		"old/platform/x.yaml":                     -1,
		"platform/../other/x.yaml":                -1,
		"teams/payments/../../other/x.yaml":       -1,
		"../platform/x.yaml":                      -1,
		"/platform/x.yaml":                        -1,
		"platform//x.yaml":                        -1,
		"./platform/x.yaml":                       -1,
		"":                                        -1,
		"platform-evil/x.yaml":                    -1,
		"teams\\payments\\x.yaml":                 -1,
		"C:/platform/x.yaml":                      -1,
		"other/teams/payments/../platform/x.yaml": -1,
	} {
		g := list().Of(file)
		if g.Number() != want {
			t.Errorf("%q: grants[%d], want grants[%d]", file, g.Number(), want)
		}
		if (g.Matched() == nil) != (want >= 0) {
			t.Errorf("%q: %v", file, g.Matched())
		}
	}
}

func TestOnlyWhatIsListedIsAllowed(t *testing.T) {
	payments, shop, teams := list().Of("teams/payments/a.yaml"), list().Of("teams/shop/a.yaml"), list().Of("teams/x.yaml")
	none := list().Of("other/x.yaml")
	for name, c := range map[string]struct {
		err  error
		want string // of the error; empty where it is allowed
	}{
		"source":                   {payments.Source("github"), ""},
		"source by glob":           {payments.Source("alertmanager"), ""},
		"other source":             {payments.Source("gitlab"), "teams/payments/a.yaml may not use the source gitlab: grants[0] (teams/payments/**) does not list it: add it to sources of that grant in the server's configuration"},
		"action":                   {payments.Action("git.pull"), ""},
		"action by glob":           {payments.Action("kubernetes.get"), ""},
		"other action":             {payments.Action("exec.run"), "may not use the action exec.run: grants[0]"},
		"part of a name":           {payments.Action("git.pull2"), "add it to actions"},
		"any action":               {shop.Action("exec.run"), ""},
		"a workflow is no action":  {shop.Action("workflow/x"), "grants[1] (teams/shop/*.yaml, shop.yaml)"},
		"secret":                   {payments.Secret("payments-db"), ""},
		"other secret":             {payments.Secret("pagerduty"), "add it to secrets"},
		"no secrets":               {shop.Secret("x"), "add it to secrets of that grant"},
		"a secret without a name":  {payments.Secret(""), `the secret ""`},
		"a name out of an event":   {payments.Secret("a\x1b[2J\n" + strings.Repeat("b", 1e5)), `"a\x1b[2J\n` + strings.Repeat("b", 94) + `…"`},
		"variable":                 {payments.Variable("HOME"), "may not use the variable HOME"},
		"target":                   {payments.Target("oncall"), ""},
		"other target":             {payments.Target("platform"), "add it to targets"},
		"lower mode":               {payments.Mode("observe"), ""},
		"mode":                     {payments.Mode("approve"), ""},
		"higher mode":              {payments.Mode("auto"), "may not have the mode auto: grants[0] (teams/payments/**) has maxMode approve: write mode: approve, or raise maxMode"},
		"mode that is none":        {payments.Mode("root"), "may not have the mode root"},
		"no maxMode":               {shop.Mode("auto"), ""},
		"everything":               {errors.Join(teams.Source("a"), teams.Action("workflow/b"), teams.Secret("c"), teams.Target("d"), teams.Variable("E")), ""},
		"everything, observed":     {teams.Mode("auto"), "has maxMode observe"},
		"nothing":                  {none.Matched(), `no grant of the server's configuration matches other/x.yaml, so nothing is allowed there: add a grant with paths: ["other/**"]`},
		"nothing: source":          {none.Source("github"), "other/x.yaml may not use the source github: no grant matches it"},
		"nothing: mode":            {none.Mode("observe"), "no grant matches it"},
		"no grants":                {errors.Join(grant.List(nil).Of("x").Source("a"), grant.List(nil).Of("../x").Mode("auto"), grant.All().Secret("b")), ""},
		"an empty list":            {grant.List{}.Of("x.yaml").Source("a"), "no grant matches it"},
		"the zero grant":           {grant.Grant{}.Action("git.pull"), "no grant matches it"},
		"the zero grant: mode":     {grant.Grant{}.Mode("observe"), "no grant matches it"},
		"the zero grant: variable": {grant.Grant{}.Variable("A"), "no grant matches it"},
	} {
		var denied *grant.DeniedError
		switch {
		case c.want == "" && c.err != nil:
			t.Errorf("%s: %v", name, c.err)
		case c.want != "" && (!errors.As(c.err, &denied) || !strings.Contains(c.err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, c.err, c.want)
		}
	}
}

func TestTheServiceAccountIsThatOfTheGrant(t *testing.T) {
	for file, want := range map[string]string{
		"teams/payments/a.yaml": "riposte-payments",
		"platform/a.yaml":       "", // the server's own
		"teams/shop/a.yaml":     "error: teams/shop/a.yaml may not act on Kubernetes: grants[1] (teams/shop/*.yaml, shop.yaml) names no service account: name one in kubernetes.serviceAccount of that grant in the server's configuration",
	} {
		got, err := list().Of(file).ServiceAccount()
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	if _, err := list().Of("other/x.yaml").ServiceAccount(); err == nil {
		t.Error("a file that no grant matches has a service account")
	}
}

func TestValidateFindsEverythingThatIsWrong(t *testing.T) {
	l := grant.List{
		{},
		{Paths: []string{"/a/**", "b/", "c", "../d/**", "e/[", "f//g/**", "ok/**"}, Allow: "all"},
		{Paths: []string{"ok/**", "x.yaml"}, Allow: grant.Everything, Secrets: []string{"a"}},
		{
			Paths: []string{"y/**"}, Sources: []string{"", "["}, MaxMode: "root",
			Kubernetes: grant.Kubernetes{ServiceAccount: "a b"},
		},
	}
	var got []string
	for _, p := range l.Validate() {
		got = append(got, p.Field+": "+p.Msg)
	}
	want := []string{
		"[0].paths: is empty", `[1].paths[0]: "/a/**" begins with /`, `[1].paths[1]: "b/" matches no file: write b/**`,
		`[1].paths[2]: "c" matches a file of that name only: write c/**`, `[1].paths[3]: "../d/**" has an element`, `[1].paths[4]: "e/[" is no glob`,
		`[1].paths[5]: "f//g/**" has an element`, `[1].allow: is "all", and can only be everything`,
		`[2].paths[0]: "ok/**" stands in grants[1] already`, "[2].secrets: stands beside allow: everything",
		`[3].sources[0]: ""`, `[3].sources[1]: "["`, `[3].maxMode: "root" is none of observe, approve, auto`, "[3].kubernetes.serviceAccount: ",
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if p := list().Validate(); len(p) > 0 {
		t.Error(p)
	}
}

func TestUnknownFindsActionsThatGrantNothing(t *testing.T) {
	l := grant.List{{Actions: []string{"git.pull", "git.*", "workflow/x", "git.pul", "helm.*"}}}
	p := l.Unknown([]string{"git.pull", "git.push"})
	if len(p) != 2 || p[0] != (grant.Problem{Field: "[0].actions[3]", Msg: "git.pul"}) || p[1].Msg != "helm.*" {
		t.Errorf("%v", p)
	}
}

// FuzzOf looks for a path that leaves the repository, or is written in two ways, and is granted something.
func FuzzOf(f *testing.F) {
	for _, s := range []string{"teams/a.yaml", "../x", "a/../platform/x", "/platform/x", "platform/./x", "platform//x"} {
		f.Add("platform/**", s)
	}
	f.Add("{a,../b}/**", "../b/c")
	f.Fuzz(func(t *testing.T, glob, file string) {
		g := grant.List{{Paths: []string{glob}, Allow: grant.Everything}}.Of(file)
		for part := range strings.SplitSeq(file, "/") {
			if (part == ".." || part == "" || part == "." && file != ".") && g.Matched() == nil {
				t.Errorf("%q matches %q", glob, file)
			}
		}
	})
}
