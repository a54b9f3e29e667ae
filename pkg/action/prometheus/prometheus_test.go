package prometheus_test

import (
	"bufio"
	"fmt"
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
	"github.com/riposte-dev/riposte/pkg/action/prometheus"
	"github.com/riposte-dev/riposte/pkg/outbound"
)

// answers holds what the fake server answers by query; the numbers are statuses, 200 by default.
var answers = map[string]string{
	"one":        `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"service":"shop"},"value":[1.5,"0.25"]}]}}`,
	"none":       `{"status":"success","data":{"resultType":"vector","result":[]}}`,
	"two":        `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[1,"1"]},{"metric":{"a":"2"},"value":[1,"2"]}]}}`,
	"nan":        `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}}`,
	"inf":        `{"status":"success","data":{"resultType":"scalar","result":[1,"+Inf"]}}`,
	"scalar":     `{"status":"success","warnings":["slow\nstore"],"data":{"resultType":"scalar","result":[1,"7"]}}`,
	"range":      `{"status":"success","data":{"resultType":"matrix","result":[]}}`,
	"histogram":  `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1"}]}]}}`,
	"partial":    `{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[]}}`,
	"400 bad":    `{"status":"error","errorType":"bad_data","error":"parse error"}`,
	"503 busy":   `{"status":"error","errorType":"timeout","error":"too busy"}`,
	"401 who":    `{"status":"error","errorType":"unauthorized","error":"who?"}`,
	"200 page":   `<html>hello</html>`,
	"302 moved":  ``,
	"200 broken": `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1]}]}}`,
}

func many() string {
	list := make([]string, 150)
	for i := range list {
		list[i] = fmt.Sprintf(`{"metric":{"n":"%d"},"value":[1,"%d"]}`, i, i)
	}
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(list, ",") + `]}}`
}

// serve answers queries, and keeps the last request's form with who sent it.
func serve(t *testing.T) (address string, last map[string]string) {
	last = map[string]string{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/prefix/api/v1/query" || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		clear(last)
		for name := range r.URL.Query() {
			t.Errorf("parameter %s stands in the address", name)
		}
		query := r.FormValue("query")
		for name := range r.PostForm {
			last[name] = r.PostForm.Get(name)
		}
		last["authorization"] = r.Header.Get("Authorization")
		if query == "hang" {
			<-r.Context().Done()
			return
		}
		if query == "many" {
			io.WriteString(w, many())
			return
		}
		w.Header().Set("Location", "/elsewhere")
		status := 0
		if _, err := fmt.Sscanf(query, "%d", &status); err == nil {
			w.WriteHeader(status)
		}
		io.WriteString(w, answers[query])
	}))
	t.Cleanup(s.Close)
	return s.URL + "/prefix/", last
}

func client(allow ...string) *outbound.Client {
	var private []netip.Prefix
	for _, a := range allow {
		private = append(private, netip.MustParsePrefix(a))
	}
	return outbound.New(outbound.Options{AllowPrivate: private})
}

func ask(query string) *prometheus.Params { return &prometheus.Params{Query: query} }

