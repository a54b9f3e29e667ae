package commitsig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"golang.org/x/crypto/ssh"
)

func sshPrivate(t *testing.T, key crypto.PrivateKey) []byte {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block)
}

func TestSignWithSSH(t *testing.T) {
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.PrivateKey{"ed25519": edKey, "rsa": rsaKey, "ecdsa": ecKey} {
		t.Run(name, func(t *testing.T) {
			private := sshPrivate(t, key)
			signer, err := NewSigner(bytes.TrimSpace(private)) // as a secret without its last line break
			if err != nil {
				t.Fatal(err)
			}
			signature, err := signer.Sign([]byte(payload), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			public, err := ssh.ParsePrivateKey(private)
			if err != nil {
				t.Fatal(err)
			}
			list := line(public, "ana@example.org", "")
			who, err := sshSigners(t, list).Verify(signed(payload, signature), time.Now())
			if who != "ana@example.org" || err != nil {
				t.Errorf("%q, %v", who, err)
			}
			keygenVerifies(t, list, signature)
		})
	}
}

// keygenVerifies asks OpenSSH.
func keygenVerifies(t *testing.T, list, signature string) {
	t.Helper()
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("ssh-keygen is not on PATH: install openssh-client")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"signers": list, "sig": signature} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(keygen, "-Y", "verify", "-f", "signers", "-I", "ana@example.org", "-n", "git", "-s", "sig")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(payload)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen: %v: %s", err, out)
	}
}

func armoured(t *testing.T, kind string, write func(*bytes.Buffer) error) []byte {
	t.Helper()
	var body, out bytes.Buffer
	if err := write(&body); err != nil {
		t.Fatal(err)
	}
	w, err := armor.Encode(&out, kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := body.WriteTo(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestSignWithPGP(t *testing.T) {
	entity, err := openpgp.NewEntity("Ana", "", "ana@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := NewSigner(armoured(t, openpgp.PrivateKeyType, func(b *bytes.Buffer) error { return entity.SerializePrivate(b, nil) }))
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign([]byte(payload), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := &Signers{}
	if err := s.AddPGPKeys(armoured(t, openpgp.PublicKeyType, func(b *bytes.Buffer) error { return entity.Serialize(b) })); err != nil {
		t.Fatal(err)
	}
	if who, err := s.Verify(signed(payload, signature), time.Now()); err != nil || !strings.Contains(who, "Ana") {
		t.Errorf("%q, %v", who, err)
	}
}

func TestKeysThatCannotSign(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	entity, err := openpgp.NewEntity("Ana", "", "ana@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	public := armoured(t, openpgp.PublicKeyType, func(b *bytes.Buffer) error { return entity.Serialize(b) })
	if err := entity.PrivateKey.Encrypt([]byte("hunter2")); err != nil {
		t.Fatal(err)
	}
	lockedPGP := armoured(t, openpgp.PrivateKeyType, func(b *bytes.Buffer) error { return entity.SerializePrivateWithoutSigning(b, nil) })
	for name, c := range map[string]struct {
		key  []byte
		want string
	}{
		"empty":          {nil, "neither"},
		"not a key":      {[]byte("hunter2"), "neither"},
		"passphrase":     {pem.EncodeToMemory(locked), "passphrase"},
		"public PGP":     {public, "neither"},
		"locked PGP":     {lockedPGP, "passphrase"},
		"broken PGP key": {[]byte("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nhunter2\n"), "not one armoured"},
	} {
		_, err := NewSigner(c.key)
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzNewSigner(f *testing.F) {
	f.Add([]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n-----END PGP PRIVATE KEY BLOCK-----\n"))
	f.Fuzz(func(t *testing.T, key []byte) {
		if s, err := NewSigner(key); (s == nil) != (err != nil) {
			t.Errorf("%v, %v", s, err)
		}
	})
}
