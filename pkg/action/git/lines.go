package git

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// errTooDifferent says that two texts differ in more than is worth comparing.
var errTooDifferent = errors.New("the texts differ in too much")

const (
	// maxCompared bounds the work of one comparison, about a second; texts that differ in 5,000 lines each need it.
	maxCompared = 40_000_000
	// binaryPrefix is how much of a file git searches for a zero byte (buffer_is_binary in git's xdiff-interface.c).
	binaryPrefix = 8000
)

func isBinary(text []byte) bool { return bytes.IndexByte(text[:min(len(text), binaryPrefix)], 0) >= 0 }

// mergeLines applies what leads from base to theirs to ours. Changes that touch each other are a conflict, unless they are
// the same, as in `git merge-file`; then ok is false.
func mergeLines(base, ours, theirs []byte) (merged []byte, ok bool, err error) {
	b, o, t := splitLines(base), splitLines(ours), splitLines(theirs)
	mine, err := changesOf(b, o)
	if err != nil {
		return nil, false, err
	}
	other, err := changesOf(b, t)
	if err != nil {
		return nil, false, err
	}
	var out bytes.Buffer
	put := func(lines []string) {
		for _, l := range lines {
			out.WriteString(l)
		}
	}
	at := 0 // in base
	for len(mine) > 0 || len(other) > 0 {
		m, n := overlap(mine, other)
		from, to := extent(mine[:m], other[:n])
		here, there := side(o, mine[:m], from, to, b), side(t, other[:n], from, to, b)
		put(b[at:from])
		switch {
		case n == 0, m > 0 && slices.Equal(here, there):
			put(here)
		case m == 0:
			put(there)
		default:
			return nil, false, nil
		}
		at, mine, other = to, mine[m:], other[n:]
	}
	put(b[at:])
	return out.Bytes(), true, nil
}

