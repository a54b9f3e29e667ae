package correlate

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/riposte-dev/riposte/pkg/event"
)

// crockford is the alphabet of pkg/event's ids.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// Forms of a ref's id: a packed event id, or a short text of form-formText bytes. Zero is no ref at all.
const (
	formPacked = 1
	formText   = 2
	idBytes    = 16
	maxText    = idBytes - 1
)

// ref is a Ref without pointers in 40 bytes, since there may be millions.
type ref struct {
	id    [idBytes]byte
	seq   uint64
	at    int64
	index uint32
	part  uint8
	form  uint8
}

func newRef(x *Match, at int64) ref {
	r := ref{seq: x.Pos.Seq, index: uint32(x.Pos.Index), part: uint8(x.Part), at: at}
	r.id, r.form = packID(x.ID)
	return r
}

func packID(id string) (packed [idBytes]byte, form uint8) {
	if len(id) == event.IDLen {
		n, err := crockford.Decode(packed[:], []byte(id))
		if err == nil && n == idBytes && crockford.EncodeToString(packed[:]) == id {
			return packed, formPacked
		}
	}
	packed = [idBytes]byte{}
	n := copy(packed[:maxText], id)
	return packed, uint8(formText + n)
}

func (r *ref) text() string {
	if r.form == formPacked {
		return crockford.EncodeToString(r.id[:])
	}
	return string(r.id[:r.form-formText])
}

func (r *ref) none() bool { return r.form == 0 }

func (r *ref) pos() event.Pos { return event.Pos{Seq: r.seq, Index: int(r.index)} }

func (r *ref) public(s *Spec) Ref {
	return Ref{Part: s.partName(r.part), ID: r.text(), Pos: r.pos(), At: timeOf(r.at)}
}

// alive reports whether a window that the event opened is still open at now.
func (r *ref) alive(within, now int64) bool { return !r.none() && now < later(r.at, within) }

// unended returns the refs whose windows are open at now; they are in order of time.
func unended(refs []ref, within, now int64) []ref {
	n := 0
	for n < len(refs) && !refs[n].alive(within, now) {
		n++
	}
	return refs[n:]
}

// later adds without running over the end of time, which a clock that was set wrong can reach.
func later(at, d int64) int64 {
	if at > math.MaxInt64-d {
		return math.MaxInt64
	}
	return at + d
}

func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func timeOf(n int64) time.Time { return time.Unix(0, n).UTC() }

const (
	maxKey    = 1024
	keyPrefix = 256
)

// bounded returns texts of up to 1 KiB as they are. A longer one becomes its beginning, for people, and its hash.
func bounded(key string) string {
	if len(key) <= maxKey {
		return key
	}
	n := keyPrefix
	for n > keyPrefix-utf8.UTFMax && !utf8.RuneStart(key[n]) {
		n--
	}
	sum := sha256.Sum256([]byte(key))
	return strings.Clone(key[:n]) + "…sha256:" + hex.EncodeToString(sum[:])
}
