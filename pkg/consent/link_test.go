package consent

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func signer(t testing.TB, b byte) *Signer {
	s, err := NewSigner(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestATokenStandsForItsLinkAlone(t *testing.T) {
	s := signer(t, 1)
	l := Link{Run: "E-r", Attempt: 2, Who: "ana", Digest: "d"}
	token := s.Token(l)
	if got, err := s.Link(token); err != nil || got != l || s.Token(l) != token {
		t.Fatalf("%+v %v", got, err)
	}
	left, right, _ := strings.Cut(strings.TrimPrefix(token, tokenPrefix), ".")
	enc := base64.RawURLEncoding
	other := s.Token(Link{Run: "E-r", Attempt: 2, Who: "bob", Digest: "d"})
	otherLeft, _, _ := strings.Cut(strings.TrimPrefix(other, tokenPrefix), ".")
	for name, forged := range map[string]string{
		"empty":              "",
		"no prefix":          strings.TrimPrefix(token, tokenPrefix),
		"no signature":       tokenPrefix + left,
		"empty signature":    tokenPrefix + left + ".",
		"another's payload":  tokenPrefix + otherLeft + "." + right,
		"a bit turned":       token[:len(token)-2] + "AA",
		"cut off":            token[:len(token)-1],
		"something added":    token + "A",
		"padding":            token + "=",
		"a line break":       tokenPrefix + left[:4] + "\n" + left[4:] + "." + right,
		"another key":        signer(t, 2).Token(l),
		"without a key":      tokenPrefix + left + "." + enc.EncodeToString(make([]byte, 32)),
		"very long":          tokenPrefix + strings.Repeat("A", 1<<20) + "." + right,
		"nobody in it":       s.Token(Link{Run: "E-r"}),
		"signed, no payload": tokenPrefix + "." + enc.EncodeToString(s.sum(nil)),
		"signed, no JSON":    tokenPrefix + enc.EncodeToString([]byte("x")) + "." + enc.EncodeToString(s.sum([]byte("x"))),
	} {
		if got, err := s.Link(forged); !errors.Is(err, ErrLink) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	if _, err := NewSigner(nil); err == nil {
		t.Error("an empty key signs")
	}
}

func TestRedact(t *testing.T) {
	token := signer(t, 1).Token(Link{Run: "E-r", Who: "ana"})
	got := Redact("see https://x/approve/" + token + " or <" + token + ">, not rpl")
	if got != "see https://x/approve/*** or <***>, not rpl" {
		t.Error(got)
	}
}

func FuzzLink(f *testing.F) {
	s := signer(f, 1)
	f.Add(s.Token(Link{Run: "E-r", Attempt: 1, Who: "ana"}))
	f.Add("rpl_e30.AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		l, err := s.Link(token)
		if err == nil && s.Token(l) != token {
			t.Errorf("%q is taken for %+v", token, l)
		}
	})
}
