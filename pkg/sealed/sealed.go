// Package sealed reads stored states that come in checked frames. It is pure, and what it reads is not trusted: whatever
// the bytes, a Reader allocates no more than MaxFrame and never panics, and what no writer wrote is told as damage.
//
//	frame = uvarint(length) crc32c payload      the checksum goes on from that of the frame before
//
// A frame of length 0 ends the frames. Values in a payload are varints (encoding/binary), and texts after their length. A
// value that can't be read sets Bad and comes out as zero, so that the reader of a record asks once, at its end.
package sealed

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// MaxFrame is the longest payload that is read.
const MaxFrame = 2 << 20

// Reader reads frames, and the values in them. It belongs to one goroutine.
type Reader struct {
	in      *bufio.Reader
	damaged error
	frame   []byte
	rest    []byte // of the frame
	sum     uint32
	table   *crc32.Table
	size    int64
	bad     bool
}

// NewReader returns a reader whose errors about damage wrap one of the caller's; others are those of in.
func NewReader(in *bufio.Reader, damaged error) *Reader {
	return &Reader{in: in, damaged: damaged, table: crc32.MakeTable(crc32.Castagnoli)}
}

// Damaged is the error for a state that can't be right, and why.
func (r *Reader) Damaged(why string) error { return fmt.Errorf("%w: %s", r.damaged, why) }

// Plain fills p with what stands outside of frames. The error is io.EOF where nothing follows at all.
func (r *Reader) Plain(p []byte) error {
	n, err := io.ReadFull(r.in, p)
	r.size += int64(n)
	if n > 0 {
		return r.cutOff(err)
	}
	return err
}

// Frame reads the next frame and checks it; false at the end of the frames.
func (r *Reader) Frame() (more bool, err error) {
	size, err := binary.ReadUvarint(r.in)
	if err != nil {
		return false, r.cutOff(err)
	}
	if size > MaxFrame {
		return false, r.Damaged("a frame is too long")
	}
	var sum [4]byte
	if _, err := io.ReadFull(r.in, sum[:]); err != nil {
		return false, r.cutOff(err)
	}
	r.frame = slices.Grow(r.frame[:0], int(size))[:size]
	if _, err := io.ReadFull(r.in, r.frame); err != nil {
		return false, r.cutOff(err)
	}
	r.size += int64(len(binary.AppendUvarint(nil, size))) + int64(len(sum)) + int64(size)
	r.sum = crc32.Update(r.sum, r.table, r.frame)
	if r.sum != binary.LittleEndian.Uint32(sum[:]) {
		return false, r.Damaged("a checksum differs")
	}
	r.rest = r.frame
	return size > 0, nil
}

// End makes sure that nothing follows.
func (r *Reader) End() error {
	_, err := r.in.ReadByte()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return r.Damaged("something follows its end")
}

func (r *Reader) cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return r.Damaged("it is cut off")
	}
	return err
}

// Size is how many bytes were read.
func (r *Reader) Size() int64 { return r.size }

// Sum is the checksum of all frames so far.
func (r *Reader) Sum() uint32 { return r.sum }

// Left is how many bytes of the frame were not read yet.
func (r *Reader) Left() int { return len(r.rest) }

// Bad reports whether a value could not be read, or must not be what it is.
func (r *Reader) Bad() bool { return r.bad }

// Must sets Bad where something that has to hold does not.
func (r *Reader) Must(ok bool) { r.bad = r.bad || !ok }

// Take returns the next n bytes, which are good until the next frame.
func (r *Reader) Take(n int) []byte {
	if n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// Byte reads a byte.
func (r *Reader) Byte() byte {
	if b := r.Take(1); b != nil {
		return b[0]
	}
	return 0
}

// Bool reads a byte that is 0 or 1.
func (r *Reader) Bool() bool {
	b := r.Byte()
	r.Must(b <= 1)
	return b == 1
}

// Fixed reads four bytes, the lowest first.
func (r *Reader) Fixed() uint32 {
	if b := r.Take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// Uint reads a varint.
func (r *Reader) Uint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// Int reads a signed varint.
func (r *Reader) Int() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// Count reads how many of something follow: at most the limit, and not more than the frame has bytes.
func (r *Reader) Count(limit int) int {
	n := r.Uint()
	if n > uint64(limit) || n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return 0
	}
	return int(n)
}

// Bytes reads up to limit bytes after their number; they are good until the next frame.
func (r *Reader) Bytes(limit int) []byte { return r.Take(r.Count(limit)) }

// Text reads a text of up to limit bytes after its length.
func (r *Reader) Text(limit int) string { return string(r.Bytes(limit)) }