func TestQuery(t *testing.T) {
	address, last := serve(t)
	token := func() (string, error) { return "configured-s3cr3t", nil }
	server := outbound.API{Client: client("127.0.0.0/8"), URL: address, Token: token}
	def := prometheus.Definitions(prometheus.Options{Server: server, Client: client()})[0]
	sent := func(name, want string) func(*testing.T, action.Outputs, string, error) {
		return func(t *testing.T, _ action.Outputs, _ string, _ error) {
			if last[name] != want {
				t.Errorf("%s sent is %q, want %q", name, last[name], want)
			}
		}
	}
	noValue := func(say string) func(*testing.T, action.Outputs, string, error) {
		return func(t *testing.T, out action.Outputs, log string, _ error) {
			if v, ok := out["value"]; ok || !strings.Contains(log, say) {
				t.Errorf("value is %v, %t; the log should say %q:\n%s", v, ok, say, log)
			}
		}
	}
	secrets := map[string]string{"other": "an0ther-s3cr3t"}
	actiontest.Run(t, def, []actiontest.Case{
		{Name: "one series", Params: ask("one"), Check: sent("authorization", "Bearer configured-s3cr3t"), Outputs: action.Outputs{
			"value": 0.25, "empty": false, "count": int64(1), "values": []any{map[string]any{"labels": map[string]any{"service": "shop"}, "value": 0.25, "text": "0.25"}},
		}},
		{Name: "no series", Params: ask("none"), Outputs: action.Outputs{"empty": true, "count": int64(0), "values": []any{}}, Check: noValue("0 series")},
		{Name: "two series", Params: ask("two"), Outputs: action.Outputs{"empty": false, "count": int64(2)}, Check: noValue("2 series")},
		{Name: "not a number", Params: ask("nan"), Outputs: action.Outputs{"empty": false, "count": int64(1)}, Check: noValue("NaN")},
		{Name: "infinite", Params: ask("inf"), Outputs: action.Outputs{"count": int64(1)}, Check: noValue("+Inf")},
		{Name: "scalar", Params: ask("scalar"), Outputs: action.Outputs{"value": 7.0, "warnings": []any{"slow store"}}},
		{Name: "many series", Params: ask("many"), Outputs: action.Outputs{"count": int64(150)}, Check: func(t *testing.T, out action.Outputs, _ string, _ error) {
			if n := len(out["values"].([]any)); n != 100 {
				t.Errorf("%d values", n)
			}
		}},
		{Name: "time", Params: &prometheus.Params{Query: "one", Time: "2026-11-23T10:00:00+01:00"}, Check: sent("time", "2026-11-23T09:00:00Z")},
		{Name: "seconds", Params: &prometheus.Params{Query: "one", Time: "1763888400"}, Check: sent("time", "1763888400")},
		{Name: "timeout is told", Params: &prometheus.Params{Query: "one", Timeout: 1500 * time.Millisecond}, Check: sent("timeout", "1.500")},
		{Name: "range", Params: ask("range"), Want: actiontest.Permanent, ErrorHas: []string{"matrix"}},
		{Name: "histogram", Params: ask("histogram"), Want: actiontest.Permanent, ErrorHas: []string{"histogram_quantile"}},
		{Name: "partial", Params: ask("partial"), Want: actiontest.Fails, ErrorHas: []string{"incomplete"}},
		{Name: "bad query", Params: ask("400 bad"), Want: actiontest.Permanent, ErrorHas: []string{"400", "parse error"}},
		{Name: "busy", Params: ask("503 busy"), Want: actiontest.Fails, ErrorHas: []string{"too busy"}},
		{Name: "unauthorized", Params: ask("401 who"), Want: actiontest.Permanent, ErrorHas: []string{"401"}},
		{Name: "a page", Params: ask("200 page"), Want: actiontest.Permanent, ErrorHas: []string{"address"}},
		{Name: "redirect", Params: ask("302 moved"), Want: actiontest.Permanent, ErrorHas: []string{"302"}},
		{Name: "broken", Params: ask("200 broken"), Want: actiontest.Permanent},
		{Name: "empty query", Params: ask(" "), Want: actiontest.Permanent},
		{Name: "timeout", Params: &prometheus.Params{Query: "hang", Timeout: time.Millisecond}, Want: actiontest.Fails, ErrorHas: []string{"timeout"}},
		{Name: "bad time", Params: &prometheus.Params{Query: "one", Time: "yesterday"}, Want: actiontest.Permanent, ErrorHas: []string{"yesterday"}},
		{Name: "bearer for the configured server", Secrets: secrets, Params: &prometheus.Params{Query: "one", Bearer: &action.SecretRef{Secret: "other"}}, Want: actiontest.Permanent},
		{Name: "private address of a rule", Params: &prometheus.Params{Query: "one", URL: "http://127.0.0.1:1/"}, Want: actiontest.Permanent, ErrorHas: []string{"forbidden"}},
		{Name: "no address", Params: &prometheus.Params{Query: "one", URL: "ftp://q-s3cr3t"}, Want: actiontest.Permanent},
	})

	other := prometheus.Definitions(prometheus.Options{Server: outbound.API{Client: client(), URL: "https://prometheus.test", Token: token}, Client: client("127.0.0.0/8")})[0]
	actiontest.Run(t, other, []actiontest.Case{
		{Name: "another server gets its own secret", Secrets: secrets, Params: &prometheus.Params{Query: "one", URL: address, Bearer: &action.SecretRef{Secret: "other"}},
			Check: sent("authorization", "Bearer an0ther-s3cr3t")},
		{Name: "another server gets no other", Params: &prometheus.Params{Query: "one", URL: address}, Check: sent("authorization", "")},
	})
	none := prometheus.Definitions(prometheus.Options{})[0]
	actiontest.Run(t, none, []actiontest.Case{{Name: "no server", Params: ask("one"), Want: actiontest.Permanent, ErrorHas: []string{"prometheus.url"}}})
}

