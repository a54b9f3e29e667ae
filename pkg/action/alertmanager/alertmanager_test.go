package alertmanager_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/action/alertmanager"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

func api(address string) outbound.API {
	client := outbound.New(outbound.Options{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	return outbound.API{Client: client, URL: address, Token: func() (string, error) { return "s3cr3t-token", nil }}
}

func definition(address string) action.Definition {
	return alertmanager.Definitions(alertmanager.Options{Server: api(address)})[0]
}

type labels = map[string]string

// TestRefusals needs no Alertmanager: what is wrong is found before one is asked.
func TestRefusals(t *testing.T) {
	def := definition("http://127.0.0.1:1")
	bad := func(name string, p alertmanager.Params, want actiontest.Outcome, has ...string) actiontest.Case {
		if p.Duration == 0 && name != "no duration" {
			p.Duration = time.Hour
		}
		return actiontest.Case{Name: name, Params: &p, Want: want, ErrorHas: has}
	}
	actiontest.Run(t, def, []actiontest.Case{
		bad("no matcher", alertmanager.Params{}, actiontest.Refused, "BroadSilence", "every alert"),
		bad("empty value", alertmanager.Params{Matchers: labels{"alertname": "A", "service": ""}}, actiontest.Refused, "service"),
		bad("no name", alertmanager.Params{Matchers: labels{"": "A"}}, actiontest.Refused),
		bad("matches all", alertmanager.Params{MatchersRegex: labels{"alertname": ".+"}}, actiontest.Refused, "every alert"),
		bad("matches all, in other words", alertmanager.Params{MatchersRegex: labels{"alertname": "[^-]|.{2,}|-"}}, actiontest.Refused, "every alert"),
		bad("matches nothing too", alertmanager.Params{Matchers: labels{"a": "b"}, MatchersRegex: labels{"x": ".*"}}, actiontest.Refused, "empty text"),
		bad("no expression", alertmanager.Params{MatchersRegex: labels{"alertname": "("}}, actiontest.Permanent, "matchersRegex.alertname"),
		bad("label twice", alertmanager.Params{Matchers: labels{"a": "b"}, MatchersRegex: labels{"a": "b"}}, actiontest.Permanent),
		bad("no duration", alertmanager.Params{Matchers: labels{"a": "b"}}, actiontest.Permanent, "duration"),
		bad("long key", alertmanager.Params{Matchers: labels{"a": "b"}, Key: strings.Repeat("k", 201)}, actiontest.Permanent),
		bad("nothing to expire", alertmanager.Params{Expire: true}, actiontest.Permanent, "key"),
		bad("nobody listens", alertmanager.Params{Matchers: labels{"a": "b"}}, actiontest.Fails, "127.0.0.1:1"),
	})
	none := alertmanager.Definitions(alertmanager.Options{})[0]
	actiontest.Run(t, none, []actiontest.Case{bad("no server", alertmanager.Params{Matchers: labels{"a": "b"}}, actiontest.Permanent, "alertmanager.url")})
	if got, err := def.Quote["matchersRegex"]("db-", ".*"); got != `\.\*` || err != nil {
		t.Errorf("a value stands in an expression as %q, %v", got, err)
	}
}

// TestAnswers shows what Alertmanager may answer beside success.
func TestAnswers(t *testing.T) {
	p := &alertmanager.Params{Matchers: labels{"a": "b"}, Duration: time.Hour}
	for body, want := range map[string]struct {
		status int
		want   actiontest.Outcome
		has    string
	}{
		`"too large"`:     {400, actiontest.Permanent, "too large"},
		`"not available"`: {503, actiontest.Fails, "not available"},
		`<html>`:          {200, actiontest.Permanent, "alertmanager.url"},
		`moved`:           {302, actiontest.Permanent, "302"},
		`{"code":401}`:    {401, actiontest.Permanent, "401"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer s3cr3t-token" {
				t.Errorf("authorization %q", r.Header.Get("Authorization"))
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(want.status)
			io.WriteString(w, body)
		}))
		actiontest.Run(t, definition(s.URL), []actiontest.Case{{Name: body, Params: p, Want: want.want, ErrorHas: []string{want.has}}})
		s.Close()
	}
}

