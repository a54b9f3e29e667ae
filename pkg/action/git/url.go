package git

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// address is a parsed repository URL. Two addresses that compare equal are one repository.
type address struct {
	scheme string // https, http, ssh or file
	user   string // ssh only
	host   string // lower case, without brackets
	port   string // always set, but for file
	// path is what the remote is asked for: with its leading slash, but for the scp-like form, which is relative to the
	// user's home.
	path string
}

var defaultPorts = map[string]string{"https": "443", "http": "80", "ssh": "22"}

// parseURL reads a repository URL. Local paths are understood, whether they are allowed is the caller's business.
func parseURL(raw string) (address, error) {
	a, err := parseAddress(raw)
	if err != nil {
		return address{}, err
	}
	if len(a.segments()) == 0 {
		return address{}, errors.New("the URL names a host but no repository")
	}
	return a, nil
}

// parsePrefix reads the prefix of a credential, which may be a host alone. Local paths take no credentials.
func parsePrefix(raw string) (address, error) {
	a, err := parseAddress(raw)
	if err != nil {
		return address{}, err
	}
	if a.scheme == "file" {
		return address{}, fmt.Errorf("%q is not an https or ssh URL", raw)
	}
	return a, nil
}

// parseAddress never quotes what it was given in an error: it may hold a credential.
func parseAddress(raw string) (address, error) {
	if raw == "" {
		return address{}, errors.New("the URL is empty")
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' || r == 0xfffd }) {
		return address{}, errors.New("the URL holds a space, a backslash or a control character")
	}
	if filepath.IsAbs(raw) {
		return address{scheme: "file", path: filepath.Clean(raw)}, nil
	}
	if strings.HasPrefix(raw, "./") {
		abs, err := filepath.Abs(raw)
		return address{scheme: "file", path: abs}, err
	}
	if strings.Contains(raw, "://") {
		return parseFull(raw)
	}
	return parseSCP(raw)
}

func parseFull(raw string) (address, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return address{}, errors.New("the URL cannot be parsed")
	}
	a := address{scheme: strings.ToLower(u.Scheme), path: u.Path}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.RawFragment != "" || u.Opaque != "" {
		return address{}, errors.New("a query or fragment is not part of a repository URL")
	}
	switch a.scheme {
	case "file":
		if u.Host != "" || u.User != nil || !filepath.IsAbs(u.Path) {
			return address{}, errors.New("a file URL must be file:///path")
		}
		a.path = filepath.Clean(u.Path)
		return a, nil
	case "https", "http":
		if u.User != nil {
			return address{}, errors.New("the URL holds a user or password: remove it, and name the credential under `credentials` in the server's configuration")
		}
	case "ssh":
		if _, set := u.User.Password(); set {
			return address{}, errors.New("the URL holds a password: remove it, and name a key under `credentials` in the server's configuration")
		}
		a.user = u.User.Username()
	default:
		return address{}, errors.New("only https and ssh URLs are allowed")
	}
	if escapesSeparator(u.EscapedPath()) {
		return address{}, errors.New("the URL's path holds an escaped separator or dot")
	}
	a.host, a.port = strings.ToLower(u.Hostname()), u.Port()
	return a.normalise()
}

// parseSCP reads user@host:path.
func parseSCP(raw string) (address, error) {
	where, path, ok := cutSCP(raw)
	if !ok || strings.HasPrefix(path, ":") {
		return address{}, errors.New("not an https or ssh URL, and not user@host:path")
	}
	user, host, ok := strings.Cut(where, "@")
	if !ok {
		user, host = "", where
	}
	if strings.Contains(user, ":") || !ok && strings.Contains(path, "@") {
		return address{}, errors.New("the URL holds a password: remove it, and name a key under `credentials` in the server's configuration")
	}
	if host, bracketed := strings.CutPrefix(host, "["); bracketed {
		return address{scheme: "ssh", user: user, host: strings.ToLower(strings.TrimSuffix(host, "]")), path: path}.normalise()
	}
	return address{scheme: "ssh", user: user, host: strings.ToLower(host), path: path}.normalise()
}

