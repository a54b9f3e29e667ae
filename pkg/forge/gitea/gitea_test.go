package gitea_test

import (
	"testing"

	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/forge/forgetest"
	"github.com/riposte-dev/riposte/pkg/forge/gitea"
)

// The shapes are those of Gitea's API document, repoCreateStatus.
func TestConformance(t *testing.T) {
	forgetest.Suite{
		Type: gitea.Type(), Path: "/api/v1/repos/acme/rules/statuses/abc123", Authorization: "token the-token",
		State: "state", Context: "context", Description: "description", TargetURL: "target_url",
		States:         map[forge.State]string{forge.Pending: "pending", forge.Success: "success", forge.Failure: "failure"},
		MaxDescription: 255,
		Refusal:        `{"message":"token does not have at least one of required scope(s)","url":"https://gitea.com/api/swagger"}`, RefusalText: "token does not have",
	}.Run(t)
}
