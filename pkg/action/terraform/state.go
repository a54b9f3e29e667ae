package terraform

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	gogit "github.com/go-git/go-git/v5"
)

// locks let one call at a time work on a state. Safe for concurrent use.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	turn  chan struct{}
	users int
}

// acquire waits for key's turn; release gives it up.
func (l *locks) acquire(ctx context.Context, key string) (release func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	k := l.held[key]
	if k == nil {
		k = &lock{turn: make(chan struct{}, 1)}
		l.held[key] = k
	}
	k.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, key)
		}
	}
	select {
	case k.turn <- struct{}{}:
		return func() { <-k.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("wait for another call on the same state: %w", context.Cause(ctx))
	}
}

// stateKey names the state that an initialised root module works on: the backend's settings and the workspace, or the
// directory where there is no backend. Terraform keeps both in its data directory.
func stateKey(dir, dataDir string) (string, error) {
	workspace, err := os.ReadFile(filepath.Join(dataDir, "environment"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the workspace's name: %w", err)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%q", strings.TrimSpace(string(workspace)))
	backend, local, err := readBackend(filepath.Join(dataDir, "terraform.tfstate"))
	if err != nil {
		return "", err
	}
	if local {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return "", fmt.Errorf("find the root module: %w", err)
		}
		fmt.Fprintf(sum, "%q", real)
	}
	sum.Write(backend)
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func readBackend(path string) (backend []byte, local bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the backend's settings: %w", err)
	}
	var s struct {
		Backend struct {
			Type   string          `json:"type"`
			Config json.RawMessage `json:"config"`
		} `json:"backend"`
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, false, fmt.Errorf("read the backend's settings in %s: %w", path, err)
	}
	var compact bytes.Buffer
	if len(s.Backend.Config) > 0 {
		if err := json.Compact(&compact, s.Backend.Config); err != nil {
			return nil, false, fmt.Errorf("read the backend's settings in %s: %w", path, err)
		}
	}
	return append([]byte(s.Backend.Type+" "), compact.Bytes()...), s.Backend.Type == "" || s.Backend.Type == "local", nil
}

// observe finds out what a plan is, or was, made of. Holds the state's lock.
func (t *tool) observe(ctx context.Context, dataDir string) (base, error) {
	key, err := stateKey(t.dir, dataDir)
	if err != nil {
		return base{}, err
	}
	b := base{State: key, Commit: headCommit(t.dir)}
	if b.Digest, err = digest(t.dir, dataDir); err != nil {
		return base{}, err
	}
	b.Lineage, b.Serial, err = t.state(ctx)
	return b, err
}

// state returns the state's identity; a state that does not exist yet has none.
func (t *tool) state(ctx context.Context) (lineage string, serial int64, err error) {
	text, err := t.answer(ctx, "state", "pull")
	if err != nil {
		return "", 0, err
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return "", 0, nil
	}
	var s struct {
		Lineage string `json:"lineage"`
		Serial  int64  `json:"serial"`
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return "", 0, errors.New("the state is not JSON") // the parser may quote it
	}
	return s.Lineage, s.Serial, nil
}

// headCommit is the commit of the work tree around dir, or "".
func headCommit(dir string) string {
	repo, err := gogit.PlainOpenWithOptions(dir, &gogit.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if err != nil {
		return ""
	}
	head, err := repo.Head()
	if err != nil {
		return ""
	}
	return head.Hash().String()
}

// digest is over the configuration's files: of the root module and of the local modules that it calls, which terraform
// lists in its data directory.
func digest(dir, dataDir string) (string, error) {
	dirs := []string{dir}
	if text, err := os.ReadFile(filepath.Join(dataDir, "modules", "modules.json")); err == nil {
		var list struct {
			Modules []struct {
				Dir string `json:"Dir"`
			} `json:"Modules"`
		}
		if err := json.Unmarshal(text, &list); err != nil {
			return "", fmt.Errorf("read terraform's list of modules: %w", err)
		}
		for _, m := range list.Modules {
			if m.Dir != "." && filepath.IsAbs(m.Dir) {
				dirs = append(dirs, m.Dir)
			} else if m.Dir != "." {
				dirs = append(dirs, filepath.Join(dir, m.Dir))
			}
		}
	}
	slices.Sort(dirs)
	sum := sha256.New()
	for _, d := range slices.Compact(dirs) {
		if err := digestDir(sum, d); err != nil {
			return "", fmt.Errorf("read the configuration: %w", err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func digestDir(sum io.Writer, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || !isConfiguration(e.Name()) {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		content := sha256.New()
		_, err = io.Copy(content, f)
		_ = f.Close()
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%q %x\n", e.Name(), content.Sum(nil))
	}
	return nil
}

func isConfiguration(name string) bool {
	name = strings.TrimSuffix(name, ".json")
	switch filepath.Ext(name) {
	case ".tf", ".tofu", ".tfvars":
		return true
	}
	return false
}
