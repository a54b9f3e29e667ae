// Package forge is the contract with the hosts that repositories live on: what Riposte tells people there, and what it asks
// about them. Each kind of host is a leaf package below this one that exports one Type; the wiring lists the Types in a
// Registry, and adding a kind edits no other package.
//
// A Forge reaches its host through the HTTP client it is given, and so only addresses that the client allows. Its token
// goes to the origin of that host's API alone and is in no error. Lists are read to a bound, never without end. It is safe
// for concurrent use.
//
// A Writer writes texts that are found again by a key, so that each is edited and none repeated. What it takes for its own
// is what the account of the token wrote, and only where the key stands in front of all text: who pastes the key elsewhere
// gains nothing. Its texts are masked, bounded, address nobody, close nothing and give no commands.
package forge

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// State is what a commit status says.
type State string

// States.
const (
	Pending State = "pending"
	Success State = "success"
	Failure State = "failure"
)

// Status is a commit status: a line under a commit, replaced by the next of the same Context.
type Status struct {
	State       State
	Context     string // its name: "riposte/rules"
	Description string // one line; what is too long for the host is cut off
	TargetURL   string // where there is more; may be empty
	// Ref is a full reference that holds the commit, for hosts that must be told where no branch does; may be empty.
	Ref string
}

// Kind says what a thread is about.
type Kind string

// Kinds of threads.
const (
	KindPull  Kind = "pull" // a pull request, or GitLab's merge request
	KindIssue Kind = "issue"
)

// Thread is where comments stand. Repo is a repository's path on the host, as everywhere in this package: "acme/shop".
type Thread struct {
	Repo   string
	Kind   Kind
	Number int64 // the one that people see
}

// Comment is one text of a thread.
type Comment struct {
	ID     int64
	Author string // name of the account
	Body   string
	URL    string
}

// Issue is an issue that is open, but for one that was just closed.
type Issue struct {
	Number int64
	Author string
	Title  string
	Body   string
	URL    string
}

// Pull is a pull request.
type Pull struct {
	Number      int64
	Author      string
	Title       string // without what makes a draft of it
	Body        string
	URL         string
	Base        string // branch it would change
	Head        string // branch it comes from
	Commit      string // tip of Head
	Fork        bool   // Head is in another repository, or in one that is gone
	Draft       bool
	Open        bool
	Merged      bool
	MergeCommit string // set once it is merged
}

// NewPull is a pull request to open, between two branches of one repository.
type NewPull struct {
	Head, Base  string
	Title, Body string
	Draft       bool
}

// Merge says how a pull request is merged.
type Merge struct {
	Commit  string // what Head must be: anything else is not merged
	Method  string // merge, squash or rebase; empty for the host's default
	Title   string // of the commit it makes; empty for the host's default
	Message string
}

// Rights is what an account may do with a repository. Higher ones include lower ones.
type Rights int

// Rights.
const (
	None Rights = iota
	Read
	Write
	Admin
)

func (r Rights) String() string { return [...]string{"none", "read", "write", "admin"}[r] }

// Limits are how much a host takes.
type Limits struct {
	Title int // of an issue or pull request, in characters
	Body  int // of any text, in bytes
}

// Statuses sets commit statuses.
type Statuses interface {
	// SetStatus sets the status of a commit of the repository.
	SetStatus(ctx context.Context, repo, commit string, s Status) error
}

// Accounts says who is who.
type Accounts interface {
	// Self is the name of the account that the token belongs to. It is asked once in a while, not at each call.
	Self(ctx context.Context) (string, error)
	// Rights is what the host itself says that the account may do with the repository; an account that it does not know, or
	// not in this repository, may do nothing.
	Rights(ctx context.Context, repo, account string) (Rights, error)
}