func TestCancel(t *testing.T) {
	reached := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(reached)
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	actiontest.Run(t, definition(s.URL), []actiontest.Case{
		{Name: "while it waits", Params: &alertmanager.Params{Matchers: labels{"a": "b"}, Duration: time.Hour}, Cancel: reached, Want: actiontest.Fails},
	})
}

// TestSilence makes, extends and ends silences of a real Alertmanager.
func TestSilence(t *testing.T) {
	program, err := exec.LookPath("prometheus-alertmanager")
	if err != nil {
		t.Skip("prometheus-alertmanager is not on PATH: apt-get install prometheus-alertmanager")
	}
	address := start(t, program)
	def := definition(address)
	do := func(p alertmanager.Params) action.Outputs {
		t.Helper()
		var out action.Outputs
		actiontest.Run(t, def, []actiontest.Case{{Name: "silence", Params: &p, Check: func(_ *testing.T, got action.Outputs, _ string, _ error) { out = got }}})
		return out
	}
	matchers := labels{"alertname": "DiskFilling", "instance": `db-1", x=~".*`}
	first := do(alertmanager.Params{Matchers: matchers, MatchersRegex: labels{"job": "node|db.*"}, Duration: time.Hour, Comment: "while\nit heals"})
	if first["id"] == "" || first["existed"] != false {
		t.Fatalf("first: %v", first)
	}
	list := active(t, address)
	if len(list) != 1 || list[0].Comment != "while it heals" || !strings.HasPrefix(list[0].CreatedBy, "riposte: conformance/") || len(list[0].Matchers) != 3 {
		t.Fatalf("silences %+v", list)
	}
	if m := list[0].Matchers[1]; m.Value != matchers["instance"] || m.IsRegex {
		t.Errorf("an event's text became %+v", m)
	}

	// The same again extends it, and a shorter time does not shorten it.
	longer := do(alertmanager.Params{Matchers: matchers, MatchersRegex: labels{"job": "node|db.*"}, Duration: 2 * time.Hour})
	shorter := do(alertmanager.Params{Matchers: matchers, MatchersRegex: labels{"job": "node|db.*"}, Duration: time.Minute})
	if longer["id"] != first["id"] || shorter["id"] != first["id"] || longer["existed"] != true || longer["endsAt"] == first["endsAt"] || shorter["endsAt"] != longer["endsAt"] {
		t.Errorf("made anew: %v, %v, %v", first, longer, shorter)
	}
	// Other matchers, and a key, are other silences.
	keyed := do(alertmanager.Params{Key: "deploy", Matchers: labels{"service": "shop"}, Duration: time.Hour})
	if list := active(t, address); len(list) != 2 {
		t.Errorf("silences %+v", list)
	}
	ended := do(alertmanager.Params{Key: "deploy", Expire: true})
	if ended["id"] != keyed["id"] || ended["existed"] != true {
		t.Errorf("ended %v", ended)
	}
	if again := do(alertmanager.Params{Key: "deploy", Expire: true}); again["id"] != "" || again["existed"] != false {
		t.Errorf("ended again: %v", again)
	}
	if list := active(t, address); len(list) != 1 || list[0].ID != first["id"] {
		t.Errorf("silences %+v", list)
	}
	do(alertmanager.Params{Matchers: matchers, MatchersRegex: labels{"job": "node|db.*"}, Expire: true})
	if list := active(t, address); len(list) != 0 {
		t.Errorf("silences %+v", list)
	}
}

type silence struct {
	ID, Comment, CreatedBy string
	Matchers               []struct {
		Name, Value string
		IsRegex     bool
	}
	Status struct{ State string }
}

// active lists the silences that have not ended.
func active(t *testing.T, address string) []silence {
	t.Helper()
	resp, err := http.Get(address + "/api/v2/silences")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var all, list []silence
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Status.State != "expired" {
			list = append(list, s)
		}
	}
	return list
}

// start runs an Alertmanager that tells nobody anything, and returns its address once it listens.
func start(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "am.yml")
	if err := os.WriteFile(conf, []byte("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cmd := exec.Command(program, "--config.file="+conf, "--storage.path="+filepath.Join(dir, "store"), "--web.listen-address="+address, "--cluster.listen-address=")
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if strings.Contains(lines.Text(), "Listening on") {
			go io.Copy(io.Discard, said) //nolint:errcheck // it ends with the process
			return "http://" + address
		}
	}
	t.Fatal("Alertmanager ended before it listened")
	return ""
}
