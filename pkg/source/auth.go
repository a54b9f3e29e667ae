package source

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // generic sources may name it for old senders; it is refused unless written out
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// One returns the value of a header that must be there exactly once and not be empty.
func One(h http.Header, name string) (string, error) {
	values := h.Values(name)
	switch {
	case len(values) == 0:
		return "", fmt.Errorf("%w: header %s is missing", ErrUnauthenticated, name)
	case len(values) > 1:
		return "", fmt.Errorf("%w: header %s is there %d times", ErrUnauthenticated, name, len(values))
	case values[0] == "":
		return "", fmt.Errorf("%w: header %s is empty", ErrUnauthenticated, name)
	}
	return values[0], nil
}

// HMAC is how a sender signs with a shared key.
type HMAC struct {
	New    func() hash.Hash
	Decode func(string) ([]byte, error) // of the signature's text
}

// SHA256Hex is HMAC-SHA256 as hexadecimal digits.
func SHA256Hex() HMAC { return HMAC{sha256.New, hex.DecodeString} }

// NewHMAC makes an HMAC of the names that documents use: sha256, sha512 or sha1, and hex or base64.
func NewHMAC(algorithm, encoding string) (HMAC, error) {
	algorithms := map[string]func() hash.Hash{"": sha256.New, "sha256": sha256.New, "sha512": sha512.New, "sha1": sha1.New}
	encodings := map[string]func(string) ([]byte, error){"": hex.DecodeString, "hex": hex.DecodeString, "base64": base64.StdEncoding.DecodeString}
	h := HMAC{algorithms[algorithm], encodings[encoding]}
	if h.New == nil {
		return h, fmt.Errorf("algorithm %q is none of sha256, sha512, sha1", algorithm)
	}
	if h.Decode == nil {
		return h, fmt.Errorf("encoding %q is neither hex nor base64", encoding)
	}
	return h, nil
}

// Verify checks a signature over the text against each secret, in constant time. There must be a secret.
func (h HMAC) Verify(secrets [][]byte, signature string, text []byte) error {
	given, err := h.Decode(signature)
	if err != nil {
		return fmt.Errorf("%w: the signature is not encoded as expected", ErrUnauthenticated)
	}
	if len(secrets) == 0 {
		return fmt.Errorf("%w: no secret is configured", ErrUnavailable)
	}
	ok := 0
	for _, s := range secrets {
		m := hmac.New(h.New, s)
		m.Write(text)
		ok |= subtle.ConstantTimeCompare(given, m.Sum(nil))
	}
	if ok != 1 {
		return fmt.Errorf("%w: the signature does not match", ErrUnauthenticated)
	}
	return nil
}

// Resolve returns the current values of secrets. One that does not resolve, or is empty, fails all.
func (e *Env) Resolve(refs []SecretRef) ([][]byte, error) {
	out := make([][]byte, len(refs))
	for i, ref := range refs {
		v, err := e.Secret(ref)
		if err != nil {
			return nil, fmt.Errorf("%w: a secret of source %s does not resolve: %w", ErrUnavailable, e.Name, err)
		}
		if len(v) == 0 {
			return nil, fmt.Errorf("%w: a secret of source %s is empty", ErrUnavailable, e.Name)
		}
		out[i] = v
	}
	return out, nil
}

// Check reports at load what is wrong with secret references; at least one is needed.
func (e *Env) Check(refs []SecretRef, what string) error {
	if len(refs) == 0 {
		return fmt.Errorf("%s: name at least one secret, or anyone could send", what)
	}
	var errs []error
	for _, ref := range refs {
		if e.CheckSecret != nil {
			errs = append(errs, e.CheckSecret(ref))
		}
	}
	return errors.Join(errs...)
}

// Clock returns the time by the environment's clock.
func (e *Env) Clock() time.Time {
	if e.Now == nil {
		return time.Now()
	}
	return e.Now()
}

// Auth is how a sender that signs nothing proves who it is: a bearer token or basic authentication.
type Auth struct {
	Bearer *SecretRef `yaml:"bearer,omitempty" doc:"token that the sender puts into Authorization: Bearer"`
	Basic  *Basic     `yaml:"basic,omitempty" doc:"user and password of basic authentication"`
}

// Basic is a user and the secret that holds the password.
type Basic struct {
	Username string    `yaml:"username" required:"true" doc:"user name"`
	Password SecretRef `yaml:"password" required:"true" doc:"secret that holds the password"`
}

// Check reports at load whether exactly one way is given, with secrets that may be used.
func (a *Auth) Check(env *Env) error {
	switch {
	case a == nil || a.Bearer == nil && a.Basic == nil:
		return errors.New("auth: give bearer or basic, or anyone could send")
	case a.Bearer != nil && a.Basic != nil:
		return errors.New("auth: give bearer or basic, not both")
	case a.Bearer != nil:
		return env.Check([]SecretRef{*a.Bearer}, "auth.bearer")
	case a.Basic.Username == "":
		return errors.New("auth.basic: username is empty")
	}
	return env.Check([]SecretRef{a.Basic.Password}, "auth.basic")
}

