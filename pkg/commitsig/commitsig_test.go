package commitsig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
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
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"golang.org/x/crypto/ssh"
)

const payload = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor Ana <ana@example.org> 1700000000 +0000\ncommitter Ana <ana@example.org> 1700000000 +0100\n\nchange rules\n\nnot the end\n"

// signed puts a signature into a commit as git does.
func signed(commit, signature string) []byte {
	head, body, _ := strings.Cut(commit, "\n\n")
	return []byte(head + "\ngpgsig " + strings.ReplaceAll(strings.TrimRight(signature, "\n"), "\n", "\n ") + "\n\n" + body)
}

func newSigner(t testing.TB, key crypto.Signer) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ed(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newSigner(t, key)
}

// sign makes an SSH signature; change sees what is signed before it is.
func sign(t testing.TB, signer ssh.Signer, message, algorithm string, change func(*sshBlob)) string {
	t.Helper()
	b := sshBlob{Magic: [6]byte([]byte(sshMagic)), Version: 1, PublicKey: signer.PublicKey().Marshal(), Namespace: sshNamespace, Hash: "sha512"}
	if change != nil {
		change(&b)
	}
	sum := sha512.Sum512([]byte(message))
	data := ssh.Marshal(sshSigned{b.Magic, b.Namespace, b.Reserved, b.Hash, sum[:]})
	s, err := signer.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, data, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	b.Signature = ssh.Marshal(s)
	return string(pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: ssh.Marshal(b)}))
}

func line(s ssh.Signer, principals, options string) string {
	return principals + " " + options + " " + string(ssh.MarshalAuthorizedKey(s.PublicKey()))
}

