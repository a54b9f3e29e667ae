// Package app wires the parts of a server together, and is the only place that knows them all. New opens what is durable
// and builds the stages, Run lets them work until its context ends; read Run from top to bottom to follow an event:
// receive → normalise → log → decide → run → act → report.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/git"
	"github.com/riposte-dev/riposte/pkg/api"
	"github.com/riposte-dev/riposte/pkg/auditlog"
	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/catchup"
	"github.com/riposte-dev/riposte/pkg/client"
	"github.com/riposte-dev/riposte/pkg/command"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/consent"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/engine"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/eventlog"
	"github.com/riposte-dev/riposte/pkg/kube"
	"github.com/riposte-dev/riposte/pkg/receive"
	"github.com/riposte-dev/riposte/pkg/rulesync"
	"github.com/riposte-dev/riposte/pkg/runstore"
	"github.com/riposte-dev/riposte/pkg/schedule"
	"github.com/riposte-dev/riposte/pkg/secret"
	"github.com/riposte-dev/riposte/pkg/steplog"
	"github.com/riposte-dev/riposte/pkg/watch"
)

// DevSecretFile is where, below the data directory, `serve --dev` keeps the secret of every source whose secret is not configured.
const DevSecretFile = "dev-webhook-secret" //nolint:gosec // the name of a file

// Options configure a server.
type Options struct {
	Config    *config.Config
	Version   string
	LogOutput io.Writer
	// Started is called once the server listens, with its addresses; optional.
	Started func(client.Listen)
	// Now is the clock of all that is stored and decided; nil is time.Now. Tests open stores of long ago with it.
	Now func() time.Time
	// Extend changes the registries before they are used; tests add senders and actions with it.
	Extend func(*Registries)
}

// App is a server. Make one with New and let it work with Run, once.
type App struct {
	o        Options
	config   *config.Config
	log      *slog.Logger
	metrics  *prometheus.Registry
	teardown teardown

	redactor *secret.Redactor
	secrets  *secrets
	broker   *broker.Broker
	events   *eventlog.Log
	store    *runstore.Store
	history  *runstore.History
	logs     *steplog.Store
	audit    *auditlog.Log
	leases   *runstore.Leases
	pauses   *runstore.Pauses
	signer   *consent.Signer // nil where nobody has links
	rules    *rules
	engine   *engine.Engine
	orders   *engine.Orders
	comments *comments
	differ   *git.Differ
	lister   *git.Lister
	schedule *schedule.Driver
	catchUp  *catchup.Driver
	cluster  *kube.Cluster
	watch    *watch.Driver
	hosts    *hosts
	servers  []*server
	runner   *command.Runner
	// proposals judges what is proposed for rules that come from Git, where that is configured.
	proposals *rulesync.Proposals
}

// New opens the store and builds the stages. When it fails, whatever it had opened is closed again.
func New(ctx context.Context, o Options) (_ *App, err error) {
	c := o.Config
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &App{o: o, config: c, metrics: prometheus.NewRegistry(), redactor: secret.NewRedactor()}
	a.log = slog.New(a.redactor.Handler(logHandler(o.LogOutput, c.Log)))
	a.teardown.log = a.log
	defer func() {
		if err != nil {
			err = errors.Join(err, a.teardown.run())
		}
	}()
	if !c.Dev && c.Grants == nil {
		a.log.Warn("no grants are configured: every rule may use all sources, actions, secrets and targets")
	}
	a.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if c.Data, err = filepath.Abs(c.Data); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w: make its parent writable for this user, or name another directory with --data", err)
	}
	for _, step := range []func(context.Context) error{a.openSecrets, a.openStore, a.openPauses, a.openLinks, a.openRules, a.buildEngine, a.openCatchUp, a.openWatch, a.buildServers} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func logHandler(w io.Writer, l config.Log) slog.Handler {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.Level)) // config has validated it
	if l.Format == "json" {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
}

func (a *App) openSecrets(context.Context) (err error) {
	a.secrets, err = newSecrets(a.config, a.redactor, a.log)
	return err
}

