package gitlab_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/forge/forgetest"
	"github.com/riposte-dev/riposte/pkg/forge/gitlab"
)

// The shapes are those of docs.gitlab.com, "Commits API", "Set commit pipeline status".
func TestConformance(t *testing.T) {
	forgetest.Suite{
		Type: gitlab.Type(), Path: "/api/v4/projects/acme%2Frules/statuses/abc123", Authorization: "Bearer the-token",
		State: "state", Context: "name", Description: "description", TargetURL: "target_url",
		States:         map[forge.State]string{forge.Pending: "pending", forge.Success: "success", forge.Failure: "failed"},
		MaxDescription: 255,
		Refusal:        `{"message":{"target_url":["is blocked"]}}`, RefusalText: `{"target_url":["is blocked"]}`,
	}.Run(t)
}

func TestAStatusThatIsThereAlready(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"message":"Cannot transition status via :run from :running (Reason(s): Status cannot transition via \"run\")"}`)
	}))
	defer srv.Close()
	f, err := gitlab.New(forge.Options{Web: srv.URL, HTTP: srv.Client(), Token: func() (string, error) { return "the-token", nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SetStatus(t.Context(), "a/b/c", "abc", forge.Status{State: forge.Pending}); err != nil {
		t.Error(err)
	}
}

// TestACommitOfAFork is part of no branch of the project; GitLab wants to know where it is then.
func TestACommitOfAFork(t *testing.T) {
	var refs []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Ref string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		refs = append(refs, body.Ref)
		if body.Ref == "" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"message":"404 References for commit Not Found"}`)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}))
	defer srv.Close()
	f, err := gitlab.New(forge.Options{Web: srv.URL, HTTP: srv.Client(), Token: func() (string, error) { return "the-token", nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SetStatus(t.Context(), "a/b", "abc", forge.Status{State: forge.Success, Ref: "refs/merge-requests/7/head"}); err != nil {
		t.Error(err)
	}
	if err := f.SetStatus(t.Context(), "a/b", "abc", forge.Status{State: forge.Success}); err == nil {
		t.Error("no error")
	}
	if want := []string{"", "refs/merge-requests/7/head", ""}; !slices.Equal(refs, want) {
		t.Errorf("asked with %q", refs)
	}
}
