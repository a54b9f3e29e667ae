package git

import (
	"io"
	"net/http"
	"net/http/httptest"
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

func TestConformanceOfBranch(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		tip := o.commit("main", "f", "one")
		s := serve(t, o)
		s.password = token
		hanging := make(chan struct{}, 16)
		hung := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			hanging <- struct{}{}
			<-r.Context().Done()
		}))
		t.Cleanup(hung.Close)
		cancel := make(chan struct{})
		opts.Credentials = []Credential{tokenFor(s.URL)}
		secrets := map[string]string{"token": token}
		actiontest.Run(t, action.NewRegistry(Definitions(opts))["git.branch"], []actiontest.Case{
			{Name: "there", Params: &BranchParams{URL: s.repo(), Branch: "main"}, Secrets: secrets,
				Outputs: action.Outputs{"exists": true, "commit": tip, "branch": "main", "url": s.repo()}},
			{Name: "missing", Params: &BranchParams{URL: s.repo(), Branch: "last-good"}, Secrets: secrets, Outputs: action.Outputs{"exists": false, "commit": ""}},
			{Name: "no repository", Params: &BranchParams{URL: s.URL + "/acme/none.git", Branch: "main"}, Secrets: secrets, Want: actiontest.Permanent},
			{Name: "no name", Params: &BranchParams{URL: s.repo(), Branch: "refs/heads/main"}, Want: actiontest.Permanent, ErrorHas: []string{"without refs/heads/"}},
			{Name: "local", Params: &BranchParams{URL: o.bare, Branch: "main"}, Want: actiontest.Permanent, ErrorHas: []string{"serve --dev"}},
			{Name: "cancelled", Params: &BranchParams{URL: hung.URL + "/acme/x", Branch: "main"}, Cancel: cancel, Prepare: func(*testing.T, *action.Call) {
				go func() { <-hanging; close(cancel) }()
			}},
		})
	})
}

func TestConformanceOfWrites(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		o.commit("main", "f", "one")
		bad := o.commit("main", "f", "two")
		s := serve(t, o)
		s.password = token
		hanging := make(chan struct{}, 16)
		hung := hostile(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			hanging <- struct{}{}
			<-r.Context().Done()
		})
		opts.Credentials = []Credential{tokenFor(s.URL)}
		defs := action.NewRegistry(Definitions(opts))
		secrets := map[string]string{"token": token, "key": "hunter2-is-no-key"}
		// pulled makes the checkout that a call works on.
		pulled := func(t *testing.T, call *action.Call) {
			src := *call
			src.StepID, src.Params = "src", &PullParams{URL: s.repo(), Ref: "main", Depth: 1}
			if _, err := defs["git.pull"].Run(t.Context(), &src); err != nil {
				t.Fatal(err)
			}
			put(t, call.Dir, "src/new", call.Dir)
		}
		cancelled := func(params any) actiontest.Case {
			cancel := make(chan struct{})
			return actiontest.Case{Name: "cancelled", Params: params, Cancel: cancel, Prepare: func(*testing.T, *action.Call) {
				go func() { <-hanging; close(cancel) }()
			}}
		}
		fork := &action.EventInfo{Fork: true}
		key := &action.SecretRef{Secret: "key"}
		actiontest.Run(t, defs["git.commit"], []actiontest.Case{
			{Name: "commit", Params: &CommitParams{Dir: "src", Message: "x"}, Prepare: pulled, Outputs: action.Outputs{"changed": true, "files": []any{"new"}}},
			{Name: "not a key", Params: &CommitParams{Dir: "src", Message: "x", SigningKey: key}, Prepare: pulled, Secrets: secrets, Want: actiontest.Permanent, ErrorHas: []string{"signingKey"}},
			{Name: "no checkout", Params: &CommitParams{Dir: "src", Message: "x"}, Want: actiontest.Permanent, ErrorHas: []string{"git.pull"}},
		})
		actiontest.Run(t, defs["git.push"], []actiontest.Case{
			{Name: "push", Params: &PushParams{Dir: "src", Branch: "main"}, Prepare: pulled, Secrets: secrets, Outputs: action.Outputs{"changed": false, "commit": bad}},
			{Name: "another branch", Params: &PushParams{URL: s.repo(), Commit: bad, Branch: "prod"}, Secrets: secrets, Outputs: action.Outputs{"changed": true}},
			{Name: "fork", Params: &PushParams{Dir: "src", Branch: "main"}, Event: fork, Want: actiontest.Refused},
			{Name: "credential in the URL", Params: &PushParams{URL: "https://" + token + "@example.org/a/b", Commit: bad, Branch: "main"}, Secrets: secrets, Want: actiontest.Permanent},
			{Name: "wrong credential", Params: &PushParams{URL: strings.Replace(s.repo(), "127.0.0.1", "localhost", 1), Commit: bad, Branch: "main"}, Secrets: secrets, Want: actiontest.Permanent, ErrorHas: []string{"credential"}},
			{Name: "local", Params: &PushParams{URL: o.bare, Commit: bad, Branch: "main"}, Want: actiontest.Permanent, ErrorHas: []string{"serve --dev"}},
			{Name: "branch", Params: &PushParams{URL: s.repo(), Commit: bad, Branch: "a..b"}, Want: actiontest.Permanent, ErrorHas: []string{"a..b"}},
			cancelled(&PushParams{URL: hung.URL + "/acme/x", Commit: bad, Branch: "main"}),
		})
		actiontest.Run(t, defs["git.revert"], []actiontest.Case{
			{Name: "not a key", Params: &RevertParams{URL: s.repo(), Commit: bad, Branch: "main", Push: true, SigningKey: key}, Secrets: secrets, Want: actiontest.Permanent},
			{Name: "revert", Params: &RevertParams{URL: s.repo(), Commit: bad, Branch: "main", Push: true}, Secrets: secrets, Outputs: action.Outputs{"changed": true, "files": []any{"f"}}},
			{Name: "reverted", Params: &RevertParams{URL: s.repo(), Commit: bad, Branch: "prod", Push: true}, Secrets: secrets, Outputs: action.Outputs{"changed": true}},
			{Name: "fork", Params: &RevertParams{URL: s.repo(), Commit: bad, Branch: "main"}, Event: fork, Want: actiontest.Refused},
			{Name: "ext", Params: &RevertParams{URL: "ext::sh", Commit: bad, Branch: "main"}, Want: actiontest.Permanent},
			cancelled(&RevertParams{URL: hung.URL + "/acme/x", Commit: bad, Branch: "main", Push: true}),
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