// openStore opens what is durable: the broker and the stores on it.
func (a *App) openStore(ctx context.Context) (err error) {
	c := a.config
	a.broker, err = broker.Open(ctx, broker.Options{
		Dir: c.Data, URL: c.NATSURL, Monitoring: c.NATSMonitoring, AllowLazySync: c.NATSAllowLazySync, ReserveBytes: c.EventLog.ReserveBytes, Logger: a.log, Registerer: a.metrics,
	})
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	a.teardown.add("store", 30*time.Second, a.broker.Close)
	defer func() {
		if broker.Full(err) && !a.broker.Embedded() {
			err = fmt.Errorf("%w: the NATS servers have less space than the streams reserve: raise max_file_store there, or lower eventLog.maxBytes, stepLogs.maxBytes or audit.maxBytes", err)
		}
	}()
	// One size for all: a quarter is the journals', and the log divides the rest among its parts.
	a.store, err = runstore.Open(ctx, a.broker, runstore.Options{
		Partitions: c.Engine.Partitions, MaxBytes: c.EventLog.MaxBytes / 4, History: c.EventLog.MaxAge,
		Now: a.o.Now, Logger: a.log, Registerer: a.metrics,
	})
	if err != nil {
		return fmt.Errorf("open the journals: %w", err)
	}
	a.events, err = eventlog.Open(ctx, a.broker, eventlog.Options{
		MaxBytes: c.EventLog.MaxBytes / 4 * 3, MaxAge: c.EventLog.MaxAge, IDWindow: c.EventLog.IDWindow, MaxIDs: c.EventLog.MaxIDs,
		Refuse: a.refuseWork, Now: a.o.Now, Logger: a.log, Registerer: a.metrics,
	})
	if err != nil {
		return fmt.Errorf("open the event log: %w", err)
	}
	a.teardown.add("event log", 10*time.Second, a.events.Close)
	if a.history, err = runstore.NewHistory(a.store, runstore.HistoryOptions{}); err != nil {
		return err
	}
	a.logs, err = steplog.Open(ctx, a.broker, steplog.Options{
		Redactor: a.redactor, MaxBytes: c.StepLogs.MaxBytes, MaxAge: c.StepLogs.MaxAge, Logger: a.log, Registerer: a.metrics,
	})
	if err != nil {
		return err
	}
	a.teardown.add("steps' logs", 10*time.Second, a.logs.Close)
	a.audit, err = auditlog.Open(ctx, a.broker, auditlog.Options{
		Redact: a.redactor.String, Journals: a.store, MaxBytes: c.Audit.MaxBytes, MaxAge: c.Audit.MaxAge, Logger: a.log,
	})
	return err
}

// refuseWork says why the journals have no room for new work.
func (a *App) refuseWork() error {
	if a.store.Tight() {
		return fmt.Errorf("%w: the runs that have not ended fill their journals: wait until some end, or raise eventLog.maxBytes", event.ErrLogFull)
	}
	return nil
}

func (a *App) openRules(ctx context.Context) error {
	registries, stop, err := a.registries(ctx)
	if err != nil {
		return err
	}
	a.teardown.add("actions", 10*time.Second, stop)
	if a.o.Extend != nil {
		a.o.Extend(&registries)
	}
	a.rules = newRules(registries, a.secrets, a.events, a.audit, a.log, a.config.Dev)
	a.rules.grants, a.rules.pauses = a.config.Grants, a.pauses
	mark := func(source string) string { return broker.MarkSchedule + "." + source }
	a.schedule, err = schedule.New(schedule.Options{
		Sources: a.rules.schedules, Append: a.events.Append, Now: a.o.Now, Logger: a.log,
		Mark: func(ctx context.Context, source string) (time.Time, error) { return a.events.Mark(ctx, mark(source)) },
		SetMark: func(ctx context.Context, source string, t time.Time) error {
			return a.events.SetMark(ctx, mark(source), t)
		},
	})
	if err != nil {
		return err
	}
	a.rules.changed = a.schedule.Wake
	a.warnOfGrants(registries.Actions)
	if a.config.Rules.Git.URL != "" {
		err = a.openGitRules(ctx)
	} else {
		err = a.openDirRules(ctx)
	}
	return err
}

// warnOfGrants tells of actions in grants that do not exist: another version may have them, so that it is no error.
func (a *App) warnOfGrants(actions action.Registry) {
	known := slices.Sorted(maps.Keys(actions))
	for _, p := range a.config.Grants.Unknown(known) {
		a.log.Warn("a grant names an action that this version does not have", "grant", "grants"+p.Field, "action", p.Msg, "nearest", document.Nearest(p.Msg, known))
	}
}

