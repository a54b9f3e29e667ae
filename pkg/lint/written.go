package lint

import (
	"strings"

	"github.com/riposte-dev/riposte/pkg/expression"
)

// written is a path as people write it.
func written(path expression.Reading) string {
	var b strings.Builder
	for i, s := range path {
		switch {
		case s.Element:
			b.WriteString("[…]")
		case s.Name == "":
			b.WriteString("[?]")
		case i == 0:
			b.WriteString(s.Name)
		default:
			b.WriteString("." + s.Name)
		}
	}
	return b.String()
}
