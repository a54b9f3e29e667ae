package correlate

import (
	"encoding/binary"
	"hash/crc32"
)

// Reseal gives every frame its right checksum, so that a fuzzer reaches what lies behind it.
func Reseal(data []byte) []byte {
	out := []byte{}
	table, sum, last := crc32.MakeTable(crc32.Castagnoli), uint32(0), uint32(0)
	n := len(magic) + 2
	for section := true; len(data) >= n; {
		if section {
			out, data, section, sum = append(out, data[:n]...), data[n:], false, 0
		}
		size, w := binary.Uvarint(data)
		if w <= 0 || size > uint64(len(data)) || uint64(len(data)) < uint64(w)+4+size {
			break
		}
		payload := append([]byte{}, data[w+4:uint64(w)+4+size]...)
		if sum == 0 && len(payload) >= 4 && last != 0 {
			binary.LittleEndian.PutUint32(payload, last) // the head names the section before it
		}
		sum = crc32.Update(sum, table, payload)
		out = binary.AppendUvarint(out, size)
		out = append(binary.LittleEndian.AppendUint32(out, sum), payload...)
		data = data[uint64(w)+4+size:]
		if size == 0 {
			section, last = true, sum
		}
	}
	return append(out, data...)
}
