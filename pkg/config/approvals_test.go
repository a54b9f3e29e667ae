package config

import (
	"strings"
	"testing"
)

func TestApprovals(t *testing.T) {
	c, err := load(t, "publicURL: https://x.example\napprovals:\n  policies:\n  - {paths: [\"prod/**\"], labels: {tier: a}, groups: [sre], names: [ana], needed: 2, expires: 4h}\n"+
		"  people: [{name: ana, groups: [sre], accounts: {github: octocat}, links: [\"platform/**\"]}]\n  comments: [github]\n")
	if err != nil {
		t.Fatal(err)
	}
	if a := c.Approvals; len(a.Policies) != 1 || a.Policies[0].Needed != 2 || a.People[0].Accounts["github"] != "octocat" || a.Comments[0] != "github" {
		t.Errorf("%+v", a)
	}
	for text, want := range map[string]string{
		"approvals: []":                                               "approvals: must be a mapping, not a list",
		"approvals: {policies: []}":                                   "approvals.policies: is empty",
		"approvals: {policies: null}":                                 "approvals.policies: is empty",
		"approvals: {policys: []}":                                    "approvals.policys: unknown field; did you mean policies?",
		"approvals: {policies: [{group: [sre]}]}":                     `approvals.policies[0]: unknown field "group"`,
		"approvals: {policies: [{names: [bob]}]}":                     `riposte.yaml:1: approvals.policies[0].names[0]: "bob" is neither`,
		"approvals: {policies: [{needed: two}]}":                      "approvals.policies[0]: needed must be a int",
		"approvals: {people: [{name: ana, links: [\"a/**\"]}]}":       "approvals.people[0].links: needs publicURL",
		"approvals: {people: [{name: ana, accounts: {github: ana}}]}": "comments of source \"github\" do not count",
	} {
		if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
