package app

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/riposte-dev/riposte/pkg/action/git"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/forge"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

// maxHostAnswer bounds an answer of a host's API; a webhook that GitHub hands over again can have 25 MB.
const maxHostAnswer = 40 << 20

// errLocal says of a repository that it has no host with an API.
var errLocal = errors.New("is on this machine, not on a host with an API")

// hosts finds the API of the host that a repository is on. It speaks with those that the configuration has a token for, by
// the longest prefix, and with no other: an event can name any address.
type hosts struct {
	kinds       forge.Registry
	credentials []config.Credential
	git         git.Options // knows which credential is whose
	client      *http.Client

	mu   sync.Mutex
	open map[string]forge.Forge // by credential and host; each remembers its account
}

func (a *App) newHosts(o git.Options) *hosts {
	client := outbound.New(outbound.Options{AllowPrivate: a.config.Git.AllowPrivate, Setting: "git.allowPrivate", MaxResponse: maxHostAnswer})
	return &hosts{kinds: forges(), credentials: a.config.Credentials, git: o, client: client.HTTPClient(), open: map[string]forge.Forge{}}
}

// check reports kinds of hosts that there are not.
func (h *hosts) check() error {
	for i, c := range h.credentials {
		if _, known := h.kinds[c.Forge]; c.Forge != "" && !known {
			return fmt.Errorf("credentials[%d].forge: %q is none of %s", i, c.Forge, strings.Join(h.kinds.Names(), ", "))
		}
	}
	return nil
}

// credential is the one with a token for the host's address of a repository, and what reads the token.
func (h *hosts) credential(place git.Place) (config.Credential, func() (string, error)) {
	if place.Web == "" {
		return config.Credential{}, nil
	}
	found := h.git.Credential(place.Web + "/" + place.Path)
	if found == nil || found.Token == nil {
		return config.Credential{}, nil
	}
	for _, c := range h.credentials {
		if c.URL == found.URLPrefix {
			return c, found.Token
		}
	}
	return config.Credential{}, nil
}

// kind is the named one, or the one that the host is known to be of.
func (h *hosts) kind(name, web string) (forge.Type, bool) {
	if name != "" {
		t, ok := h.kinds[name]
		return t, ok
	}
	return h.kinds.Of(web)
}

// forge returns the API of the host of a repository's address, and the repository's path there.
func (h *hosts) forge(repository string) (forge.Forge, string, error) {
	place, err := git.PlaceOf(repository)
	if err != nil {
		return nil, "", err
	}
	if place.Web == "" {
		return nil, "", fmt.Errorf("%s %w", place.Path, errLocal)
	}
	c, token := h.credential(place)
	if token == nil {
		return nil, "", fmt.Errorf("no credential of the server's configuration has a token for %s/%s: add one whose url this begins with", place.Web, place.Path)
	}
	kind, known := h.kind(c.Forge, place.Web)
	if !known {
		return nil, "", fmt.Errorf("what kind of host %s is can't be told by its name: set forge (%s) beside the token in credentials", place.Web, strings.Join(h.kinds.Names(), ", "))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key := place.Web + " " + c.URL
	if f := h.open[key]; f != nil {
		return f, place.Path, nil
	}
	f, err := kind.New(forge.Options{Web: place.Web, API: c.API, Account: c.Account, Token: token, HTTP: h.client})
	if err != nil {
		return nil, "", fmt.Errorf("credential %s: api: %w", c.URL, err)
	}
	h.open[key] = f
	return f, place.Path, nil
}

// rulesForge is the API of the host that rules come from, which rules.git may describe by itself. It is nil where its kind
// or a token is not known, and nothing was set that asks for it.
func (h *hosts) rulesForge(g config.RulesGit, place git.Place, secret func(name string) ([]byte, error)) (forge.Forge, error) {
	c, token := h.credential(place)
	if g.StatusToken != "" {
		token = func() (string, error) {
			v, err := secret(g.StatusToken)
			return string(v), err
		}
	}
	name, api := cmp.Or(g.Forge, c.Forge), cmp.Or(g.API, c.API)
	kind, known := h.kind(name, place.Web)
	if !known && name != "" {
		return nil, fmt.Errorf("forge: %q is none of %s", name, strings.Join(h.kinds.Names(), ", "))
	}
	if !known || place.Web == "" && api == "" || token == nil {
		if g.Forge != "" || g.StatusToken != "" || g.API != "" {
			return nil, fmt.Errorf("commit statuses need the repository's host and a token: set forge where the host's name does not tell its kind, and statusToken where no credential has a token for it")
		}
		return nil, nil
	}
	f, err := kind.New(forge.Options{Web: cmp.Or(place.Web, api), API: api, Account: c.Account, Token: token, HTTP: h.client})
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	return f, nil
}
