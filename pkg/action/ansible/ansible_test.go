package ansible

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/command"
)

func definition(t *testing.T) action.Definition {
	t.Helper()
	runner, err := command.New(command.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	return Definitions(Options{Runner: runner})[0]
}

func needAnsible(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ansible-playbook"); err != nil {
		t.Skip("ansible-playbook is not on PATH: apt-get install ansible-core")
	}
}

// playbook writes files into the run's directory: site.yml with the tasks, on the hosts one and two of this machine.
func playbook(tasks string) func(*testing.T, *action.Call) {
	return func(t *testing.T, call *action.Call) {
		t.Helper()
		write(t, filepath.Join(call.Dir, "hosts"), "[pair]\none\ntwo\n[pair:vars]\nansible_connection=local\nansible_python_interpreter={{ ansible_playbook_python }}\n")
		write(t, filepath.Join(call.Dir, "site.yml"), "- hosts: pair\n  gather_facts: false\n  tasks:\n"+tasks)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func play(p Params) *Params {
	p.Playbook, p.Inventory = "site.yml", "hosts"
	return &p
}

func TestPlaybook(t *testing.T) {
	needAnsible(t)
	def := definition(t)
	dirOf := map[string]string{}
	kept := func(name string, prepare func(*testing.T, *action.Call)) func(*testing.T, *action.Call) {
		return func(t *testing.T, call *action.Call) {
			prepare(t, call)
			dirOf[name] = call.Dir
		}
	}
	secrets := map[string]string{"password": "hunter2-correct-horse", "key": "-----BEGIN KEY-----\nabcdefgh\n-----END KEY-----", "vault": "v4ult-pass", "empty": " "}
	actiontest.Run(t, def, []actiontest.Case{
		{
			Name:    "totals, variables and secrets",
			Secrets: map[string]string{"password": secrets["password"], "key": secrets["key"], "vault": secrets["vault"]},
			Params: play(Params{
				ExtraVars:  map[string]any{"text": "{{ lookup('pipe', 'id') }}", "list": []any{int64(1), "b{% x %}", nil, true, 1.5}, "map": map[string]any{"k: ey": "'\"\\\n\u2028é😀"}},
				SecretVars: map[string]action.SecretRef{"password": {Secret: "password"}}, PrivateKey: &action.SecretRef{Secret: "key"}, VaultPassword: &action.SecretRef{Secret: "vault"},
				SecretEnv: map[string]action.SecretRef{"TOKEN": {Secret: "password"}}, KnownHosts: "example.com ssh-ed25519 AAAA", Tags: []string{"a", "b"},
			}),
			Prepare: kept("totals", playbook(`
    - {copy: {content: "{{ text }}|{{ list }}|{{ map['k: ey'] }}", dest: "{{ playbook_dir }}/text-{{ inventory_hostname }}"}, tags: [a]}
    - {shell: 'test "$TOKEN" = "$GIVEN"', environment: {GIVEN: "{{ password }}"}, tags: [b]}
    - {fail: {}, tags: [c]}
`)),
			Outputs: action.Outputs{"ok": int64(4), "changed": int64(4), "failed": int64(0), "unreachable": int64(0)},
			Check: func(t *testing.T, out action.Outputs, log string, _ error) {
				one, _ := out["hosts"].(map[string]any)["one"].(map[string]any)
				if one["ok"] != int64(2) || one["changed"] != int64(2) || !strings.Contains(out["stdout"].(string), "PLAY RECAP") || !strings.Contains(log, "PLAY RECAP") {
					t.Errorf("outputs %v\n%s", out, log)
				}
				dir := dirOf["totals"]
				text, err := os.ReadFile(filepath.Join(dir, "text-one"))
				if want := "{{ lookup('pipe', 'id') }}|[1, 'b{% x %}', None, True, 1.5]|'\"\\\n\u2028é😀"; err != nil || string(text) != want {
					t.Errorf("variables became %q, %v, want %q", text, err, want)
				}
				if left, _ := filepath.Glob(filepath.Join(dir, "*.ansible")); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			},
		},
		{
			Name: "failure", Params: play(Params{SecretVars: map[string]action.SecretRef{"password": {Secret: "password"}}}), Secrets: map[string]string{"password": secrets["password"]}, Want: actiontest.Fails,
			Prepare: playbook(`
    - name: passes
      fail: {}
      ignore_errors: true
    - block: [{fail: {msg: rescued}}]
      rescue: [{meta: noop}]
    - name: check the disk
      fail: {msg: "disk of {{ inventory_hostname }} is full, {{ password }}"}
      when: inventory_hostname == "two"
`),
			ErrorHas: []string{"exit status 2", `host two, task "check the disk" (site.yml:`, "disk of two is full, ***"},
			Check: func(t *testing.T, _ action.Outputs, _ string, err error) {
				if err == nil || strings.Contains(err.Error(), "host one") || strings.Contains(err.Error(), "passes") {
					t.Errorf("error %v", err)
				}
			},
		},
		{
			Name: "check, diff and limit", Params: play(Params{Check: true, Diff: true, Limit: "two"}), Prepare: kept("check", playbook(`
    - {copy: {content: "new text", dest: "{{ playbook_dir }}/never"}}
`)),
			Outputs: action.Outputs{"changed": int64(1)},
			Check: func(t *testing.T, out action.Outputs, _ string, _ error) {
				if _, err := os.Stat(filepath.Join(dirOf["check"], "never")); err == nil || !strings.Contains(out["stdout"].(string), "+new text") || len(out["hosts"].(map[string]any)) != 1 {
					t.Errorf("outputs %v, %v", out, err)
				}
			},
		},
		{
			Name: "no host", Params: &Params{Playbook: "site.yml", Inventory: "other,"}, Prepare: playbook("    - {meta: noop}\n"),
			Want: actiontest.Permanent, ErrorHas: []string{"no host"},
		},
		{Name: "no YAML", Params: play(Params{}), Prepare: playbook("\t]"), Want: actiontest.Permanent, ErrorHas: []string{"exit status 4"}},
		{Name: "unreachable", Params: &Params{Playbook: "site.yml", Inventory: "hosts", Limit: "two", Env: map[string]string{"ANSIBLE_TIMEOUT": "1"}}, Want: actiontest.Fails, ErrorHas: []string{"host two"},
			Prepare: func(t *testing.T, call *action.Call) {
				playbook("    - {ping: {}}\n")(t, call)
				write(t, filepath.Join(call.Dir, "hosts"), "[pair]\ntwo ansible_host=127.0.0.1 ansible_port=1 ansible_connection=ssh\n")
			}},
		{Name: "empty secret", Params: play(Params{VaultPassword: &action.SecretRef{Secret: "gone"}}), Prepare: playbook("    - {meta: noop}\n"), Want: actiontest.Permanent, ErrorHas: []string{"vaultPassword"}},
	})
}

// TestNothingRunsWithout needs no Ansible.
func TestNothingRunsWithout(t *testing.T) {
	def := definition(t)
	empty := func(t *testing.T, call *action.Call) {
		playbook("    - {meta: noop}\n")(t, call)
		call.Secret = func(action.SecretRef) (string, error) { return "\n", nil }
	}
	missing := Definitions(Options{Runner: newRunner(t), Binary: "no-such-playbook"})[0]
	actiontest.Run(t, def, []actiontest.Case{
		{Name: "no directory", Params: &Params{Playbook: "site.yml", Dir: "gone"}, Want: actiontest.Permanent, ErrorHas: []string{"gone"}},
		{Name: "no playbook", Params: &Params{Playbook: "site.yml"}, Want: actiontest.Permanent, ErrorHas: []string{"site.yml"}},
		{Name: "playbook elsewhere", Params: &Params{Playbook: "../site.yml"}, Want: actiontest.Permanent, ErrorHas: []string{"below dir"}},
		{Name: "variable twice", Params: &Params{Playbook: "a", ExtraVars: map[string]any{"x": "1"}, SecretVars: map[string]action.SecretRef{"x": {}}}, Want: actiontest.Permanent},
		{Name: "variable of the loader", Params: &Params{Playbook: "a", Env: map[string]string{"LD_PRELOAD": "x"}}, Want: actiontest.Permanent, ErrorHas: []string{"LD_PRELOAD"}},
		{Name: "two tags in one", Params: &Params{Playbook: "a", Tags: []string{"a,b"}}, Want: actiontest.Permanent},
		{Name: "empty key", Params: play(Params{PrivateKey: &action.SecretRef{Secret: "key"}}), Prepare: empty, Want: actiontest.Permanent, ErrorHas: []string{"privateKey", "empty"}},
	})
	actiontest.Run(t, missing, []actiontest.Case{
		{Name: "no program", Params: play(Params{}), Prepare: playbook("    - {meta: noop}\n"), Want: actiontest.Permanent, ErrorHas: []string{"ansible-core"}},
	})
}

func newRunner(t *testing.T) *command.Runner {
	t.Helper()
	runner, err := command.New(command.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	return runner
}

// TestSecretsStandInPrivateFiles: every user of the machine can read command lines.
func TestSecretsStandInPrivateFiles(t *testing.T) {
	ref := action.SecretRef{Secret: "s"}
	call, _ := actiontest.Call(t, actiontest.Case{Secrets: map[string]string{"s": "hunter2-correct-horse"}, Params: play(Params{
		ExtraVars: map[string]any{"plain": "pl4in-text"}, SecretVars: map[string]action.SecretRef{"x": ref}, PrivateKey: &ref, VaultPassword: &ref, KnownHosts: "host key", Limit: "one", Check: true,
	}), Prepare: playbook("    - {meta: noop}\n")})
	g, err := newGame(call, call.Params.(*Params))
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := g.command()
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Join(cmd.Args, "\n")
	for _, secret := range []string{"hunter2", "pl4in"} {
		if strings.Contains(args, secret) {
			t.Errorf("the command line holds %s: %s", secret, args)
		}
	}
	for _, want := range []string{"--extra-vars=@", "--private-key=", "--vault-password-file=", "--limit=one", "--check", "--\nsite.yml"} {
		if !strings.Contains(args, want) {
			t.Errorf("the command line has no %s: %s", want, args)
		}
	}
	for _, name := range []string{"", "vars.yml", "private-key", "vault-password-file", "known_hosts", "plugins", "tmp"} {
		if info, err := os.Stat(filepath.Join(g.private, name)); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// seer is a log that tells when a text was seen.
type seer struct {
	io.Writer
	text string
	once sync.Once
	seen chan struct{}
	mu   sync.Mutex
	all  []byte
}

func (s *seer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, p...)
	if bytes.Contains(s.all, []byte(s.text)) {
		s.once.Do(func() { close(s.seen) })
	}
	return s.Writer.Write(p)
}

func TestCancel(t *testing.T) {
	needAnsible(t)
	log := &seer{text: "began", seen: make(chan struct{})}
	actiontest.Run(t, definition(t), []actiontest.Case{{
		Name: "in a task", Params: play(Params{Limit: "one"}), Cancel: log.seen, Want: actiontest.Fails,
		Prepare: func(t *testing.T, call *action.Call) {
			playbook("    - {debug: {msg: began}}\n    - {command: sleep 600, args: {chdir: \"{{ playbook_dir }}\"}}\n")(t, call)
			log.Writer, call.Log = call.Log, log
		},
	}})
}

func TestQuote(t *testing.T) {
	def := definition(t)
	for _, c := range []struct {
		field, value string
		ok           bool
	}{
		{"limit", "db-1.example.com", true}, {"limit", "all", false}, {"limit", "*", false}, {"limit", "", false}, {"limit", "a,b", false},
		{"limit", "a:b", false}, {"limit", "!a", false}, {"limit", "@file", false}, {"limit", "~x", false}, {"limit", "-x", false}, {"limit", "a\nb", false},
		{"playbook", "plays/site.yml", true}, {"playbook", "../site.yml", false}, {"playbook", "/etc/site.yml", false}, {"playbook", "a/../../b", false},
		{"inventory", "prod", true}, {"inventory", "/bin/sh", false}, {"inventory", "a,b", false}, {"inventory", ".hidden", false},
	} {
		got, err := def.Quote[c.field]("", c.value)
		if (err == nil) != c.ok || c.ok && got != c.value {
			t.Errorf("%s %q is %q, %v", c.field, c.value, got, err)
		}
	}
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"host":"a","task":"t","path":"/x:1","msg":"m"}` + "\n" + `{"host":"a","stats":{"ok":1,"failures":1}}`))
	f.Add([]byte(`{"host":1}`))
	f.Add([]byte("{"))
	path := filepath.Join(f.TempDir(), "report")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		told, err := readReport(path)
		if told == nil {
			t.Fatal(err)
		}
		if out := told.outputs(); out["hosts"] == nil {
			t.Errorf("outputs %v", out)
		}
		g := &game{dir: "/x", secrets: []string{"secret"}}
		if msg := g.failure(told, 2, os.ErrInvalid, "").Error(); strings.Contains(msg, "secret") {
			for _, h := range told.failures {
				if strings.Contains(h.Host+h.Task+h.Path, "secret") {
					return // a name, not what was said
				}
			}
			t.Errorf("the error shows a secret: %s", msg)
		}
	})
}

func TestTarget(t *testing.T) {
	for want, p := range map[string]Params{
		"":                       {Playbook: "a.yml"},
		"shop":                   {Playbook: "a.yml", Inventory: "production", Target: "shop"},
		"ansible production web": {Playbook: "a.yml", Inventory: "production", Limit: "web"},
		"ansible production all": {Playbook: "a.yml", Inventory: "production"},
		"ansible default web":    {Playbook: "a.yml", Limit: "web"},
	} {
		if got := target(&action.Call{Params: &p}); got != want {
			t.Errorf("target %q, want %q", got, want)
		}
	}
}
