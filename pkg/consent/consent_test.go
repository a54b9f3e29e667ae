package consent

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func spec() *Spec {
	return &Spec{
		Policies: []Policy{
			{Paths: []string{"prod/**"}, Groups: []string{"sre"}, Names: []string{"bob"}, Needed: 2, Expires: "4h"},
			{Labels: map[string]string{"tier": "batch"}},
		},
		People: []Person{
			{Name: "ana", Groups: []string{"sre"}, Accounts: map[string]string{"github": "Octocat"}, Links: []string{"platform/**"}},
			{Name: "bob"},
		},
		Comments: []string{"github"},
	}
}

func TestTheFirstPolicyThatMatchesHolds(t *testing.T) {
	s := spec()
	prod := s.Of("r", "prod/db/rules.yaml", map[string]string{"tier": "batch"})
	if prod.Needed != 2 || prod.Expires != 4*time.Hour {
		t.Errorf("prod: %+v", prod)
	}
	batch := s.Of("r", "teams/x.yaml", map[string]string{"tier": "batch", "team": "x"})
	if batch.Needed != 1 || batch.Expires != DefaultExpires {
		t.Errorf("batch: %+v", batch)
	}
	none := s.Of("r", "teams/x.yaml", nil)
	open := (&Spec{}).Of("r", "teams/x.yaml", nil)
	for name, tc := range map[string]struct {
		terms  Terms
		who    string
		groups []string
		why    string // empty where they may
	}{
		"by group":              {prod, "eve", []string{"dev", "sre"}, ""},
		"by name":               {prod, "bob", nil, ""},
		"another group":         {prod, "eve", []string{"dev"}, "eve (in dev) may not consent: approvals.policies[0] lets bob and members of sre"},
		"no group":              {prod, "eve", nil, "in no group"},
		"nobody":                {open, "", []string{"sre"}, "nobody is named"},
		"a policy for all":      {batch, "eve", nil, ""},
		"no policy":             {open, "eve", nil, ""},
		"no policy that match":  {none, "ana", []string{"sre"}, "no policy matches rule r"},
		"a path out of bounds":  {s.Of("r", "../prod/x.yaml", nil), "ana", []string{"sre"}, "no policy matches"},
		"a name like the group": {prod, "sre", nil, "may not"},
	} {
		err := tc.terms.May(tc.who, tc.groups)
		if (err == nil) != (tc.why == "") || err != nil && !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPeople(t *testing.T) {
	s := spec()
	if p, ok := s.Account("github", "octocat"); !ok || p.Name != "ana" {
		t.Errorf("%+v %t", p, ok)
	}
	for _, other := range [][2]string{{"gitlab", "octocat"}, {"github", "bob"}, {"github", ""}} {
		if p, ok := s.Account(other[0], other[1]); ok {
			t.Errorf("%v is %+v", other, p)
		}
	}
	if got := s.Linked("platform/notify.yaml"); !slices.Equal(got, []string{"ana"}) {
		t.Errorf("linked: %v", got)
	}
	if got := s.Linked("teams/notify.yaml"); len(got) > 0 {
		t.Errorf("linked from anywhere: %v", got)
	}
}

func TestValidate(t *testing.T) {
	good := spec()
	if got := good.Validate([]string{"eve"}); len(got) > 0 {
		t.Errorf("%v", got)
	}
	bad := &Spec{
		Policies: []Policy{{Paths: []string{"/prod/**", "a[", ""}, Names: []string{"eve", "nobody"}, Needed: 11, Expires: "soon"}, {Names: []string{"ana"}, Needed: 2, Expires: "31d"}},
		People:   []Person{{Name: "a.b"}, {Name: Loopback}, {Name: "ana", Accounts: map[string]string{"gitlab": "x", "github": ""}}, {Name: "ana", Links: []string{"/x"}}, {Name: "cy", Accounts: map[string]string{"gitlab": "X"}}},
		Comments: []string{"github", "github", ""},
	}
	var got []string
	for _, p := range bad.Validate([]string{"eve"}) {
		got = append(got, p.Field+": "+p.Msg)
	}
	for _, want := range []string{
		"policies[0].paths[0]: ", "policies[0].paths[1]: ", "policies[0].paths[2]: ", `policies[0].names[1]: "nobody" is neither`, "policies[0].needed: 11", `policies[0].expires: "soon"`,
		"policies[1].needed: 2 persons can't consent", `policies[1].expires: "31d"`, `people[0].name: "a.b"`, `people[1].name: "loopback"`, `people[3].name: "ana" stands twice`,
		"people[2].accounts.gitlab: comments of source", "people[2].accounts.github: is empty", "people[3].links[0]: ", "people[4].accounts.gitlab: is the account of ana", `comments[1]: "github" stands twice`, "comments[2]: is empty",
	} {
		if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, want) }) {
			t.Errorf("nothing says %s in\n%s", want, strings.Join(got, "\n"))
		}
	}
}
