package receive

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestWhoTriesOtherPublicPathsMustWait: also for the sources, and nobody else.
func TestWhoTriesOtherPublicPathsMustWait(t *testing.T) {
	now := time.Unix(1, 0)
	rc, err := New(Options{
		Sources: func(string) (*Endpoint, bool) { return nil, false }, Log: nowhere{}, PerAddress: Rate{Requests: 1, Per: time.Second, Burst: 3}, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	status := http.StatusOK
	h := rc.Limited(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	ask := func(h http.Handler, from string) int {
		r := httptest.NewRequest(http.MethodGet, "/approve/x", http.NoBody)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for range 10 {
		if got := ask(h, "192.0.2.1:1"); got != http.StatusOK {
			t.Fatalf("what is answered costs nothing: %d", got)
		}
	}
	status = http.StatusNotFound
	for range 3 {
		if got := ask(h, "192.0.2.1:1"); got != http.StatusNotFound {
			t.Fatal(got)
		}
	}
	if got := ask(h, "192.0.2.1:2"); got != http.StatusTooManyRequests {
		t.Errorf("the fourth: %d", got)
	}
	if got := ask(rc, "192.0.2.1:2"); got == http.StatusNotFound {
		t.Errorf("a source: %d", got)
	}
	if got := ask(h, "192.0.2.2:1"); got != http.StatusNotFound {
		t.Errorf("somebody else: %d", got)
	}
	now = now.Add(2 * time.Second)
	if got := ask(h, "192.0.2.1:2"); got != http.StatusNotFound {
		t.Errorf("later: %d", got)
	}
}
