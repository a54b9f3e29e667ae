package eventlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"testing"
	"time"
)

func FuzzOpenSegment(f *testing.F) {
	f.Add(sealSegment(nil, []*pending{{data: []byte{2, 1, '{', '}', 'x'}}}))
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		raws, err := openSegment(data)
		if err != nil && raws != nil {
			t.Fatal("records and an error")
		}
		for _, r := range raws {
			_, _, _ = r.open()
		}
	})
}

func TestADamagedSegmentIsFound(t *testing.T) {
	good := sealSegment(nil, []*pending{{data: []byte{2, 1, '{', '}', 'x'}}})
	if raws, err := openSegment(good); err != nil || len(raws) != 1 || string(raws[0].body) != "x" {
		t.Fatalf("%v %v", raws, err)
	}
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 1
		if _, err := openSegment(bad); !errors.Is(err, errDamaged) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	newer := append([]byte(nil), good...)
	newer[0]++
	end := len(newer) - crc32.Size
	binary.LittleEndian.PutUint32(newer[end:], crc32.Checksum(newer[:end], castagnoli()))
	if _, err := openSegment(newer); err == nil || errors.Is(err, errDamaged) {
		t.Errorf("a newer version gives %v", err)
	}
}

func TestStoredIDsRoundTrip(t *testing.T) {
	list := []savedID{{keyOf("a"), 70000, time.Unix(5, 0)}, {keyOf("b"), 70001, time.Unix(6, 0)}}
	covered, got, err := decodeIDs(encodeIDs(9, list))
	if err != nil || covered != 9 || !reflect.DeepEqual(got, list) {
		t.Fatalf("%d %v %v", covered, got, err)
	}
	for _, bad := range [][]byte{nil, {1}, encodeIDs(9, list)[:30], append([]byte{9}, encodeIDs(9, nil)[1:]...)} {
		if _, _, err := decodeIDs(bad); err == nil {
			t.Errorf("%v is read", bad)
		}
	}
}

func TestTheIndexForgetsTheOldest(t *testing.T) {
	s := newIDs(time.Hour, 80)
	for i := range 200 {
		s.add(time.Unix(int64(i), 0).String(), unpack(uint64(i)), time.Unix(int64(i), 0))
	}
	if _, ok := s.find(time.Unix(0, 0).String()); ok {
		t.Error("the first of 200 ids is known, with room for 80")
	}
	if _, ok := s.find(time.Unix(150, 0).String()); !ok {
		t.Error("a recent id is forgotten")
	}
}

func FuzzDecodeIDs(f *testing.F) {
	f.Add(encodeIDs(9, []savedID{{keyOf("a"), 70000, time.Unix(5, 0)}}))
	f.Add([]byte{idVersion})
	f.Fuzz(func(t *testing.T, data []byte) {
		covered, list, err := decodeIDs(data)
		if err != nil || data[0] != idVersion {
			return
		}
		if !bytes.Equal(encodeIDs(covered, list), data) {
			t.Fatalf("%d, %v is written as something else than it was read from", covered, list)
		}
	})
}
