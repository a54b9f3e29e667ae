// Package gitlab speaks with GitLab's API (docs.gitlab.com, "Commits API", commit status). The official client is left out
// on purpose: it makes the binary 2 MB larger for what is one request.
package gitlab

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/riposte-dev/riposte/pkg/forge"
)

// maxDescription is how much of a description GitLab takes.
const maxDescription = 255

// Type describes GitLab.
func Type() forge.Type {
	return forge.Type{Name: "gitlab", Hosts: []string{"gitlab.com"}, New: New}
}

type host struct {
	o   forge.Options
	api string
}

// New makes the API of one GitLab.
func New(o forge.Options) (forge.Forge, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	h := &host{o: o, api: strings.TrimRight(o.API, "/")}
	if h.api == "" {
		h.api = strings.TrimRight(o.Web, "/") + "/api/v4"
	}
	return h, nil
}

type status struct {
	State       string `json:"state"`
	Name        string `json:"name"`
	Description string `json:"description"`
	TargetURL   string `json:"target_url,omitempty"`
	Ref         string `json:"ref,omitempty"`
}

func stateOf(s forge.State) string {
	if s == forge.Failure {
		return "failed"
	}
	return string(s)
}

// SetStatus implements forge.Forge.
func (h *host) SetStatus(ctx context.Context, repo, commit string, s forge.Status) error {
	token, err := h.o.Token()
	if err != nil {
		return err
	}
	header := http.Header{}
	header.Set("Authorization", "Bearer "+token) // unlike Private-Token, no HTTP client repeats it to another host
	// A project's path stands in the address as one segment.
	address := h.api + "/projects/" + url.PathEscape(repo) + "/statuses/" + url.PathEscape(commit)
	body := status{State: stateOf(s.State), Name: s.Context, Description: forge.Clip(s.Description, maxDescription), TargetURL: s.TargetURL}
	err = forge.Post(ctx, h.o.HTTP, address, header, token, body)
	var refused *forge.Error
	// Of a commit in a branch GitLab finds the pipeline itself, which a reference of ours would keep it from.
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound && strings.Contains(refused.Message, "References for commit") && s.Ref != "" {
		body.Ref = s.Ref
		err = forge.Post(ctx, h.o.HTTP, address, header, token, body)
	}
	if errors.As(err, &refused) && refused.Status == http.StatusBadRequest && strings.Contains(refused.Message, "Cannot transition status") {
		return nil // it is in that state already
	}
	return err
}
