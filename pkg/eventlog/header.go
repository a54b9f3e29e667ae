package eventlog

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
)

// header is what a record holds beside its body. Fields are only ever added.
type header struct {
	Kind       event.Kind        `json:"k"`
	ID         string            `json:"id"`
	Source     string            `json:"s,omitempty"`
	SourceType string            `json:"st,omitempty"`
	Type       string            `json:"t,omitempty"`
	Subject    string            `json:"sub,omitempty"`
	DeliveryID string            `json:"d,omitempty"`
	Time       time.Time         `json:"at,omitzero"`
	ReceivedAt time.Time         `json:"r"`
	Headers    map[string]string `json:"h,omitempty"`
	CausedBy   string            `json:"c,omitempty"`
	// Of a large body the object store holds the bytes, and the record their name, digest and length.
	Object string `json:"o,omitempty"`
	Digest string `json:"dig,omitempty"`
	Length int    `json:"len,omitempty"`
}

// appendTo writes the header as encoding/json does, in a fifth of its time: a header is written for each event.
func (h *header) appendTo(b []byte) []byte {
	b = appendText(append(b, `{"k":`...), string(h.Kind))
	b = appendText(append(b, `,"id":`...), h.ID)
	for _, f := range []struct{ name, value string }{
		{`,"s":`, h.Source}, {`,"st":`, h.SourceType}, {`,"t":`, h.Type}, {`,"sub":`, h.Subject}, {`,"d":`, h.DeliveryID},
	} {
		b = appendField(b, f.name, f.value)
	}
	if y := h.Time.Year(); !h.Time.IsZero() && y >= 0 && y <= 9999 { // RFC 3339 has no other years
		b = appendTime(append(b, `,"at":`...), h.Time)
	}
	b = appendTime(append(b, `,"r":`...), h.ReceivedAt)
	b = appendMap(b, `,"h":`, h.Headers)
	for _, f := range []struct{ name, value string }{{`,"c":`, h.CausedBy}, {`,"o":`, h.Object}, {`,"dig":`, h.Digest}} {
		b = appendField(b, f.name, f.value)
	}
	if h.Length != 0 {
		b = strconv.AppendInt(append(b, `,"len":`...), int64(h.Length), 10)
	}
	return append(b, '}')
}

func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(append(b, name...), value)
}

func appendMap(b []byte, name string, m map[string]string) []byte {
	if len(m) == 0 {
		return b
	}
	keys := make([]string, 0, 16)
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = append(b, name...)
	for i, k := range keys {
		c := byte(',')
		if i == 0 {
			c = '{'
		}
		b = append(appendText(append(b, c), k), ':')
		b = appendText(b, m[k])
	}
	return append(b, '}')
}

func appendTime(b []byte, t time.Time) []byte {
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// appendText leaves what needs escapes to encoding/json.
func appendText(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // a text is always JSON
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// parseHeader reads what appendTo wrote. What a newer version added is passed over.
func parseHeader(text []byte) (h header, err error) {
	if err := event.Validate(text); err != nil {
		return h, err
	}
	texts := []struct {
		name string
		to   *string
	}{
		{"id", &h.ID}, {"s", &h.Source}, {"st", &h.SourceType}, {"t", &h.Type}, {"sub", &h.Subject}, {"d", &h.DeliveryID},
		{"c", &h.CausedBy}, {"o", &h.Object}, {"dig", &h.Digest},
	}
	for key, value := range event.Members(text) {
		name := string(key[1 : len(key)-1])
		switch name {
		case "k":
			h.Kind = event.Kind(event.Text(value))
		case "at":
			h.Time, err = parseTime(value)
		case "r":
			h.ReceivedAt, err = parseTime(value)
		case "len":
			h.Length, err = strconv.Atoi(string(value))
		case "h":
			h.Headers = map[string]string{}
			for k, v := range event.Members(value) {
				h.Headers[event.Text(k)] = event.Text(v)
			}
		default:
			for _, f := range texts {
				if f.name == name {
					*f.to = event.Text(value)
				}
			}
		}
		if err != nil {
			return h, fmt.Errorf("field %s: %w", name, err)
		}
	}
	return h, nil
}

func parseTime(raw []byte) (time.Time, error) { return time.Parse(time.RFC3339Nano, event.Text(raw)) }