func sshSigners(t testing.TB, text string) *Signers {
	t.Helper()
	s := &Signers{}
	if err := s.AddSSHSigners([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSSHSignatures(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ana, rsaSigner, ec := ed(t), newSigner(t, rsaKey), newSigner(t, ecKey)
	list := "# who may\n\n" + line(ana, "ana@example.org", "") + line(rsaSigner, `"bob@example.org,b*"`, `namespaces="file,git"`) + line(ec, "eve", "")
	s := sshSigners(t, list)
	for _, tt := range []struct{ signature, want string }{
		{sign(t, ana, payload, ssh.KeyAlgoED25519, nil), "ana@example.org"},
		{sign(t, rsaSigner, payload, ssh.KeyAlgoRSASHA512, nil), "bob@example.org,b*"},
		{sign(t, ec, payload, ssh.KeyAlgoECDSA256, nil), "eve"},
	} {
		if who, err := s.Verify(signed(payload, tt.signature), time.Now()); err != nil || who != tt.want {
			t.Errorf("%q, %v; want %q", who, err, tt.want)
		}
	}
	by := func(signer ssh.Signer, change func(*sshBlob)) []byte {
		return signed(payload, sign(t, signer, payload, ssh.KeyAlgoED25519, change))
	}
	good := sign(t, ana, payload, ssh.KeyAlgoED25519, nil)
	for name, tt := range map[string]struct {
		object []byte
		want   error
	}{
		"unsigned":           {[]byte(payload), ErrUnsigned},
		"a stranger":         {by(ed(t), nil), ErrUntrusted},
		"another commit":     {signed(strings.Replace(payload, "4b825", "4b826", 1), good), ErrInvalid},
		"another message":    {signed(payload+"x", good), ErrInvalid},
		"another key's":      {by(ed(t), func(b *sshBlob) { b.PublicKey = ana.PublicKey().Marshal() }), ErrInvalid},
		"for files":          {by(ana, func(b *sshBlob) { b.Namespace = "file" }), ErrInvalid},
		"an unknown version": {by(ana, func(b *sshBlob) { b.Version = 2 }), ErrInvalid},
		"a weak hash":        {by(ana, func(b *sshBlob) { b.Hash = "sha1" }), ErrInvalid},
		"SHA-1 of RSA":       {signed(payload, sign(t, rsaSigner, payload, ssh.KeyAlgoRSA, nil)), ErrInvalid},
		"twice":              {signed(string(signed(payload, good)), good), ErrInvalid},
		"cut off":            {signed(payload, good[:len(good)/2]), ErrInvalid},
		"more in it":         {signed(payload, good+good), ErrInvalid},
		"S/MIME":             {signed(payload, "-----BEGIN SIGNED MESSAGE-----\nx\n-----END SIGNED MESSAGE-----"), ErrInvalid},
		"SHA-256":            {[]byte(strings.Replace(string(signed(payload, good)), "gpgsig", "gpgsig-sha256", 1)), ErrInvalid},
		"PGP":                {signed(payload, "-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----"), ErrUntrusted},
		"in the message":     {[]byte(payload + "\ngpgsig " + good), ErrUnsigned},
		"nothing":            {nil, ErrInvalid},
		"no committer":       {[]byte("tree x\n\n"), ErrInvalid},
	} {
		if who, err := s.Verify(tt.object, time.Now()); !errors.Is(err, tt.want) || who != "" {
			t.Errorf("%s: %q, %v", name, who, err)
		}
	}
	if _, err := new(Signers).Verify(signed(payload, good), time.Now()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("an empty list: %v", err)
	}
}

func TestOptionsOfAnAllowedSigner(t *testing.T) {
	ana := ed(t)
	object := signed(payload, sign(t, ana, payload, ssh.KeyAlgoED25519, nil)) // of 14 November 2023, 22:13:20 UTC
	for options, allowed := range map[string]bool{
		`valid-after="20231114"`:                         true,
		`valid-after="20231114221320Z"`:                  true,
		`valid-after="20231114221321Z"`:                  false,
		`valid-before="202311142214"`:                    true,
		`valid-before="20231114221320"`:                  false,
		`valid-after="20230101",valid-before="20240101"`: true,
		`namespaces="git"`:                               true,
		`namespaces="file"`:                              false,
		`namespaces="git",valid-before="20200101"`:       false,
		`NAMESPACES="git,file",Valid-After="20200101"`:   true,
	} {
		_, err := sshSigners(t, line(ana, "ana", options)).Verify(object, time.Now())
		if allowed != (err == nil) || err != nil && !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", options, err)
		}
	}
	both := line(ana, "ana", `valid-before="20200101"`) + line(ana, "ana-again", "")
	if who, err := sshSigners(t, both).Verify(object, time.Now()); err != nil || who != "ana-again" {
		t.Errorf("a key on two lines: %q, %v", who, err)
	}
}

func TestBadLists(t *testing.T) {
	ana := ed(t)
	for text, want := range map[string]string{
		"":                                     "lists nobody",
		"# nobody\n":                           "lists nobody",
		"ana":                                  "line 1",
		"\nana ssh-ed25519 AAAA":               "line 2",
		line(ana, "ana", "cert-authority"):     "cert-authority is not supported",
		line(ana, "ana", "no-pty"):             `option "no-pty" is not known`,
		line(ana, "ana", `valid-after="soon"`): `"soon" is no time`,
		string(ssh.MarshalAuthorizedKey(ana.PublicKey())): "line 1",
	} {
		s := &Signers{}
		if err := s.AddSSHSigners([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || len(s.ssh) > 0 {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"", "x", "-----BEGIN PGP MESSAGE-----\n\naaaa\n-----END PGP MESSAGE-----"} {
		if err := new(Signers).AddPGPKeys([]byte(text)); err == nil {
			t.Errorf("PGP keys %q: no error", text)
		}
	}
}

// TestWhatGitSigns checks what the git program and ssh-keygen make.
func TestWhatGitSigns(t *testing.T) {
	for _, program := range []string{"git", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not on PATH")
		}
	}
	dir := t.TempDir()
	do := func(name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1"}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v", name, args, err)
		}
		return string(out)
	}
	do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ana", "-f", "key")
	do("git", "init", "--quiet", ".")
	do("git", "-c", "gpg.format=ssh", "-c", "user.signingKey="+filepath.Join(dir, "key.pub"), "-c", "user.name=ana", "-c", "user.email=ana@example.org",
		"commit", "--quiet", "--allow-empty", "--gpg-sign", "--message", "Signed\n\nby git")
	object := do("git", "cat-file", "commit", "HEAD")
	public, err := os.ReadFile(filepath.Join(dir, "key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	s := sshSigners(t, "ana@example.org "+string(public))
	if who, err := s.Verify([]byte(object), time.Now()); err != nil || who != "ana@example.org" {
		t.Errorf("%q, %v\n%s", who, err, object)
	}
	if _, err := s.Verify([]byte(strings.Replace(object, "by git", "by me!", 1)), time.Now()); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func newEntity(t testing.TB, config *packet.Config) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("Ana", "", "ana@example.org", config)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func pgpSign(t testing.TB, e *openpgp.Entity, message string, config *packet.Config) string {
	t.Helper()
	var out bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&out, e, strings.NewReader(message), config); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func export(t testing.TB, e *openpgp.Entity) string {
	t.Helper()
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Serialize(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String() + "\n"
}

// on is the configuration of somebody for whom it is that day.
func on(t testing.TB, day string) *packet.Config {
	t.Helper()
	now, err := time.Parse(time.DateOnly, day)
	if err != nil {
		t.Fatal(err)
	}
	return &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return now }}
}

func TestPGPSignatures(t *testing.T) {
	made, expiring := on(t, "2023-11-01"), on(t, "2023-11-01")
	ana, bob, stranger, revoked := newEntity(t, made), newEntity(t, made), newEntity(t, made), newEntity(t, made)
	expiring.KeyLifetimeSecs = 86400
	expired := newEntity(t, expiring)
	byRevoked := pgpSign(t, revoked, payload, made)
	if err := revoked.RevokeKey(packet.KeyCompromised, "", made); err != nil {
		t.Fatal(err)
	}
	s := &Signers{}
	if err := s.AddPGPKeys([]byte(export(t, ana) + export(t, bob) + export(t, expired) + export(t, revoked))); err != nil {
		t.Fatal(err)
	}
	signing := on(t, "2023-11-14")
	for name, tt := range map[string]struct {
		object []byte
		want   error
	}{
		"allowed":        {signed(payload, pgpSign(t, ana, payload, signing)), nil},
		"the second key": {signed(payload, pgpSign(t, bob, payload, signing)), nil},
		"a stranger":     {signed(payload, pgpSign(t, stranger, payload, signing)), ErrUntrusted},
		"another commit": {signed(payload, pgpSign(t, ana, payload+"x", signing)), ErrInvalid},
		"an expired key": {signed(payload, pgpSign(t, expired, payload, made)), ErrInvalid},
		"a revoked key":  {signed(payload, byRevoked), ErrUntrusted},
		"no armour":      {signed(payload, "-----BEGIN PGP SIGNATURE-----\n\n=\n-----END PGP SIGNATURE-----"), ErrInvalid},
		"an SSH key's":   {signed(payload, sign(t, ed(t), payload, ssh.KeyAlgoED25519, nil)), ErrUntrusted},
	} {
		who, err := s.Verify(tt.object, on(t, "2024-06-01").Time())
		if !errors.Is(err, tt.want) || (err == nil) != strings.Contains(who, "ana@example.org") {
			t.Errorf("%s: %q, %v", name, who, err)
		}
	}
}

// TestWhatGPGSigns checks what the gpg program makes, also with a hash that no longer proves anything.
func TestWhatGPGSigns(t *testing.T) {
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Skip("gpg is not on PATH")
	}
	home, err := os.MkdirTemp("", "gpg") // its agent's socket must have a short path
	if err != nil {
		t.Fatal(err)
	}
	run := func(stdin, name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(stdin)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GNUPGHOME=" + home}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v", name, args, err)
		}
		return string(out)
	}
	t.Cleanup(func() {
		run("", "gpgconf", "--kill", "all")
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	gpg := func(stdin string, args ...string) string {
		return run(stdin, "gpg", append([]string{"--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	}
	gpg("", "--quick-generate-key", "Ana <ana@example.org>", "ed25519", "sign")
	s := &Signers{}
	if err := s.AddPGPKeys([]byte(gpg("", "--armor", "--export"))); err != nil {
		t.Fatal(err)
	}
	if who, err := s.Verify(signed(payload, gpg(payload, "--armor", "--detach-sign")), time.Now()); err != nil || who != "Ana <ana@example.org>" {
		t.Errorf("%q, %v", who, err)
	}
	weak := gpg(payload, "--armor", "--detach-sign", "--digest-algo", "SHA1", "--allow-weak-digest-algos")
	if _, err := s.Verify(signed(payload, weak), time.Now()); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "SHA-1") {
		t.Error(err)
	}
	text := gpg(payload, "--armor", "--detach-sign", "--textmode")
	if _, err := s.Verify(signed(payload, text), time.Now()); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func FuzzVerify(f *testing.F) {
	ana := ed(f)
	s := sshSigners(f, line(ana, "ana", ""))
	e := newEntity(f, on(f, "2023-11-01"))
	if err := s.AddPGPKeys([]byte(export(f, e))); err != nil {
		f.Fatal(err)
	}
	f.Add(signed(payload, sign(f, ana, payload, ssh.KeyAlgoED25519, nil)))
	f.Add(signed(payload, pgpSign(f, e, payload, on(f, "2023-11-14"))))
	f.Add([]byte(payload))
	now := on(f, "2024-06-01").Time()
	f.Fuzz(func(t *testing.T, object []byte) {
		if _, err := s.Verify(object, now); err != nil {
			return
		}
		// What is accepted was signed: without its signature it is the payload, and nothing else was.
		if c, err := parse(object); err != nil || string(c.payload) != payload {
			t.Fatalf("accepted %q", object)
		}
	})
}

func FuzzAddSSHSigners(f *testing.F) {
	f.Add(line(ed(f), "ana", `namespaces="git",valid-after="20200101"`))
	f.Add(`"ana,bob" ssh-ed25519 AAAA`)
	f.Fuzz(func(t *testing.T, text string) {
		s := &Signers{}
		if err := s.AddSSHSigners([]byte(text)); err == nil && len(s.ssh) == 0 {
			t.Fatal("a list of nobody")
		}
	})
}
