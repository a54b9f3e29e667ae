package git

import (
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	good := map[string]string{ // to canonical
		"https://github.com/acme/infra.git":     "https://github.com/acme/infra.git",
		"HTTPS://GitHub.com:443/acme/infra":     "https://github.com/acme/infra",
		"https://git.example.org:8443/a/b":      "https://git.example.org:8443/a/b",
		"https://[2001:db8::1]:8443/a/b":        "https://[2001:db8::1]:8443/a/b",
		"https://dev.azure.com/acme/My%20P/x":   "https://dev.azure.com/acme/My%20P/x",
		"git@github.com:acme/infra.git":         "git@github.com:acme/infra.git",
		"github.com:acme/infra.git":             "git@github.com:acme/infra.git",
		"git@[2001:db8::1]:acme/infra.git":      "git@[2001:db8::1]:acme/infra.git",
		"ssh://git@github.com/acme/infra.git":   "ssh://git@github.com/acme/infra.git",
		"ssh://host:2222/srv/infra.git":         "ssh://git@host:2222/srv/infra.git",
		"ssh://deploy@host:0022/srv/infra.git/": "ssh://deploy@host/srv/infra.git/",
		"/srv/infra":                            "file:///srv/infra",
		"file:///srv/infra":                     "file:///srv/infra",
	}
	for raw, want := range good {
		a, err := parseURL(raw)
		if err != nil || a.String() != want {
			t.Errorf("parseURL(%q) = %q, %v; want %q", raw, a, err, want)
		}
	}
	bad := []string{
		"", " ", "https://", "https://github.com", "https://github.com/", "https:///acme/infra",
		"https://user:secret@github.com/acme/infra", "https://secret@github.com/acme/infra", "ssh://git:secret@host/x",
		"git:secret@host:x", "https://github.com/acme/../evil/infra", "https://github.com/acme/%2e%2e/evil", "https://github.com/acme%2fevil/x",
		"https://github.com//acme/infra", "https://github.com/acme/./infra", "https://github.com/acme/infra?x=y", "https://github.com/acme/infra#x",
		`https://github.com\@evil/acme`, "https://github.com/acme\\evil", "ext::sh -c id", "ext::sh", "file://host/srv/x", "git://host/x",
		"ftp://host/x", "-oProxyCommand=id:x", "ssh://-oProxyCommand=id/x", "ssh://-x@host/y", "git@host:-x", "host:", "https://host:99999/x", "https://host:0/x",
		"https://ho st/x", "https://host/a\nb", "https://exämple.org/x", "javascript:alert(1)/x y", "https://github.com/acme/%00",
	}
	for _, raw := range bad {
		if a, err := parseURL(raw); err == nil {
			t.Errorf("parseURL(%q) = %q, want an error", raw, a)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("parseURL(%q) shows what it was given: %v", raw, err)
		}
	}
}

func TestCredentialPrefix(t *testing.T) {
	tests := []struct {
		prefix, url string
		want        bool
	}{
		{"https://github.com/acme", "https://github.com/acme/infra.git", true},
		{"https://github.com/acme/", "https://github.com/acme/infra", true},
		{"https://github.com/acme/infra", "https://github.com/acme/infra.git", true},
		{"https://github.com/acme/infra.git", "https://github.com/acme/infra", true},
		{"https://github.com", "https://github.com/acme/infra", true},
		{"https://github.com/", "https://GITHUB.com:443/acme/infra", true},
		{"https://git.example.org:8443/a", "https://git.example.org:8443/a/b", true},
		{"git@github.com:acme/", "git@github.com:acme/infra.git", true},
		{"git@github.com:acme", "ssh://git@github.com/acme/infra.git", true},
		{"ssh://git@github.com:22/acme", "github.com:acme/infra", true},
		{"git@github.com:acme/infra.git", "git@github.com:acme/infra.git", true},

		{"https://github.com/acme", "https://github.com/acme-evil/infra", false},
		{"https://github.com/acme/infra", "https://github.com/acme/infra-evil", false},
		{"https://github.com/acme", "https://github.com.evil/acme/infra", false},
		{"https://github.com/acme", "https://evil/github.com/acme/infra", false},
		{"https://github.com/acme", "https://sub.github.com/acme/infra", false},
		{"https://github.com/acme", "https://github.com:8443/acme/infra", false},
		{"https://github.com/acme", "http://github.com/acme/infra", false},
		{"https://github.com/acme", "git@github.com:acme/infra", false},
		{"https://github.com/acme", "https://github.com/ACME/infra", false},
		{"https://github.com/acme/infra", "https://github.com/acme", false},
		{"git@github.com:acme", "evil@github.com:acme/infra", false},
		{"git@github.com:acme", "ssh://git@github.com:2222/acme/infra", false},
		{"git@github.com:acme", "git@github.com:acme-evil/infra", false},
	}
	for _, c := range tests {
		a, err := parseURL(c.url)
		if err != nil {
			t.Fatalf("%s: %v", c.url, err)
		}
		if got := credentialFor([]Credential{{URLPrefix: c.prefix}}, a) != nil; got != c.want {
			t.Errorf("prefix %s covers %s: %v, want %v", c.prefix, c.url, got, c.want)
		}
	}
	// What cannot be a URL matches nothing, because it is refused.
	for _, raw := range []string{"https://github.com@evil/acme/x", "https://github.com/acme/../evil/x"} {
		if _, err := parseURL(raw); err == nil {
			t.Errorf("%s is taken", raw)
		}
	}
}

func TestLongestPrefixWins(t *testing.T) {
	list := []Credential{{URLPrefix: "https://h/acme/infra", Username: "repo"}, {URLPrefix: "https://h", Username: "host"}, {URLPrefix: "https://h/acme", Username: "org"}}
	for raw, want := range map[string]string{"https://h/acme/infra.git": "repo", "https://h/acme/other": "org", "https://h/x/y": "host"} {
		a, err := parseURL(raw)
		if err != nil {
			t.Fatal(err)
		}
		if c := credentialFor(list, a); c == nil || c.Username != want {
			t.Errorf("%s: %v, want %s", raw, c, want)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"https://github.com/acme/infra.git", "git@github.com:acme/x", "ssh://u@[::1]:22/x", "/srv/x", "https://a@b/c", "a:b:c", "https://h/%2e%2e/x"} {
		f.Add(s, "https://github.com/acme")
	}
	f.Fuzz(func(t *testing.T, raw, prefix string) {
		a, err := parseURL(raw)
		if err != nil {
			return
		}
		again, err := parseURL(a.String())
		if err != nil || again != a {
			t.Errorf("%q: canonical %q reads as %+v, %v; not %+v", raw, a, again, err, a)
		}
		p, err := parsePrefix(prefix)
		if err != nil || !a.under(p) {
			return
		}
		// Whatever is under a prefix has its host and continues its path at a segment's end.
		if a.host != p.host || a.scheme != p.scheme || a.port != p.port {
			t.Errorf("%q is under %q", raw, prefix)
		}
		have, want := strings.Join(a.segments(), "/")+"/", strings.Join(p.segments(), "/")+"/"
		if want != "/" && !strings.HasPrefix(have, want) {
			t.Errorf("%q is under %q", raw, prefix)
		}
	})
}
