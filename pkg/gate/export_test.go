package gate

import (
	"encoding/binary"
	"hash/crc32"
)

// MaxRemembered is the bound on refused runs that are remembered.
const MaxRemembered = maxRemembered

// Reseal gives every frame its right checksum, so that a fuzzer reaches what lies behind it.
func Reseal(data []byte) []byte {
	n := min(len(data), len(magic)+1)
	out, data := append([]byte{}, data[:n]...), data[n:]
	table, sum := crc32.MakeTable(crc32.Castagnoli), uint32(0)
	for {
		size, w := binary.Uvarint(data)
		if w <= 0 || size > uint64(len(data)) || uint64(len(data)) < uint64(w)+4+size {
			return append(out, data...)
		}
		payload := data[w+4 : uint64(w)+4+size]
		sum = crc32.Update(sum, table, payload)
		out = binary.AppendUvarint(out, size)
		out = append(binary.LittleEndian.AppendUint32(out, sum), payload...)
		data = data[uint64(w)+4+size:]
	}
}
