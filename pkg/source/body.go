package source

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"net/url"

	"github.com/riposte-dev/riposte/pkg/event"
)

// ParseJSON checks that a body is JSON; an error wraps ErrUnparsable and says where it is not.
func ParseJSON(body []byte) error {
	if err := event.Validate(body); err != nil {
		return fmt.Errorf("%w: it is not JSON %w", ErrUnparsable, err)
	}
	return nil
}

// FormPayload returns the JSON of a form with the field payload, as GitHub and Gitea can send it, or the body itself
// where it is no form. What is a form is seen from the body too, so that a wrong Content-Type does no harm. It takes
// memory for the payload alone.
func FormPayload(h http.Header, body []byte) ([]byte, error) {
	const field = "payload"
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	form := err == nil && mediaType == "application/x-www-form-urlencoded" && !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{"))
	if !form && !bytes.HasPrefix(body, []byte(field+"=")) {
		return body, nil
	}
	var payload []byte
	found := 0
	for pair := range bytes.SplitSeq(body, []byte("&")) {
		if name, value, _ := bytes.Cut(pair, []byte("=")); string(name) == field {
			payload, found = value, found+1
		}
	}
	if found != 1 {
		return nil, fmt.Errorf("%w: the form has %d fields named %s, not one", ErrUnparsable, found, field)
	}
	text, err := url.QueryUnescape(string(payload))
	if err != nil {
		return nil, fmt.Errorf("%w: the form's %s is wrongly escaped", ErrUnparsable, field)
	}
	return []byte(text), nil
}

// Pick returns the headers of a request that are on a list of canonical names; nil where there are none.
func Pick(h http.Header, names []string) map[string]string {
	var out map[string]string
	for _, name := range names {
		values := h[name]
		if len(values) == 0 || values[0] == "" {
			continue
		}
		if out == nil {
			out = make(map[string]string, len(names))
		}
		out[name] = values[0]
	}
	return out
}

// Or returns the first of texts that is not empty.
func Or(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
