package event

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
)

// IDLen is the length of an event's id in characters: 128 bits in Crockford's base 32.
const IDLen = 26

var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// ID derives an event's id from its source and the key that makes two deliveries one event. Equal arguments give equal
// ids, in every version. It never fails; an empty key is as good as any other, so callers use RandomID where there is none.
func ID(source, key string) string {
	h := sha256.New()
	h.Write([]byte(source))
	h.Write([]byte{0})
	h.Write([]byte(key))
	return FormatID([16]byte(h.Sum(nil)))
}

// RandomID returns an id for an event that has no key.
func RandomID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return FormatID(b)
}

// FormatID writes the 128 bits of an id.
func FormatID(bits [16]byte) string { return crockford.EncodeToString(bits[:]) }

// ParseID reads the bits of an id, and reports whether the text is one.
func ParseID(id string) (bits [16]byte, ok bool) {
	if len(id) != IDLen {
		return bits, false
	}
	b, err := crockford.DecodeString(id)
	if err != nil {
		return bits, false
	}
	return [16]byte(b), true
}
