package commitsig

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

type pgpKeys struct{ ring openpgp.EntityList }

// AddPGPKeys allows the holders of OpenPGP public keys: any number of armoured blocks, as `gpg --armor --export` writes them.
func (s *Signers) AddPGPKeys(text []byte) error {
	keys := &pgpKeys{}
	in := bytes.NewReader(text)
	for n := 1; ; n++ {
		block, err := armor.Decode(in)
		if errors.Is(err, io.EOF) && n > 1 {
			break
		}
		if err != nil || block.Type != openpgp.PublicKeyType {
			return fmt.Errorf("block %d is no armoured PGP public key", n)
		}
		ring, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return fmt.Errorf("block %d can't be read: %w", n, err)
		}
		keys.ring = append(keys.ring, ring...)
	}
	s.pgp = keys
	return nil
}

func (s *Signers) verifyPGP(c commit, signature string, now time.Time) (string, error) {
	if s.pgp == nil {
		return "", fmt.Errorf("%w: it has a PGP signature, and no PGP keys are listed", ErrUntrusted)
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	block, err := armor.Decode(strings.NewReader(signature))
	if err != nil || block.Type != openpgp.SignatureType {
		return "", fmt.Errorf("%w: its armour can't be read", ErrInvalid)
	}
	made, entity, err := openpgp.VerifyDetachedSignature(s.pgp.ring, bytes.NewReader(c.payload), block.Body, config)
	switch {
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return "", ErrUntrusted
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	case made.SigType != packet.SigTypeBinary || !slices.Contains([]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}, made.Hash):
		return "", fmt.Errorf("%w: it rests on %s, or was made over a text", ErrInvalid, made.Hash)
	}
	return nameOf(entity), nil
}

func nameOf(e *openpgp.Entity) string {
	if id := e.PrimaryIdentity(); id != nil {
		return id.Name
	}
	return e.PrimaryKey.KeyIdString()
}