// Threads reads and writes issues and comments. Lists come by pages, from 1, the oldest first; more says that there is a
// further page.
type Threads interface {
	Comments(ctx context.Context, on Thread, page int) (list []Comment, more bool, err error)
	AddComment(ctx context.Context, on Thread, body string) (Comment, error)
	EditComment(ctx context.Context, on Thread, id int64, body string) (Comment, error)
	// OpenIssues lists the open issues of an author.
	OpenIssues(ctx context.Context, repo, author string, page int) (list []Issue, more bool, err error)
	AddIssue(ctx context.Context, repo, title, body string) (Issue, error)
	// CloseIssue closes an issue; closing one that is closed is no error.
	CloseIssue(ctx context.Context, repo string, number int64) (Issue, error)
}

// Pulls reads and writes pull requests.
type Pulls interface {
	Pull(ctx context.Context, repo string, number int64) (Pull, error)
	// OpenPulls lists open pull requests, among them all from the repository's own branch head to base.
	OpenPulls(ctx context.Context, repo, head, base string, page int) (list []Pull, more bool, err error)
	AddPull(ctx context.Context, repo string, p NewPull) (Pull, error)
	// EditPull changes title and text.
	EditPull(ctx context.Context, repo string, p Pull) (Pull, error)
	// MergePull merges, and returns the commit that this made where the host tells it. The package's Merged says why one
	// was not.
	MergePull(ctx context.Context, repo string, number int64, m Merge) (commit string, err error)
}

// Forge is one host's API.
type Forge interface {
	Statuses
	Accounts
	Threads
	Pulls
	Limits() Limits
}

// Delivery is a webhook that a host sent, or tried to send.
type Delivery struct {
	ID      string // the one that all attempts at it carry: X-GitHub-Delivery
	Event   string
	At      time.Time // of its first attempt that is known
	Headers map[string]string
	Body    []byte // JSON; its bytes need not be those that were signed
}

// Deliveries is implemented by a Forge whose host keeps the webhooks that did not arrive.
type Deliveries interface {
	// MissedDeliveries hands over each delivery to a webhook since a time of which no attempt was answered with success, the
	// oldest first. owner is a repository, or an organisation alone, hook the address that the webhook sends to. An error of
	// take ends it and is returned. Where there are more than can be asked for, the newest are handed over, and the error wraps
	// ErrTooMany.
	MissedDeliveries(ctx context.Context, owner, hook string, since time.Time, take func(Delivery) error) error
}

// ErrTooMany says that the oldest of what was asked for were not looked at.
var ErrTooMany = errors.New("there are too many")

// Options say where a host is and how to be let in.
type Options struct {
	Web     string                 // address of its pages: https://github.com
	API     string                 // address of its API, where it is not where Web says
	Token   func() (string, error) // asked at each call
	Account string                 // the token's account, where the token may not ask the host for it
	HTTP    *http.Client
}

// Validate reports what is missing.
func (o Options) Validate() error {
	for _, address := range []string{o.Web, o.API} {
		u, err := url.Parse(address)
		if address != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "") {
			return errors.New("the address of the API is not like https://git.example.com/api")
		}
	}
	if o.Web == "" || o.Token == nil || o.HTTP == nil {
		return errors.New("forge: options Web, Token and HTTP are required")
	}
	return nil
}

// Type is a kind of host.
type Type struct {
	Name string // "github"
	// Hosts are those that are known to be of the kind.
	Hosts []string
	New   func(Options) (Forge, error)
}

// Registry holds the types by name.
type Registry map[string]Type

// NewRegistry makes a registry.
func NewRegistry(types ...Type) Registry {
	r := Registry{}
	for _, t := range types {
		r[t.Name] = t
	}
	return r
}

// Names lists the types.
func (r Registry) Names() []string { return slices.Sorted(maps.Keys(r)) }

// Of finds the type of a host that is known.
func (r Registry) Of(web string) (Type, bool) {
	u, err := url.Parse(web)
	if err != nil {
		return Type{}, false
	}
	for _, t := range r {
		if slices.Contains(t.Hosts, strings.ToLower(u.Hostname())) {
			return t, true
		}
	}
	return Type{}, false
}
