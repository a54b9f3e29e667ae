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
	return crockford.EncodeToString(h.Sum(nil)[:16])
}

// RandomID returns an id for an event that has no key.
func RandomID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return crockford.EncodeToString(b[:])
}
