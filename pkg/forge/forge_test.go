package forge_test

import (
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/forge"
)

func TestHostsAreKnownByName(t *testing.T) {
	r := forge.NewRegistry(forge.Type{Name: "b", Hosts: []string{"b.example"}}, forge.Type{Name: "a", Hosts: []string{"a.example", "a.test"}})
	for web, want := range map[string]string{
		"https://a.example": "a", "https://A.Test:8443": "a", "https://b.example": "b",
		"https://b.example.evil.test": "", "https://evil.test/b.example": "", "": "", "://": "",
	} {
		if got, ok := r.Of(web); got.Name != want || ok != (want != "") {
			t.Errorf("%s is of %q", web, got.Name)
		}
	}
	if got := strings.Join(r.Names(), " "); got != "a b" {
		t.Error(got)
	}
}

func TestClip(t *testing.T) {
	for text, want := range map[string]string{
		"short": "short", "exactly 10": "exactly 10", "eleven char": "eleven ch…", "two\nlines": "two lines", "ääääääääääää": "äääääääää…", "a\x1b[31m": "a [31m", "bad\xff": "bad ",
	} {
		if got := forge.Clip(text, 10); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
