package client

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// Endpoint is a listener of a server, and what it has to prove where it speaks TLS.
type Endpoint struct {
	URL string // "https://riposte.example.com:8081"; without a scheme it is http
	// CAFile holds, in PEM, the authorities to trust instead of the system's; empty trusts the system's.
	CAFile string
	// CertFile holds the listener's certificate itself, where the server is one of this machine: whoever shows it is the
	// server, whatever name it is made out for. Empty goes by the name and the authorities alone.
	CertFile string
}

func (e Endpoint) String() string { return e.URL }

// open checks the address, and makes what connects to it.
func (e Endpoint) open() (base string, _ *http.Client, err error) {
	if !strings.Contains(e.URL, "://") {
		e.URL = "http://" + e.URL
	}
	u, err := url.Parse(e.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", nil, &Error{Msg: fmt.Sprintf("server address %q is not a URL", e.URL), Hint: "write it as http://127.0.0.1:8081"}
	}
	base = strings.TrimRight(e.URL, "/")
	if u.Scheme == "http" || e.CAFile == "" && e.CertFile == "" {
		return base, &http.Client{}, nil
	}
	trust, err := e.trust()
	if err != nil {
		return "", nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // documented by net/http
	transport.TLSClientConfig = trust
	return base, &http.Client{Transport: transport}, nil
}

// trust says whom to believe that they are the server.
func (e Endpoint) trust() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if e.CAFile != "" {
		text, err := os.ReadFile(e.CAFile)
		if err != nil {
			return nil, &Error{Msg: fmt.Sprintf("the authorities to trust: %v", err), Hint: "--ca-file or RIPOSTE_CA_FILE names their file", Err: err}
		}
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, &Error{Msg: "the authorities to trust: no certificate is in " + e.CAFile, Hint: "it must be PEM, with a line BEGIN CERTIFICATE"}
		}
	}
	if e.CertFile == "" {
		return c, nil
	}
	own, err := firstCertificate(e.CertFile)
	switch {
	case err == nil:
		// A root that is shown itself needs no issuer, and it need not be made out for the loopback address.
		c.RootCAs.AddCert(own)
		c.ServerName = nameOf(own)
	case e.CAFile == "":
		return nil, &Error{Msg: fmt.Sprintf("the certificate of the server on this machine: %v", err), Hint: "--ca-file names a file to trust instead, or run this as the server's user", Err: err}
	}
	return c, nil
}

// firstCertificate reads a listener's own certificate: the first of its chain.
func firstCertificate(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, fmt.Errorf("no certificate is in %s", file)
}

// nameOf returns a name that the certificate is made out for, or "".
func nameOf(c *x509.Certificate) string {
	if len(c.DNSNames) > 0 {
		return strings.Replace(c.DNSNames[0], "*", "riposte", 1)
	}
	if len(c.IPAddresses) > 0 {
		return c.IPAddresses[0].String()
	}
	return ""
}

// unreachable says that nobody answers, or not who should. net/http's error repeats the whole request: what is below it
// says why.
func unreachable(address string, err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return &Error{Msg: fmt.Sprintf("the certificate of the server at %s is not trusted: %v", address, untrusted.Err), Hint: "--ca-file or RIPOSTE_CA_FILE names the file of the authority to trust", Err: err}
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		err = dial.Err
	}
	return &Error{Msg: fmt.Sprintf("no server answers at %s: %v", address, err), Hint: "is it running? After a crash or a move --data or --server may name another", Err: err}
}
