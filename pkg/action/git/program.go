package git

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/command"
)

// program fetches with git. It does that alone: references are read and files written by this package in either backend.
// Everything it is told stands in its environment, which only the same user can read, never in its arguments.
// It follows no redirects, since git would repeat the credential to wherever one leads.
type program struct {
	runner *command.Runner
	remote *remote
}

func (f *program) fetch(ctx context.Context, repo *repository, _ *packp.AdvRefs, want plumbing.Hash, depth int64) (err error) {
	path, err := exec.LookPath("git")
	if err != nil {
		return action.Permanent(errors.New("git is not on PATH: install it, or choose the backend go-git"))
	}
	temp, err := os.MkdirTemp(filepath.Dir(repo.path), "fetch-")
	if err != nil {
		return fmt.Errorf("make a directory for git: %w", err)
	}
	defer os.RemoveAll(temp)
	y, err := startRelay(ctx, f.remote)
	if err != nil {
		return fmt.Errorf("listen for git: %w", err)
	}
	env, err := f.env(temp, y.addr())
	if err != nil {
		return errors.Join(err, y.Close())
	}
	args, err := fetchArgs(repo, f.remote.addr, want, depth)
	if err != nil {
		return errors.Join(err, y.Close())
	}
	var said tail
	_, err = f.runner.Run(ctx, command.Cmd{
		Path: path, Args: args, Dir: temp, Env: env,
		Stdout: io.Discard, Stderr: &said, Grace: 5 * time.Second,
	})
	stopped := y.Close()
	repo.Reindex()
	if err != nil {
		return errors.Join(stopped, fmt.Errorf("git fetch: %w: %s", err, said.String()))
	}
	return nil
}

func fetchArgs(repo *repository, a address, want plumbing.Hash, depth int64) ([]string, error) {
	args := []string{"--git-dir=" + repo.path, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules"}
	shallows, err := repo.Shallow()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMirror, err)
	}
	if depth == 0 && len(shallows) > 0 {
		depth = infinite
	}
	if depth > 0 {
		args = append(args, "--depth="+strconv.FormatInt(depth, 10))
	}
	return append(args, "--", a.String(), "+"+want.String()+":"+refPrefix+want.String()), nil
}

// env is the whole environment: nothing of ours and no configuration of the machine reaches git.
func (f *program) env(temp string, proxy *net.TCPAddr) ([]string, error) {
	config := [][2]string{
		{"core.hooksPath", os.DevNull},
		{"protocol.allow", "never"},
		{"protocol.https.allow", "always"},
		{"protocol.http.allow", "always"},
		{"protocol.ssh.allow", "always"},
		{"protocol.ext.allow", "never"},
		{"credential.helper", ""},
		{"http.followRedirects", "false"},
		{"fetch.unpackLimit", "1"}, // whole packs, as the other backend leaves them
		{"fetch.fsckObjects", "true"},
		{"gc.auto", "0"},
		{"maintenance.auto", "false"},
		{"core.multiPackIndex", "false"},
		{"fetch.writeCommitGraph", "false"},
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + temp, "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=",
		"GIT_ALLOW_PROTOCOL=https:http:ssh", "NO_PROXY=", "no_proxy=",
	}
	var err error
	if f.remote.addr.scheme == "ssh" {
		env, err = f.sshEnv(env, temp, proxy)
	} else {
		// Said twice: a git before 2.31 knows no GIT_CONFIG_COUNT, and must not connect by itself.
		by := "http://" + proxy.String()
		env = append(env, "http_proxy="+by, "https_proxy="+by, "HTTPS_PROXY="+by, "all_proxy="+by)
		config, err = f.httpConfig(config, by)
	}
	if err != nil {
		return nil, err
	}
	// GIT_CONFIG_COUNT is git's way to configure by environment, since 2.31.
	env = append(env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(config)))
	for i, kv := range config {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, kv[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, kv[1]))
	}
	return env, nil
}

func (f *program) httpConfig(config [][2]string, proxy string) ([][2]string, error) {
	config = append(config, [2]string{"http.proxy", proxy})
	if f.remote.caFile != "" {
		path, err := filepath.Abs(f.remote.caFile)
		if err != nil {
			return nil, err
		}
		config = append(config, [2]string{"http.sslCAInfo", path})
	}
	if f.remote.cred == nil || f.remote.cred.Token == nil {
		return config, nil
	}
	user, token, err := f.remote.login()
	if err != nil {
		return nil, err
	}
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + token))
	return append(config, [2]string{"http.extraHeader", "Authorization: Basic " + basic}), nil
}

// sshEnv makes git call ssh with the key and known_hosts of the credential alone, through the relay. The name under
// which known_hosts has the host is given apart (HostKeyAlias), since the relay is another address.
func (f *program) sshEnv(env []string, temp string, proxy *net.TCPAddr) ([]string, error) {
	pem, err := f.remote.sshKey()
	if err != nil {
		return nil, err
	}
	key := filepath.Join(temp, "key")
	if err := os.WriteFile(key, append(pem, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("write the SSH key for git: %w", err)
	}
	known, err := filepath.Abs(f.remote.cred.KnownHosts)
	if err != nil {
		return nil, err
	}
	alias := f.remote.addr.host
	if f.remote.addr.port != defaultPorts["ssh"] {
		alias = "[" + alias + "]:" + f.remote.addr.port
	}
	options := []string{
		"BatchMode=yes", "StrictHostKeyChecking=yes", "UserKnownHostsFile=" + strconv.Quote(known), "GlobalKnownHostsFile=" + os.DevNull,
		"IdentitiesOnly=yes", "IdentityAgent=none", "IdentityFile=" + strconv.Quote(key), "UpdateHostKeys=no",
		"HostKeyAlias=" + alias, "Hostname=" + proxy.IP.String(), "Port=" + strconv.Itoa(proxy.Port),
	}
	var line strings.Builder
	line.WriteString("ssh -F " + os.DevNull)
	for _, o := range options {
		line.WriteString(" -o " + quote(o))
	}
	return append(env, "GIT_SSH_COMMAND="+line.String(), "GIT_SSH_VARIANT=ssh"), nil
}
