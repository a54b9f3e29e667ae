package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name, body string
		offset     int64 // of the error; -1 is none
	}{
		{"object", ` {"a": [1, -0, 0.5, 1e9, -1.5E-3, true, false, null, "x"], "b": {}, "c": []} `, -1},
		{"scalar", `"x"`, -1},
		{"array", `[[],[{}]]`, -1},
		{"null", `null`, -1},
		{"escapes", `"\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00"`, -1},
		{"half a surrogate pair", `"\ud800"`, -1},
		{"duplicate keys", `{"a":1,"a":2}`, -1},
		{"unicode", `{"ключ": "значение 😀 and some more text"}`, -1},
		{"long string", `"` + strings.Repeat("abcdefgh", 100) + `"`, -1},
		{"integer beyond 64 bits", `123456789012345678901234567890`, -1},
		{"empty", ``, 0},
		{"white space only", " \n", 2},
		{"byte order mark", "\xef\xbb\xbf{}", 0},
		{"two values", `{} {}`, 3},
		{"open object", `{"a":1`, 6},
		{"open string", `{"a":"b`, 7},
		{"ends after key", `{"a"`, 4},
		{"ends after colon", `{"a":`, 5},
		{"ends after comma", `[1,`, 3},
		{"comma before end", `[1,]`, 3},
		{"comma before end of object", `{"a":1,}`, 7},
		{"wrong end", `[1}`, 2},
		{"wrong end of nothing", `{]`, 1},
		{"wrong end of nothing 2", `[}`, 1},
		{"number as key", `{1:2}`, 1},
		{"single quotes", `{'a':2}`, 1},
		{"leading zero", `[01]`, 2},
		{"plus", `+1`, 0},
		{"no digit after minus", `-`, 1},
		{"no digit after point", `1.`, 2},
		{"no digit after exponent", `1e+`, 3},
		{"NaN", `NaN`, 0},
		{"bad word", `trUe`, 0},
		{"cut word", `[tru`, 1},
		{"control character", "\"a\tb\"", 2},
		{"bad escape", `"\x"`, 1},
		{"cut escape", `"\`, 1},
		{"cut unicode escape", `"\u12"`, 1},
		{"bad hexadecimal", `"\u12g4"`, 1},
		{"not UTF-8", "\"ab\xff\"", 3},
		{"overlong UTF-8", "\"\xc0\xaf\"", 1},
		{"surrogate in UTF-8", "\"\xed\xa0\x80\"", 1},
		{"NUL", "\x00", 0},
		{"NUL behind", "1\x00", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Validate([]byte(tt.body))
			if tt.offset < 0 {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("got %v, want a SyntaxError", err)
			}
			if syntax.Offset != tt.offset || syntax.Msg == "" {
				t.Errorf("got %v, want offset %d", err, tt.offset)
			}
			if _, err := Decode([]byte(tt.body)); !errors.As(err, &syntax) {
				t.Errorf("Decode returns %v, not the error of Validate", err)
			}
		})
	}
}

func TestDepthIsBounded(t *testing.T) {
	for _, brackets := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
		deepest := strings.Repeat(brackets[0], MaxDepth) + "1" + strings.Repeat(brackets[1], MaxDepth)
		if brackets[0] == "[" {
			deepest = strings.Replace(deepest, "1", "", 1)
		}
		if _, err := Decode([]byte(deepest)); err != nil {
			t.Errorf("depth %d of %s is refused: %v", MaxDepth, brackets[0], err)
		}
		if err := Validate([]byte(brackets[0] + deepest + brackets[1])); err == nil {
			t.Errorf("depth %d of %s is accepted", MaxDepth+1, brackets[0])
		}
	}
	brackets := bytes.Repeat([]byte("["), 25_000_000)
	if err := Validate(brackets); err == nil {
		t.Error("25 MB of brackets are accepted")
	}
	if n := testing.AllocsPerRun(10, func() { _ = Validate(brackets) }); n > 10 {
		t.Errorf("refusing 25 MB of brackets takes %v allocations", n)
	}
}

func TestValidateDoesNotAllocate(t *testing.T) {
	body := sample()
	if n := testing.AllocsPerRun(100, func() { _ = Validate(body) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDecode(t *testing.T) {
	tests := []struct {
		body string
		want any
	}{
		{`null`, nil},
		{`true`, true},
		{` "a\u00e9\ud83d\ude00\/\n" `, "aé😀/\n"},
		{`"\ud800x"`, "\uFFFDx"},
		{`"\udc00\ud800\udc00"`, "\uFFFD\U00010000"},
		{`"\\"`, `\`},
		{`7`, int64(7)},
		{`-0`, int64(0)},
		{`9223372036854775807`, int64(9223372036854775807)},
		{`9223372036854775808`, Integer("9223372036854775808")},
		{`-9223372036854775809`, Integer("-9223372036854775809")},
		{`1.0`, 1.0},
		{`1e3`, 1000.0},
		{`1e-999`, 0.0},
		{`1e999`, "1e999"},
		{`[]`, []any{}},
		{`{}`, map[string]any{}},
		{`[1,[2,{"a":[]}],"x"]`, []any{int64(1), []any{int64(2), map[string]any{"a": []any{}}}, "x"}},
		{`{"a":1,"b":{"a":2},"a":3}`, map[string]any{"a": int64(3), "b": map[string]any{"a": int64(2)}}},
		{`{"a\"b":1,"":2}`, map[string]any{`a"b`: int64(1), "": int64(2)}},
	}
	for _, tt := range tests {
		got, err := Decode([]byte(tt.body))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %#v, %v, want %#v", tt.body, got, err, tt.want)
		}
	}
}

