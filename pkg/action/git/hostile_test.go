package git

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/riposte-dev/riposte/pkg/action"
)

// hostile answers the request for references honestly and leaves the pack to a test.
func hostile(t *testing.T, pack http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/git-upload-pack") {
			pack(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		e := pktline.NewEncoder(w)
		hash := strings.Repeat("1", 40)
		_ = e.EncodeString("# service=git-upload-pack\n")
		_ = e.Flush()
		_ = e.EncodeString(hash+" HEAD\x00shallow ofs-delta agent=x symref=HEAD:refs/heads/main\n", hash+" refs/heads/main\n")
		_ = e.Flush()
	}))
	t.Cleanup(s.Close)
	return s
}

// begin answers up to where the pack begins.
func begin(w io.Writer) {
	e := pktline.NewEncoder(w)
	_ = e.EncodeString("shallow " + strings.Repeat("1", 40))
	_ = e.Flush()
	_ = e.EncodeString("NAK\n")
}

func TestHangingRemote(t *testing.T) {
	for name, where := range map[string]func(w http.ResponseWriter){
		"before the answer": func(http.ResponseWriter) {},
		"in the pack": func(w http.ResponseWriter) {
			begin(w)
			_, _ = io.WriteString(w, "PACK\x00\x00\x00\x02")
			_ = http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := hostile(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				where(w)
				<-r.Context().Done()
			})
			opts := testOptions(t)
			opts.Timeout = 200 * time.Millisecond
			_, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: s.URL + "/acme/x", Depth: 1}, nil)
			if !errors.Is(err, errTimeout) || action.IsPermanent(err) {
				t.Errorf("err = %v, want a time-out that a retry may cure", err)
			}
		})
	}
	eachBackend(t, func(t *testing.T, opts Options) {
		asked := make(chan struct{}, 8)
		s := hostile(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			asked <- struct{}{}
			<-r.Context().Done()
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the run was cancelled")
		go func() { <-asked; cancel(why) }()
		_, err := Definitions(opts)[0].Run(ctx, &action.Call{StepID: "src", Dir: t.TempDir(), Log: io.Discard, Params: &PullParams{URL: s.URL + "/acme/x", Depth: 1}})
		if !errors.Is(err, why) {
			t.Errorf("err = %v, want the cancellation", err)
		}
	})
}

func TestRemoteThatSendsTooMuch(t *testing.T) {
	flood := func(w io.Writer) {
		block := make([]byte, 64<<10)
		for range 1 << 14 { // a GiB, if it were taken
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	tests := map[string]http.HandlerFunc{
		"pack":       func(w http.ResponseWriter, _ *http.Request) { begin(w); _, _ = io.WriteString(w, "PACK"); flood(w) },
		"error body": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden); flood(w) },
		"garbage":    func(w http.ResponseWriter, _ *http.Request) { flood(w) },
		"not a pack": func(w http.ResponseWriter, _ *http.Request) { begin(w); flood(w) },
		"empty":      func(http.ResponseWriter, *http.Request) {},
		"broken pack": func(w http.ResponseWriter, _ *http.Request) {
			begin(w)
			_, _ = io.WriteString(w, "PACK\x00\x00\x00\x02\x00\x00\x00\x01\xff\xff")
		},
		"huge count": func(w http.ResponseWriter, _ *http.Request) {
			begin(w)
			_, _ = io.WriteString(w, "PACK\x00\x00\x00\x02\xff\xff\xff\xff")
		},
		"huge object": func(w http.ResponseWriter, _ *http.Request) { begin(w); _, _ = w.Write(hugeObject()) },
	}
	for name, pack := range tests {
		t.Run(name, func(t *testing.T) {
			s := hostile(t, pack)
			opts := testOptions(t)
			opts.MaxBytes = 1 << 20
			_, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: s.URL + "/acme/x", Depth: 1}, nil)
			if err == nil || len(err.Error()) > 2*maxErrorText {
				t.Fatalf("err = %v", err)
			}
			if name == "pack" && !errors.Is(err, errTooLarge) {
				t.Errorf("err = %v, want that it is too large", err)
			}
			if name == "huge object" && !errors.Is(err, errTooLarge) {
				t.Errorf("err = %v, want that an object is too large", err)
			}
			left, _ := filepath.Glob(filepath.Join(opts.Dir, "*/objects/pack/*"))
			if len(left) != 0 {
				t.Errorf("%v are left", left)
			}
		})
	}
	t.Run("references", func(t *testing.T) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			e := pktline.NewEncoder(w)
			_ = e.EncodeString("# service=git-upload-pack\n")
			_ = e.Flush()
			for i := range 1 << 20 {
				caps := ""
				if i == 0 {
					caps = "\x00agent=x"
				}
				if e.EncodeString(fmt.Sprintf("%040d refs/heads/%07d%s\n", i+1, i, caps)) != nil {
					return
				}
			}
		}))
		defer s.Close()
		opts := testOptions(t)
		opts.MaxBytes = 1 << 20
		_, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: s.URL + "/acme/x", Depth: 1}, nil)
		if !errors.Is(err, errTooLarge) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestLargeRepository(t *testing.T) {
	eachBackend(t, func(t *testing.T, opts Options) {
		o := newOrigin(t)
		noise := make([]byte, 4<<20)
		if _, err := rand.Read(noise); err != nil {
			t.Fatal(err)
		}
		o.commit("main", "noise", string(noise))
		s := serve(t, o)
		opts.MaxBytes = 1 << 20
		_, _, err := pullWith(t, Definitions(opts)[0], &PullParams{URL: s.repo(), Depth: 1}, nil)
		if !errors.Is(err, errTooLarge) || !action.IsPermanent(err) {
			t.Errorf("err = %v, want that it is too large", err)
		}
	})
}

