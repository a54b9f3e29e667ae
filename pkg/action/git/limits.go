package git

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
)

const (
	// maxAdvert bounds a remote's list of references, which is held in memory; a million references take about 60 MB.
	maxAdvert = 64 << 20
	// maxErrorBody bounds what is read of an answer that is an error.
	maxErrorBody = 4 << 10
	// maxObject bounds one object of a pack, which go-git may hold in memory more than once.
	maxObject = 256 << 20
	// maxEntries bounds the files and directories of a checkout.
	maxEntries = 1_000_000
	// maxChanges bounds the paths that one diff finds.
	maxChanges = 200_000
	// maxHistory bounds the commits that are looked at to find where two histories meet.
	maxHistory = 1_000_000
	// maxPath bounds the length of a path in a checkout, and by that its depth.
	maxPath = 4096
	// checkoutFactor is how much larger than MaxBytes a checkout may be.
	checkoutFactor = 4
	// maxPacks is how many fetches a mirror takes before it is begun anew: each leaves a pack, and reading slows with them.
	maxPacks = 50
)

var errTooLarge = errors.New("the remote sends more than is allowed")

// meter counts what one pull receives, over all its requests. It is safe for concurrent use.
type meter struct {
	left  atomic.Int64
	limit int64
}

func newMeter(limit int64) *meter {
	m := &meter{limit: limit}
	m.left.Store(limit)
	return m
}

// take spends n bytes.
func (m *meter) take(n int) error {
	if m.left.Add(-int64(n)) < 0 {
		return fmt.Errorf("%w: over %d bytes in one pull", errTooLarge, m.limit)
	}
	return nil
}

func (m *meter) reader(r io.Reader) io.Reader { return &meteredReader{r, m} }

type meteredReader struct {
	r io.Reader
	m *meter
}

func (r *meteredReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if over := r.m.take(n); over != nil {
		return 0, over
	}
	return n, err
}

// roundTripper puts a pull's meter around every answer.
type roundTripper struct {
	next http.RoundTripper
	m    *meter
}

func (t roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	var body io.Reader = &meteredReader{res.Body, t.m}
	if res.StatusCode/100 != 2 {
		body = io.LimitReader(body, maxErrorBody)
	} else if req.Method == http.MethodGet {
		body = &meteredReader{body, newMeter(maxAdvert)}
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{body, res.Body}
	return res, nil
}
