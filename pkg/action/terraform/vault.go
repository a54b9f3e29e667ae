package terraform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"filippo.io/age"
)

// maxPlan bounds a plan in memory.
const maxPlan = 256 << 20

// sealed is what a saved plan's file holds, encrypted.
type sealed struct {
	RunID   string   `json:"runID"`
	Binary  string   `json:"binary"`
	Dir     string   `json:"dir"`     // of the root module
	DataDir string   `json:"dataDir"` // TF_DATA_DIR
	Base    base     `json:"base"`
	Secrets []string `json:"secrets"` // to mask
	Plan    []byte   `json:"plan"`
}

// base is what a plan was made of.
type base struct {
	Commit  string `json:"commit"`
	Digest  string `json:"digest"`
	State   string `json:"state"` // which state
	Lineage string `json:"lineage"`
	Serial  int64  `json:"serial"`
}

// vault encrypts plans with a key of this machine, made at first use. Safe for concurrent use.
type vault struct {
	path string
	mu   sync.Mutex
	key  *age.X25519Identity
}

func (v *vault) identity() (*age.X25519Identity, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.key != nil {
		return v.key, nil
	}
	key, err := v.load()
	if errors.Is(err, os.ErrNotExist) {
		key, err = v.create()
	}
	if err != nil {
		return nil, fmt.Errorf("key for saved plans: %w", err)
	}
	v.key = key
	return key, nil
}

func (v *vault) load() (*age.X25519Identity, error) {
	text, err := os.ReadFile(v.path)
	if err != nil {
		return nil, err
	}
	key, err := age.ParseX25519Identity(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s holds no key; remove it to have a new one made", v.path) // the parser may quote it
	}
	return key, nil
}

func (v *vault) create() (*age.X25519Identity, error) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	return key, writePrivate(v.path, []byte(key.String()+"\n"))
}

// writePrivate writes a file that only this user can read; it has its name when it is whole.
func writePrivate(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// seal writes s to path, encrypted.
func (v *vault) seal(path string, s sealed) error {
	key, err := v.identity()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, key.Recipient())
	if err != nil {
		return fmt.Errorf("encrypt the plan: %w", err)
	}
	if err := json.NewEncoder(w).Encode(s); err != nil {
		return fmt.Errorf("encrypt the plan: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("encrypt the plan: %w", err)
	}
	if err := writePrivate(path, out.Bytes()); err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	return nil
}

// open reads what seal wrote.
func (v *vault) open(path string) (sealed, error) {
	key, err := v.identity()
	if err != nil {
		return sealed{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return sealed{}, fmt.Errorf("open the plan: %w", err)
	}
	defer f.Close()
	r, err := age.Decrypt(f, key)
	if err != nil {
		return sealed{}, fmt.Errorf("decrypt the plan: %w", err)
	}
	var s sealed
	if err := json.NewDecoder(io.LimitReader(r, 2*maxPlan)).Decode(&s); err != nil {
		return sealed{}, fmt.Errorf("read the plan: %w", err)
	}
	return s, nil
}