func TestBasicAuthentication(t *testing.T) {
	address, last := serve(t)
	for value, ok := range map[string]bool{"pa55": true, "": false, "a\nb": false} {
		server := outbound.API{Client: client("127.0.0.0/8"), URL: address, Username: "riposte", Token: func() (string, error) { return value, nil }}
		def := prometheus.Definitions(prometheus.Options{Server: server})[0]
		call, _ := actiontest.Call(t, actiontest.Case{Params: ask("one")})
		_, err := def.Run(t.Context(), call)
		if (err == nil) != ok || ok && last["authorization"] != "Basic cmlwb3N0ZTpwYTU1" {
			t.Errorf("password %q: %v, %q", value, err, last["authorization"])
		}
	}
}

func TestCancel(t *testing.T) {
	reached := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		r.FormValue("query") // the body must be read, or the server does not notice that the client is gone
		close(reached)
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	def := prometheus.Definitions(prometheus.Options{Server: outbound.API{Client: client("127.0.0.0/8"), URL: s.URL}})[0]
	actiontest.Run(t, def, []actiontest.Case{{Name: "while it waits", Params: ask("one"), Cancel: reached, Want: actiontest.Fails}})
}

// TestRealPrometheus shows a real one values that try to be more than values.
func TestRealPrometheus(t *testing.T) {
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not on PATH: apt-get install prometheus")
	}
	address := start(t, program)
	def := prometheus.Definitions(prometheus.Options{Server: outbound.API{Client: client("127.0.0.0/8"), URL: "http://" + address}})[0]
	for _, value := range []string{"shop", `x'} or vector(0) #`, `"`, `\`, `a\'b`, "two\nlines", "`", "über", `" or "`, ".*"} {
		for _, quotes := range []string{`'`, `"`} {
			before := "label_replace(vector(0.5), 'l', " + quotes
			written, err := def.Quote["query"](before, value)
			if err != nil {
				t.Fatal(err)
			}
			call, _ := actiontest.Call(t, actiontest.Case{Params: ask(before + written + quotes + ", '', '')")})
			out, err := def.Run(t.Context(), call)
			if err != nil || out["value"] != 0.5 || out["values"].([]any)[0].(map[string]any)["labels"].(map[string]any)["l"] != value {
				t.Errorf("%s%s%s is %v, %v", quotes, value, quotes, out, err)
			}
		}
	}
	actiontest.Run(t, def, []actiontest.Case{
		{Name: "nothing", Params: ask(`up{job="none"}`), Outputs: action.Outputs{"empty": true}},
		{Name: "not a number", Params: ask("vector(0) / 0"), Outputs: action.Outputs{"empty": false, "count": int64(1)}},
		{Name: "scalar", Params: &prometheus.Params{Query: "time()", Time: "1763888400"}, Outputs: action.Outputs{"value": 1763888400.0}},
		{Name: "no query", Params: ask("up{"), Want: actiontest.Permanent, ErrorHas: []string{"parse error"}},
		{Name: "range", Params: ask("up[5m]"), Want: actiontest.Permanent},
	})
}

// start runs a Prometheus that scrapes nothing, and returns its address once it listens.
func start(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(conf, []byte("global: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cmd := exec.Command(program, "--config.file="+conf, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
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
		if strings.Contains(lines.Text(), "Server is ready to receive web requests") {
			go io.Copy(io.Discard, said) //nolint:errcheck // it ends with the process
			return address
		}
	}
	t.Fatal("prometheus ended before it was ready")
	return ""
}
