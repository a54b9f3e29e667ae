package git

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMergeLines(t *testing.T) {
	for _, c := range []struct{ name, base, ours, theirs, want string }{
		{"apart", "a\nb\nc\nd\ne\n", "A\nb\nc\nd\ne\n", "a\nb\nc\nd\nE\n", "A\nb\nc\nd\nE\n"},
		{"deleted and inserted", "a\nb\nc\nd\n", "b\nc\nd\n", "a\nb\nc\nx\nd\n", "b\nc\nx\nd\n"},
		{"the same", "a\nb\nc\n", "a\nB\nc\n", "a\nB\nc\n", "a\nB\nc\n"},
		{"nothing of ours", "a\n", "a\n", "b\n", "b\n"},
		{"without a last line break", "a\nb\nc\nd", "a\nb\nc\nD", "A\nb\nc\nd", "A\nb\nc\nD"},
		{"from nothing", "", "a\n", "a\n", "a\n"},
		{"same line", "a\nb\nc\n", "a\nB\nc\n", "a\nX\nc\n", "conflict"},
		{"neighbours", "a\nb\nc\n", "A\nb\nc\n", "a\nB\nc\n", "conflict"},
		{"both at the end", "a\n", "a\nb\n", "a\nc\n", "conflict"},
		{"deleted and changed", "a\nb\nc\n", "a\nc\n", "a\nB\nc\n", "conflict"},
	} {
		got, ok, err := mergeLines([]byte(c.base), []byte(c.ours), []byte(c.theirs))
		if !ok {
			got = []byte("conflict")
		}
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

// edited changes a few runs of lines at random.
func edited(r *rand.Rand, lines []string, line func() string) []string {
	lines = slices.Clone(lines)
	for range 1 + r.IntN(3) {
		at := r.IntN(len(lines) + 1)
		cut := min(r.IntN(3), len(lines)-at)
		var put []string
		for range r.IntN(3) {
			put = append(put, line())
		}
		lines = slices.Replace(lines, at, at+cut, put...)
	}
	return lines
}

// TestMergeLinesAsGit compares with git merge-file: where both merge the result must be the same, and what git calls a
// conflict must be one.
func TestMergeLinesAsGit(t *testing.T) {
	git := gitPath(t)
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(7, 11))
	clean, conflicts, careful := 0, 0, 0
	for round := range 600 {
		kinds := []int{3, 8, 1 << 30}[round%3] // few kinds of lines make many ways to align them
		line := func() string { return fmt.Sprintf("line %d\n", r.IntN(kinds)) }
		var base []string
		for range 5 + r.IntN(25) {
			base = append(base, line())
		}
		texts := map[string][]byte{}
		for name, lines := range map[string][]string{"base": base, "ours": edited(r, base, line), "theirs": edited(r, base, line)} {
			texts[name] = []byte(strings.Join(lines, ""))
			if err := os.WriteFile(filepath.Join(dir, name), texts[name], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(git, "merge-file", "-p", "ours", "base", "theirs")
		cmd.Dir = dir
		want, failed := cmd.Output()
		got, ok, err := mergeLines(texts["base"], texts["ours"], texts["theirs"])
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case ok && failed != nil:
			t.Errorf("round %d: git finds a conflict\nbase:\n%sours:\n%stheirs:\n%sgot:\n%s", round, texts["base"], texts["ours"], texts["theirs"], got)
		case ok && !bytes.Equal(got, want):
			t.Errorf("round %d: got:\n%swant:\n%sbase:\n%sours:\n%stheirs:\n%s", round, got, want, texts["base"], texts["ours"], texts["theirs"])
		case ok:
			clean++
		case failed != nil:
			conflicts++
		default:
			careful++
		}
	}
	t.Logf("%d merged, %d conflicts, %d conflicts of ours alone", clean, conflicts, careful)
}

func FuzzMergeLines(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nB\nc\n", "a\nb\nC")
	f.Fuzz(func(t *testing.T, base, ours, theirs string) {
		b, o, th := []byte(base), []byte(ours), []byte(theirs)
		one, ok, err := mergeLines(b, o, th)
		if err != nil {
			t.Fatal(err)
		}
		two, ok2, _ := mergeLines(b, th, o)
		if ok != ok2 || !bytes.Equal(one, two) {
			t.Errorf("the order of the sides counts: %q %v, %q %v", one, ok, two, ok2)
		}
		if got, ok, _ := mergeLines(b, b, th); !ok || !bytes.Equal(got, th) {
			t.Errorf("nothing of ours: %q, %v", got, ok)
		}
	})
}
