// Package config is the server's own configuration: listeners, secrets, credentials, limits and engine settings. It is
// the platform team's and never read from a rules repository.
//
// A setting comes from, in this order, a flag, a variable RIPOSTE_…, the configuration file, its default; Fields lists
// them all with their three names. Secrets, credentials and tokens stand in the file only. Reading is strict: unknown,
// repeated and misshapen fields are errors, and all of them are reported at once. The package keeps no state and reads
// nothing but the file it is given; a Config is written by one goroutine and read-only once loaded.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/riposte-dev/riposte/pkg/consent"
	"github.com/riposte-dev/riposte/pkg/gate"
	"github.com/riposte-dev/riposte/pkg/grant"
	"github.com/riposte-dev/riposte/pkg/quiet"
)

// Config is the whole configuration. Sizes are bytes.
type Config struct {
	// Dev lets the rules name environment variables as secrets. It is a flag and a variable, never a key of the file.
	Dev bool

	HooksListen  string // address of the public listener; port 0 picks a free one
	AdminListen  string // address of the page and the API
	HealthListen string // address of /healthz, /readyz and /metrics
	PublicURL    string // where senders reach the hooks listener, for people; may be empty

	TLS            TLS
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed

	Rules   Rules
	Data    string // directory of the embedded store and of everything else kept on this machine
	NATSURL string // a NATS cluster instead of the embedded store; several servers separated by commas
	// NATSMonitoring are addresses of the NATS servers' HTTP monitoring, which tell whether they sync each write.
	NATSMonitoring []string
	// NATSAllowLazySync takes NATS servers that are known not to.
	NATSAllowLazySync bool

	Secrets     map[string]Secret // by the name that rules use
	Credentials []Credential
	Tokens      []Token
	QuietTimes  []QuietTime // when rules leave things alone
	// Grants say what rules may use, by path; nil where there are none, and everything is allowed.
	Grants grant.List
	// Approvals says who may agree to what runs in mode approve wait for.
	Approvals consent.Spec

	Limits     Limits
	EventLog   EventLog
	StepLogs   History
	Audit      History
	Engine     Engine
	Loops      Loops
	CatchUp    CatchUp
	Exec       Exec
	Git        Git
	Terraform  Terraform
	Ansible    Ansible
	Kubernetes Kubernetes
	Helm       Helm
	Outbound   Outbound
	Log        Log

	Prometheus   API // that prometheus.query asks
	Alertmanager API // that alertmanager.silence talks to
}

// API is a program's HTTP interface. An empty URL is none.
type API struct {
	URL      string
	Username string // beside Token, for basic authentication
	Token    string // name of a secret
}

// TLS holds the certificates of the listeners that can have one.
type TLS struct {
	Hooks, Admin KeyPair
}

// KeyPair names the PEM files of a certificate chain and its key. Both empty means no TLS.
type KeyPair struct {
	Cert, Key string
}

// Enabled reports whether the listener speaks TLS.
func (k KeyPair) Enabled() bool { return k.Cert != "" }

// Rules says where the rules come from: directories or a repository.
type Rules struct {
	Dirs []string
	Git  RulesGit
}

// RulesGit is the repository that rules come from. An empty URL is none.
type RulesGit struct {
	URL            string
	Ref            string // branch, tag or full reference; empty for the repository's HEAD
	Path           string // directory of the repository
	Interval       time.Duration
	AllowedSigners string // file in OpenSSH's format
	AllowedGPGKeys string // file of armoured public keys
	Forge          string // kind of the repository's host, where its name does not tell
	API            string // address of the host's API, where it is not the usual one
	StatusToken    string // name of a secret; empty for the token of the repository's credential
	Backtest       RulesBacktest
}

// RulesBacktest says how what is proposed for the rules is judged. A Since of zero judges nothing.
type RulesBacktest struct {
	Since  time.Duration // how far back the events go
	FailOn []string      // as backtest.ParseLimits reads them
}

// Secret says where a secret's value is: in a variable or in a file, one of the two.
type Secret struct {
	Env  string `json:"env,omitempty"`
	File string `json:"file,omitempty"`
}

