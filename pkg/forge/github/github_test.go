package github_test

import (
	"testing"

	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/forge/forgetest"
	"github.com/riposte-dev/riposte/pkg/forge/github"
)

// The shapes are those of docs.github.com, "REST API endpoints for commit statuses".
func TestConformance(t *testing.T) {
	forgetest.Suite{
		Type: github.Type(), Path: "/api/v3/repos/acme/rules/statuses/abc123", Authorization: "Bearer the-token",
		State: "state", Context: "context", Description: "description", TargetURL: "target_url",
		States:         map[forge.State]string{forge.Pending: "pending", forge.Success: "success", forge.Failure: "failure"},
		MaxDescription: 140,
		Refusal: `{"message":"Validation Failed","errors":[{"resource":"Status","code":"custom","message":"This SHA and context has reached the maximum number of statuses."}],` +
			`"documentation_url":"https://docs.github.com/rest/commits/statuses#create-a-commit-status"}`,
		RefusalText: "Validation Failed; This SHA and context has reached",
	}.Run(t)
}