func cutSCP(raw string) (where, path string, ok bool) {
	if i := strings.Index(raw, "]:"); i >= 0 && strings.Contains(raw[:i], "[") {
		return raw[:i+1], raw[i+2:], true
	}
	return strings.Cut(raw, ":")
}

// escapesSeparator finds %2f, %2e, %5c and %25: a server that decodes them would see another path than we compare.
func escapesSeparator(escaped string) bool {
	lower := strings.ToLower(escaped)
	return slices.ContainsFunc([]string{"%2f", "%2e", "%5c", "%25", "%00"}, func(s string) bool { return strings.Contains(lower, s) })
}

func (a address) normalise() (address, error) {
	if err := checkHost(a.host); err != nil {
		return address{}, err
	}
	if a.port == "" {
		a.port = defaultPorts[a.scheme]
	}
	port, err := strconv.ParseUint(a.port, 10, 16)
	if err != nil || port == 0 {
		return address{}, errors.New("the URL's port is not a number from 1 to 65535")
	}
	a.port = strconv.FormatUint(port, 10)
	if a.scheme == "ssh" && a.user == "" {
		a.user = "git"
	}
	if strings.HasPrefix(a.user, "-") || strings.ContainsAny(a.user, "@/:'\"") {
		return address{}, errors.New("the URL's user is not a plain name")
	}
	if strings.HasPrefix(a.path, "-") || strings.ContainsFunc(a.path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return address{}, errors.New("the URL's path begins with a dash or holds a control character")
	}
	for _, s := range a.segments() {
		if s == "." || s == ".." || s == "" {
			return address{}, errors.New("the URL's path holds an empty, `.` or `..` segment")
		}
	}
	return a, nil
}

// checkHost takes DNS names and IP literals. A host that begins with a dash would be an option to programs.
func checkHost(host string) error {
	if host == "" {
		return errors.New("the URL names no host")
	}
	if net.ParseIP(host) != nil {
		return nil
	}
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_'
	}
	if host[0] == '-' || host[0] == '.' || strings.ContainsFunc(host, func(r rune) bool { return !plain(r) }) {
		return errors.New("the URL's host is neither a DNS name nor an IP address")
	}
	return nil
}

// segments returns the path's parts, without a trailing slash and the customary .git at its end.
func (a address) segments() []string {
	path := strings.TrimSuffix(strings.TrimPrefix(a.path, "/"), "/")
	if path == "" {
		return nil
	}
	segments := strings.Split(path, "/")
	last := len(segments) - 1
	if s := strings.TrimSuffix(segments[last], ".git"); s != "" {
		segments[last] = s
	}
	return segments
}

// under reports whether a lies at or below prefix.
func (a address) under(prefix address) bool {
	if a.scheme != prefix.scheme || a.user != prefix.user || a.host != prefix.host || a.port != prefix.port {
		return false
	}
	have, want := a.segments(), prefix.segments()
	return len(have) >= len(want) && slices.Equal(have[:len(want)], want)
}

func (a address) hostport() string { return net.JoinHostPort(a.host, a.port) }

// String returns the canonical URL. It never holds a credential.
func (a address) String() string {
	if a.scheme == "file" {
		return (&url.URL{Scheme: "file", Path: a.path}).String()
	}
	host := a.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if a.port != defaultPorts[a.scheme] {
		host += ":" + a.port
	}
	if a.scheme != "ssh" {
		return a.scheme + "://" + host + (&url.URL{Path: a.path}).EscapedPath()
	}
	if !strings.HasPrefix(a.path, "/") {
		return a.user + "@" + host + ":" + a.path
	}
	return "ssh://" + a.user + "@" + host + (&url.URL{Path: a.path}).EscapedPath()
}

// credentialFor returns the credential with the longest prefix above a, or nil.
func credentialFor(credentials []Credential, a address) *Credential {
	var best *Credential
	length := -1
	for i := range credentials {
		prefix, err := parsePrefix(credentials[i].URLPrefix)
		if err != nil || !a.under(prefix) {
			continue
		}
		if n := len(prefix.segments()); n > length {
			best, length = &credentials[i], n
		}
	}
	return best
}
