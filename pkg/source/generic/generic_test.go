package generic

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

const (
	secret = "doorbell-secret-value"
	body   = `{"kind":"ring","id":9007199254740993}`
)

func signer(header, prefix string, h func() hash.Hash, encode func([]byte) string) func(*source.Request, string) {
	return func(r *source.Request, secret string) {
		m := hmac.New(h, []byte(secret))
		m.Write(r.Body)
		r.Header.Set(header, prefix+encode(m.Sum(nil)))
	}
}

// compile stands in for the expression language: a path of names.
func compile(path string) (func(*event.Event) (any, error), error) {
	names := strings.Split(path, ".")
	if names[0] != "event" {
		return nil, fmt.Errorf("%s is not known", names[0])
	}
	return func(e *event.Event) (any, error) {
		var v any = e
		for _, name := range names[1:] {
			ok := false
			switch o := v.(type) {
			case map[string]any:
				v, ok = o[name]
			case interface{ Field(string) (any, bool) }:
				v, ok = o.Field(name)
			}
			if !ok {
				return nil, errors.New("absent")
			}
		}
		return v, nil
	}, nil
}

func hmacCase(name, signature string, sign func(*source.Request, string)) sourcetest.Case {
	return sourcetest.Case{
		Name: name, Secret: secret, Body: body, Sign: sign, Proof: "X-Signature", SignsBody: true, Events: 1, Compile: compile,
		Header: http.Header{"X-Request-Id": {"r-1"}, "Cookie": {"c"}},
		Spec:   "{secrets: [{secret: the-secret}], signature: " + signature + ", key: {header: X-Request-Id}, eventType: event.data.kind, headers: [x-request-id]}",
	}
}

func hexCase() sourcetest.Case {
	return hmacCase("hex", `{header: X-Signature, algorithm: sha256, encoding: hex, prefix: "sha256="}`, signer("X-Signature", "sha256=", sha256.New, hex.EncodeToString))
}

func authCase(name, spec string, sign func(*source.Request, string)) sourcetest.Case {
	return sourcetest.Case{Name: name, Secret: secret, Body: body, Spec: spec, Sign: sign, Proof: "Authorization", Events: 1}
}

func TestConformance(t *testing.T) {
	sourcetest.Run(t, Type(), []sourcetest.Case{
		hexCase(),
		hmacCase("defaults", `{header: x-signature}`, signer("X-Signature", "", sha256.New, hex.EncodeToString)),
		hmacCase("sha512 in base64", `{header: X-Signature, algorithm: sha512, encoding: base64}`, signer("X-Signature", "", sha512.New, base64.StdEncoding.EncodeToString)),
		hmacCase("sha1, because it is written", `{header: X-Signature, algorithm: sha1}`, signer("X-Signature", "", sha1.New, hex.EncodeToString)),
		authCase("bearer", "auth: {bearer: {secret: the-secret}}", func(r *source.Request, s string) { r.Header.Set("Authorization", "bearer "+s) }),
		authCase("basic", "auth: {basic: {username: u, password: {secret: the-secret}}}", func(r *source.Request, s string) {
			r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("u:"+s)))
		}),
	})
}

func FuzzSignature(f *testing.F) { sourcetest.Fuzz(f, Type(), hexCase(), "event") }

func FuzzBasic(f *testing.F) {
	sourcetest.Fuzz(f, Type(), authCase("basic", "auth: {basic: {username: u, password: {secret: the-secret}}}", func(r *source.Request, s string) {
		r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("u:"+s)))
	}))
}

func build1(spec string) (source.Source, error) {
	env := sourcetest.Env(map[string]string{"the-secret": secret})
	env.Compile = compile
	return Type().New(sourcetest.Decode(spec), env)
}

