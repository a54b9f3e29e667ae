package gate

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// MaxRemembered is the bound on refused runs that are remembered.
const MaxRemembered = maxRemembered

// Payloads returns what is in the frames of a stored state: the head, and all records.
func Payloads(state []byte) (head, records []byte) {
	state = state[len(magic)+1:]
	for first := true; ; first = false {
		size, w := binary.Uvarint(state)
		payload := state[w+4 : uint64(w)+4+size]
		state = state[uint64(w)+4+size:]
		switch {
		case size == 0:
			return head, records
		case first:
			head = payload
		default:
			records = append(records, payload...)
		}
	}
}

// Seal makes a stored state of them, so that a fuzzer reaches what lies behind the checksums.
func Seal(head, records []byte) []byte {
	var out bytes.Buffer
	s := &sealer{w: &out, table: crc32.MakeTable(crc32.Castagnoli)}
	s.write(append([]byte(magic), formatVersion))
	for _, payload := range [][]byte{head, records, nil} {
		s.buf = append(s.buf, payload...)
		s.flush()
	}
	return out.Bytes()
}