// openDirRules loads rules from directories and makes them the active ones. A server that was given broken rules goes on
// with those it had; one that never had any does not start.
func (a *App) openDirRules(ctx context.Context) error {
	dir, err := rulesync.New(rulesync.Options{
		Dirs: a.config.Rules.Dirs, Load: a.rules.load, OnChange: a.rules.activate, Logger: a.log, Registerer: a.metrics,
	})
	if err != nil {
		return fmt.Errorf("open the rules: %w", err)
	}
	a.rules.sync = dir
	err = dir.Load(ctx)
	if err == nil {
		return nil
	}
	if last := a.rules.resume(ctx); last != nil {
		return fmt.Errorf("the rules can't be loaded, and there are none from before:\n%w", err)
	}
	a.log.Error("the rules can't be loaded; those from before stay active", "error", err)
	return nil
}

func (a *App) buildEngine(ctx context.Context) (err error) {
	owner := instanceName()
	a.leases, err = runstore.NewLeases(ctx, a.store, runstore.LeaseOptions{Owner: owner, Exclusive: a.broker.Embedded()})
	if err != nil {
		return fmt.Errorf("open the leases: %w", err)
	}
	times, err := a.config.Quiet()
	if err != nil {
		return err
	}
	a.orders = &engine.Orders{Append: a.events.Append, Failed: a.history.RunsOf, Now: a.o.Now}
	a.comments = a.newComments(eventView{a.events, a.rules, a.history}, hearing{a.orders, a.history})
	watches, watched := a.andComments(a.comments)
	a.engine, err = engine.New(engine.Options{
		Quiet: times.At, Consents: a.consents, Paused: a.rules.paused, Gate: a.config.Limits.Gate(), Loops: a.loops(),
		Log: a.events, Store: journals{a.store, a.history}, States: a.store, Leases: a.leases, Owner: owner,
		Revision: a.rules.revision, Activated: a.rules.note, Watches: watches, Watched: watched,
		Redact: a.redact, Secret: a.secrets.action, RunURL: runURL, ApproveURLs: a.approveURLs, Diff: a.differ.Paths, StepLog: a.logs.Step,
		Partitions: a.config.Engine.Partitions, Workers: a.config.Engine.Workers, StopTimeout: a.config.Engine.StopTimeout,
		Dir: filepath.Join(a.config.Data, "runs"), Now: a.o.Now, Random: rand.Float64,
		Logger: a.log, Registerer: a.metrics,
	})
	return err
}

// loops bound what runs cause in a circle; hosts take the names of accounts as the same in any case.
func (a *App) loops() engine.Loops {
	l := engine.Loops{MaxDepth: a.config.Loops.MaxDepth}
	for _, name := range a.config.Loops.Accounts {
		l.Accounts = append(l.Accounts, strings.ToLower(name))
	}
	return l
}

// runURL is what texts call a run's address: the command that shows it, since only people who may use the API see runs.
func runURL(id string) string { return "riposte runs show " + id }

// buildServers opens the three listeners. Nothing is answered before Run.
func (a *App) buildServers(ctx context.Context) error {
	hooks, err := receive.New(receive.Options{
		Sources: a.rules.endpoint, Log: a.events, Revive: a.orders.Revive,
		MaxBody: a.config.Limits.MaxBodyBytes, Budget: a.config.Limits.BodyBudget, PerAddress: receive.Rate(a.config.Limits.PerAddress),
		TrustedProxies: a.config.TrustedProxies, Now: a.o.Now, Logger: a.log, Registerer: a.metrics,
	})
	if err != nil {
		return err
	}
	why := &explainer{log: a.events, history: a.history, rules: a.rules, engine: a.engine, leases: a.leases, redactor: a.redactor}
	stopping := make(chan struct{})
	events, hear := eventView{a.events, a.rules, a.history}, hearing{a.orders, a.history}
	admin := api.New(api.Options{
		Logs: logView{a.logs}, Audit: auditView{a.audit}, Stopping: stopping,
		Explain: why.Explain, Consent: hear.consent, Start: starter{a.orders, a.events, a.rules}.Start, Pauses: a.pauses,
		Events: events, Runs: runView{a.history}, Orders: a.orders, Rules: a.rules.view, Sources: a.rules.sources,
		Backup: a.backup(), Tokens: tokens(a.config.Tokens), Version: a.o.Version, Logger: a.log,
	})
	health := api.Health(map[string]api.Check{
		"store": a.broker.Ready, "eventlog": a.events.Ready, "journals": a.history.Ready, "engine": a.engine.Ready,
		"rules": a.rules.ready, "secrets": a.secrets.ready, "pauses": a.pauses.Ready,
	}, a.rules.pausedNotes, promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{}))
	if err := a.listen(ctx, a.withLinks(hooks, events, hear), admin, health); err != nil {
		return err
	}
	for _, s := range a.servers {
		if s.name == "admin" {
			s.http.RegisterOnShutdown(sync.OnceFunc(func() { close(stopping) })) // nobody follows a log for ever
		}
	}
	return nil
}

