package cli

import (
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// widthOf returns the width of the terminal that w writes to, or 0 where it is none.
func widthOf(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// harmless takes out of a line what would steer a terminal; a program's output may have come from anywhere. With colors those
// that only color text stay. What a carriage return overwrote is left out, as a terminal would.
func harmless(line string, colors bool) string {
	line = strings.TrimRight(line, "\r\n")
	line = line[strings.LastIndexByte(line, '\r')+1:]
	if strings.IndexFunc(line, steers) < 0 {
		return line
	}
	var b strings.Builder
	colored := false
	for len(line) > 0 {
		i := strings.IndexFunc(line, steers)
		if i < 0 {
			break
		}
		b.WriteString(line[:i])
		sequence, color := escape(line[i:])
		if color && colors {
			b.WriteString(sequence)
			colored = true
		}
		line = line[i+len(sequence):]
	}
	b.WriteString(line)
	if colored {
		b.WriteString(plain)
	}
	return b.String()
}

func steers(r rune) bool {
	return r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r))
}

// escape returns the control sequence that text begins with (ECMA-48, CSI and the strings such as OSC), at least one
// character, and whether it only sets colors.
func escape(text string) (sequence string, color bool) {
	switch {
	case strings.HasPrefix(text, "\x1b["):
		for i := 2; i < len(text); i++ {
			if c := text[i]; c >= 0x40 && c <= 0x7e {
				return text[:i+1], c == 'm'
			} else if c < 0x20 || c > 0x7e {
				return text[:i], false
			}
		}
		return text, false
	case len(text) > 1 && text[0] == 0x1b && strings.IndexByte("]P^_X", text[1]) >= 0:
		if i := strings.IndexAny(text, "\a\u009c"); i >= 0 {
			return text[:i+1], false
		}
		return text[:2], false
	}
	for i := range text {
		if i > 0 {
			return text[:i], false
		}
	}
	return text, false
}

// How a terminal is told to color (ECMA-48, SGR).
const (
	plain  = "\x1b[0m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	dim    = "\x1b[2m"
)

// painter colors text for a terminal whose user wants it (https://no-color.org), and leaves it as it is for others.
func painter(terminal bool) func(color, text string) string {
	if !terminal || os.Getenv("NO_COLOR") != "" {
		return func(_, text string) string { return text }
	}
	return func(color, text string) string {
		if color == "" {
			return text
		}
		return color + text + plain
	}
}
