package prometheus

import (
	"fmt"
	"regexp"
	"strings"
)

// quote writes the value of an expression into a query, so that it can't be more than a value there: within quotes its
// quotes, backslashes and line breaks are escaped, and as part of a regular expression it stands for itself; elsewhere only
// a number, a duration or a name is one. Facts of PromQL's lexer (prometheus.io/docs/prometheus/latest/querying/basics):
// texts are quoted with ", ' or `, a backslash escapes in the first two as in Go, and # begins a comment.
func quote(before, value string) (string, error) {
	in, regex := scan(before)
	switch in {
	case '#':
		return "", fmt.Errorf("an expression stands in a comment of the query")
	case '`':
		if strings.ContainsAny(value, "`\r") {
			return "", fmt.Errorf("a value has a backquote and stands between backquotes, where nothing can be escaped: write \"…\" instead")
		}
		return matched(value, regex), nil
	case '"', '\'':
		return escape(matched(value, regex), in), nil
	}
	if !regexp.MustCompile(`^(-?[0-9.]+([eE][+-]?[0-9]+)?|[A-Za-z0-9_:]+)$`).MatchString(value) {
		return "", fmt.Errorf("a value that stands outside of quotes in the query must be a number, a duration or a name; a label's value belongs into quotes")
	}
	return value, nil
}

// scan says what the end of a query is in: quotes, which it returns, a comment ('#'), or neither (0); and whether the
// quotes hold a regular expression.
func scan(query string) (in byte, regex bool) {
	from := 0 // what stands before the last quotes began
	for i := 0; i < len(query); i++ {
		c := query[i]
		switch {
		case in == 0 && (c == '"' || c == '\'' || c == '`' || c == '#'):
			in, from = c, i
		case in == '#' && c == '\n', in != '#' && in == c:
			in = 0
		case (in == '"' || in == '\'') && c == '\\':
			i++
		}
	}
	if in == 0 || in == '#' {
		return in, false
	}
	operator := strings.TrimRight(query[:from], " \t\r\n")
	return in, strings.HasSuffix(operator, "=~") || strings.HasSuffix(operator, "!~")
}

func matched(value string, regex bool) string {
	if regex {
		return regexp.QuoteMeta(value)
	}
	return value
}

func escape(value string, quotes byte) string {
	q := string(quotes)
	return strings.NewReplacer(`\`, `\\`, q, `\`+q, "\n", `\n`, "\r", `\r`).Replace(strings.ToValidUTF8(value, "\uFFFD"))
}
