package standardwebhooks

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

const (
	key      = "d2hhdGV2ZXItdGhpcy1rZXktaXMtaGVyZQ=="
	specYAML = "secrets: [{secret: the-secret}]"
	body     = `{"type":"invoice.paid","timestamp":"2026-11-23T09:59:00Z","data":{"id":9007199254740993}}`
)

func mac(key []byte, text string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

func signAt(r *source.Request, secret string, at time.Time) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		panic(err)
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	r.Header.Set("webhook-id", "msg_1")
	r.Header.Set("webhook-timestamp", stamp)
	r.Header.Set("webhook-signature", mac(key, "msg_1."+stamp+"."+string(r.Body)))
}

func conformance() sourcetest.Case {
	return sourcetest.Case{
		Name: "hmac", Spec: specYAML, Secret: "whsec_" + key, Body: body, Proof: "Webhook-Signature", List: true, SignsBody: true, Events: 1,
		Sign: func(r *source.Request, secret string) { signAt(r, secret, sourcetest.Now()) },
	}
}

func TestConformance(t *testing.T) {
	bare := conformance()
	bare.Name, bare.Secret = "without prefix", key
	sourcetest.Run(t, Type(), []sourcetest.Case{conformance(), bare})
}

func FuzzStandardWebhooks(f *testing.F) { sourcetest.Fuzz(f, Type(), conformance(), "invoice.paid") }

func verify(t *testing.T, secret string, change func(h http.Header)) error {
	t.Helper()
	s := sourcetest.New(t, Type(), specYAML, sourcetest.Env(map[string]string{"the-secret": secret}))
	r := &source.Request{Header: http.Header{}, Body: []byte(body)}
	signAt(r, key, sourcetest.Now())
	change(r.Header)
	return s.Verify(r)
}

func TestHeaders(t *testing.T) {
	tests := []struct {
		name, header string
		values       []string
	}{
		{"no id", "Webhook-Id", nil},
		{"empty id", "Webhook-Id", []string{""}},
		{"another id", "Webhook-Id", []string{"msg_2"}},
		{"two ids", "Webhook-Id", []string{"msg_1", "msg_1"}},
		{"no time", "Webhook-Timestamp", nil},
		{"two times", "Webhook-Timestamp", []string{"1795428000", "1795428000"}},
		{"time that is none", "Webhook-Timestamp", []string{"soon"}},
		{"huge time", "Webhook-Timestamp", []string{"9223372036854775807"}},
		{"negative time", "Webhook-Timestamp", []string{"-9223372036854775808"}},
		{"another time", "Webhook-Timestamp", []string{strconv.FormatInt(sourcetest.Now().Unix()+1, 10)}},
		{"foreign version", "Webhook-Signature", []string{"v2,AAAA"}},
		{"version of public keys", "Webhook-Signature", []string{"v1a,AAAA"}},
		{"many signatures", "Webhook-Signature", []string{strings.Repeat("v1,AAAA ", 1000)}},
	}
	for _, tt := range tests {
		err := verify(t, key, func(h http.Header) { h[tt.header] = tt.values })
		if !errors.Is(err, source.ErrUnauthenticated) {
			t.Errorf("%s: got %v, want ErrUnauthenticated", tt.name, err)
		}
	}
}

func TestListOfSignatures(t *testing.T) {
	for _, list := range []string{"v1,AAAA %s", "%s v2,x", "v1a,AAAA  %s", "x %s"} {
		err := verify(t, key, func(h http.Header) {
			h.Set("Webhook-Signature", strings.ReplaceAll(list, "%s", h.Get("Webhook-Signature")))
		})
		if err != nil {
			t.Errorf("%s: %v", list, err)
		}
	}
}

func TestTolerance(t *testing.T) {
	s := sourcetest.New(t, Type(), specYAML, sourcetest.Env(map[string]string{"the-secret": key}))
	for offset, want := range map[time.Duration]error{
		0: nil, 5 * time.Minute: nil, -5 * time.Minute: nil,
		5*time.Minute + time.Second: source.ErrUnauthenticated, -5*time.Minute - time.Second: source.ErrUnauthenticated,
	} {
		r := &source.Request{Header: http.Header{}, Body: []byte(body)}
		signAt(r, key, sourcetest.Now().Add(offset))
		if err := s.Verify(r); !errors.Is(err, want) {
			t.Errorf("%v off: got %v, want %v", offset, err, want)
		}
	}
}

func TestPublicKey(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	secret := "whpk_" + base64.StdEncoding.EncodeToString(public)
	stamp := strconv.FormatInt(sourcetest.Now().Unix(), 10)
	text := "msg_1." + stamp + "." + body
	signature := base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte(text)))
	tests := []struct {
		name, signature string
		want            error
	}{
		{"right", "v1a," + signature, nil},
		{"in a list", "v1,AAAA v1a," + signature, nil},
		{"short", "v1a,AAAA", source.ErrUnauthenticated},
		{"of another version", "v1," + signature, source.ErrUnauthenticated},
		// The public key is no secret: who knows it must not be able to sign with it.
		{"HMAC with the public key", mac(public, text), source.ErrUnauthenticated},
	}
	for _, tt := range tests {
		if err := verify(t, secret, func(h http.Header) { h.Set("Webhook-Signature", tt.signature) }); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestSecretsThatAreNoKeys(t *testing.T) {
	for _, secret := range []string{"whsec_!!", "plain words", "whpk_AAAA", "whpk_" + strings.Repeat("*", 44), "whsk_" + key} {
		err := verify(t, secret, func(http.Header) {})
		if !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "base64") || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v, want ErrUnavailable that says why", secret, err)
		}
	}
}

func TestSplitAndNormalise(t *testing.T) {
	s := sourcetest.New(t, Type(), specYAML, sourcetest.Env(map[string]string{"the-secret": key}))
	h := http.Header{"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {"1795428000"}, "Webhook-Signature": {"v1,x"}}
	got, err := s.Split(&source.Request{Header: h, Body: []byte(body)})
	want := []source.Delivery{{
		Key: "msg_1", Type: "invoice.paid", DeliveryID: "msg_1", Body: []byte(body), Headers: map[string]string{"Webhook-Id": "msg_1", "Webhook-Timestamp": "1795428000"},
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v, %v\nwant %+v", got, err, want)
	}
	e := sourcetest.Event(got[0])
	s.Normalise(e)
	if !e.Time.Equal(time.Date(2026, 11, 23, 9, 59, 0, 0, time.UTC)) {
		t.Errorf("time is %v", e.Time)
	}
	for _, odd := range []string{`[]`, `{"type":7}`, `null`} {
		got, err := s.Split(&source.Request{Header: h, Body: []byte(odd)})
		if err != nil || got[0].Type != "unknown" {
			t.Errorf("%s: %+v, %v", odd, got, err)
		}
		e := &event.Event{Body: []byte(odd), Time: sourcetest.Now()}
		if s.Normalise(e); !e.Time.Equal(sourcetest.Now()) {
			t.Errorf("%s changes the time", odd)
		}
	}
}