// Credential is what Git addresses that begin with URL are fetched with; the longest prefix wins. Its token also speaks with
// the host's API.
type Credential struct {
	URL        string `json:"url"`
	Token      string `json:"token,omitempty"`      // name of a secret, for https
	Username   string `json:"username,omitempty"`   // beside Token, where the host wants a certain one
	SSHKey     string `json:"sshKey,omitempty"`     // name of a secret that holds a private key
	KnownHosts string `json:"knownHosts,omitempty"` // file; needed beside SSHKey
	Forge      string `json:"forge,omitempty"`      // kind of the host, where its name does not tell: github, gitlab, gitea
	API        string `json:"api,omitempty"`        // address of the host's API, where it is not the usual one
	Account    string `json:"account,omitempty"`    // the token's account, where the token may not ask for it
}

// Token is who may use the admin listener.
type Token struct {
	Name   string   `json:"name"`
	SHA256 string   `json:"sha256"` // of the bearer token, 64 hexadecimal digits
	Groups []string `json:"groups,omitempty"`
	Role   string   `json:"role"` // viewer, operator or admin
}

// Sum returns the token's hash as bytes. It is zero where SHA256 is not what Validate demands.
func (t Token) Sum() (sum [sha256.Size]byte) {
	if b, err := hex.DecodeString(t.SHA256); err == nil && len(b) == len(sum) {
		copy(sum[:], b)
	}
	return sum
}

// Rate is so many requests per time, with room for a burst above it. Zero Requests means no bound.
type Rate struct {
	Requests int
	Per      time.Duration
	Burst    int
}

// QuietTime is a maintenance window: what rules would start in it is recorded as refused.
type QuietTime struct {
	Name     string            `json:"name"`
	Cron     string            `json:"cron"`             // when it begins
	Duration string            `json:"duration"`         // as Prometheus writes it: 8h, 1d
	Zone     string            `json:"zone,omitempty"`   // of the IANA time zone database; default UTC
	Labels   map[string]string `json:"labels,omitempty"` // of the rules it holds for; default all
}

// Quiet compiles the quiet times; validation has done so before.
func (c *Config) Quiet() (quiet.Times, error) {
	list := make([]quiet.Time, len(c.QuietTimes))
	for i, q := range c.QuietTimes {
		d, err := ParseDuration(q.Duration)
		if err != nil {
			return quiet.Times{}, &quiet.FieldError{Index: i, Field: "duration", Err: err}
		}
		list[i] = quiet.Time{Name: q.Name, Cron: q.Cron, Duration: d, Zone: q.Zone, Labels: q.Labels}
	}
	return quiet.Compile(list)
}

// Limits bound what senders may ask for.
type Limits struct {
	MaxBodyBytes int64 // of one request, where its Source says nothing
	BodyBudget   int64 // of all unfinished requests together
	// PerAddress bounds the requests of one remote address that do not prove where they come from.
	PerAddress Rate

	Storm       Rate // of runs that heal, beyond which all healing stops; no Requests is no bound
	Breaker     Breaker
	BlastRadius []BlastRadius
	Queue       int // runs that may wait in one concurrency group
}

// Breaker is the circuit breaker of each rule: of its last Runs that healed or failed within Within, SuccessPercent must have
// healed, or none starts for Open. No Runs is no breaker.
type Breaker struct {
	Runs           int
	SuccessPercent int
	Within         time.Duration
	Open           time.Duration
}

// BlastRadius bounds how many of the targets that a glob names are changed at once: Max, or Percent of Of.
type BlastRadius struct {
	Targets []string `json:"targets"`
	Max     int      `json:"max,omitempty"`
	Percent int      `json:"percent,omitempty"`
	Of      int      `json:"of,omitempty"` // how many there are
}

// Gate is what bounds runs in the cluster.
func (l Limits) Gate() gate.Options {
	o := gate.Options{
		MaxQueue: l.Queue,
		Storm:    gate.Storm{Runs: l.Storm.Requests, Per: l.Storm.Per},
		Breaker:  gate.Breaker{Runs: l.Breaker.Runs, Within: l.Breaker.Within, Success: float64(l.Breaker.SuccessPercent) / 100, Open: l.Breaker.Open},
	}
	if o.Storm.Runs == 0 { // zero is the default there
		o.Storm.Runs = -1
	}
	if o.Breaker.Runs == 0 {
		o.Breaker.Runs = -1
	}
	for _, b := range l.BlastRadius {
		o.BlastRadius = append(o.BlastRadius, gate.BlastRadius{Targets: b.Targets, Max: b.Max, Percent: b.Percent, Of: b.Of})
	}
	return o
}

// EventLog bounds the event log, and the store that it is in.
type EventLog struct {
	MaxBytes     int64         // of all that is stored: segments, large bodies, ids, sets of rules and journals
	MaxAge       time.Duration // 0: only MaxBytes bounds the history
	IDWindow     time.Duration // how long ids are kept to recognise duplicates
	MaxIDs       int           // how many ids are kept at most
	ReserveBytes int64         // free space below which nothing is accepted; 0: the larger of 1 GiB and 5 % of the disk
}

