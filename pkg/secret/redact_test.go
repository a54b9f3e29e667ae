package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"
)

const awkward = `p<a>s&s "w\ö/rd%+`

func redactor(secrets ...string) *Redactor {
	r := NewRedactor()
	for _, s := range secrets {
		r.Add([]byte(s))
	}
	return r
}

func TestString(t *testing.T) {
	asJSON, err := json.Marshal(awkward)
	if err != nil {
		t.Fatal(err)
	}
	quoted := string(asJSON[1 : len(asJSON)-1])
	for _, tt := range []struct{ name, secret, text, want string }{
		{"plain", "hunter22", "the hunter22 of hunter22s", "the *** of ***s"},
		{"nothing", "hunter22", "the hunter2", "the hunter2"},
		{"alone", "hunter22", "hunter22", "***"},
		{"short of the bound", "abc", "abc abc", "abc abc"},
		{"at the bound", "abcd", "abc abcd", "abc ***"},
		{"touching", "abcd", "abcdabcd", "***"},
		{"JSON", awkward, `{"a":"` + quoted + `"}`, `{"a":"***"}`},
		{"query", awkward, "?a=" + url.QueryEscape(awkward) + "&b", "?a=***&b"},
		{"query in small letters", awkward, "?a=" + strings.ToLower(url.QueryEscape(awkward)), "?a=***"},
		{"path", awkward, "/" + url.PathEscape(awkward) + "/", "/***/"},
		{"user", awkward, (&url.URL{Scheme: "https", User: url.UserPassword("me", awkward), Host: "h"}).String(), "https://me:***@h"},
		{"base64", awkward, base64.StdEncoding.EncodeToString([]byte(awkward)), "***"},
		{"raw base64", awkward, base64.RawStdEncoding.EncodeToString([]byte(awkward)) + ".", "***."},
		{"base64url", awkward, base64.URLEncoding.EncodeToString([]byte(awkward)), "***"},
		{"raw base64url", awkward, base64.RawURLEncoding.EncodeToString([]byte(awkward)) + ".", "***."},
		{"hex", "hunter22", hex.EncodeToString([]byte("hunter22")), "***"},
		{"lines", "first line\r\n  second line  \nx", "second line, then first line; x", "***, then ***; x"},
	} {
		if got := redactor(tt.secret).String(tt.text); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestSecretInsideLongerBase64(t *testing.T) {
	const secret = "hunter22-hunter22"
	for _, user := range []string{"", "u", "us", "use", "user"} {
		text := base64.StdEncoding.EncodeToString([]byte(user + ":" + secret + ":tail"))
		got := redactor(secret).String("Authorization: Basic " + text)
		if !strings.Contains(got, mask) {
			t.Fatalf("%s is not redacted", text)
		}
		// What is left at the edges decodes to at most a byte of the secret on each side.
		if left := len(strings.Replace(strings.TrimPrefix(got, "Authorization: Basic "), mask, "", 1)); left > len(text)-len(secret)*8/6+2 {
			t.Errorf("%s leaves %s", text, got)
		}
	}
}

func TestOverlappingSecrets(t *testing.T) {
	r := redactor("abcdef", "defghi", "abcdefgh", "cdef")
	for text, want := range map[string]string{"abcdefghi": "***", "xabcdefx": "x***x", "cdefghi": "***", "abcdcdef": "abcd***"} {
		if got := r.String(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestWriterOverAnyBoundaries(t *testing.T) {
	secrets := []string{"hunter22", "aaaa", "first line\nsecond line", "abcabcabd"}
	text := "say hunter22, aaaaaaaaaaaa!\nfirst line\nsecond line\nabcabcabcabdabcabc hunter2" + base64.StdEncoding.EncodeToString([]byte("hunter22"))
	want := redactor(secrets...).String(text)
	for size := 1; size <= len(text); size++ {
		var out bytes.Buffer
		w := redactor(secrets...).Writer(&out)
		for rest := text; rest != ""; rest = rest[min(size, len(rest)):] {
			if n, err := io.WriteString(w, rest[:min(size, len(rest))]); err != nil || n != min(size, len(rest)) {
				t.Fatal(n, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Fatalf("in pieces of %d:\n%s\nwant\n%s", size, &out, want)
		}
	}
}

func TestWriterHoldsBackOnlyBeginnings(t *testing.T) {
	var out bytes.Buffer
	w := redactor("hunter22").Writer(&out)
	for _, step := range []struct{ in, out string }{
		{"a line\n", "a line\n"}, {"the hunt", "a line\nthe "}, {"ing\n", "a line\nthe hunting\n"}, {"hunter22", "a line\nthe hunting\n***"},
	} {
		if _, err := io.WriteString(w, step.in); err != nil {
			t.Fatal(err)
		}
		if out.String() != step.out {
			t.Errorf("after %q: %q, want %q", step.in, &out, step.out)
		}
	}
}

func TestWriterIsBoundedByTheLongestSecret(t *testing.T) {
	r := redactor("aaaaaaaa")
	w := r.Writer(io.Discard)
	for range 1000 {
		if _, err := io.WriteString(w, "aaaaaaaaaaa"); err != nil {
			t.Fatal(err)
		}
		if most := r.current.Load().longest; len(w.held) >= most {
			t.Fatalf("holds %d bytes, the longest form has %d", len(w.held), most)
		}
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

// TestWriterAfterAGap cuts texts at any two places, as a log does that keeps the beginning and the end: no part of a secret that
// can be told from other text may be left on either side.
func TestWriterAfterAGap(t *testing.T) {
	secrets := []string{"hunter22hunter", "first line\nsecond line", "aaaa"}
	text := strings.Repeat("plain ", 4) + "hunter22hunter" + strings.Repeat(" text", 4) + "\nfirst line\nsecond line\n" +
		base64.StdEncoding.EncodeToString([]byte("hunter22hunter")) + " aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa and the end of it, which is not secret at all"
	known := redactor(secrets...)
	for from := range len(text) {
		for to := from + 1; to <= len(text); to++ {
			var out bytes.Buffer
			w := known.Writer(&out)
			_, _ = io.WriteString(w, text[:from])
			w.Skip()
			half := to + (len(text)-to)/2
			_, _ = io.WriteString(w, text[to:half])
			_, _ = io.WriteString(w, text[half:])
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			// Any four bytes of a secret that stand in no other text.
			for _, part := range []string{"hunt", "unte", "nter", "ter2", "er22", "22hu", "firs", "econ", "aHVu", "dW50", "bnRl", "aaaa"} {
				if strings.Contains(out.String(), part) {
					t.Fatalf("of %q and %q is left %q", text[:from], text[to:], out.String())
				}
			}
			if to < len(text)-80 && !strings.Contains(out.String(), "not secret at all") {
				t.Fatalf("%q is left: too little", out.String())
			}
		}
	}
}

func TestSkippingSaysHowMuchItDropped(t *testing.T) {
	var out bytes.Buffer
	w := redactor("hunter22").Writer(&out)
	_, _ = io.WriteString(w, "one hunt")
	w.Skip()
	w.Skip()
	_, _ = io.WriteString(w, "er22\ntwo\n")
	if out.String() != "one two\n" || w.Skipped() != 9 {
		t.Errorf("%q, %d bytes dropped", out.String(), w.Skipped())
	}
}

func TestWriterPassesErrorsOn(t *testing.T) {
	full := errors.New("disk full")
	w := redactor("hunter22").Writer(broken{full})
	if _, err := io.WriteString(w, "text"); !errors.Is(err, full) {
		t.Errorf("Write: %v", err)
	}
	if err := w.Close(); !errors.Is(err, full) {
		t.Errorf("Close: %v", err)
	}
}

type loud struct{ Password string }

func (l loud) LogValue() slog.Value { return slog.GroupValue(slog.String("password", l.Password)) }

type plain struct {
	User     string
	Password *string
}

func TestHandler(t *testing.T) {
	secret := "hunter22"
	for _, format := range []func(io.Writer) slog.Handler{
		func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
	} {
		var out bytes.Buffer
		log := slog.New(redactor(secret).Handler(format(&out)))
		log.With("with", secret).WithGroup("g"+secret).Error("message "+secret,
			"text", secret, "error", fmt.Errorf("wrapped: %w", errors.New(secret)), "valuer", loud{secret}, "struct", plain{"me", &secret},
			"bytes", []byte(secret), "list", []string{secret}, slog.Group("group", "inner", secret), "key-"+secret, 1, "url", &url.URL{Scheme: "https", User: url.UserPassword("me", secret), Host: "h"},
			"number", 42, "time", time.Second, "harmless", plain{User: "me"})
		text := out.String()
		if strings.Contains(text, secret) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(secret))) {
			t.Errorf("log holds the secret: %s", text)
		}
		for _, kept := range []string{"message ***", "wrapped: ***", "42", "me"} {
			if !strings.Contains(text, kept) {
				t.Errorf("log lacks %q: %s", kept, text)
			}
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("hunter22", "second\nline", "say hunter22 and line", uint8(3))
	f.Add("aaaa", "aaab", "aaaaaaaab", uint8(1))
	f.Add(awkward, "\xff\x00\xfe\xfd", awkward+"\xff\x00\xfe\xfd", uint8(2))
	f.Fuzz(func(t *testing.T, a, b, text string, size uint8) {
		r := redactor(a, b)
		text += a + url.QueryEscape(b) + base64.StdEncoding.EncodeToString([]byte(a)) + b
		var out bytes.Buffer
		w := r.Writer(&out)
		for rest := text; rest != ""; {
			n := min(int(size)+1, len(rest))
			if _, err := io.WriteString(w, rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		whole := r.String(text)
		if out.String() != whole {
			t.Errorf("in pieces %q, whole %q", &out, whole)
		}
		for _, s := range []string{a, b} {
			if len(s) < MinRedacted || strings.Contains(s, "*") { // the mask itself may look like such a secret
				continue
			}
			for _, form := range []string{s, url.QueryEscape(s), base64.StdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s))} {
				if strings.Contains(whole, form) {
					t.Errorf("%q is in %q", form, whole)
				}
			}
		}
	})
}

func BenchmarkWriter(b *testing.B) {
	r := NewRedactor()
	for i := range 30 {
		r.Add(fmt.Appendf(nil, "some-secret-value-%d\nof two lines", i))
	}
	line := []byte(strings.Repeat("an ordinary line of some output ", 4) + "\n")
	w := r.Writer(io.Discard)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Write(line); err != nil {
			b.Fatal(err)
		}
	}
}
