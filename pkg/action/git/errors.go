package git

import (
	"errors"
	"strings"

	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/riposte-dev/riposte/pkg/outbound"
)

// isSSHAuth finds a refused key. x/crypto/ssh has no type for the client's side of it.
func isSSHAuth(err error) bool {
	return err != nil && strings.Contains(err.Error(), "ssh: unable to authenticate")
}

// isHostKey finds a server whose key is unknown, another one, or revoked.
func isHostKey(err error) bool {
	var unknown *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	return errors.As(err, &unknown) || errors.As(err, &revoked)
}

// isForbiddenAddress finds an address that outbound policy refused.
func isForbiddenAddress(err error) bool { return errors.Is(err, outbound.ErrForbidden) }
