// Package github speaks with GitHub's API, on github.com and GitHub Enterprise Server.
package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-github/v60/github"

	"github.com/riposte-dev/riposte/pkg/forge"
)

// maxDescription is how much of a description GitHub takes; more is answered with 422.
const maxDescription = 140

// Type describes GitHub.
func Type() forge.Type {
	return forge.Type{Name: "github", Hosts: []string{"github.com"}, New: New}
}

type host struct {
	o   forge.Options
	api *url.URL
}

// New makes the API of one GitHub.
func New(o forge.Options) (forge.Forge, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	api := strings.TrimRight(o.API, "/")
	switch web := strings.TrimRight(o.Web, "/"); {
	case api != "":
	case web == "https://github.com":
		api = "https://api.github.com"
	default: // docs.github.com, "REST API" of Enterprise Server
		api = web + "/api/v3"
	}
	u, err := url.Parse(api + "/")
	if err != nil {
		return nil, fmt.Errorf("read the API's address: %w", err)
	}
	return &host{o, u}, nil
}

// SetStatus implements forge.Forge.
func (h *host) SetStatus(ctx context.Context, repo, commit string, s forge.Status) error {
	owner, name, ok := strings.Cut(repo, "/")
	if !ok || strings.Contains(name, "/") {
		return errors.New("a repository of GitHub is called OWNER/NAME")
	}
	token, err := h.o.Token()
	if err != nil {
		return err
	}
	client := github.NewClient(h.o.HTTP)
	client.BaseURL = h.api
	address := "repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name) + "/statuses/" + url.PathEscape(commit)
	req, err := client.NewRequest(http.MethodPost, address, &github.RepoStatus{
		State: github.String(string(s.State)), Context: github.String(s.Context), TargetURL: optional(s.TargetURL),
		Description: github.String(forge.Clip(s.Description, maxDescription)),
	})
	if err != nil {
		return err
	}
	// Client.WithAuthToken would repeat the token to wherever a redirect leads.
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(ctx, req, nil)
	if err != nil {
		return explain(err, token)
	}
	if resp.StatusCode != http.StatusCreated {
		return &forge.Error{Status: resp.StatusCode}
	}
	return nil
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// explain turns the library's error into ours, which has no token in it.
func explain(err error, token string) error {
	var refused *github.ErrorResponse
	if errors.As(err, &refused) && refused.Response != nil {
		text := refused.Message
		for _, e := range refused.Errors {
			text += "; " + e.Message
		}
		return &forge.Error{Status: refused.Response.StatusCode, Message: forge.Clip(forge.Hide(text, token), 200)}
	}
	return errors.New(forge.Hide(err.Error(), token))
}