// Verify checks a request's Authorization header.
func (a *Auth) Verify(env *Env, r *Request) error {
	given, err := One(r.Header, "Authorization")
	if err != nil {
		return err
	}
	scheme, value, _ := strings.Cut(given, " ")
	want, ref := "Bearer", a.Bearer
	if a.Basic != nil {
		want, ref = "Basic", &a.Basic.Password
	}
	secrets, err := env.Resolve([]SecretRef{*ref})
	if err != nil {
		return err
	}
	if !strings.EqualFold(scheme, want) {
		return fmt.Errorf("%w: Authorization is not of the scheme %s", ErrUnauthenticated, want)
	}
	expected := secrets[0]
	if a.Basic != nil {
		decoded, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return fmt.Errorf("%w: Authorization is not base64", ErrUnauthenticated)
		}
		value, expected = string(decoded), append([]byte(a.Basic.Username+":"), expected...)
	}
	if !Equal([]byte(value), expected) {
		return fmt.Errorf("%w: the credentials are wrong", ErrUnauthenticated)
	}
	return nil
}

// Equal compares secrets in time that tells nothing, their length included.
func Equal(a, b []byte) bool {
	x, y := sha256.Sum256(a), sha256.Sum256(b)
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// Tolerance is how far a signed time may be from ours (Standard Webhooks' specification, "Verifying webhook authenticity").
const Tolerance = 5 * time.Minute

// VerifyStandard checks a request signed as Standard Webhooks specifies, and returns the signed id. Keys are whsec_ and
// base64 for HMAC-SHA256, or whpk_ and base64 for ed25519.
func VerifyStandard(env *Env, keys [][]byte, r *Request) (id string, err error) {
	id, err = One(r.Header, "Webhook-Id")
	if err != nil {
		return "", err
	}
	stamp, err := One(r.Header, "Webhook-Timestamp")
	if err != nil {
		return "", err
	}
	signatures, err := One(r.Header, "Webhook-Signature")
	if err != nil {
		return "", err
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return "", fmt.Errorf("%w: webhook-timestamp is no number", ErrUnauthenticated)
	}
	if d := env.Clock().Sub(time.Unix(seconds, 0)); d > Tolerance || d < -Tolerance {
		return "", fmt.Errorf("%w: webhook-timestamp is more than %s from the server's clock", ErrUnauthenticated, Tolerance)
	}
	signed := append([]byte(id+"."+stamp+"."), r.Body...)
	for _, k := range keys {
		ok, err := verifyStandardKey(string(k), signatures, signed)
		if err != nil {
			return "", err
		}
		if ok {
			return id, nil
		}
	}
	return "", fmt.Errorf("%w: the signature does not match", ErrUnauthenticated)
}

func verifyStandardKey(key, signatures string, signed []byte) (bool, error) {
	public, asymmetric := strings.CutPrefix(key, "whpk_")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(public, "whsec_"))
	if err != nil || len(raw) == 0 || asymmetric && len(raw) != ed25519.PublicKeySize {
		return false, fmt.Errorf("%w: a secret is not whsec_ (or whpk_) and base64", ErrUnavailable)
	}
	m := hmac.New(sha256.New, raw)
	m.Write(signed)
	sum := m.Sum(nil)
	found := false
	for s := range strings.SplitSeq(signatures, " ") {
		version, text, _ := strings.Cut(s, ",")
		given, err := base64.StdEncoding.DecodeString(text)
		switch {
		case err != nil:
		case !asymmetric && version == "v1":
			found = hmac.Equal(given, sum) || found
		case asymmetric && version == "v1a":
			found = ed25519.Verify(raw, signed, given) || found
		}
	}
	return found, nil
}

// Pick returns the headers of a request that are on a list, by canonical name.
func Pick(h http.Header, names []string) map[string]string {
	var out map[string]string
	for _, name := range names {
		if v := h.Get(name); v != "" {
			if out == nil {
				out = make(map[string]string, len(names))
			}
			out[http.CanonicalHeaderKey(name)] = v
		}
	}
	return out
}

// BodyKey is the key of an event whose sender signs the body alone: the hash of that body.
func BodyKey(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// VerifyPrefixed is HMAC.Verify for a signature whose text begins with a fixed word, such as "sha256=".
func VerifyPrefixed(h HMAC, prefix string, secrets [][]byte, signature string, text []byte) error {
	rest, ok := strings.CutPrefix(signature, prefix)
	if !ok {
		return fmt.Errorf("%w: the signature does not begin with %s", ErrUnauthenticated, prefix)
	}
	return h.Verify(secrets, rest, text)
}
