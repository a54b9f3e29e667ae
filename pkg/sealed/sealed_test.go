package sealed_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/riposte-dev/riposte/pkg/sealed"
)

var errDamaged = errors.New("it is damaged")

// seal writes payloads as frames, the last of them empty.
func seal(payloads ...[]byte) []byte {
	var out []byte
	sum, table := uint32(0), crc32.MakeTable(crc32.Castagnoli)
	for _, p := range append(payloads, nil) {
		sum = crc32.Update(sum, table, p)
		out = binary.AppendUvarint(out, uint64(len(p)))
		out = append(binary.LittleEndian.AppendUint32(out, sum), p...)
	}
	return out
}

func reader(data []byte) *sealed.Reader {
	return sealed.NewReader(bufio.NewReader(bytes.NewReader(data)), errDamaged)
}

func values() []byte {
	b := binary.AppendUvarint(nil, math.MaxUint64)
	b = binary.AppendVarint(b, math.MinInt64)
	b = append(binary.AppendUvarint(b, 4), "text"...)
	b = append(b, 1, 7, 0x78, 0x56, 0x34, 0x12)
	return b
}

func TestValuesAreReadAsTheyWereWritten(t *testing.T) {
	data := append([]byte("head"), seal(values(), []byte("more"))...)
	r := reader(data)
	head := make([]byte, 4)
	if err := r.Plain(head); err != nil || string(head) != "head" {
		t.Fatalf("%q, %v", head, err)
	}
	if more, err := r.Frame(); !more || err != nil {
		t.Fatal(more, err)
	}
	if n, i, text, yes, b, f := r.Uint(), r.Int(), r.Text(9), r.Bool(), r.Byte(), r.Fixed(); n != math.MaxUint64 || i != math.MinInt64 || text != "text" || !yes || b != 7 || f != 0x12345678 {
		t.Errorf("%d %d %q %t %d %x", n, i, text, yes, b, f)
	}
	if r.Left() != 0 || r.Bad() {
		t.Errorf("%d bytes are left, bad: %t", r.Left(), r.Bad())
	}
	more, err := r.Frame()
	if rest := string(r.Take(4)); !more || err != nil || rest != "more" {
		t.Errorf("%t %v %q", more, err, rest)
	}
	if more, err := r.Frame(); more || err != nil {
		t.Errorf("at the end: %t %v", more, err)
	}
	if err := r.End(); err != nil || r.Size() != int64(len(data)) || r.Sum() == 0 {
		t.Errorf("%v, %d of %d bytes", err, r.Size(), len(data))
	}
	if err := r.Plain(head); !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: %v", err)
	}
}

func TestWhatIsNotThereIsBad(t *testing.T) {
	for name, ask := range map[string]func(*sealed.Reader) any{
		"a byte":              func(r *sealed.Reader) any { r.Take(3); return r.Byte() },
		"four bytes":          func(r *sealed.Reader) any { return r.Fixed() },
		"a number":            func(r *sealed.Reader) any { r.Take(3); return r.Uint() },
		"a signed number":     func(r *sealed.Reader) any { r.Take(3); return r.Int() },
		"a longer text":       func(r *sealed.Reader) any { return r.Text(9) },
		"a text over a limit": func(r *sealed.Reader) any { r.Take(1); return r.Text(1) },
		"neither yes nor no":  func(r *sealed.Reader) any { r.Bool(); return "" },
		"what must not be":    func(r *sealed.Reader) any { r.Must(false); r.Must(true); return "" },
	} {
		r := reader(seal([]byte{3, 2, 'x'}))
		if _, err := r.Frame(); err != nil {
			t.Fatal(err)
		}
		switch v := ask(r).(type) {
		case string:
			if v != "" || !r.Bad() {
				t.Errorf("%s: %q, bad: %t", name, v, r.Bad())
			}
		default:
			if !r.Bad() {
				t.Errorf("%s: %v is not bad", name, v)
			}
		}
	}
}

// read reads all there is, as its callers do.
func read(data []byte) error {
	r := reader(data)
	for {
		more, err := r.Frame()
		if err != nil {
			return err
		}
		if !more {
			return r.End()
		}
	}
}

func TestDamageIsFound(t *testing.T) {
	whole := seal(values(), []byte("more"))
	if err := read(whole); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		if err := read(whole[:i]); !errors.Is(err, errDamaged) {
			t.Errorf("cut off at %d: %v", i, err)
		}
		other := bytes.Clone(whole)
		other[i] ^= 1
		if err := read(other); !errors.Is(err, errDamaged) {
			t.Errorf("with byte %d changed: %v", i, err)
		}
	}
	if err := read(append(whole, 0)); !errors.Is(err, errDamaged) {
		t.Errorf("with more behind it: %v", err)
	}
	if err := read(binary.AppendUvarint(nil, sealed.MaxFrame+1)); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a frame that is too long: %v", err)
	}
}

func TestAStoreThatFailsIsNoDamage(t *testing.T) {
	broken := errors.New("the disk is gone")
	r := sealed.NewReader(bufio.NewReader(io.MultiReader(bytes.NewReader(seal(values())[:9]), iotest.ErrReader(broken))), errDamaged)
	if _, err := r.Frame(); !errors.Is(err, broken) || errors.Is(err, errDamaged) {
		t.Errorf("%v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(seal(values(), []byte("more")))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := reader(data)
		for {
			more, err := r.Frame()
			if err != nil && !errors.Is(err, errDamaged) {
				t.Fatal(err)
			}
			if err != nil || !more {
				return
			}
			for r.Left() > 0 && !r.Bad() {
				_, _, _, _, _ = r.Text(1000), r.Uint(), r.Int(), r.Bool(), r.Fixed()
			}
		}
	})
}
