package source_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/riposte-dev/riposte/pkg/source"
)

// What the operator reads of a secret that does not resolve says each thing once.
func TestAnUnavailableSecretIsToldOnce(t *testing.T) {
	missing := errors.New("secret hook does not resolve: variable HOOK is not set")
	env := source.Env{Name: "github", Secret: func(source.SecretRef) ([]byte, error) { return nil, source.Unavailable(missing) }}
	matches := func([]byte) (bool, error) { return false, nil }
	err := fmt.Errorf("verify: %w", env.Any([]source.SecretRef{{Secret: "hook"}}, "the signature", matches))
	if !errors.Is(err, source.ErrUnavailable) || !errors.Is(err, missing) || errors.Is(err, source.ErrUnauthenticated) {
		t.Errorf("%v is of another kind", err)
	}
	if want := "verify: a secret of source github: secret hook does not resolve: variable HOOK is not set"; err.Error() != want {
		t.Errorf("it says %q, not %q", err, want)
	}
}