func TestSpec(t *testing.T) {
	const signed = "secrets: [{secret: the-secret}], signature: {header: X-S}"
	tests := []struct{ spec, want string }{
		{"{insecure: true}", ""},
		{"{" + signed + ", auth: {bearer: {secret: the-secret}}}", ""},
		{"{insecure: false}", "insecure: true"},
		{"{insecure: true, " + signed + "}", "insecure"},
		{"{insecure: true, auth: {bearer: {secret: the-secret}}}", "insecure"},
		{"{secrets: [{secret: the-secret}], insecure: true}", "secrets"},
		{"{signature: {header: X-S}}", "secrets"},
		{"{secrets: [], signature: {header: X-S}}", "secrets"},
		{"{secrets: [{secret: the-secret}], signature: {header: ''}}", "signature.header"},
		{"{secrets: [{secret: the-secret}], signature: {header: 'a b'}}", "signature.header"},
		{"{secrets: [{secret: the-secret}], signature: {header: X-S, algorithm: md5}}", "signature.algorithm"},
		{"{secrets: [{secret: the-secret}], signature: {header: X-S, encoding: base32}}", "signature.encoding"},
		{"{" + signed + ", headers: [x-s]}", "proves identity"},
		{"{" + signed + ", headers: [authorization]}", "proves identity"},
		{"{" + signed + ", headers: [Cookie]}", "proves identity"},
		{"{" + signed + ", headers: ['a:']}", "headers"},
		{"{" + signed + ", key: {header: Authorization}}", "proves identity"},
		{"{" + signed + ", key: {}}", "key"},
		{"{" + signed + ", key: {header: X, expression: event.data.id}}", "key"},
		{"{" + signed + ", key: {expression: evnt.data.id}}", "key.expression"},
		{"{" + signed + ", eventType: evnt.data.kind}", "eventType"},
		{"{auth: {}}", "auth"},
	}
	for _, tt := range tests {
		_, err := build1(tt.spec)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.spec, err, tt.want)
		}
	}
}

func TestBothProofsAreNeeded(t *testing.T) {
	s, err := build1("{secrets: [{secret: the-secret}], signature: {header: X-Signature}, auth: {bearer: {secret: the-secret}}}")
	if err != nil {
		t.Fatal(err)
	}
	sign := signer("X-Signature", "", sha256.New, hex.EncodeToString)
	for _, have := range []struct{ signature, token bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		r := &source.Request{Header: http.Header{}, Body: []byte(body)}
		if have.signature {
			sign(r, secret)
		}
		if have.token {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		if err := s.Verify(r); (err == nil) != (have.signature && have.token) {
			t.Errorf("%+v: %v", have, err)
		}
	}
}

func TestSplit(t *testing.T) {
	tests := []struct {
		name, spec, body string
		header           http.Header
		want             source.Delivery
	}{
		{"nothing said", "insecure: true", body, http.Header{"X-Request-Id": {"r"}}, source.Delivery{Type: "event"}},
		{"all said", "{insecure: true, key: {header: x-request-id}, eventType: event.data.kind, headers: [x-a, X-B]}", body,
			http.Header{"X-Request-Id": {"r"}, "X-A": {"1"}, "X-C": {"3"}},
			source.Delivery{Type: "ring", Key: "r", DeliveryID: "r", Headers: map[string]string{"X-A": "1"}}},
		{"key is not there", "{insecure: true, key: {header: X-Request-Id}}", body, http.Header{}, source.Delivery{Type: "event"}},
		{"key twice", "{insecure: true, key: {header: X-Request-Id}}", body, http.Header{"X-Request-Id": {"a", "b"}}, source.Delivery{Type: "event"}},
		{"key is an expression", "{insecure: true, key: {expression: event.data.id}}", body, nil, source.Delivery{Type: "event", Key: "9007199254740993"}},
		{"key is absent", "{insecure: true, key: {expression: event.data.other}}", body, nil, source.Delivery{Type: "event"}},
		{"key is no text", "{insecure: true, key: {expression: event.data}}", body, nil, source.Delivery{Type: "event"}},
		{"type from a header", "{insecure: true, eventType: event.headers.X-Kind, headers: [X-Kind]}", `[]`, http.Header{"X-Kind": {"k"}},
			source.Delivery{Type: "k", Headers: map[string]string{"X-Kind": "k"}}},
		{"type is absent", "{insecure: true, eventType: event.data.other}", body, nil, source.Delivery{Type: "event"}},
		{"type is no text", "{insecure: true, eventType: event.data.id}", body, nil, source.Delivery{Type: "event"}},
		{"type is empty", "{insecure: true, eventType: event.data.kind}", `{"kind":""}`, nil, source.Delivery{Type: "event"}},
		{"array", "insecure: true", `[1]`, nil, source.Delivery{Type: "event"}},
		{"null", "insecure: true", `null`, nil, source.Delivery{Type: "event"}},
		{"number", "insecure: true", ` 1 `, nil, source.Delivery{Type: "event"}},
		{"no body", "{insecure: true, eventType: event.data.kind}", ``, nil, source.Delivery{Type: "event"}},
		{"blank body", "insecure: true", " \r\n", nil, source.Delivery{Type: "event"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := build1(tt.spec)
			if err != nil {
				t.Fatal(err)
			}
			if tt.header == nil {
				tt.header = http.Header{}
			}
			r := &source.Request{Header: tt.header, Body: []byte(tt.body)}
			if err := s.Verify(r); err != nil {
				t.Fatal(err)
			}
			if strings.TrimSpace(tt.body) != "" {
				tt.want.Body = []byte(tt.body)
			}
			got, err := s.Split(r)
			if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], tt.want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}
