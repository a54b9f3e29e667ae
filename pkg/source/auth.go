package source

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// One returns the value of a header that must be there exactly once and not be empty. An error wraps ErrUnauthenticated:
// of a proof that is there twice, two readers may believe different halves.
func One(h http.Header, name string) (string, error) {
	values := h.Values(name)
	switch {
	case len(values) == 0:
		return "", fmt.Errorf("%w: header %s is missing", ErrUnauthenticated, name)
	case len(values) > 1:
		return "", fmt.Errorf("%w: header %s is there %d times", ErrUnauthenticated, name, len(values))
	case values[0] == "":
		return "", fmt.Errorf("%w: header %s is empty, as where the sender has no secret", ErrUnauthenticated, name)
	}
	return values[0], nil
}

// Any succeeds where matches is true for one of the secrets. All of them are tried, whichever matches, and one that does
// not resolve is in nobody's way while another matches; otherwise the error wraps ErrUnavailable if a secret did not
// resolve or matches failed, and ErrUnauthenticated if not. what says what did not match: "the signature".
func (e *Env) Any(refs []SecretRef, what string, matches func(secret []byte) (bool, error)) error {
	if len(refs) == 0 {
		return Unavailable(fmt.Errorf("source %s has no secret", e.Name))
	}
	found := false
	var failed error
	for _, ref := range refs {
		secret, err := e.resolve(ref)
		if err != nil {
			failed = err
			continue
		}
		ok, err := matches(secret)
		if err != nil {
			failed = Unavailable(fmt.Errorf("source %s: %w", e.Name, err))
		}
		found = found || ok
	}
	switch {
	case found:
		return nil
	case failed != nil:
		return failed
	}
	return fmt.Errorf("%w: %s does not match", ErrUnauthenticated, what)
}

func (e *Env) resolve(ref SecretRef) ([]byte, error) {
	secret, err := e.Secret(ref)
	if err != nil {
		return nil, Unavailable(fmt.Errorf("a secret of source %s: %w", e.Name, err))
	}
	if len(secret) == 0 {
		return nil, Unavailable(fmt.Errorf("a secret of source %s is empty", e.Name))
	}
	return secret, nil
}

// Check reports at load what is wrong with secret references, of which at least one is needed; field names their place
// in the spec.
func (e *Env) Check(field string, refs ...SecretRef) error {
	if len(refs) == 0 {
		return fmt.Errorf("%s: name at least one secret, or anyone could send", field)
	}
	var errs []error
	for _, ref := range refs {
		if ref == (SecretRef{}) {
			errs = append(errs, fmt.Errorf("%s: a reference names no secret; write {secret: NAME}", field))
		} else if e.CheckSecret != nil {
			errs = append(errs, e.CheckSecret(ref))
		}
	}
	return errors.Join(errs...)
}

func (e *Env) clock() time.Time {
	if e.Now == nil {
		return time.Now()
	}
	return e.Now()
}

// Equal compares secrets in time that tells nothing of them, their length included.
func Equal(a, b []byte) bool {
	x, y := sha256.Sum256(a), sha256.Sum256(b)
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// Auth is how a sender that signs nothing proves who it is: a bearer token or basic authentication.
type Auth struct {
	Bearer *SecretRef `yaml:"bearer,omitempty" doc:"token that the sender puts into Authorization: Bearer"`
	Basic  *Basic     `yaml:"basic,omitempty" doc:"user and password of basic authentication"`
}

// Basic is a user and the secret that holds the password.
type Basic struct {
	Username string    `yaml:"username" required:"true" doc:"user name"`
	Password SecretRef `yaml:"password" required:"true" doc:"secret that holds the password"`
}

// Check reports at load whether exactly one way is given, with secrets that may be used.
func (a *Auth) Check(env *Env) error {
	switch {
	case a == nil || a.Bearer == nil && a.Basic == nil:
		return errors.New("auth: give bearer or basic, or anyone could send")
	case a.Bearer != nil && a.Basic != nil:
		return errors.New("auth: give bearer or basic, not both")
	case a.Bearer != nil:
		return env.Check("auth.bearer", *a.Bearer)
	case a.Basic.Username == "" || strings.Contains(a.Basic.Username, ":"): // RFC 7617: a user-id has no colon
		return errors.New("auth.basic.username: it must not be empty nor hold a colon")
	}
	return env.Check("auth.basic.password", a.Basic.Password)
}

// Verify checks a request's Authorization header. Check must have passed.
func (a *Auth) Verify(env *Env, r *Request) error {
	header, err := One(r.Header, "Authorization")
	if err != nil {
		return err
	}
	scheme, given, _ := strings.Cut(header, " ")
	if a.Basic != nil {
		return a.Basic.verify(env, scheme, given)
	}
	if !strings.EqualFold(scheme, "Bearer") {
		return fmt.Errorf("%w: Authorization is not of the scheme Bearer", ErrUnauthenticated)
	}
	return env.Any([]SecretRef{*a.Bearer}, "the bearer token", func(secret []byte) (bool, error) {
		return Equal([]byte(given), secret), nil
	})
}

func (b *Basic) verify(env *Env, scheme, given string) error {
	if !strings.EqualFold(scheme, "Basic") {
		return fmt.Errorf("%w: Authorization is not of the scheme Basic", ErrUnauthenticated)
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(given)
	if err != nil {
		return fmt.Errorf("%w: Authorization is not base64", ErrUnauthenticated)
	}
	return env.Any([]SecretRef{b.Password}, "user or password", func(secret []byte) (bool, error) {
		return Equal(decoded, append([]byte(b.Username+":"), secret...)), nil
	})
}
