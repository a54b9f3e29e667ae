package commitsig

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// sshSigner is one line of an allowed_signers file (ssh-keygen(1), ALLOWED SIGNERS).
type sshSigner struct {
	principals    string
	key           []byte
	namespaces    []string // empty: all
	after, before time.Time
}

// AddSSHSigners allows the keys of an allowed_signers file. The options namespaces, valid-after and valid-before count;
// cert-authority and unknown ones are refused.
func (s *Signers) AddSSHSigners(text []byte) error {
	var signers []sshSigner
	n := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		signer, err := parseSigner(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		signers = append(signers, signer)
	}
	if len(signers) == 0 {
		return errors.New("it lists nobody")
	}
	s.ssh = append(s.ssh, signers...)
	return nil
}

func parseSigner(line string) (sshSigner, error) {
	var s sshSigner
	var rest string
	if s.principals, rest = word(line); s.principals == "" || rest == "" {
		return s, errors.New("a line is PRINCIPALS [OPTIONS] KEYTYPE KEY")
	}
	// Options and key are written as in authorized_keys.
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return s, errors.New("there is no public key that can be read")
	}
	s.key = key.Marshal()
	for _, o := range options {
		if err := s.option(o); err != nil {
			return s, err
		}
	}
	return s, nil
}

// word cuts off the first word, which may stand in quotes.
func word(line string) (first, rest string) {
	if quoted, ok := strings.CutPrefix(line, `"`); ok {
		first, rest, _ = strings.Cut(quoted, `"`)
		return first, strings.TrimSpace(rest)
	}
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimSpace(line[i:])
}

func (s *sshSigner) option(text string) (err error) {
	name, value, _ := strings.Cut(text, "=")
	value = strings.Trim(value, `"`)
	switch strings.ToLower(name) {
	case "namespaces":
		s.namespaces = strings.Split(value, ",")
	case "valid-after":
		s.after, err = validity(value)
	case "valid-before":
		s.before, err = validity(value)
	case "cert-authority":
		return errors.New("cert-authority is not supported: list the keys themselves")
	default:
		return fmt.Errorf("option %q is not known", name)
	}
	return err
}

// validity reads YYYYMMDD[HHMM[SS]][Z]. Without Z OpenSSH means local time; here it is UTC, so that all replicas agree.
func validity(text string) (time.Time, error) {
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if t, err := time.Parse(layout, strings.TrimSuffix(text, "Z")); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time like 20060102 or 20060102150405Z", text)
}

const (
	sshNamespace = "git" // what git signs in
	sshMagic     = "SSHSIG"
)

// sshBlob is what an SSH signature's armour holds (openssh-portable, PROTOCOL.sshsig).
type sshBlob struct {
	Magic     [6]byte
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// sshSigned is what is really signed.
type sshSigned struct {
	Magic     [6]byte
	Namespace string
	Reserved  string
	Hash      string
	Digest    []byte
}

func (s *Signers) verifySSH(c commit, armoured string) (string, error) {
	blob, err := parseSSH(armoured)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	who, err := s.allowed(blob.PublicKey, c.committed)
	if err != nil {
		return "", err
	}
	if err := blob.verify(c.payload); err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return who, nil
}

// allowed finds the signer of a key, who must have been valid when the commit was made: that is how git asks too.
func (s *Signers) allowed(key []byte, at time.Time) (string, error) {
	var reason error
	for _, signer := range s.ssh {
		switch {
		case !bytes.Equal(signer.key, key):
		case len(signer.namespaces) > 0 && !slices.Contains(signer.namespaces, sshNamespace):
			reason = fmt.Errorf("%w: %s may not sign in git", ErrUntrusted, signer.principals)
		case at.Before(signer.after) || !signer.before.IsZero() && !at.Before(signer.before):
			reason = fmt.Errorf("%w: the key of %s was not valid when the commit was made", ErrUntrusted, signer.principals)
		default:
			return signer.principals, nil
		}
	}
	if reason != nil {
		return "", reason
	}
	if public, err := ssh.ParsePublicKey(key); err == nil {
		return "", fmt.Errorf("%w: its key is %s", ErrUntrusted, ssh.FingerprintSHA256(public))
	}
	return "", ErrUntrusted
}

func parseSSH(armoured string) (sshBlob, error) {
	var b sshBlob
	block, rest := pem.Decode([]byte(armoured))
	if block == nil || block.Type != "SSH SIGNATURE" || len(bytes.TrimSpace(rest)) > 0 {
		return b, errors.New("its armour can't be read")
	}
	if err := ssh.Unmarshal(block.Bytes, &b); err != nil {
		return b, errors.New("it can't be read")
	}
	switch {
	case string(b.Magic[:]) != sshMagic || b.Version != 1:
		return b, errors.New("it is of an unknown version")
	case b.Namespace != sshNamespace:
		return b, fmt.Errorf("it was made for %q, not for %s", b.Namespace, sshNamespace)
	}
	return b, nil
}

func (b *sshBlob) verify(message []byte) error {
	signed := sshSigned{Magic: b.Magic, Namespace: b.Namespace, Reserved: b.Reserved, Hash: b.Hash}
	switch b.Hash {
	case "sha256":
		sum := sha256.Sum256(message)
		signed.Digest = sum[:]
	case "sha512":
		sum := sha512.Sum512(message)
		signed.Digest = sum[:]
	default:
		return fmt.Errorf("hash %q is not allowed", b.Hash)
	}
	key, err := ssh.ParsePublicKey(b.PublicKey)
	if err != nil {
		return errors.New("its key can't be read")
	}
	var signature ssh.Signature
	if err := ssh.Unmarshal(b.Signature, &signature); err != nil {
		return errors.New("it can't be read")
	}
	if signature.Format == ssh.KeyAlgoRSA || key.Type() == "ssh-dss" {
		return fmt.Errorf("a signature of type %s rests on SHA-1", signature.Format)
	}
	return key.Verify(ssh.Marshal(signed), &signature)
}
