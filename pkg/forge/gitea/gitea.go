// Package gitea speaks with the API of Gitea and Forgejo (docs.gitea.com, "API", repoCreateStatus). The official client is
// left out on purpose: it makes the binary 0.7 MB larger for what is one request.
package gitea

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/riposte-dev/riposte/pkg/forge"
)

// maxDescription keeps a description readable; Gitea itself sets no bound.
const maxDescription = 255

// Type describes Gitea.
func Type() forge.Type {
	return forge.Type{Name: "gitea", Hosts: []string{"gitea.com", "codeberg.org"}, New: New}
}

type host struct {
	o   forge.Options
	api string
}

// New makes the API of one Gitea or Forgejo.
func New(o forge.Options) (forge.Forge, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	h := &host{o: o, api: strings.TrimRight(o.API, "/")}
	if h.api == "" {
		h.api = strings.TrimRight(o.Web, "/") + "/api/v1"
	}
	return h, nil
}

type status struct {
	State       string `json:"state"`
	Context     string `json:"context"`
	Description string `json:"description"`
	TargetURL   string `json:"target_url,omitempty"`
}

// SetStatus implements forge.Forge.
func (h *host) SetStatus(ctx context.Context, repo, commit string, s forge.Status) error {
	owner, name, ok := strings.Cut(repo, "/")
	if !ok || strings.Contains(name, "/") {
		return errors.New("a repository of Gitea is called OWNER/NAME")
	}
	token, err := h.o.Token()
	if err != nil {
		return err
	}
	header := http.Header{}
	header.Set("Authorization", "token "+token)
	address := h.api + "/repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name) + "/statuses/" + url.PathEscape(commit)
	return forge.Post(ctx, h.o.HTTP, address, header, token, status{
		State: string(s.State), Context: s.Context, Description: forge.Clip(s.Description, maxDescription), TargetURL: s.TargetURL,
	})
}