func TestIntegersKeepTheirTextInJSON(t *testing.T) {
	const text = `[1e3,1,123456789012345678901234567890]`
	v, err := Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if want := `[1000,1,123456789012345678901234567890]`; err != nil || string(out) != want {
		t.Errorf("got %s, %v, want %s", out, err, want)
	}
}

func TestField(t *testing.T) {
	const body = `{"a": {"b": [1, {"c": 2}], "b2": "x}\"]"}, "esc\u0061pe": 1, "d": 1, "d": {"e": null}, "z": "end"}`
	tests := []struct {
		keys []string
		want string // empty: absent
	}{
		{nil, body},
		{[]string{"a", "b"}, `[1, {"c": 2}]`},
		{[]string{"a", "b2"}, `"x}\"]"`},
		{[]string{"escape"}, `1`},
		{[]string{"d"}, `{"e": null}`},
		{[]string{"d", "e"}, `null`},
		{[]string{"z"}, `"end"`},
		{[]string{"a", "b", "c"}, ``},
		{[]string{"b"}, ``},
		{[]string{"z", "x"}, ``},
	}
	for _, tt := range tests {
		raw, ok := Field([]byte(body), tt.keys...)
		if ok != (tt.want != "") || string(raw) != tt.want {
			t.Errorf("%v: got %s, %v, want %s", tt.keys, raw, ok, tt.want)
		}
	}
	for _, body := range []string{`[]`, `1`, `null`, `"a"`, ``} {
		if raw, ok := Field([]byte(body), "a"); ok {
			t.Errorf("%q has a member: %s", body, raw)
		}
	}
}

func TestElements(t *testing.T) {
	var got []string
	for raw := range Elements([]byte(` [ 1 , "a,]" ,{"x":[2]}, [] , null ] `)) {
		got = append(got, string(raw))
	}
	if want := []string{`1`, `"a,]"`, `{"x":[2]}`, `[]`, `null`}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for range Elements([]byte(`{"a":1}`)) {
		t.Error("an object has elements")
	}
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,"x\u00e9",null,true],"a":{}}`, `"\ud83d\ude00\ud800"`, `[1e400,-0,12345678901234567890]`, "[\"\xff\"]", `{"a":`, `[}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		lazily(body)
		err := Validate(body)
		if want := json.Valid(body) && validUTF8(body); (err == nil) != want {
			if !strings.Contains(fmt.Sprint(err), "nested deeper") {
				t.Fatalf("%q: got %v, want valid %v", body, err, want)
			}
			return
		}
		if err != nil {
			return
		}
		got, err := Decode(body)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if want = exact(want); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %#v, want %#v", body, got, want)
		}
		compareLazy(t, body, want)
		comparePart(t, body, want)
	})
}

// validUTF8 says whether decoding changed nothing that was not UTF-8: encoding/json accepts it in strings.
func validUTF8(body []byte) bool { return bytes.Equal(bytes.ToValidUTF8(body, []byte("?")), body) }

func exact(v any) any {
	switch v := v.(type) {
	case json.Number:
		return exactNumber(string(v))
	case map[string]any:
		for k, e := range v {
			v[k] = exact(e)
		}
	case []any:
		for i, e := range v {
			v[i] = exact(e)
		}
	}
	return v
}

func exactNumber(s string) any {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i
	}
	if !strings.ContainsAny(s, ".eE") {
		return Integer(s)
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return f
	}
	return s
}

// lazily reads any bytes, which must end and not panic.
func lazily(body []byte) {
	for k, v := range Members(body) {
		Text(k)
		Text(v)
	}
	for v := range Elements(body) {
		Text(v)
	}
	Field(body, "a", "b")
}

func compareLazy(t *testing.T, body []byte, want any) {
	if m, ok := want.(map[string]any); ok {
		for k := range m {
			raw, _ := Field(body, k)
			if v, err := Decode(raw); err != nil || !reflect.DeepEqual(v, m[k]) {
				t.Fatalf("%q: member %q is %q, %v, not %#v", body, k, raw, err, m[k])
			}
		}
	}
	if l, ok := want.([]any); ok {
		i := 0
		for raw := range Elements(body) {
			if v, err := Decode(raw); err != nil || !reflect.DeepEqual(v, l[i]) {
				t.Fatalf("%q: element %d is %q, %v", body, i, raw, err)
			}
			i++
		}
		if i != len(l) {
			t.Fatalf("%q: %d elements of %d", body, i, len(l))
		}
	}
}

// sample is a body in the shape of a push, of 7.7 KB.
func sample() []byte {
	var b bytes.Buffer
	b.WriteString(`{"ref":"refs/heads/main","before":"1111111111111111111111111111111111111111","forced":false,"commits":[`)
	for i := range 8 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"%040d","message":"Change number %d\n\nwith a longer text behind","timestamp":"2026-11-23T10:00:00Z","author":{"name":"Ana","email":"ana@example.com"},"added":[],"modified":["network/main.tf"],"removed":[]}`, i, i)
	}
	b.WriteString(`],"repository":{"id":1234567`)
	for i := 0; b.Len() < 7600; i++ {
		fmt.Fprintf(&b, `,"key%d_url":"https://api.example.com/repos/acme/shop/key%d{/sha}"`, i, i)
	}
	b.WriteString(`}}`)
	return b.Bytes()
}

func BenchmarkValidate(b *testing.B) {
	body := sample()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Validate(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidateIndented(b *testing.B) {
	var body bytes.Buffer
	if err := json.Indent(&body, sample(), "", "  "); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(body.Len()))
	for b.Loop() {
		if err := Validate(body.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	body := sample()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkField(b *testing.B) {
	body := sample()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, ok := Field(body, "repository", "id"); !ok {
			b.Fatal("not found")
		}
	}
}
