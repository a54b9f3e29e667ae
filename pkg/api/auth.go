package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Role is what a token may do; each includes the ones before it.
type Role int

// Roles, from least to most.
const (
	Viewer   Role = iota + 1 // reads
	Operator                 // orders runs and replays events
	Admin                    // copies the store, reads the audit log
)

func (r Role) String() string {
	switch r {
	case Viewer:
		return "viewer"
	case Operator:
		return "operator"
	case Admin:
		return "admin"
	}
	return fmt.Sprintf("role %d", int(r))
}

// ParseRole reads a role's name.
func ParseRole(name string) (Role, error) {
	for r := Viewer; r <= Admin; r++ {
		if r.String() == name {
			return r, nil
		}
	}
	return 0, fmt.Errorf("role %q is none of viewer, operator, admin", name)
}

// Token is who may use the API: the hash of a bearer token, and what it stands for.
type Token struct {
	Name   string
	SHA256 [sha256.Size]byte
	Groups []string
	Role   Role
}

type identityKey struct{}

func identityOf(ctx context.Context) Token {
	t, _ := ctx.Value(identityKey{}).(Token)
	return t
}

// guard lets a request through to h if whoever sent it has the role. What came of it is put on record under the name of the
// action, unless that is empty.
func (a *api) guard(role Role, action string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		who, err := a.authenticate(r)
		known := err == nil
		r = r.WithContext(context.WithValue(context.WithValue(r.Context(), identityKey{}, who), recordKey{}, &record{target: r.PathValue("id")}))
		if known && who.Role < role {
			err = &Error{http.StatusForbidden, fmt.Sprintf("token %s has the role %s, and this needs %s", who.Name, who.Role, role), "use another token, or let the server's configuration give this one the role"}
		}
		if err == nil {
			err = h(w, r)
		}
		if known && action != "" { // strangers can't fill the audit log
			a.audit(r, action, err)
		}
		if err != nil {
			if statusOf(err).Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			if statusOf(err).Status >= 500 {
				a.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
			}
			writeError(w, err)
		}
	})
}

func (a *api) authenticate(r *http.Request) (Token, error) {
	if len(a.Tokens) == 0 {
		return Token{Name: "loopback", Role: Admin}, local(r)
	}
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || value == "" {
		return Token{}, &Error{http.StatusUnauthorized, "a bearer token is needed", "give one with --token or RIPOSTE_TOKEN"}
	}
	sum := sha256.Sum256([]byte(value))
	var found Token
	for _, t := range a.Tokens { // all of them, so that time tells nothing
		if subtle.ConstantTimeCompare(sum[:], t.SHA256[:]) == 1 {
			found = t
		}
	}
	if found.Name == "" {
		return Token{}, &Error{http.StatusUnauthorized, "the bearer token is not known", "its sha256 must stand under tokens: in the server's configuration"}
	}
	return found, nil
}

// local refuses what a page in a browser could send to a loopback address: by a name that an attacker points here, from
// another site, or as a form.
func local(r *http.Request) error {
	if !loopback(r.Host) {
		return &Error{http.StatusForbidden, fmt.Sprintf("Host %q is not a loopback name", r.Host), "use 127.0.0.1 or localhost, or configure tokens"}
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || u.Host != r.Host {
			return &Error{http.StatusForbidden, fmt.Sprintf("Origin %q is another site", origin), ""}
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return &Error{http.StatusForbidden, "the request comes from another site", ""}
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return &Error{http.StatusUnsupportedMediaType, "writes need Content-Type: application/json", ""}
	}
	return nil
}

func loopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	name = strings.Trim(name, "[]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.IsLoopback()
}
