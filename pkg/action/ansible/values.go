package ansible

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/riposte-dev/riposte/pkg/event"
)

// values writes variables as YAML in which every text is marked as unsafe, which Ansible never reads as a template
// (docs.ansible.com, "Unsafe or raw strings"). JSON would be read as templates.
func values(vars map[string]any) ([]byte, error) {
	var b strings.Builder
	if err := value(&b, vars); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return []byte(b.String()), nil
}

func value(b *strings.Builder, v any) error {
	switch v := v.(type) {
	case string:
		return text(b, "!unsafe ", v)
	case map[string]any:
		b.WriteByte('{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := text(b, "", name); err != nil {
				return err
			}
			b.WriteString(": ")
			if err := value(b, v[name]); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := value(b, e); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case int:
		b.WriteString(strconv.Itoa(v))
	case event.Integer:
		b.WriteString(string(v))
	case float64:
		number, err := json.Marshal(v)
		if err != nil {
			return err
		}
		b.Write(number)
	default:
		return fmt.Errorf("a %T can't be a variable", v)
	}
	return nil
}

// text writes a text as YAML's double-quoted style, which JSON's texts are a part of where they hold no pairs of escapes
// beyond 16 bits; encoding/json writes none.
func text(b *strings.Builder, tag, s string) error {
	quoted, err := json.Marshal(s)
	if err != nil {
		return err
	}
	b.WriteString(tag)
	b.Write(quoted)
	return nil
}
