package source

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // only where a document names it, for old senders
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// HMAC is how a sender signs with a shared key.
type HMAC struct {
	New    func() hash.Hash
	Decode func(string) ([]byte, error) // of the signature's text
	Prefix string                       // what stands before the signature: "sha256="
}

// SHA256Hex is HMAC-SHA256 as hexadecimal digits behind a prefix.
func SHA256Hex(prefix string) HMAC { return HMAC{sha256.New, hex.DecodeString, prefix} }

// NewHMAC makes an HMAC of the names that documents use: sha256 (also where it is empty), sha512 or sha1, and hex (also
// where it is empty) or base64.
func NewHMAC(algorithm, encoding, prefix string) (HMAC, error) {
	h := HMAC{Prefix: prefix}
	switch algorithm {
	case "", "sha256":
		h.New = sha256.New
	case "sha512":
		h.New = sha512.New
	case "sha1":
		h.New = sha1.New
	default:
		return h, fmt.Errorf("algorithm: %q is none of sha256, sha512, sha1", algorithm)
	}
	switch encoding {
	case "", "hex":
		h.Decode = hex.DecodeString
	case "base64":
		h.Decode = base64.StdEncoding.Strict().DecodeString
	default:
		return h, fmt.Errorf("encoding: %q is neither hex nor base64", encoding)
	}
	return h, nil
}

// Verify checks a signature over text against each of the secrets, in constant time.
func (h HMAC) Verify(env *Env, refs []SecretRef, signature string, text []byte) error {
	encoded, ok := strings.CutPrefix(signature, h.Prefix)
	if !ok {
		return fmt.Errorf("%w: the signature does not begin with %s", ErrUnauthenticated, h.Prefix)
	}
	given, err := h.Decode(encoded)
	if err != nil {
		return fmt.Errorf("%w: the signature is not encoded as expected", ErrUnauthenticated)
	}
	if len(given) != h.New().Size() {
		return fmt.Errorf("%w: the signature has %d bytes, not %d", ErrUnauthenticated, len(given), h.New().Size())
	}
	return env.Any(refs, "the signature", func(secret []byte) (bool, error) {
		m := hmac.New(h.New, secret)
		m.Write(text)
		return hmac.Equal(given, m.Sum(nil)), nil
	})
}

// BodyKey is the key of an event whose sender signs the body alone: the hash of what was signed.
func BodyKey(signed []byte) string {
	sum := sha256.Sum256(signed)
	return hex.EncodeToString(sum[:])
}
