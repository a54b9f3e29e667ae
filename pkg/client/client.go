// Package client talks to a server's admin API, and sends events to its hooks listener the way a sender would.
// A Client is safe for concurrent use.
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Listen is what a running server writes into its data directory: where it listens.
type Listen struct {
	Hooks  string `json:"hooks"`
	Admin  string `json:"admin"`
	Health string `json:"health"`
	// Certificates are there where a listener speaks TLS.
	Certificates Certificates `json:"certificates,omitzero"`
}

// Certificates name the PEM files of the listeners' certificates; empty where a listener speaks plain HTTP.
type Certificates struct {
	Hooks string `json:"hooks,omitempty"`
	Admin string `json:"admin,omitempty"`
}

// HooksEndpoint is where senders on this machine post to.
func (l Listen) HooksEndpoint() Endpoint { return local(l.Hooks, l.Certificates.Hooks) }

// AdminEndpoint is where the API is for commands on this machine.
func (l Listen) AdminEndpoint() Endpoint { return local(l.Admin, l.Certificates.Admin) }

func local(address, certificate string) Endpoint {
	if certificate == "" {
		return Endpoint{URL: "http://" + address}
	}
	return Endpoint{URL: "https://" + address, CertFile: certificate}
}

// ListenFile is the name of that file in the data directory.
const ListenFile = "listen.json"

// ReadListen finds the addresses of the server that uses the data directory.
func ReadListen(dir string) (Listen, error) {
	var l Listen
	text, err := os.ReadFile(filepath.Join(dir, ListenFile))
	if errors.Is(err, os.ErrNotExist) {
		return l, &Error{Msg: "no server uses the data directory " + dir, Hint: "start one with riposte serve, name its directory with --data, or a server elsewhere with --server", Err: err}
	}
	if err != nil {
		return l, fmt.Errorf("find the server: %w", err)
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return l, fmt.Errorf("find the server: read %s: %w", filepath.Join(dir, ListenFile), err)
	}
	return l, nil
}

// Client is a connection to one server's admin API.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// New makes a client of a server's admin listener; token may be empty on loopback.
func New(server Endpoint, token string) (*Client, error) {
	base, h, err := server.open()
	if err != nil {
		return nil, err
	}
	return &Client{base: base, token: token, http: h}, nil
}

// Error is an answer of the server other than success, or why there is none.
type Error struct {
	Status int    // 0 where nothing was answered
	Msg    string `json:"error"`
	Hint   string `json:"hint"` // what to try next; may be empty
	Err    error  `json:"-"`
}

func (e *Error) Error() string { return e.Msg }
func (e *Error) Unwrap() error { return e.Err }

// Get reads a resource below /api/v1 into the value.
func (c *Client) Get(ctx context.Context, path string, query url.Values, into any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, into)
}

// Post gives an order; into may be nil.
func (c *Client) Post(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodPost, path, nil, into)
}

// Order gives an order with a body; into may be nil.
func (c *Client) Order(ctx context.Context, path string, body, into any) error {
	return c.do(ctx, http.MethodPost, path, body, into)
}

func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	resp, err := c.sendBody(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.base, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string) (*http.Response, error) {
	return c.sendBody(ctx, method, path, nil)
}

func (c *Client) sendBody(ctx context.Context, method, path string, body any) (*http.Response, error) {
	content := io.Reader(http.NoBody)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("write the request: %w", err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/api/v1/"+path, content)
	if err != nil {
		return nil, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(c.base, err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

func readError(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what arrived is what there is to show
	e := &Error{Status: resp.StatusCode}
	if json.Unmarshal(text, e) != nil || e.Msg == "" {
		e.Msg = fmt.Sprintf("the server answered %s: %s", resp.Status, bytes.TrimSpace(text))
	}
	if resp.StatusCode == http.StatusBadRequest && bytes.Contains(text, []byte("HTTP request to an HTTPS server")) { // net/http's words
		e.Hint = "it speaks TLS: write its address with https://"
	}
	return e
}

// Lines calls fn with each line of an answer that can go on for long. The named trailer says at its end whether it is complete;
// an error tells if it is not.
func (c *Client) Lines(ctx context.Context, path string, query url.Values, trailer string, fn func(line []byte) error) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp, err := c.send(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err == nil {
			err = fn(line)
			if err != nil {
				return err
			}
			continue
		}
		if !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the answer of %s: %w", c.base, err)
		}
		break
	}
	if state := resp.Trailer.Get(trailer); state != "complete" {
		return &Error{Msg: "the answer is not complete: " + state, Hint: "ask again: what is stored stays"}
	}
	return nil
}

// Backup copies the store of the running server to w. An error means that what was written is no complete backup.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	resp, err := c.send(ctx, http.MethodPost, "backup")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("copy the backup: %w", err)
	}
	if state := resp.Trailer.Get("Riposte-Backup"); state != "complete" {
		return fmt.Errorf("the server could not finish the backup: %s", state)
	}
	return nil
}
