package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Health asks a server's health listener whether it is ready, and returns what it says of each part of it.
func Health(ctx context.Context, listener Endpoint) (ready bool, report string, err error) {
	base, requests, err := listener.open()
	if err != nil {
		return false, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return false, "", fmt.Errorf("ask whether the server is ready: %w", err)
	}
	resp, err := requests.Do(req)
	if err != nil {
		return false, "", &Error{Msg: "the health listener does not answer: " + err.Error(), Hint: "is the server running, and is this its --health-listen?", Err: err}
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return false, "", fmt.Errorf("ask whether the server is ready: %w", err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return false, "", &Error{Msg: fmt.Sprintf("%s/readyz answers %s", base, resp.Status), Hint: "this is no health listener; the server says at its start where it is"}
	}
	return resp.StatusCode == http.StatusOK, string(text), nil
}
