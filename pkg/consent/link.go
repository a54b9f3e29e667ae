package consent

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Link is what a signed link stands for: one person's word on what one attempt at a run waits for. With a digest it is for
// that alone; without one, since it was made before the run waited, for what the person is shown.
type Link struct {
	Run     string `json:"r"`
	Attempt int    `json:"a"`
	Who     string `json:"w"`
	Digest  string `json:"d,omitempty"`
}

// ErrLink says that a link is none of ours, or damaged. It says no more to whoever tries.
var ErrLink = errors.New("this link is not valid: it may have been cut off when it was copied")

const (
	// tokenPrefix is how texts are searched for tokens; nothing else begins so.
	tokenPrefix = "rpl_"
	// maxToken bounds a token in bytes; names of rules and people keep within a quarter of it.
	maxToken = 1 << 10
	// minKey is the least length of a key in bytes.
	minKey = 32
	// purpose keeps what is signed here from being valid elsewhere.
	purpose = "riposte approval link, version 1\n"
)

// Signer makes and verifies the tokens of links. The same link has always the same token.
type Signer struct{ key []byte }

// NewSigner returns a Signer with a key of at least 32 bytes.
func NewSigner(key []byte) (*Signer, error) {
	if len(key) < minKey {
		return nil, fmt.Errorf("the key of links has %d bytes, and needs %d", len(key), minKey)
	}
	return &Signer{key}, nil
}

// Token returns the token of a link, which is all that it takes to use it.
func (s *Signer) Token(l Link) string {
	payload, _ := json.Marshal(l) // strings and a number
	enc := base64.RawURLEncoding
	return tokenPrefix + enc.EncodeToString(payload) + "." + enc.EncodeToString(s.sum(payload))
}

func (s *Signer) sum(payload []byte) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte(purpose))
	m.Write(payload)
	return m.Sum(nil)
}

// Link returns what a token stands for. Nothing of it is read before its signature is verified. The error is ErrLink.
func (s *Signer) Link(token string) (Link, error) {
	text, ours := strings.CutPrefix(token, tokenPrefix)
	left, right, two := strings.Cut(text, ".")
	if !ours || !two || len(token) > maxToken {
		return Link{}, ErrLink
	}
	enc := base64.RawURLEncoding.Strict()
	payload, err := enc.DecodeString(left)
	sum, sumErr := enc.DecodeString(right)
	if err != nil || sumErr != nil || !hmac.Equal(sum, s.sum(payload)) {
		return Link{}, ErrLink
	}
	var l Link
	if err := json.Unmarshal(payload, &l); err != nil || l.Run == "" || l.Who == "" || s.Token(l) != token { // one form only
		return Link{}, ErrLink
	}
	return l, nil
}

// Redact takes tokens of links out of a text that is stored or shown.
func Redact(text string) string {
	at := strings.Index(text, tokenPrefix)
	if at < 0 {
		return text
	}
	var b strings.Builder
	for ; at >= 0; at = strings.Index(text, tokenPrefix) {
		b.WriteString(text[:at])
		b.WriteString("***")
		text = text[at+len(tokenPrefix):]
		text = strings.TrimLeft(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
	}
	b.WriteString(text)
	return b.String()
}
