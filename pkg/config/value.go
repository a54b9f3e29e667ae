package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// value makes a Value of a setting from how it is written and read.
type value[T any] struct {
	p      *T
	kind   string
	format func(T) string
	parse  func(string) (T, error)
}

func (v value[T]) Type() string { return v.kind }

func (v value[T]) String() string {
	if v.p == nil { // flag libraries ask the zero Value for its text
		return ""
	}
	return v.format(*v.p)
}

func (v value[T]) Set(text string) error {
	parsed, err := v.parse(text)
	if err != nil {
		return err
	}
	*v.p = parsed
	return nil
}

func str(p *string) Value {
	return value[string]{p, "string", func(s string) string { return s }, func(s string) (string, error) { return s, nil }}
}

func number(p *int) Value {
	return value[int]{p, "int", strconv.Itoa, func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil {
			return 0, fmt.Errorf("%q is not a whole number", s)
		}
		return n, nil
	}}
}

func size(p *int64) Value { return value[int64]{p, "bytes", FormatSize, ParseSize} }
func span(p *time.Duration) Value {
	return value[time.Duration]{p, "duration", FormatDuration, ParseDuration}
}

// flagValue is a bool that may be given without a value on the command line.
type flagValue struct{ value[bool] }

// IsBoolFlag tells flag libraries that the value may be left out.
func (flagValue) IsBoolFlag() bool { return true }

func flag(p *bool) Value {
	return flagValue{value[bool]{p, "bool", strconv.FormatBool, func(s string) (bool, error) {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return false, fmt.Errorf("%q is neither true nor false", s)
		}
		return b, nil
	}}}
}

// items is a list; its first Set replaces what was there.
type items[T any] struct {
	p      *[]T
	kind   string
	format func(T) string
	parse  func(string) (T, error)
	set    bool
}

func (l *items[T]) Type() string { return l.kind }

func (l *items[T]) String() string {
	if l.p == nil {
		return ""
	}
	texts := make([]string, len(*l.p))
	for i, item := range *l.p {
		texts[i] = l.format(item)
	}
	return strings.Join(texts, ",")
}

func (l *items[T]) Set(text string) error {
	var parts []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	parsed, err := l.parseAll(parts)
	if err != nil {
		return err
	}
	if !l.set {
		*l.p, l.set = nil, true
	}
	*l.p = append(*l.p, parsed...)
	return nil
}

// replace makes texts, which may hold commas, the whole list.
func (l *items[T]) replace(texts []string) error {
	parsed, err := l.parseAll(texts)
	if err == nil {
		*l.p = parsed
	}
	return err
}

func (l *items[T]) parseAll(texts []string) ([]T, error) {
	var parsed []T
	var errs []error
	for _, text := range texts {
		item, err := l.parse(text)
		parsed, errs = append(parsed, item), append(errs, err)
	}
	return parsed, errors.Join(errs...)
}

func list(p *[]string) Value {
	return &items[string]{p: p, kind: "strings", format: func(s string) string { return s }, parse: func(s string) (string, error) {
		if s == "" {
			return "", errors.New("must not hold an empty string")
		}
		return s, nil
	}}
}

func cidrs(p *[]netip.Prefix) Value {
	return &items[netip.Prefix]{p: p, kind: "cidrs", format: netip.Prefix.String, parse: parsePrefix}
}

// parsePrefix reads a network, or an address as the network that holds only it.
func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is not a network like 10.0.0.0/8", s)
	}
	return p.Masked(), nil
}

type unit struct {
	name string
	n    int64
}

// sizeUnits is ordered so that no unit's name ends in the name of one before it.
func sizeUnits() []unit {
	return []unit{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
		{"KB", 1e3}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
	}
}

// ParseSize reads a number of bytes: 1048576, 25MB (of 1000 × 1000) or 64MiB (of 1024 × 1024).
func ParseSize(s string) (int64, error) {
	digits, factor := s, int64(1)
	for _, u := range sizeUnits() {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			digits, factor = strings.TrimSpace(rest), u.n
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/factor {
		return 0, fmt.Errorf("%q is not a size like 25MB, 64MiB or a number of bytes", s)
	}
	return int64(n) * factor, nil
}

// FormatSize writes a size so that ParseSize reads it back.
func FormatSize(n int64) string {
	best := unit{"", 1}
	for _, u := range sizeUnits() {
		if u.name != "B" && n != 0 && n%u.n == 0 && u.n > best.n {
			best = u
		}
	}
	return strconv.FormatInt(n/best.n, 10) + best.name
}

func durationUnits() []unit {
	const day = 24 * int64(time.Hour)
	return []unit{
		{"y", 365 * day}, {"w", 7 * day}, {"d", day},
		{"h", int64(time.Hour)}, {"m", int64(time.Minute)}, {"s", int64(time.Second)}, {"ms", int64(time.Millisecond)},
	}
}

var errDuration = errors.New("not a duration like 90s, 15m or 1d12h")

// ParseDuration reads a duration as Prometheus writes it: numbers with the units y, w, d, h, m, s, ms, from large to
// small, each once; 0 needs no unit.
func ParseDuration(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	if s == "" {
		return 0, fmt.Errorf("%q is %w", s, errDuration)
	}
	var total int64
	rest, units := s, durationUnits()
	for rest != "" {
		end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if end <= 0 {
			return 0, fmt.Errorf("%q is %w", s, errDuration)
		}
		n, err := strconv.ParseUint(rest[:end], 10, 63)
		rest = rest[end:]
		i := unitAt(units, rest)
		if err != nil || i < 0 || int64(n) > (math.MaxInt64-total)/units[i].n {
			return 0, fmt.Errorf("%q is %w", s, errDuration)
		}
		total += int64(n) * units[i].n
		rest = rest[len(units[i].name):]
		units = units[i+1:]
	}
	return time.Duration(total), nil
}

// unitAt returns the index of the unit that s begins with, which a digit or the end must follow; -1 for none.
func unitAt(units []unit, s string) int {
	for i, u := range units {
		rest, ok := strings.CutPrefix(s, u.name)
		if ok && (rest == "" || rest[0] >= '0' && rest[0] <= '9') {
			return i
		}
	}
	return -1
}

// FormatDuration writes a duration so that ParseDuration reads it back; what is below a millisecond is lost.
func FormatDuration(d time.Duration) string {
	rest := int64(d) / int64(time.Millisecond) * int64(time.Millisecond)
	if rest <= 0 {
		return "0"
	}
	var b strings.Builder
	for _, u := range durationUnits() {
		if n := rest / u.n; n > 0 && (u.name != "y" && u.name != "w" || rest%u.n == 0) {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			rest -= n * u.n
		}
	}
	return b.String()
}
