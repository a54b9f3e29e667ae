package config

import (
	"crypto/sha256"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func write(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "riposte.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func load(t testing.TB, text string) (*Config, error) {
	t.Helper()
	return Load(Sources{File: write(t, text)})
}

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	c, err := Load(Sources{})
	if err != nil || !reflect.DeepEqual(c, Default()) {
		t.Errorf("nothing configured is %+v, %v", c, err)
	}
	for _, text := range []string{"", "# nothing\n", "{}", "tokens:\nlimits:\n"} {
		if c, err := load(t, text); err != nil || !reflect.DeepEqual(c, Default()) {
			t.Errorf("%q is %+v, %v", text, c, err)
		}
	}
}

func TestLoad(t *testing.T) {
	c, err := load(t, `
hooksListen: ":9000"
adminListen: 0.0.0.0:9001
publicURL: https://hooks.example.com
tls:
  hooks: {cert: /tls/crt, key: /tls/key}
trustedProxies: [10.0.0.0/8, 192.0.2.1]
rules:
  git: {url: "git@github.com:acme/rules.git", ref: main, path: /teams, interval: 5m, allowedSigners: /etc/signers, allowedGPGKeys: /etc/keys, forge: gitea, api: "https://git.example.com/api/v1", statusToken: github-webhook, backtest: {since: 1d, failOn: ["disappear", "any:10"]}}
secrets:
  github-webhook: {env: GITHUB_WEBHOOK_SECRET}
  deploy-key: {file: /etc/riposte/deploy-key}
credentials:
  - {url: "https://github.com/acme/", token: github-webhook}
  - {url: "git@github.com:acme/rules.git", sshKey: deploy-key, knownHosts: /etc/riposte/known_hosts}
  - {url: "http://127.0.0.1:3000/", token: github-webhook, username: git}
tokens:
  - {name: ana, sha256: `+hash+`, groups: [sre], role: operator}
limits:
  maxBodyBytes: 10MiB
  bodyBudget: 33554432
  perAddress: {requests: 5, per: 1m, burst: 7}
eventLog: {maxAge: 30d, idWindow: 1d12h}
exec: {env: []}
git: {backend: git, allowPrivate: [127.0.0.0/8]}
log: {format: json}
prometheus: {url: "https://prometheus.example.com/p", token: github-webhook, username: riposte}
alertmanager: {url: "http://10.0.0.1:9093"}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.HooksListen, want.AdminListen, want.PublicURL = ":9000", "0.0.0.0:9001", "https://hooks.example.com"
	want.TLS.Hooks = KeyPair{"/tls/crt", "/tls/key"}
	want.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")}
	want.Rules.Git = RulesGit{
		"git@github.com:acme/rules.git", "main", "/teams", 5 * time.Minute, "/etc/signers", "/etc/keys", "gitea", "https://git.example.com/api/v1", "github-webhook",
		RulesBacktest{24 * time.Hour, []string{"disappear", "any:10"}},
	}
	want.Secrets = map[string]Secret{"github-webhook": {Env: "GITHUB_WEBHOOK_SECRET"}, "deploy-key": {File: "/etc/riposte/deploy-key"}}
	want.Credentials = []Credential{
		{URL: "https://github.com/acme/", Token: "github-webhook"},
		{URL: "git@github.com:acme/rules.git", SSHKey: "deploy-key", KnownHosts: "/etc/riposte/known_hosts"},
		{URL: "http://127.0.0.1:3000/", Token: "github-webhook", Username: "git"},
	}
	want.Tokens = []Token{{Name: "ana", SHA256: hash, Groups: []string{"sre"}, Role: "operator"}}
	want.Limits.MaxBodyBytes, want.Limits.BodyBudget, want.Limits.PerAddress = 10<<20, 32<<20, Rate{5, time.Minute, 7}
	want.EventLog.MaxAge, want.EventLog.IDWindow = 30*24*time.Hour, 36*time.Hour
	want.Exec.Env = nil
	want.Git.Backend, want.Git.AllowPrivate = "git", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	want.Log.Format = "json"
	want.Prometheus = API{"https://prometheus.example.com/p", "riposte", "github-webhook"}
	want.Alertmanager.URL = "http://10.0.0.1:9093"
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if c.Tokens[0].Sum() != sha256.Sum256([]byte("test")) {
		t.Error("Sum is not the hash")
	}
}

func TestAPIs(t *testing.T) {
	for text, want := range map[string]string{
		"prometheus: {token: t}":                            "prometheus.url: is missing",
		"prometheus: {url: prometheus:9090}":                "prometheus.url: must be an address",
		"alertmanager: {url: http://u:pa55@am:9093}":        "alertmanager.url: must not hold a user or password",
		"alertmanager: {url: http://am:9093, token: t}":     `alertmanager.token: no secret "t"`,
		"alertmanager: {url: http://am:9093, username: me}": "alertmanager.username: needs token",
	} {
		if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pa55") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestRulesComeFromOnePlace(t *testing.T) {
	for text, want := range map[string]string{
		"rules: {dirs: [a], git: {url: x}}":                             "rules.git.url: rules come from a repository or from directories",
		"rules: {git: {ref: main}}":                                     "rules.git.url: is missing",
		"rules: {git: {url: x, path: a/../..}}":                         "rules.git.path: must be a directory",
		"rules: {git: {url: x, statusToken: t}}":                        `rules.git.statusToken: no secret "t"`,
		"rules: {git: {url: x, api: git.example.com}}":                  "rules.git.api: must be an address",
		"rules: {git: {url: x, backtest: {failOn: [any]}}}":             "rules.git.backtest.since: is missing",
		"rules: {git: {backtest: {since: 1d}}}":                         "rules.git.url: is missing",
		"rules: {git: {url: x, backtest: {since: 1d, failOn: [many]}}}": `rules.git.backtest.failOn: "many" is not appear`,
		"rules: {git: {url: x, ref: 7}}":                                "rules.git.ref: must be a string",
		"rules: {git: git@github.com:acme/rules.git}":                   "rules.git: must be a mapping",
	} {
		if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	c, err := load(t, `rules: {dirs: [rules, "more,rules"]}`)
	if err != nil || !reflect.DeepEqual(c.Rules.Dirs, []string{"rules", "more,rules"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := load(t, `hooksListens: ":8080"
adminListen: 8081
limits:
  maxBodyBytes: 25 apples
  perAddres: {}
tls:
  hooks: {cert: a}
rules:
  git: {url: x, interval: 0, signers: y}
grants: []
secrets:
  one: a-secret-by-mistake
  two: {env: A, file: B}
tokens:
  - {name: ana, sha256: abc, role: chief}
  - name: bob
    password: x
`)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v", err)
	}
	wants := []string{
		"1: hooksListens: unknown field; did you mean hooksListen?",
		"2: adminListen: must be a string (quote it), not a number",
		`4: limits.maxBodyBytes: "25 apples" is not a size`,
		"5: limits.perAddres: unknown field; did you mean perAddress?",
		"7: tls.hooks: needs both cert and key",
		"9: rules.git.signers: unknown field",
		"9: rules.git.interval: 0 is less than 1s",
		"10: grants: is empty: list what is allowed, or remove the key",
		"12: secrets.one: must be {env: VARIABLE} or {file: PATH}",
		"13: secrets.two: needs either env or file",
		"15: tokens[0].role:",
		"15: tokens[0].sha256: must be 64 hexadecimal digits",
		`16: tokens[1]: unknown field "password"`,
		"16: tokens[1].role:",
		"16: tokens[1].sha256:",
	}
	lines := strings.Split(err.Error(), "\n")
	for i := range max(len(wants), len(lines)) {
		if i >= len(lines) || i >= len(wants) || !strings.HasPrefix(lines[i], e.File+":"+wants[i]) {
			t.Errorf("got\n%s\nwant\n%s", err, strings.Join(wants, "\n"))
			break
		}
	}
	if strings.Contains(err.Error(), "a-secret-by-mistake") {
		t.Error("the error shows a secret")
	}
}

func TestBadFiles(t *testing.T) {
	for text, want := range map[string]string{
		"a: [":                               "did not find expected",
		"data: a\ndata: b\n":                 "already set",
		"- 1":                                "must be a mapping, not a list",
		"tokens: {}":                         "tokens: must be a list, not a mapping",
		"secrets: [a]":                       "secrets: must be a mapping",
		"credentials: [{url: 7}]":            "credentials[0]: url must be a string, not a number",
		"engine: {workers: many}":            "engine.workers: must be a whole number, not a string",
		"engine: 7":                          "engine: must be a mapping, not a number",
		"data: {a: b}":                       "data: must be a string",
		"trustedProxies: [10.0.0.300]":       "is not a network",
		"trustedProxies: 10.0.0.0/8":         "must be a list of strings",
		"eventLog: {maxAge: 7}":              "not a duration",
		"limits: {storm: {runs: 1, per: 0}}": "limits.storm.per: must be above 0",
		"limits: {breaker: {successPercent: 101}}":                "limits.breaker.successPercent: 101 is not between 0 and 100",
		"limits: {blastRadius: [{targets: [a], percent: 10}]}":    "limits.blastRadius[0]: percent and of belong together",
		"limits: {blastRadius: [{targets: [], max: 1, some: 2}]}": `unknown field "some"`,
		"dev: true":                        "dev: unknown field",
		"limits: {perAddress: {per: 0}}":   "limits.perAddress.per: must be above 0",
		strings.Repeat("#", maxFile) + "#": "larger than 1MiB",
	} {
		if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
	if _, err := Load(Sources{File: "no-such-file"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestPrecedence(t *testing.T) {
	file := write(t, "data: from-file\nexec: {env: [A]}\nlog: {level: warn}\nengine: {workers: 1}\n")
	c, err := Load(Sources{
		Env:   env(map[string]string{"RIPOSTE_CONFIG": file, "RIPOSTE_DATA": "from-env", "RIPOSTE_EXEC_ENV": "B,C", "RIPOSTE_RULES": "a, b", "RIPOSTE_LOG_LEVEL": ""}),
		Flags: map[string]string{"data": "from-flag", "rules": "c", "dev": "true", "config": "ignored", "help": "ignored"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Data != "from-flag" || c.Log.Level != "warn" || c.Engine.Workers != 1 || !c.Dev {
		t.Errorf("%+v", c)
	}
	if !reflect.DeepEqual(c.Exec.Env, []string{"B", "C"}) || !reflect.DeepEqual(c.Rules.Dirs, []string{"c"}) {
		t.Errorf("lists %q, %q", c.Exec.Env, c.Rules.Dirs)
	}
}

func TestProblemsNameWhatGaveTheValue(t *testing.T) {
	_, err := Load(Sources{
		Env:   env(map[string]string{"RIPOSTE_ENGINE_WORKERS": "many", "RIPOSTE_LOG_FORMAT": "xml"}),
		Flags: map[string]string{"admin-listen": "0.0.0.0:1", "git-timeout": "soon"},
	})
	for _, want := range []string{
		`RIPOSTE_ENGINE_WORKERS: "many" is not a whole number`, `RIPOSTE_LOG_FORMAT: "xml" is neither`,
		"--admin-listen: \"0.0.0.0:1\" is reachable beyond loopback", `--git-timeout: "soon" is not a duration`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestValidate(t *testing.T) {
	declared := func(c *Config) { c.Secrets = map[string]Secret{"s": {Env: "S"}} }
	cred := func(cr Credential) func(*Config) {
		return func(c *Config) { declared(c); c.Credentials = []Credential{cr} }
	}
	for _, tt := range []struct {
		field  string
		change func(*Config)
	}{
		{"adminListen", func(c *Config) { c.AdminListen = ":8081" }},
		{"adminListen", func(c *Config) { c.AdminListen = "10.0.0.1:8081" }},
		{"", func(c *Config) { c.AdminListen = "[::1]:8081" }},
		{"", func(c *Config) { c.AdminListen = "localhost:0" }},
		{"", func(c *Config) { c.AdminListen = ":8081"; c.Tokens = []Token{{Name: "a", SHA256: hash, Role: "admin"}} }},
		{"hooksListen", func(c *Config) { c.HooksListen = "8080" }},
		{"hooksListen", func(c *Config) { c.HooksListen = "host:" }},
		{"healthListen", func(c *Config) { c.HealthListen = ":99999" }},
		{"publicURL", func(c *Config) { c.PublicURL = "hooks.example.com" }},
		{"tls.admin", func(c *Config) { c.TLS.Admin.Key = "k" }},
		{"data", func(c *Config) { c.Data = "" }},
		{"natsURL", func(c *Config) { c.NATSURL = "http://x" }},
		{"", func(c *Config) { c.NATSURL = "nats://a:4222, tls://b:4222" }},
		{"secrets.a b", func(c *Config) { c.Secrets = map[string]Secret{"a b": {Env: "X"}} }},
		{"secrets.a", func(c *Config) { c.Secrets = map[string]Secret{"a": {Env: "X=value"}} }},
		{"secrets.a", func(c *Config) { c.Secrets = map[string]Secret{"a": {}} }},
		{"", cred(Credential{URL: "https://git.example.com/", Token: "s"})},
		{"", cred(Credential{URL: "ssh://git@git.example.com/acme/", SSHKey: "s", KnownHosts: "k"})},
		{"credentials[0].url", cred(Credential{URL: "https://git.example.com", Token: "s"})},
		{"credentials[0].url", cred(Credential{URL: "http://git.example.com/", Token: "s"})},
		{"credentials[0].url", cred(Credential{URL: "https://me:pw@git.example.com/", Token: "s"})},
		{"credentials[0].url", cred(Credential{URL: "git@git.example.com:acme/", Token: "s"})},
		{"credentials[0].url", cred(Credential{URL: "https://git.example.com/", SSHKey: "s", KnownHosts: "k"})},
		{"credentials[0].url", cred(Credential{Token: "s"})},
		{"credentials[0].knownHosts", cred(Credential{URL: "git@h:x", SSHKey: "s"})},
		{"credentials[0].token", cred(Credential{URL: "https://h/", Token: "undeclared"})},
		{"credentials[0]", cred(Credential{URL: "https://h/"})},
		{"", cred(Credential{URL: "https://h/", Token: "s", Forge: "gitea", API: "https://h/api", Account: "bot"})},
		{"credentials[0]", cred(Credential{URL: "git@h:x", SSHKey: "s", KnownHosts: "k", Forge: "gitea"})},
		{"tokens[1].name", func(c *Config) {
			c.Tokens = []Token{{Name: "a", SHA256: hash, Role: "admin"}, {Name: "a", SHA256: strings.Repeat("0", 64), Role: "viewer"}}
		}},
		{"tokens[1].sha256", func(c *Config) {
			c.Tokens = []Token{{Name: "a", SHA256: hash, Role: "admin"}, {Name: "b", SHA256: strings.ToUpper(hash), Role: "viewer"}}
		}},
		{"limits.bodyBudget", func(c *Config) { c.Limits.BodyBudget = 26e6 }},
		{"limits.maxBodyBytes", func(c *Config) { c.Limits.MaxBodyBytes = 0 }},
		{"limits.perAddress.burst", func(c *Config) { c.Limits.PerAddress.Burst = 0 }},
		{"", func(c *Config) { c.Limits.PerAddress = Rate{} }},
		{"eventLog.maxBytes", func(c *Config) { c.EventLog.MaxBytes = 299e6 }},
		{"", func(c *Config) { c.EventLog.MaxBytes = 300e6 }},
		{"eventLog.maxBytes", func(c *Config) { c.EventLog.MaxBytes = 1 }},
		{"stepLogs.maxBytes", func(c *Config) { c.StepLogs.MaxBytes = 1 << 20 }},
		{"audit.maxAge", func(c *Config) { c.Audit.MaxAge = 0 }},
		{"engine.partitions", func(c *Config) { c.Engine.Partitions = 0 }},
		{"engine.stopTimeout", func(c *Config) { c.Engine.StopTimeout = 0 }},
		{"exec.env[0]", func(c *Config) { c.Exec.Env = []string{"A=b"} }},
		{"git.backend", func(c *Config) { c.Git.Backend = "svn" }},
		{"log.level", func(c *Config) { c.Log.Level = "loud" }},
	} {
		c := Default()
		tt.change(c)
		err := c.Validate()
		if tt.field == "" {
			if err != nil {
				t.Errorf("%v", err)
			}
			continue
		}
		var e *Error
		if !errors.As(err, &e) || len(e.Problems) != 1 || e.Problems[0].Field != tt.field {
			t.Errorf("%s: %v", tt.field, err)
		}
	}
}

func TestFieldsHaveDistinctNamesAndRoundTrip(t *testing.T) {
	seen := map[string]bool{}
	other := Default()
	others := other.Fields()
	for i, f := range Default().Fields() {
		for _, name := range []string{f.Key, f.Flag} {
			if seen[name] && name != f.Key {
				t.Errorf("%s stands twice", name)
			}
		}
		seen[f.Key], seen[f.Flag] = true, true
		if f.Doc == "" || f.Env() == "RIPOSTE_CONFIG" || f.Env() == "RIPOSTE_TOKEN" {
			t.Errorf("field %+v", f)
		}
		if err := others[i].Value.Set(f.Value.String()); err != nil {
			t.Errorf("%s: %v", f.Flag, err)
		}
	}
	if !reflect.DeepEqual(other, Default()) {
		// A list that is empty may come back as nil or empty.
		t.Errorf("after a round trip: %+v", other)
	}
}

func TestListFlagsAddUp(t *testing.T) {
	c := Default()
	for _, f := range c.Fields() {
		if f.Flag != "exec-env" {
			continue
		}
		for _, text := range []string{"A", "B,C"} {
			if err := f.Value.Set(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !reflect.DeepEqual(c.Exec.Env, []string{"A", "B", "C"}) {
		t.Errorf("%q", c.Exec.Env)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "17": 17, "17B": 17, "25MB": 25e6, "25 MB": 25e6, "64MiB": 64 << 20, "1KiB": 1024, "1kB": 1000, "2TiB": 2 << 40} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%s is %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MB", "-1", "1.5GB", "9999999999GB", "1 M", "0x10", "1MBB", "９"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func TestDurations(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{"0": 0, "0s": 0, "90s": 90 * time.Second, "1d": day, "1d12h": 36 * time.Hour, "1w": 7 * day, "2y": 730 * day, "15m": 15 * time.Minute, "250ms": 250 * time.Millisecond, "1m5ms": time.Minute + 5*time.Millisecond} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s is %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "7", "1.5h", "-1s", "s", "1h1h", "1s1m", "1 h", "1us", "300000y", "1month"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is %s", text, got)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("data: x\nlimits: {maxBodyBytes: 1MB}\n"))
	f.Add([]byte("secrets: {a: {env: B}}\ntokens: [{name: a}]\n"))
	f.Add([]byte("? [a]\n: b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Default()
		problems := c.decode(data)
		for _, p := range append(problems, c.problems()...) {
			_ = lineOf(lineNumbers(data), p.Field)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("25MB")
	f.Add("1d12h")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := ParseSize(text); err == nil {
			if again, err := ParseSize(FormatSize(n)); err != nil || again != n {
				t.Errorf("%q is %d, written %q, read %d", text, n, FormatSize(n), again)
			}
		}
		if d, err := ParseDuration(text); err == nil {
			if again, err := ParseDuration(FormatDuration(d)); err != nil || again != d || d < 0 {
				t.Errorf("%q is %d, written %q, read %d", text, d, FormatDuration(d), again)
			}
		}
	})
}

func TestGrants(t *testing.T) {
	c, err := load(t, `
grants:
  - paths: ["teams/payments/**"]
    sources: [github, alertmanager]
    actions: [git.pull, kubernetes.restart]
    secrets: [payments-*]
    targets: [payments, oncall]
    kubernetes: {serviceAccount: riposte-payments}
    maxMode: observe
  - paths: ["platform/**"]
    allow: everything
`)
	if err != nil {
		t.Fatal(err)
	}
	payments := c.Grants.Of("teams/payments/a.yaml")
	account, err := payments.ServiceAccount()
	if err != nil || account != "riposte-payments" || payments.Secret("payments-db") != nil || payments.Secret("db") == nil || payments.Mode("auto") == nil {
		t.Errorf("%+v", c.Grants)
	}
	if c.Grants.Of("platform/x.yaml").Secret("db") != nil || c.Grants.Of("x.yaml").Secret("db") == nil {
		t.Errorf("%+v", c.Grants)
	}
	if c, err := load(t, "data: a"); err != nil || c.Grants != nil {
		t.Errorf("without grants: %+v, %v", c.Grants, err)
	}
	for text, want := range map[string]string{
		"grants:": "1: grants: is empty", "grants: []": "1: grants: is empty", "grants: {}": "1: grants: must be a list",
		"grants:\n  - {paths: [a/**], action: [x]}":                 `2: grants[0]: unknown field "action"`,
		"grants:\n  - {paths: [a/**], kubernetes: {account: x}}":    `2: grants[0]: unknown field "account"`,
		"grants:\n  - {paths: a/**}":                                "2: grants[0]: paths must be a slice, not a string",
		"grants:\n  - {actions: [x]}":                               "2: grants[0].paths: is empty",
		"grants:\n  - paths: [a/**]\n    maxMode: root":             `3: grants[0].maxMode: "root" is none of`,
		"grants:\n  - paths: [a/**]\n  - paths:\n    - b/\n":        `4: grants[1].paths[0]: "b/" matches no file`,
		"grants:\n  - {paths: [a/**], allow: everything}\n  - null": "3: grants[1].paths: is empty",
	} {
		if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