// hugeObject is a pack whose one blob says that it is 2^40 bytes long.
func hugeObject() []byte {
	b := []byte("PACK")
	b = binary.BigEndian.AppendUint32(b, 2)
	b = binary.BigEndian.AppendUint32(b, 1)
	size := uint64(1) << 40
	b = append(b, 0x80|3<<4|byte(size&15))
	for size >>= 4; size > 127; size >>= 7 {
		b = append(b, 0x80|byte(size&127))
	}
	return append(b, byte(size), 0x78, 0x9c)
}

func TestDeltaTarget(t *testing.T) {
	tests := map[string]struct {
		delta []byte
		want  int64
		ok    bool
	}{
		"small":     {[]byte{5, 7, 0x90}, 7, true},
		"large":     {append([]byte{0x80, 1}, 0x80, 0x80, 0x80, 0x80, 0x80, 1), 1 << 35, true},
		"empty":     {nil, 0, false},
		"cut off":   {[]byte{5, 0x80}, 0, false},
		"too large": {[]byte{5, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1}, 0, false},
	}
	for name, c := range tests {
		p := &prefix{}
		_, _ = p.Write(c.delta)
		if got, ok := p.deltaTarget(); got != c.want || ok != c.ok {
			t.Errorf("%s: %d, %v", name, got, ok)
		}
	}
}

// tree puts objects into a mirror by hand, as no honest git would.
type tree struct {
	t    *testing.T
	repo *repository
}

