package git

import (
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

func TestConformance(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		old := o.commit("main", "f", "one")
		tip := o.commit("main", "f", "two")
		s := serve(t, o)
		s.password = token
		hanging := make(chan struct{}, 16)
		hung := hostile(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			hanging <- struct{}{}
			<-r.Context().Done()
		})
		cancel := make(chan struct{})
		opts.Credentials = []Credential{tokenFor(s.URL)}
		client := outbound.New(outbound.Options{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
		opts.Dial = client.DialContext
		secrets := map[string]string{"token": token}
		of := &action.EventInfo{Branch: "main", Commit: old}
		actiontest.Run(t, Definitions(opts)[0], []actiontest.Case{
			{Name: "pull", Params: &PullParams{URL: s.repo(), Depth: 1}, Secrets: secrets,
				Outputs: action.Outputs{"commit": tip, "branch": "main", "ref": "refs/heads/main", "url": s.repo()}},
			{Name: "stale", Params: &PullParams{URL: s.repo(), Ref: old, Depth: 1, AllowStale: true}, Event: of, Outputs: action.Outputs{"commit": old}},
			{Name: "superseded", Params: &PullParams{URL: s.repo(), Ref: old, Depth: 1}, Event: of, Want: actiontest.Superseded},
			{Name: "fork", Params: &PullParams{URL: s.repo(), Depth: 1}, Event: &action.EventInfo{Fork: true}, Want: actiontest.Refused},
			{Name: "unknown reference", Params: &PullParams{URL: s.repo(), Ref: "nope", Depth: 1}, Secrets: secrets, Want: actiontest.Permanent, ErrorHas: []string{"nope", "check ref"}},
			{Name: "credential in the URL", Params: &PullParams{URL: "https://" + token + "@example.org/a/b"}, Secrets: secrets, Want: actiontest.Permanent, ErrorHas: []string{"credentials"}},
			{Name: "ext", Params: &PullParams{URL: "ext::sh -c id"}, Want: actiontest.Permanent},
			{Name: "local", Params: &PullParams{URL: o.bare}, Want: actiontest.Permanent, ErrorHas: []string{"serve --dev"}},
			{Name: "forbidden address", Params: &PullParams{URL: strings.Replace(s.repo(), "127.0.0.1", "127.0.0.2", 1)}, Want: actiontest.Permanent, ErrorHas: []string{"127.0.0.2", "allowPrivate"}},
			{Name: "cancelled", Params: &PullParams{URL: hung.URL + "/acme/x", Depth: 1}, Cancel: cancel, Prepare: func(*testing.T, *action.Call) {
				go func() { <-hanging; close(cancel) }()
			}},
		})
	})
}

func TestForbiddenAddressOverSSH(t *testing.T) {
	key, _ := newKey(t)
	opts := testOptions(t)
	opts.Dial = outbound.New(outbound.Options{}).DialContext
	known := t.TempDir() + "/known_hosts"
	if err := os.WriteFile(known, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	opts.Credentials = []Credential{{URLPrefix: "git@127.0.0.1:", KnownHosts: known, SSHKey: func() ([]byte, error) { return key, nil }}}
	actiontest.Run(t, Definitions(opts)[0], []actiontest.Case{
		{Name: "ssh", Params: &PullParams{URL: "git@127.0.0.1:acme/x"}, Want: actiontest.Permanent, ErrorHas: []string{"127.0.0.1 is not a public address"}},
	})
}
