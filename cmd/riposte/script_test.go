package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"riposte": main}) }

// TestScripts runs testdata/script: what each command prints, answers and refuses, as its user sees it. Each script has a
// directory of its own, where servers listen on free ports of loopback. UPDATE_SCRIPTS=1 writes what commands print now into
// the files that scripts compare it with.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			for _, listener := range []string{"HOOKS", "ADMIN", "HEALTH"} {
				env.Setenv("RIPOSTE_"+listener+"_LISTEN", "127.0.0.1:0")
			}
			env.Setenv("RIPOSTE_EVENT_LOG_RESERVE_BYTES", "1MiB")     // the tests' disk may be nearly full
			env.Setenv("GORACE", "halt_on_error=1 atexit_sleep_ms=0") // the race detector holds each process up for a second otherwise
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "eventually": eventually, "capture": capture, "fields": fields, "certify": certify,
		},
	})
}

// exits runs a command that must end with the code: exits 2 riposte …
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	code := 0
	var ended *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &ended) {
		code = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("it ended with %d, not %s", code, args[0])
	}
}

// eventually runs a command again and again until it succeeds and its output matches: eventually REGEXP riposte …
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually REGEXP COMMAND…")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		if err := ts.Exec(args[1], args[2:]...); err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%v never printed %s; at last\n%s%s", args[1:], args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
}

// capture takes a value out of the JSON that the last command printed: capture ID items.0.id
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture VARIABLE PATH")
	}
	text, ok := value(ts, args[1]).(string)
	if !ok || text == "" {
		ts.Fatalf("there is no text at %s", args[1])
	}
	ts.Setenv(args[0], text)
}

// fields demands that an object of the JSON that the last command printed has exactly these fields: fields items.0 id source …
func fields(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fields PATH NAME…")
	}
	object, _ := value(ts, args[0]).(map[string]any)
	got, want := slices.Sorted(maps.Keys(object)), slices.Sorted(slices.Values(args[1:]))
	if !slices.Equal(got, want) {
		ts.Fatalf("the fields are %v, not %v", got, want)
	}
}

// value finds what is at a path such as items.0.id; a dot alone is the whole.
func value(ts *testscript.TestScript, path string) any {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	for key := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '.' }) {
		switch at := v.(type) {
		case map[string]any:
			v = at[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(at) {
				return nil
			}
			v = at[i]
		}
	}
	return v
}

// certify makes an authority, and a certificate of it for a name or an address: certify DIR NAME
func certify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: certify DIR NAME")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	if ip := net.ParseIP(args[1]); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	} else {
		leaf.DNSNames = []string{args[1]}
	}
	authorityKey, leafKey := newKey(ts), newKey(ts)
	writePEM(ts, filepath.Join(dir, "ca.pem"), "CERTIFICATE")(x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey))
	writePEM(ts, filepath.Join(dir, "tls.crt"), "CERTIFICATE")(x509.CreateCertificate(rand.Reader, leaf, authority, leafKey.Public(), authorityKey))
	writePEM(ts, filepath.Join(dir, "tls.key"), "PRIVATE KEY")(x509.MarshalPKCS8PrivateKey(leafKey))
}

func newKey(ts *testscript.TestScript) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	return key
}

// writePEM returns what writes the result of a function of crypto/x509.
func writePEM(ts *testscript.TestScript, name, kind string) func([]byte, error) {
	return func(der []byte, err error) {
		ts.Check(err)
		ts.Check(os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
}
