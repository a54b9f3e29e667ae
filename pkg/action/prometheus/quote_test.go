package prometheus

import (
	"strings"
	"testing"
)

func TestQuote(t *testing.T) {
	for _, c := range []struct{ before, value, want string }{
		{`errors{service='`, `shop`, `shop`},
		{`errors{service='`, `x'} or vector(0) #`, `x\'} or vector(0) #`},
		{`errors{service="`, `x"} or vector(0) #`, `x\"} or vector(0) #`},
		{`errors{service="`, `it's`, `it's`}, // \' is an error between double quotes
		{`errors{service="`, `a\`, `a\\`},
		{`errors{service="`, "a\nb", `a\nb`},
		{`errors{service="\"`, `a"`, `a\"`},
		{"errors{service=`", `a"\b`, `a"\b`},
		{`errors{service=~"`, `.*`, `\\.\\*`},
		{`errors{service !~ '`, `a|b'`, `a\\|b\'`},
		{`errors{a=~"x", service="`, `.*`, `.*`},
		{`errors{a="=~", service="`, `.*`, `.*`},
		{"errors{service=~`", `a.b`, `a\.b`},
		{"# it's a note\nerrors{service='", `a'b`, `a\'b`},
		{`rate(errors[`, `5m`, `5m`},
		{`errors > `, `-0.5`, `-0.5`},
		{`errors > `, `1e-3`, `1e-3`},
		{``, `job:errors:rate5m`, `job:errors:rate5m`},
	} {
		if got, err := quote(c.before, c.value); err != nil || got != c.want {
			t.Errorf("quote(%q, %q) = %q, %v, want %q", c.before, c.value, got, err, c.want)
		}
	}
	for _, c := range []struct{ before, value, why string }{
		{``, `vector(0)`, "outside of quotes"},
		{`errors > `, `0 or vector(1)`, "outside of quotes"},
		{`errors > `, ``, "outside of quotes"},
		{`errors{`, `service="x"`, "outside of quotes"},
		{"errors # for ", "shop", "comment"},
		{"errors{service=`", "a`b", "backquote"},
	} {
		if got, err := quote(c.before, c.value); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("quote(%q, %q) = %q, %v, want %q", c.before, c.value, got, err, c.why)
		}
	}
}

// FuzzQuote checks that a query is in the same quotes after a value as before it.
func FuzzQuote(f *testing.F) {
	f.Add(`errors{service='`, `x'} or vector(0) #`)
	f.Add(`errors{service=~"`, "\\")
	f.Add("a{b=`", "#")
	f.Add("", "1")
	f.Fuzz(func(t *testing.T, before, value string) {
		quotes, regex := scan(before)
		got, err := quote(before, value)
		if err != nil || strings.HasSuffix(before, `\`) {
			return // what ends in half an escape is no query
		}
		if q, r := scan(before + got); q != quotes || r != regex {
			t.Errorf("%q is in %q, and %q after %q", before, quotes, q, got)
		}
	})
}
