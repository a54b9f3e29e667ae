// Package commitsig checks who signed a Git commit, against lists of those who may: SSH keys in the form of OpenSSH's
// allowed_signers file, and OpenPGP keys. It also signs commits, with either kind.
//
// It fails closed: a commit without a signature, with several, with one of another kind, by a key that is not listed, was
// not valid then, or over other bytes is an error, and so is a line of a list that is not understood. The package is
// pure; Signers are built by one goroutine and then safe for concurrent use.
package commitsig

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kinds of failure.
var (
	// ErrUnsigned says that the commit has no signature.
	ErrUnsigned = errors.New("the commit is not signed")
	// ErrUntrusted says that the commit is signed, but by none that the lists allow.
	ErrUntrusted = errors.New("the commit is signed by none of the allowed signers")
	// ErrInvalid says that the signature does not fit the commit or can't be read.
	ErrInvalid = errors.New("the commit's signature is not valid")
)

// Signers are those who may sign. The zero value allows nobody.
type Signers struct {
	ssh []sshSigner
	pgp *pgpKeys
}

// Verify checks the signature of a commit object, and returns who signed it. now is the clock for keys that expire.
func (s *Signers) Verify(commit []byte, now time.Time) (signer string, err error) {
	c, err := parse(commit)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case len(c.signatures) == 0:
		return "", ErrUnsigned
	case len(c.signatures) > 1:
		return "", fmt.Errorf("%w: there is more than one", ErrInvalid)
	}
	signature := c.signatures[0]
	switch {
	case strings.HasPrefix(signature, "-----BEGIN SSH SIGNATURE-----"):
		return s.verifySSH(c, signature)
	case strings.HasPrefix(signature, "-----BEGIN PGP "):
		return s.verifyPGP(c, signature, now)
	}
	return "", fmt.Errorf("%w: it is neither an SSH nor a PGP signature", ErrInvalid)
}

// commit is a commit object taken apart: the signature is a header, and covers all the rest (gitformat-signature).
type commit struct {
	signatures []string
	payload    []byte
	committed  time.Time
}

func parse(object []byte) (commit, error) {
	var c commit
	head, body, found := bytes.Cut(object, []byte("\n\n"))
	if !found {
		return c, errors.New("the commit is malformed")
	}
	signing := false
	for line := range strings.SplitSeq(string(head), "\n") {
		name, value, _ := strings.Cut(line, " ")
		switch {
		case name == "" && signing: // the header's next line
			c.signatures[len(c.signatures)-1] += "\n" + value
			continue
		case name == "gpgsig":
			c.signatures, signing = append(c.signatures, value), true
			continue
		case name == "gpgsig-sha256":
			return c, errors.New("it is one of a SHA-256 repository")
		case name == "committer":
			var err error
			if c.committed, err = timeOf(value); err != nil {
				return c, err
			}
		}
		signing = false
		c.payload = append(append(c.payload, line...), '\n')
	}
	c.payload = append(append(c.payload, '\n'), body...)
	if c.committed.IsZero() {
		return c, errors.New("the commit has no committer")
	}
	return c, nil
}

// timeOf reads the end of a line like "Ana <ana@example.org> 1700000000 +0100".
func timeOf(who string) (time.Time, error) {
	fields := strings.Fields(who[strings.LastIndexByte(who, '>')+1:])
	if len(fields) != 2 {
		return time.Time{}, errors.New("the committer's time is malformed")
	}
	seconds, err := strconv.ParseInt(fields[0], 10, 40)
	if err != nil || seconds <= 0 {
		return time.Time{}, errors.New("the committer's time is malformed")
	}
	return time.Unix(seconds, 0).UTC(), nil
}
