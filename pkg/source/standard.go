package source

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Facts of Standard Webhooks, from standard-webhooks/standard-webhooks spec/standard-webhooks.md: what is signed is
// {id}.{timestamp}.{body}; the signature header is a list of version,base64 with spaces between, v1 for HMAC-SHA256 and
// v1a for ed25519. GitLab signs the same way.
const (
	// StandardID is the header that names the message; it is signed.
	StandardID = "Webhook-Id"
	// StandardTimestamp is the header with the time of sending, in seconds since 1970; it is signed.
	StandardTimestamp = "Webhook-Timestamp"
	// StandardSignature is the header with the signatures.
	StandardSignature = "Webhook-Signature"

	// Tolerance is how far a signed time may be from ours, either way.
	Tolerance = 5 * time.Minute

	secretPrefix = "whsec_" // before the base64 of a shared key; may be left out
	publicPrefix = "whpk_"  // before the base64 of an ed25519 public key
	maxSigned    = 64       // signatures that are looked at; a sender that rotates keys sends two
)

// VerifyStandard checks a request signed as Standard Webhooks specifies. Keys are whsec_ and base64, or whpk_ and base64
// for ed25519. An id with a full stop in it is no danger, other than the specification fears: the body is JSON, so that no
// other reading of what was signed has a time and a body that pass.
func VerifyStandard(env *Env, refs []SecretRef, r *Request) error {
	id, err := One(r.Header, StandardID)
	if err != nil {
		return err
	}
	stamp, err := One(r.Header, StandardTimestamp)
	if err != nil {
		return err
	}
	list, err := One(r.Header, StandardSignature)
	if err != nil {
		return err
	}
	if err := checkTime(env, stamp); err != nil {
		return err
	}
	m := message{head: id + "." + stamp + ".", body: r.Body, signatures: strings.SplitN(list, " ", maxSigned+1)}
	if len(m.signatures) > maxSigned {
		return fmt.Errorf("%w: header %s holds more than %d signatures", ErrUnauthenticated, StandardSignature, maxSigned)
	}
	return env.Any(refs, "the signature", m.matches)
}

func checkTime(env *Env, stamp string) error {
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: header %s is no number of seconds", ErrUnauthenticated, StandardTimestamp)
	}
	now := env.clock().Unix()
	if most := int64(Tolerance / time.Second); seconds < now-most || seconds > now+most {
		return fmt.Errorf("%w: header %s is more than %s from the server's clock", ErrUnauthenticated, StandardTimestamp, Tolerance)
	}
	return nil
}

// message is what was signed, and how.
type message struct {
	head       string
	body       []byte
	signatures []string
}

func (m *message) matches(secret []byte) (bool, error) {
	if public, ok := strings.CutPrefix(string(secret), publicPrefix); ok {
		key, err := base64.StdEncoding.DecodeString(public)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return false, errors.New("a secret that begins with whpk_ is not followed by the base64 of an ed25519 public key")
		}
		text := append([]byte(m.head), m.body...)
		return m.any("v1a", func(given []byte) bool { return ed25519.Verify(key, text, given) }), nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(secret), secretPrefix))
	if err != nil || len(key) == 0 {
		return false, errors.New("a secret is not whsec_ (or whpk_) and base64, which Standard Webhooks needs")
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(m.head))
	mac.Write(m.body)
	sum := mac.Sum(nil)
	return m.any("v1", func(given []byte) bool { return hmac.Equal(given, sum) }), nil
}

// any says whether one of the signatures of a version is right. Other versions are not for us.
func (m *message) any(version string, right func(given []byte) bool) bool {
	found := false
	for _, s := range m.signatures {
		v, text, _ := strings.Cut(s, ",")
		if v != version {
			continue
		}
		if given, err := base64.StdEncoding.Strict().DecodeString(text); err == nil {
			found = right(given) || found
		}
	}
	return found
}
