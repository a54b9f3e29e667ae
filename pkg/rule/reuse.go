package rule

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/document"
)

// fileRules says which rules of a set a file holds: those from one place in the list to another.
type fileRules struct {
	from, to int
	alone    bool // it holds nothing else
}

// reuse is a set whose rules are taken over where nothing that they were compiled from has changed: their file, and every
// Source, Target and Workflow of the set. What is compiled is immutable, so that sets share it.
type reuse struct{ *Set }

// reusable returns the set to take rules from, or nil: what is not granted is an error now, and was none to a set that
// was active before.
func (o *Options) reusable() *reuse {
	if o.Before == nil || len(o.Before.byFile) == 0 || o.Before.lenient && !o.WasActive {
		return nil
	}
	return &reuse{o.Before}
}

// same reports whether the set is the one that the files make.
func (b *reuse) same(digest, revision string) bool {
	return b.Digest == digest && b.Revision == cmp.Or(revision, digest)
}

func (b *reuse) terms() *terms {
	if b == nil {
		return nil
	}
	return b.Set.terms
}

// rules returns the rules of a file that has not changed, in its order.
func (b *reuse) rules(f File) (rules []*Rule, alone bool) {
	if b == nil {
		return nil, false
	}
	at, ok := slices.BinarySearchFunc(b.Files, f.Path, func(f File, path string) int { return strings.Compare(f.Path, path) })
	if !ok || b.Files[at].Within != f.Within || !bytes.Equal(b.Files[at].Data, f.Data) {
		return nil, false
	}
	held, ok := b.byFile[f.Path]
	return b.Rules[held.from:held.to], ok && held.alone
}

// again takes the rules of an unchanged file over. Where it holds nothing else, it need not be read.
func (l *loader) again(f File) {
	rules, alone := l.before.rules(f)
	if !alone {
		l.parse(f)
	}
	if alone {
		l.docs = make([]doc, len(rules))
	}
	for i := range l.docs {
		d := &l.docs[i]
		if alone {
			d.file, d.Kind, d.Metadata.Name = f.Path, "Rule", rules[0].Name
		}
		if d.Kind == "Rule" && len(rules) > 0 {
			d.made, rules = rules[0], rules[1:]
		}
	}
}

// adopt makes a rule of another set one of this.
func (l *loader) adopt(r *Rule) {
	own := *r
	own.Paused = nil
	l.set.Rules = append(l.set.Rules, &own)
	l.set.byName[own.Name] = &own
	if own.correlation != nil {
		l.set.correlating = append(l.set.correlating, &own)
	}
}

// basis hashes all that rules refer to.
func (l *loader) basis() [sha256.Size]byte {
	h := sha256.New()
	for _, d := range l.docs {
		if d.Kind != "Rule" && d.Kind != "RuleTest" {
			fmt.Fprintf(h, "%q %q\n", d.file, l.paths[d.file])
			hashItem(h, d.item)
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func hashItem(w io.Writer, i *document.Item) {
	fmt.Fprintf(w, "%d %T %#v %d %d %t %q\n", i.Kind, i.Value, i.Value, i.Line, i.Column, i.Block, i.Comment)
	for _, m := range i.Members {
		fmt.Fprintf(w, "%q %d %d ", m.Name, m.Line, m.Column)
		hashItem(w, m.Item)
	}
	for _, e := range i.Elements {
		hashItem(w, e)
	}
	fmt.Fprintln(w, ".")
}

// noteFiles remembers which rules each file holds, for the set that comes after this one.
func (l *loader) noteFiles() {
	s := l.set
	s.byFile = make(map[string]fileRules, len(s.Files))
	for from := 0; from < len(s.Rules); {
		file, to := s.Rules[from].File, from
		for to < len(s.Rules) && s.Rules[to].File == file {
			to++
		}
		s.byFile[file] = fileRules{from, to, true}
		from = to
	}
	for _, d := range l.docs {
		if held, ok := s.byFile[d.file]; ok && d.Kind != "Rule" {
			held.alone = false
			s.byFile[d.file] = held
		}
	}
}