func newTree(t *testing.T) *tree {
	t.Helper()
	ms := newMirrors(t.TempDir(), 1<<30, time.Now)
	if err := os.MkdirAll(ms.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	g, err := ms.create(strings.Repeat("a", 24))
	if err != nil {
		t.Fatal(err)
	}
	return &tree{t, openRepository(g.path)}
}

func (w *tree) blob(content string) plumbing.Hash {
	o := w.repo.NewEncodedObject()
	o.SetType(plumbing.BlobObject)
	out, err := o.Writer()
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.WriteString(out, content); err != nil {
		w.t.Fatal(err)
	}
	return w.put(o)
}

func (w *tree) put(o plumbing.EncodedObject) plumbing.Hash {
	h, err := w.repo.SetEncodedObject(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

type entry struct {
	mode filemode.FileMode
	name string
	hash plumbing.Hash
}

// tree encodes by hand: go-git's encoder refuses what the tests need.
func (w *tree) tree(entries ...entry) plumbing.Hash {
	var b bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&b, "%o %s\x00", uint32(e.mode), e.name)
		b.Write(e.hash[:])
	}
	o := w.repo.NewEncodedObject()
	o.SetType(plumbing.TreeObject)
	out, err := o.Writer()
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := out.Write(b.Bytes()); err != nil {
		w.t.Fatal(err)
	}
	return w.put(o)
}

func (w *tree) commit(root plumbing.Hash) plumbing.Hash {
	o := w.repo.NewEncodedObject()
	c := &object.Commit{TreeHash: root, Message: "x"}
	if err := c.Encode(o); err != nil {
		w.t.Fatal(err)
	}
	return w.put(o)
}

func (w *tree) checkout(root plumbing.Hash, limit int64) (dir, log string, err error) {
	w.t.Helper()
	dir = filepath.Join(w.t.TempDir(), "out")
	var b bytes.Buffer
	err = writeCheckout(w.t.Context(), w.repo, dir, target{commit: w.commit(root), url: "https://h/x"}, limit, &b)
	return dir, b.String(), err
}

var _ storer.EncodedObjectStorer = (*repository)(nil)

func TestLinksThatLeaveAreLeftOut(t *testing.T) {
	tests := []struct {
		at, to string
		kept   bool
	}{
		{"link", "file", true},
		{"link", "./sub/../file", false}, // `..` after a name
		{"link", "sub/file", true},
		{"sub/link", "../file", true},
		{"sub/deep/link", "../../file", true},
		{"link", "dangling", true},
		{"link", "/etc/passwd", false},
		{"link", "..", false},
		{"sub/link", "../..", false},
		{"sub/link", "../../x", false},
		{"link", "sub/../../x", false},
		{"link", ".git/config", false},
		{"link", ".GIT", false},
		{"link", "", false},
	}
	for _, c := range tests {
		w := newTree(t)
		link := entry{filemode.Symlink, filepath.Base(c.at), w.blob(c.to)}
		root := w.tree(link)
		for dir := filepath.Dir(c.at); dir != "."; dir = filepath.Dir(dir) {
			root = w.tree(entry{filemode.Dir, filepath.Base(dir), root})
		}
		dir, log, err := w.checkout(root, 1<<20)
		if err != nil {
			t.Errorf("%s -> %q: %v", c.at, c.to, err)
			continue
		}
		to, err := os.Readlink(filepath.Join(dir, c.at))
		if kept := err == nil && to == c.to; kept != c.kept {
			t.Errorf("%s -> %q: kept %v, want %v (%s)", c.at, c.to, kept, c.kept, log)
		}
		if c.kept == strings.Contains(log, "left out") {
			t.Errorf("%s -> %q: log says %q", c.at, c.to, log)
		}
	}
}

func TestTreesThatNoHonestGitMakes(t *testing.T) {
	w := newTree(t)
	blob := w.blob("x")
	up := w.blob("..")
	inner := w.tree(entry{filemode.Regular, "config", blob})
	trees := map[string]plumbing.Hash{
		"dot git":          w.tree(entry{filemode.Dir, ".git", inner}),
		"dot git in case":  w.tree(entry{filemode.Dir, ".GiT", inner}),
		"short name":       w.tree(entry{filemode.Dir, "GIT~1", inner}),
		"trailing dot":     w.tree(entry{filemode.Dir, ".git. .", inner}),
		"stream":           w.tree(entry{filemode.Dir, ".git::$INDEX_ALLOCATION", inner}),
		"ignored runes":    w.tree(entry{filemode.Dir, ".g\u200cit", inner}),
		"dot dot":          w.tree(entry{filemode.Dir, "..", inner}),
		"dot":              w.tree(entry{filemode.Dir, ".", inner}),
		"slash":            w.tree(entry{filemode.Regular, "a/b", blob}),
		"absolute":         w.tree(entry{filemode.Regular, "/tmp/x", blob}),
		"empty":            w.tree(entry{filemode.Regular, "", blob}),
		"link, then below": w.tree(entry{filemode.Symlink, "a", up}, entry{filemode.Dir, "a", inner}, entry{filemode.Regular, "a", blob}),
		"twice":            w.tree(entry{filemode.Regular, "a", blob}, entry{filemode.Regular, "a", blob}),
	}
	for name, root := range trees {
		if _, _, err := w.checkout(root, 1<<20); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCheckoutIsBounded(t *testing.T) {
	w := newTree(t)
	blob := w.blob(strings.Repeat("x", 1000))
	// Each level holds the one below ten times: a small pack, 10^9 files.
	root := w.tree(entry{filemode.Regular, "f", blob})
	for range 9 {
		var ten []entry
		for i := range 10 {
			ten = append(ten, entry{filemode.Dir, fmt.Sprint(i), root})
		}
		root = w.tree(ten...)
	}
	if _, _, err := w.checkout(root, 50_000); !errors.Is(err, errTooLarge) {
		t.Errorf("err = %v", err)
	}
	root = w.tree(entry{filemode.Regular, "f", blob})
	for range maxPath / 100 {
		root = w.tree(entry{filemode.Dir, strings.Repeat("d", 200), root})
	}
	if _, _, err := w.checkout(root, 50_000); !errors.Is(err, errTooLarge) {
		t.Errorf("err = %v", err)
	}
}

func TestSubmodulesAndHooksAreLeftAlone(t *testing.T) {
	w := newTree(t)
	dir, log, err := w.checkout(w.tree(
		entry{filemode.Regular, ".gitmodules", w.blob("[submodule \"m\"]\n\tpath = m\n\turl = ext::sh -c id\n")},
		entry{filemode.Submodule, "m", plumbing.NewHash(strings.Repeat("2", 40))},
	), 1<<20)
	if err != nil || !strings.Contains(log, `submodule "m"`) {
		t.Fatalf("%v, %s", err, log)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "m")); err != nil || len(entries) != 0 {
		t.Errorf("submodule's directory: %v, %v", entries, err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".git", "hooks")); err == nil {
		t.Error("there are hooks")
	}
}

func FuzzStaysInside(f *testing.F) {
	f.Add("a/b", "../../c")
	f.Add(".", "a/../..")
	f.Fuzz(func(t *testing.T, dir, to string) {
		if filepath.Clean(dir) != dir || !filepath.IsLocal(dir) || !staysInside(dir, to) {
			return
		}
		if !filepath.IsLocal(filepath.Join(dir, to)) || filepath.IsAbs(to) {
			t.Errorf("%q from %q leaves", to, dir)
		}
	})
}

func FuzzAddPack(f *testing.F) {
	f.Add([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x00"))
	f.Add(hugeObject())
	f.Fuzz(func(t *testing.T, pack []byte) {
		w := newTree(t)
		if err := w.repo.addPack(bytes.NewReader(pack)); err != nil {
			if left, _ := filepath.Glob(filepath.Join(w.repo.path, "objects/pack/*")); len(left) != 0 {
				t.Errorf("%v are left after %v", left, err)
			}
		}
	})
}
