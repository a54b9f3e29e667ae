package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/outbound"
	"github.com/riposte-dev/riposte/pkg/source"
)

// deliver tries until the receiver has taken the message, refuses it for good, or the tries are used up.
func (f *forwarder) deliver(ctx context.Context, m message) delivery {
	for n := 1; ; n++ {
		status, asked, err := f.try(ctx, m)
		d := delivery{status, n, err}
		if err == nil || action.IsPermanent(err) || n >= m.attempts || ctx.Err() != nil {
			return d
		}
		if asked > longestAsked {
			d.err = fmt.Errorf("%w, and asks to wait for %s", err, asked)
			return d
		}
		if err := f.Wait(ctx, max(asked, pause(n))); err != nil {
			d.err = fmt.Errorf("%s: %w", m.to.Host, err)
			return d
		}
	}
}

// try sends the message once; asked is how long the receiver asks to wait.
func (f *forwarder) try(ctx context.Context, m message) (status int, asked time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, errors.New("the timeout has passed"))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.to.String(), bytes.NewReader(m.body))
	if err != nil {
		return 0, 0, action.Permanent(fmt.Errorf("%s: the address can't be sent to", m.to.Host))
	}
	stamp := strconv.FormatInt(f.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "riposte ("+m.run+")")
	req.Header.Set(source.StandardID, m.id)
	req.Header.Set(source.StandardTimestamp, stamp)
	req.Header.Set(source.StandardSignature, sign(m.key, m.id, stamp, m.body))
	client := *f.Client.HTTPClient()
	client.Timeout = 0 // the context's deadline counts
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		err = outbound.Unanswered(ctx, m.to.Host, err)
		if errors.Is(err, outbound.ErrForbidden) {
			err = action.Permanent(err)
		}
		return 0, 0, err
	}
	defer resp.Body.Close()                                       //nolint:errcheck // its content does not matter
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	return resp.StatusCode, f.asked(resp), judge(m.to.Host, resp.StatusCode)
}

// judge takes any 2xx for a success, and of the others only those as passing that may be.
func judge(host string, status int) error {
	if status >= 200 && status < 300 {
		return nil
	}
	err := fmt.Errorf("%s answered %d %s", host, status, http.StatusText(status))
	if outbound.Passing(status) {
		return err
	}
	return action.Permanent(err)
}

// asked reads Retry-After: seconds, or a date (RFC 9110, 10.2.3).
func (f *forwarder) asked(resp *http.Response) time.Duration {
	text := resp.Header.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(f.Now()))
	}
	return 0
}