// splitLines keeps the line breaks, so that a last line without one is another line.
func splitLines(text []byte) []string {
	lines := strings.SplitAfter(string(text), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// change says that the lines [a0,a1) of one text became [b0,b1) of another.
type change struct{ a0, a1, b0, b1 int }

// overlap says how many of the first changes of either side must be looked at together.
func overlap(mine, other []change) (m, n int) {
	if len(other) == 0 || len(mine) > 0 && mine[0].a0 <= other[0].a0 {
		m = 1
	} else {
		n = 1
	}
	for {
		_, to := extent(mine[:m], other[:n])
		switch {
		case m < len(mine) && mine[m].a0 <= to && n > 0:
			m++
		case n < len(other) && other[n].a0 <= to && m > 0:
			n++
		default:
			return m, n
		}
	}
}

// extent is where in base changes begin and end.
func extent(mine, other []change) (from, to int) {
	from = -1
	for _, side := range [][]change{mine, other} {
		if len(side) == 0 {
			continue
		}
		if from < 0 || side[0].a0 < from {
			from = side[0].a0
		}
		to = max(to, side[len(side)-1].a1)
	}
	return from, to
}

// side returns what the lines [from,to) of base are in a text that has the changes.
func side(text []string, changes []change, from, to int, base []string) []string {
	if len(changes) == 0 {
		return base[from:to]
	}
	first, last := changes[0], changes[len(changes)-1]
	return text[first.b0-(first.a0-from) : last.b1+(to-last.a1)]
}

// changesOf compares two texts, in the order of their lines.
func changesOf(a, b []string) ([]change, error) {
	ids := map[string]int32{}
	c := &comparison{
		a: number(a, ids), b: number(b, ids), fromA: make([]bool, len(a)+1), fromB: make([]bool, len(b)+1),
		offset: len(b) + 1,
		ahead:  make([]int, len(a)+len(b)+3), back: make([]int, len(a)+len(b)+3),
	}
	if err := c.compare(0, len(a), 0, len(b)); err != nil {
		return nil, err
	}
	slide(c.a, c.fromA, c.fromB)
	slide(c.b, c.fromB, c.fromA)
	return c.changes(), nil
}

// number gives equal lines equal numbers.
func number(lines []string, ids map[string]int32) []int32 {
	out := make([]int32, len(lines))
	for i, l := range lines {
		id, ok := ids[l]
		if !ok {
			id = int32(len(ids))
			ids[l] = id
		}
		out[i] = id
	}
	return out
}

// comparison finds a shortest edit (E. W. Myers, An O(ND) Difference Algorithm and Its Variations, 1986) in linear space:
// from both ends at once, to where the two searches meet.
type comparison struct {
	a, b         []int32
	fromA, fromB []bool // lines that the other text lacks
	offset       int    // of diagonal 0 in the two slices below
	ahead, back  []int  // how far the searches came on each diagonal
	work         int
}

func (c *comparison) compare(a0, a1, b0, b1 int) error {
	for a0 < a1 && b0 < b1 && c.a[a0] == c.b[b0] {
		a0, b0 = a0+1, b0+1
	}
	for a0 < a1 && b0 < b1 && c.a[a1-1] == c.b[b1-1] {
		a1, b1 = a1-1, b1-1
	}
	if a0 == a1 || b0 == b1 {
		for ; a0 < a1; a0++ {
			c.fromA[a0] = true
		}
		for ; b0 < b1; b0++ {
			c.fromB[b0] = true
		}
		return nil
	}
	x, y, err := c.meet(a0, a1, b0, b1)
	if err != nil {
		return err
	}
	if err := c.compare(a0, x, b0, y); err != nil {
		return err
	}
	return c.compare(x, a1, y, b1)
}

// meet returns a point on a shortest path. Diagonal k holds the points with x-y = k.
func (c *comparison) meet(a0, a1, b0, b1 int) (x, y int, err error) {
	lowest, highest := a0-b1, a1-b0
	start, end := a0-b0, a1-b1
	odd := (start-end)%2 != 0
	c.ahead[c.offset+start], c.back[c.offset+end] = a0, a1
	lowA, highA, lowB, highB := start, start, end, end
	for {
		lowA, highA = widen(c.ahead, c.offset, lowA, highA, lowest, highest, -1)
		for k := highA; k >= lowA; k -= 2 {
			x := c.forward(k, a1, b1)
			if odd && lowB <= k && k <= highB && c.back[c.offset+k] <= x {
				return x, x - k, nil
			}
		}
		lowB, highB = widen(c.back, c.offset, lowB, highB, lowest, highest, len(c.a)+1)
		for k := highB; k >= lowB; k -= 2 {
			x := c.backward(k, a0, b0)
			if !odd && lowA <= k && k <= highA && x <= c.ahead[c.offset+k] {
				return x, x - k, nil
			}
		}
		if c.work > maxCompared {
			return 0, 0, errTooDifferent
		}
	}
}

// widen moves a search's outermost diagonals by one, out as long as they are in the texts, else in.
func widen(reach []int, offset, low, high, lowest, highest, never int) (int, int) {
	if low > lowest {
		low--
		reach[offset+low-1] = never
	} else {
		low++
	}
	if high < highest {
		high++
		reach[offset+high+1] = never
	} else {
		high--
	}
	return low, high
}

func (c *comparison) forward(k, a1, b1 int) int {
	at := c.offset + k
	x := max(c.ahead[at-1]+1, c.ahead[at+1])
	from := x
	for x < a1 && x-k < b1 && c.a[x] == c.b[x-k] {
		x++
	}
	c.work += 1 + x - from
	c.ahead[at] = x
	return x
}

func (c *comparison) backward(k, a0, b0 int) int {
	at := c.offset + k
	x := min(c.back[at-1], c.back[at+1]-1)
	from := x
	for a0 < x && b0 < x-k && c.a[x-1] == c.b[x-k-1] {
		x--
	}
	c.work += 1 + from - x
	c.back[at] = x
	return x
}

// slide chooses among the ways to say the same difference as git does: each group of changed lines stands as far down as
// the text allows, or, where it passes changes of the other text on its way, at the lowest of those.
func slide(text []int32, changed, other []bool) {
	beside := gaps(other)
	kept := 0 // lines before the group that both texts have
	for at := 0; at < len(text); {
		if !changed[at] {
			at, kept = at+1, kept+1
			continue
		}
		g := group{text: text, changed: changed, start: at, end: at, kept: kept}
		g.grow()
		for size := 0; size != g.end-g.start; {
			size = g.end - g.start
			for g.up() {
			}
			g.settle(beside)
		}
		at, kept = g.end, g.kept
	}
}

// gaps says for each number of lines that both texts have whether changed ones follow them.
func gaps(changed []bool) []bool {
	out := []bool{false}
	for _, c := range changed[:len(changed)-1] {
		if c {
			out[len(out)-1] = true
		} else {
			out = append(out, false)
		}
	}
	return out
}

// group is a run of changed lines.
type group struct {
	text       []int32
	changed    []bool
	start, end int
	kept       int
}

// grow takes in the changed lines next to the group.
func (g *group) grow() {
	for g.start > 0 && g.changed[g.start-1] {
		g.start--
	}
	for g.end < len(g.text) && g.changed[g.end] {
		g.end++
	}
}

func (g *group) up() bool {
	if g.start == 0 || g.text[g.start-1] != g.text[g.end-1] {
		return false
	}
	g.start, g.end, g.kept = g.start-1, g.end-1, g.kept-1
	g.changed[g.start], g.changed[g.end] = true, false
	g.grow()
	return true
}

func (g *group) down() bool {
	if g.end == len(g.text) || g.text[g.start] != g.text[g.end] {
		return false
	}
	g.changed[g.start], g.changed[g.end] = false, true
	g.start, g.end, g.kept = g.start+1, g.end+1, g.kept+1
	g.grow()
	return true
}

// settle moves the group down to its place.
func (g *group) settle(beside []bool) {
	met := beside[g.kept]
	for g.down() {
		met = met || beside[g.kept]
	}
	for met && !beside[g.kept] && g.up() {
	}
}

func (c *comparison) changes() []change {
	var out []change
	i, j := 0, 0
	for i < len(c.a) || j < len(c.b) {
		if !c.fromA[i] && !c.fromB[j] {
			i, j = i+1, j+1
			continue
		}
		at := change{a0: i, b0: j}
		for c.fromA[i] {
			i++
		}
		for c.fromB[j] {
			j++
		}
		at.a1, at.b1 = i, j
		out = append(out, at)
	}
	return out
}
