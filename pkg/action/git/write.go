package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/commitsig"
	"github.com/riposte-dev/riposte/pkg/event"
)

// DefaultCommitter is who commits where Options say nothing.
const DefaultCommitter = "Riposte <riposte@localhost>"

// maxMessage bounds a commit's message, in bytes.
const maxMessage = 64 << 10

// draft is a commit to be made.
type draft struct {
	tree    plumbing.Hash
	parents []plumbing.Hash
	message string
	author  string // the committer when empty
	key     *action.SecretRef
}

// store makes the commit, with the trailers that tell what made it, signed where a key is given.
func (p *puller) store(call *action.Call, s objectSetter, d draft) (plumbing.Hash, error) {
	now := p.Now()
	committer, err := identity(p.Committer)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	author := committer
	if d.author != "" {
		if author, err = identity(d.author); err != nil {
			return plumbing.ZeroHash, action.Permanent(fmt.Errorf("author: %w", err))
		}
	}
	author.When, committer.When = now, now
	c := &object.Commit{
		Author: author, Committer: committer, TreeHash: d.tree, ParentHashes: d.parents,
		Message: event.WithTrailers(d.message, call.RunID, call.Rule),
	}
	if err := p.sign(call, c, d.key); err != nil {
		return plumbing.ZeroHash, err
	}
	obj := &plumbing.MemoryObject{}
	if err := c.Encode(obj); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("make the commit: %w", err)
	}
	return s.SetEncodedObject(obj)
}

func (p *puller) sign(call *action.Call, c *object.Commit, key *action.SecretRef) error {
	if key == nil {
		return nil
	}
	text, err := call.Secret(*key)
	if err != nil {
		return fmt.Errorf("signingKey: %w", err)
	}
	signer, err := commitsig.NewSigner([]byte(text))
	if err != nil {
		return action.Permanent(fmt.Errorf("signingKey: %w", err))
	}
	obj := &plumbing.MemoryObject{}
	if err := c.EncodeWithoutSignature(obj); err != nil {
		return fmt.Errorf("make the commit: %w", err)
	}
	r, err := obj.Reader()
	if err != nil {
		return fmt.Errorf("make the commit: %w", err)
	}
	payload, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("make the commit: %w", err)
	}
	if c.PGPSignature, err = signer.Sign(payload, c.Committer.When); err != nil {
		return action.Permanent(fmt.Errorf("signingKey: %w", err))
	}
	return nil
}

// who takes what hosts call their own accounts too: github-actions[bot] <41898282+github-actions[bot]@…>.
var who = regexp.MustCompile(`^([^<>\x00-\x1f]*[^<>\x00-\x20]) <([^<>\x00-\x20]+)>$`)

// identity reads "Name <mail>".
func identity(text string) (object.Signature, error) {
	m := who.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return object.Signature{}, fmt.Errorf("%q is not like: Ana Banana <ana@example.org>", text)
	}
	return object.Signature{Name: m[1], Email: m[2]}, nil
}

func checkMessage(text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return errors.New("message is empty")
	case len(text) > maxMessage:
		return fmt.Errorf("message is %d bytes long; %d is the most", len(text), maxMessage)
	case strings.ContainsRune(text, 0) || !utf8.ValidString(text):
		return errors.New("message is not text: it holds a zero byte or is not UTF-8")
	}
	return nil
}

// checkBranch takes the short name of a branch.
func checkBranch(branch string) error {
	if strings.HasPrefix(branch, "refs/") {
		return fmt.Errorf("branch %q: give the name without refs/heads/", branch)
	}
	if plumbing.NewBranchReferenceName(branch).Validate() != nil {
		return fmt.Errorf("branch %q is no valid name", branch)
	}
	return nil
}

// noFork refuses to write for those who may not: whoever can fork a repository can make such an event.
func noFork(call *action.Call) error {
	if call.Event != nil && call.Event.Fork {
		return action.Refused("ForkedCommit", errors.New("the event comes from a fork: what anybody can write is not pushed"))
	}
	return nil
}

// reverts finds the line that git puts into the message of a revert; whoever reverts by hand leaves it too.
var reverts = regexp.MustCompile(`(?m)^This reverts commit ([0-9a-f]{40})\b`)

// pushed is what came of a push.
type pushed struct {
	previous plumbing.Hash // what the branch was
	changed  bool
}

// text is an id for an output, "" for none.
func text(h plumbing.Hash) string {
	if h.IsZero() {
		return ""
	}
	return h.String()
}

// branchTip asks the remote where a branch is; zero where it is not there.
func (p *puller) branchTip(ctx context.Context, r *remote, branch string) (tip plumbing.Hash, known map[plumbing.Hash]bool, err error) {
	known = map[plumbing.Hash]bool{}
	err = p.timed(ctx, func(ctx context.Context) error {
		refs, err := r.branches(ctx)
		if err != nil {
			return fmt.Errorf("ask for its references: %w", err)
		}
		tip = refs.References["refs/heads/"+branch]
		for _, h := range refs.References {
			known[h] = true
		}
		return nil
	})
	return tip, known, err
}
