package commitsig

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"golang.org/x/crypto/ssh"
)

// ErrKey says that a private key can't be used. Its text never holds a part of the key.
var ErrKey = errors.New("the signing key can't be used")

// Signer signs commits with one private key. It is safe for concurrent use.
type Signer struct {
	ssh ssh.Signer
	pgp *openpgp.Entity
}

// NewSigner reads a private key without a passphrase: an SSH key in PEM, as ssh-keygen writes it, or an armoured OpenPGP key.
func NewSigner(key []byte) (*Signer, error) {
	if bytes.Contains(key, []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----")) {
		return newPGPSigner(key)
	}
	// A secret from a variable or file often lacks the line break at its end, which the format wants.
	signer, err := ssh.ParsePrivateKey(append(bytes.TrimSpace(key), '\n'))
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, fmt.Errorf("%w: it has a passphrase; give one without", ErrKey)
	case err != nil:
		return nil, fmt.Errorf("%w: it is neither an SSH private key in PEM nor an armoured PGP private key", ErrKey)
	case signer.PublicKey().Type() == "ssh-dss":
		return nil, fmt.Errorf("%w: DSA rests on SHA-1", ErrKey)
	}
	return &Signer{ssh: signer}, nil
}

func newPGPSigner(key []byte) (*Signer, error) {
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(key))
	if err != nil || len(ring) != 1 || ring[0].PrivateKey == nil {
		return nil, fmt.Errorf("%w: it is not one armoured PGP private key", ErrKey)
	}
	if ring[0].PrivateKey.Encrypted {
		return nil, fmt.Errorf("%w: it has a passphrase; give one without", ErrKey)
	}
	return &Signer{pgp: ring[0]}, nil
}

// Sign returns the armoured signature of a commit object without one, as git puts it into the header gpgsig; now is the
// time that an OpenPGP signature bears.
func (s *Signer) Sign(commit []byte, now time.Time) (string, error) {
	if s.pgp != nil {
		var out strings.Builder
		config := &packet.Config{DefaultHash: crypto.SHA256, Time: func() time.Time { return now }}
		if err := openpgp.ArmoredDetachSign(&out, s.pgp, bytes.NewReader(commit), config); err != nil {
			return "", fmt.Errorf("%w: %w", ErrKey, err)
		}
		return out.String() + "\n", nil
	}
	return s.signSSH(commit)
}

func (s *Signer) signSSH(commit []byte) (string, error) {
	sum := sha512.Sum512(commit)
	blob := sshBlob{Version: 1, PublicKey: s.ssh.PublicKey().Marshal(), Namespace: sshNamespace, Hash: "sha512"}
	copy(blob.Magic[:], sshMagic)
	signature, err := s.raw(ssh.Marshal(sshSigned{Magic: blob.Magic, Namespace: blob.Namespace, Hash: blob.Hash, Digest: sum[:]}))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrKey, err)
	}
	blob.Signature = ssh.Marshal(signature)
	return string(pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: ssh.Marshal(blob)})), nil
}

// raw signs; of an RSA key with SHA-2, whose default is SHA-1.
func (s *Signer) raw(message []byte) (*ssh.Signature, error) {
	if by, ok := s.ssh.(ssh.AlgorithmSigner); ok && s.ssh.PublicKey().Type() == ssh.KeyAlgoRSA {
		return by.SignWithAlgorithm(rand.Reader, message, ssh.KeyAlgoRSASHA512)
	}
	return s.ssh.Sign(rand.Reader, message)
}
