package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/server"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// maxPush bounds the objects of one push, which go-git holds in memory as a pack.
const maxPush = 128 << 20

var (
	// errMoved says that a branch is no longer where it was seen.
	errMoved = errors.New("the branch moved meanwhile")
	// errDeclined says that the host takes the objects and refuses the branch: a rule of its own, or a hook.
	errDeclined   = errors.New("the host declined the push")
	errPushTooBig = errors.New("the push is too large")
)

// pack is what a push sends: objects, and where they are read.
type pack struct {
	from    storer.EncodedObjectStorer
	objects []plumbing.Hash
}

// update moves a branch from one commit to another; zero is a branch that is not there.
type update struct {
	branch   plumbing.ReferenceName
	old, new plumbing.Hash
	pack     pack
}

// branches asks the side of the remote that takes pushes what it has.
func (r *remote) branches(ctx context.Context) (*packp.AdvRefs, error) {
	s, err := r.openReceive(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.AdvertisedReferencesContext(ctx)
}

func (r *remote) openReceive(ctx context.Context) (transport.ReceivePackSession, error) {
	switch r.addr.scheme {
	case "https", "http":
		c, err := r.openHTTP()
		if err != nil {
			return nil, err
		}
		return c.NewReceivePackSession(c.endpoint, c.auth)
	case "ssh":
		return r.openSSH(ctx, transport.ReceivePackServiceName)
	default:
		return openLocalReceive(r.addr.path)
	}
}

// push moves a branch, in one transaction of the host with the comparison to what it was: errMoved if it is elsewhere by
// now, errDeclined if the host refuses. Other errors leave open whether it moved.
func (r *remote) push(ctx context.Context, u update) error {
	s, err := r.openReceive(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	refs, err := s.AdvertisedReferencesContext(ctx)
	if err != nil {
		return fmt.Errorf("ask for its references: %w", err)
	}
	if at := refs.References[u.branch.String()]; at != u.old {
		return fmt.Errorf("%w: it is at %s", errMoved, at)
	}
	if !refs.Capabilities.Supports(capability.ReportStatus) {
		return errors.New("the remote would not say whether it took the push")
	}
	var said tail
	req, err := u.request(refs, &said)
	if err != nil {
		return err
	}
	report, err := s.ReceivePack(ctx, req)
	if err == nil && report == nil {
		err = errors.New("the remote did not say whether it took the push")
	}
	if err == nil {
		return nil
	}
	if report != nil && report.UnpackStatus == "ok" {
		return r.declined(ctx, u, err, said.String())
	}
	if text := said.String(); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// declined tells a branch that moved from one that the host does not let us move.
func (r *remote) declined(ctx context.Context, u update, err error, said string) error {
	if refs, again := r.branches(ctx); again == nil {
		if at := refs.References[u.branch.String()]; at != u.old {
			return fmt.Errorf("%w: it is at %s", errMoved, at)
		}
	}
	if said != "" {
		return fmt.Errorf("%w: %w: %s", errDeclined, err, said)
	}
	return fmt.Errorf("%w: %w", errDeclined, err)
}

func (u update) request(refs *packp.AdvRefs, said io.Writer) (*packp.ReferenceUpdateRequest, error) {
	req := packp.NewReferenceUpdateRequestFromCapabilities(refs.Capabilities)
	for _, c := range []capability.Capability{capability.Sideband64k, capability.Sideband} {
		if refs.Capabilities.Supports(c) {
			_ = req.Capabilities.Set(c)
			req.Progress = said
			break
		}
	}
	req.Commands = []*packp.Command{{Name: u.branch, Old: u.old, New: u.new}}
	var out bytes.Buffer
	if _, err := packfile.NewEncoder(&out, u.pack.from, false).Encode(u.pack.objects, 0); err != nil {
		return nil, fmt.Errorf("make the pack: %w", err)
	}
	req.Packfile = io.NopCloser(&out)
	return req, nil
}

// localReceive is receive-pack for a repository of this machine, in process. go-git's own does not look at what the branch
// was.
type localReceive struct {
	transport.ReceivePackSession
	storage *filesystem.Storage
	bare    bool
}

func openLocalReceive(path string) (transport.ReceivePackSession, error) {
	storage, bare, err := localStorage(path)
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(loader{storage}).NewReceivePackSession(&transport.Endpoint{}, nil)
	return &localReceive{s, storage, bare}, err
}

func (s *localReceive) ReceivePack(_ context.Context, req *packp.ReferenceUpdateRequest) (*packp.ReportStatus, error) {
	report := packp.NewReportStatus()
	report.UnpackStatus = "ok"
	if err := packfile.UpdateObjectStorage(s.storage, req.Packfile); err != nil && !errors.Is(err, packfile.ErrEmptyPackfile) {
		report.UnpackStatus = err.Error()
		return report, report.Error()
	}
	c := req.Commands[0]
	status := "ok"
	if err := s.move(c); err != nil {
		status = err.Error()
	}
	report.CommandStatuses = []*packp.CommandStatus{{ReferenceName: c.Name, Status: status}}
	return report, report.Error()
}

func (s *localReceive) move(c *packp.Command) error {
	if head, err := s.storage.Reference(plumbing.HEAD); err == nil && !s.bare && head.Target() == c.Name {
		return errors.New("the branch is checked out there: push to a bare repository")
	}
	if !c.Old.IsZero() {
		return s.storage.CheckAndSetReference(plumbing.NewHashReference(c.Name, c.New), plumbing.NewHashReference(c.Name, c.Old))
	}
	if _, err := s.storage.Reference(c.Name); err == nil {
		return errors.New("the branch is there by now")
	}
	return s.storage.SetReference(plumbing.NewHashReference(c.Name, c.New))
}