// History bounds what is kept of what was.
type History struct {
	MaxBytes int64
	MaxAge   time.Duration
}

// Engine sizes the engine.
type Engine struct {
	Partitions  int           // fixed when a store is made
	Workers     int           // steps that run at once
	StopTimeout time.Duration // for running steps to end when the server stops
}

// Loops bound what runs cause in a circle.
type Loops struct {
	MaxDepth int      // runs above another in a chain in which each caused the event that started the next
	Accounts []string // our own at the hosts: what they do, and names no run, starts nothing
}

// CatchUp says which senders are asked for what was missed while no replica was there to receive it.
type CatchUp struct {
	Interval time.Duration // between two times that they are asked, beside the first
	Sources  []CatchUpSource
}

// CatchUpSource is a sender that is asked: Alertmanager by the name of its receiver, or a Git host about repositories.
type CatchUpSource struct {
	Source       string   `json:"source"`             // name of the Source document that the events are of
	Receiver     string   `json:"receiver,omitempty"` // in Alertmanager's configuration, of the one that alertmanager names
	Repositories []string `json:"repositories,omitempty"`
}

// Exec bounds child processes.
type Exec struct {
	Env         []string // variables of the server that children get
	OutputBytes int64    // kept of one step's output
}

// Git says how repositories are fetched.
type Git struct {
	Backend      string // go-git or git
	MaxBytes     int64  // of one fetch
	Timeout      time.Duration
	AllowPrivate []netip.Prefix // private addresses that Git may connect to
}

// Terraform names the program.
type Terraform struct {
	Binary string // name or path of terraform or tofu; empty: the first of the two that is installed
}

// Ansible names the program.
type Ansible struct {
	Binary string // name or path of ansible-playbook; empty: the one that is installed
}

// Kubernetes says how the cluster is reached.
type Kubernetes struct {
	Kubeconfig string        // file; empty: the service account of the pod that the server runs in, else KUBECONFIG or ~/.kube/config
	Context    string        // of the kubeconfig; empty: its current one
	Timeout    time.Duration // of one request
	QPS        int           // requests a second of all actions together, with bursts of twice as many
}

// Helm names the program.
type Helm struct {
	Binary string // name or path of helm; empty: the one that is installed
}

// Outbound bounds where http.request and notify.send connect to.
type Outbound struct {
	AllowPrivate []netip.Prefix // private addresses that are allowed
}

// Log shapes the server's log.
type Log struct {
	Format string // text or json
	Level  string // debug, info, warn or error
}

// Default returns the configuration of a server that is told nothing.
func Default() *Config {
	return &Config{
		HooksListen:  ":8080",
		AdminListen:  "127.0.0.1:8081",
		HealthListen: ":8082",
		Data:         "./data",
		Rules:        Rules{Git: RulesGit{Path: "/", Interval: time.Minute}},
		Limits: Limits{
			MaxBodyBytes: 25e6, // GitHub sends nothing above 25 MB
			BodyBudget:   64 << 20,
			PerAddress:   Rate{Requests: 100, Per: time.Second, Burst: 1000},
			Storm:        Rate{Requests: 60, Per: time.Minute},
			Breaker:      Breaker{Runs: 10, SuccessPercent: 30, Within: 24 * time.Hour, Open: time.Hour},
			Queue:        50_000,
		},
		EventLog:   EventLog{MaxBytes: 4 << 30, IDWindow: 7 * 24 * time.Hour, MaxIDs: 1_000_000},
		StepLogs:   History{MaxBytes: 512 << 20, MaxAge: 30 * 24 * time.Hour},
		Audit:      History{MaxBytes: 256 << 20, MaxAge: 90 * 24 * time.Hour},
		Engine:     Engine{Partitions: 8, Workers: 64, StopTimeout: 25 * time.Second},
		Loops:      Loops{MaxDepth: 3},
		CatchUp:    CatchUp{Interval: 10 * time.Minute},
		Exec:       Exec{Env: []string{"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"}, OutputBytes: 64 << 10},
		Kubernetes: Kubernetes{Timeout: 30 * time.Second, QPS: 500},
		Git:        Git{Backend: "go-git", MaxBytes: 1 << 30, Timeout: 5 * time.Minute},
		Log:        Log{Format: "text", Level: "info"},
	}
}