func (a *App) backup() func(context.Context, io.Writer) error {
	if !a.broker.Embedded() {
		return nil
	}
	return a.broker.Backup
}

// Run works until ctx ends or a part fails, and then stops in good order: first nothing more is received, then running
// steps get their time, then the API and the stores close.
func (a *App) Run(ctx context.Context) error {
	parts, working := newGroup(ctx)
	for _, s := range a.servers {
		parts.start(s.name, s.serve)
	}
	parts.start("janitor", func() error { return a.janitor(working) })
	parts.start("pauses", func() error { return a.pauses.Follow(working) })
	parts.start("comments", func() error { return a.comments.run(working) })
	parts.start("rules", func() error { return a.rules.sync.Run(working) })
	if a.proposals != nil {
		parts.start("proposals of rules", func() error { return a.proposals.Run(working) })
	}
	parts.start("catching up", func() error { return a.catchUp.Run(working) })
	parts.start("watches", func() error { return a.watch.Run(working) })
	parts.start("schedules", func() error { return a.schedule.Run(working) })
	parts.start("active rules", func() error { return a.rules.follow(working, a.log) })
	parts.start("engine", func() error {
		return errors.Join(a.engine.Run(working), a.stopServers("admin", "health"))
	})
	parts.start("history", func() error { return a.history.Follow(working) })
	if err := a.writeListen(); err != nil {
		parts.cancel()
		return errors.Join(err, a.stopServers("hooks"), parts.wait(), a.teardown.run())
	}
	<-working.Done()
	a.log.Info("stopping: running steps have until the timeout to end", "timeout", a.config.Engine.StopTimeout)
	err := a.stopServers("hooks")
	return errors.Join(err, parts.wait(), a.teardown.run())
}

// sweepEvery is how often history is purged.
const sweepEvery = 2 * time.Second

// janitor tells the log what the journals still need, and purges the rest.
func (a *App) janitor(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := a.sweep(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("history could not be purged; it is tried again", "error", err)
		}
	}
}

func (a *App) sweep(ctx context.Context) error {
	if needed, known := a.store.Needed(ctx); known {
		a.events.Needed(needed)
	}
	return errors.Join(a.events.Sweep(ctx), a.store.Sweep(ctx))
}

// registries lists the senders and the actions there are; the function returned stops what actions keep running.
func (a *App) registries(ctx context.Context) (Registries, func(context.Context) error, error) {
	var err error
	a.runner, err = command.New(command.Options{Dir: a.config.Data, Env: a.config.Exec.Env, Logger: a.log})
	if err != nil {
		return Registries{}, nil, fmt.Errorf("open the register of child processes: %w", err)
	}
	a.teardown.add("register of child processes", time.Second, func(context.Context) error { return a.runner.Close() })
	survivors, err := a.runner.KillSurvivors(ctx)
	if err != nil {
		return Registries{}, nil, fmt.Errorf("end the child processes of the last crash: %w", err)
	}
	for _, pid := range survivors {
		a.log.Warn("a child process had survived the last crash and was killed", "pid", pid)
	}
	actions, stop := a.actions(a.runner)
	if err := a.hosts.check(); err != nil {
		return Registries{}, nil, errors.Join(err, stop(ctx))
	}
	return Registries{Sources: Sources(), Actions: actions}, stop, nil
}
