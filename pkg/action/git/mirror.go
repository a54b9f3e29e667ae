package git

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// mirrors is the directory of bare repositories, one for each URL, each possibly in several generations: a mirror that
// is begun anew gets a new directory, so that those who still read the old one are not disturbed. Safe for concurrent use.
type mirrors struct {
	dir string
	max int64
	now func() time.Time

	mu      sync.Mutex
	scanned bool
	byKey   map[string]*mirror
	serial  int
}

// mirror is one repository's. Its turn is held by whoever fetches.
type mirror struct {
	key     string
	turn    chan struct{}
	current *generation // guarded by mirrors.mu
	waiting int         // guarded by mirrors.mu
}

// generation is one directory; all fields but path are guarded by mirrors.mu.
type generation struct {
	path  string
	users int
	size  int64
	used  time.Time
	stale bool // removed once nobody uses it
}

func newMirrors(dir string, max int64, now func() time.Time) *mirrors {
	return &mirrors{dir: dir, max: max, now: now, byKey: map[string]*mirror{}}
}

// lease is the use of a mirror by one pull; at first it also holds the turn to fetch.
type lease struct {
	all     *mirrors
	m       *mirror
	g       *generation
	fetches bool
}

func (l *lease) path() string { return l.g.path }

// acquire waits for the turn to fetch into a's mirror and returns it, made if it is missing.
func (ms *mirrors) acquire(ctx context.Context, a address) (*lease, error) {
	m, err := ms.find(a)
	if err != nil {
		return nil, err
	}
	defer func() {
		ms.mu.Lock()
		m.waiting--
		ms.mu.Unlock()
	}()
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another pull of the same repository: %w", context.Cause(ctx))
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if m.current != nil && !exists(m.current.path) {
		m.current.stale, m.current = true, nil
	}
	if m.current == nil {
		g, err := ms.create(m.key)
		if err != nil {
			<-m.turn
			return nil, err
		}
		m.current = g
	}
	m.current.users++
	m.current.used = ms.now()
	return &lease{all: ms, m: m, g: m.current, fetches: true}, nil
}

// find returns a's mirror with one more waiting for it.
func (ms *mirrors) find(a address) (*mirror, error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if err := ms.scan(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(a.String()))
	key := hex.EncodeToString(sum[:12])
	m := ms.byKey[key]
	if m == nil {
		m = &mirror{key: key, turn: make(chan struct{}, 1)}
		ms.byKey[key] = m
	}
	m.waiting++
	return m, nil
}

// scan finds the mirrors of an earlier process and removes what it left half done.
func (ms *mirrors) scan() error {
	if ms.scanned {
		return nil
	}
	if err := os.MkdirAll(ms.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of git mirrors: %w", err)
	}
	entries, err := os.ReadDir(ms.dir)
	if err != nil {
		return fmt.Errorf("read the directory of git mirrors: %w", err)
	}
	for _, e := range entries { // in the order of their names: of two generations the later one stays
		path := filepath.Join(ms.dir, e.Name())
		key, serial, ok := parseGeneration(e.Name())
		if !ok || !e.IsDir() {
			_ = os.RemoveAll(path)
			continue
		}
		ms.serial = max(ms.serial, serial)
		if before := ms.byKey[key]; before != nil {
			_ = os.RemoveAll(before.current.path)
		}
		g := &generation{path: path, size: diskSize(path)}
		if info, err := e.Info(); err == nil {
			g.used = info.ModTime()
		}
		ms.byKey[key] = &mirror{key: key, turn: make(chan struct{}, 1), current: g}
	}
	ms.scanned = true
	return nil
}

func parseGeneration(name string) (key string, serial int, ok bool) {
	key, tail, ok := strings.Cut(name, "-")
	if !ok || len(key) != 24 {
		return "", 0, false
	}
	_, err := fmt.Sscanf(tail, "%08d", &serial)
	return key, serial, err == nil && generationName(key, serial) == name
}

func generationName(key string, serial int) string { return fmt.Sprintf("%s-%08d", key, serial) }

// create makes an empty bare repository, complete when it gets its name.
func (ms *mirrors) create(key string) (*generation, error) {
	ms.serial++
	path := filepath.Join(ms.dir, generationName(key, ms.serial))
	temp := filepath.Join(ms.dir, "new-"+filepath.Base(path))
	files := map[string]string{
		"HEAD":   "ref: refs/heads/none\n",
		"config": "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
	}
	err := writeRepository(temp, files)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.RemoveAll(temp)
		return nil, fmt.Errorf("make a git mirror: %w", err)
	}
	return &generation{path: path}, nil
}

func writeRepository(dir string, files map[string]string) error {
	for _, sub := range []string{"objects/pack", "objects/info", "refs/heads", "refs/tags"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// fetched gives the turn to the next one and makes room; the mirror stays in use until release.
func (l *lease) fetched() {
	if !l.fetches {
		return
	}
	size := diskSize(l.g.path)
	now := l.all.now()
	_ = os.Chtimes(l.g.path, now, now) // for the order after a restart
	l.all.mu.Lock()
	l.g.size, l.g.used = size, now
	l.all.evict()
	l.all.mu.Unlock()
	l.fetches = false
	<-l.m.turn
}

// discard makes the next pull begin a new mirror. It is called before release.
func (l *lease) discard() {
	l.all.mu.Lock()
	defer l.all.mu.Unlock()
	l.g.stale = true
	if l.m.current == l.g {
		l.m.current = nil
	}
}

// release ends the use of the mirror.
func (l *lease) release() {
	l.fetched()
	l.all.mu.Lock()
	defer l.all.mu.Unlock()
	l.g.users--
	if l.g.stale && l.g.users == 0 {
		_ = os.RemoveAll(l.g.path)
	}
	l.all.evict()
}

// evict removes the least recently used mirrors that nobody uses until the rest fits. Holds mirrors.mu.
func (ms *mirrors) evict() {
	var total int64
	var idle []*mirror
	for key, m := range ms.byKey {
		if m.current == nil {
			if m.waiting == 0 && len(m.turn) == 0 {
				delete(ms.byKey, key)
			}
			continue
		}
		total += m.current.size
		if m.current.users == 0 && m.waiting == 0 {
			idle = append(idle, m)
		}
	}
	slices.SortFunc(idle, func(a, b *mirror) int {
		return cmp.Or(a.current.used.Compare(b.current.used), strings.Compare(a.key, b.key))
	})
	for _, m := range idle {
		if total <= ms.max {
			return
		}
		if err := os.RemoveAll(m.current.path); err != nil {
			continue
		}
		total -= m.current.size
		delete(ms.byKey, m.key)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// diskSize adds up the files below dir, as far as they can be seen.
func diskSize(dir string) int64 {
	var total int64
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}
