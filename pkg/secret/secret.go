// Package secret resolves the secrets that the server's configuration names, and keeps their values out of everything
// that is written.
//
// Guarantees: a value is looked up at each use, so that a file that changed takes effect without a restart; what can't
// be resolved, an empty value included, is an error and never an empty secret; no error holds a value; each value that
// was resolved is known to the Redactor from before it is handed out. A Resolver and a Redactor are safe for concurrent use.
package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/source"
)

// MaxSize is the most bytes that a secret may have.
const MaxSize = 64 << 10

// Ref says where a secret's value is: in a variable or in a file, one of the two.
type Ref struct {
	Env  string
	File string
}

// Options configure a Resolver.
type Options struct {
	// Refs are the declared secrets by name.
	Refs map[string]Ref
	// Dev allows GetEnv.
	Dev bool
	// Redactor learns each value that is resolved; needed.
	Redactor *Redactor
	// LookupEnv reads a variable; nil is os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Logger takes warnings; nil discards them.
	Logger *slog.Logger
	// Now is the clock that files' times are compared with; nil is time.Now.
	Now func() time.Time
}

func (o *Options) validate() error {
	if o.Redactor == nil {
		return errors.New("secret: Options.Redactor is missing")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Refs)) {
		if ref := o.Refs[name]; (ref.Env == "") == (ref.File == "") {
			return fmt.Errorf("secret: Options.Refs[%q] needs either Env or File", name)
		}
	}
	return nil
}

// Resolver resolves secrets.
type Resolver struct {
	dev      bool
	lookup   func(string) (string, bool)
	redactor *Redactor
	log      *slog.Logger
	now      func() time.Time
	declared map[string]*entry

	mu  sync.Mutex
	env map[string]*entry // variables used under Dev
}

// entry is one secret and the value it had when last looked up.
type entry struct {
	label string // for errors
	ref   Ref

	mu     sync.Mutex
	raw    string // the variable's text that value was made from
	value  []byte
	known  [][]byte // the latest values, which the Redactor knows
	stat   fs.FileInfo
	read   time.Time
	warned bool
}

// New returns a Resolver. It resolves nothing yet, so that one missing secret stops only who needs it.
func New(o Options) (*Resolver, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	r := &Resolver{dev: o.Dev, lookup: o.LookupEnv, redactor: o.Redactor, log: o.Logger, now: o.Now, declared: map[string]*entry{}, env: map[string]*entry{}}
	if r.lookup == nil {
		r.lookup = os.LookupEnv
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	for name, ref := range o.Refs {
		r.declared[name] = &entry{label: "secret " + name, ref: ref}
	}
	return r, nil
}

// Get returns the current value of a declared secret. The caller must not change it. Errors wrap source.ErrUnavailable.
func (r *Resolver) Get(name string) ([]byte, error) {
	e, ok := r.declared[name]
	if !ok {
		return nil, source.Unavailable(undeclared(name))
	}
	return r.resolve(e)
}

// GetEnv returns the current value of a variable, only under Dev. The caller must not change it. Errors wrap
// source.ErrUnavailable.
func (r *Resolver) GetEnv(variable string) ([]byte, error) {
	if err := r.CheckEnv(variable); err != nil {
		return nil, source.Unavailable(err)
	}
	r.mu.Lock()
	e, ok := r.env[variable]
	if !ok {
		e = &entry{label: "variable " + variable, ref: Ref{Env: variable}}
		r.env[variable] = e
	}
	r.mu.Unlock()
	return r.resolve(e)
}

// Check reports whether the secret is declared; whether it resolves is another matter (see Problems).
func (r *Resolver) Check(name string) error {
	if _, ok := r.declared[name]; !ok {
		return undeclared(name)
	}
	return nil
}

// CheckEnv reports whether rules may name the variable as a secret.
func (r *Resolver) CheckEnv(variable string) error {
	if !r.dev {
		return fmt.Errorf("variable %s can't be named here: only the server's configuration names variables, under secrets (or run serve --dev)", variable)
	}
	return nil
}

func undeclared(name string) error {
	return fmt.Errorf("no secret %q is declared under secrets in the server's configuration", name)
}

// Source resolves a source document's reference; it suits source.Env.
func (r *Resolver) Source(ref source.SecretRef) ([]byte, error) {
	if err := oneOf(ref.Secret, ref.Env); err != nil {
		return nil, source.Unavailable(err)
	}
	if ref.Env != "" {
		return r.GetEnv(ref.Env)
	}
	return r.Get(ref.Secret)
}

// CheckSource checks a source document's reference; it suits source.Env.
func (r *Resolver) CheckSource(ref source.SecretRef) error {
	if err := oneOf(ref.Secret, ref.Env); err != nil {
		return err
	}
	if ref.Env != "" {
		return r.CheckEnv(ref.Env)
	}
	return r.Check(ref.Secret)
}

// Action resolves an action's reference; it suits action.Call.
func (r *Resolver) Action(ref action.SecretRef) (string, error) {
	value, err := r.Source(source.SecretRef(ref))
	return string(value), err
}

func oneOf(name, variable string) error {
	if (name == "") == (variable == "") {
		return errors.New("a reference to a secret needs either secret or env")
	}
	return nil
}

// Problems lists the secrets that do not resolve now: of all that are declared, and of the variables used under Dev.
func (r *Resolver) Problems() []error {
	var problems []error
	for _, e := range r.entries() {
		if _, err := r.resolve(e); err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}

// Unresolved names the secrets of Problems, without saying why or where they should be: for readers who need not know.
func (r *Resolver) Unresolved() []string {
	var names []string
	for _, e := range r.entries() {
		if _, err := r.resolve(e); err != nil {
			names = append(names, e.label)
		}
	}
	return names
}

func (r *Resolver) entries() []*entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*entry
	for _, m := range []map[string]*entry{r.declared, r.env} {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			all = append(all, m[name])
		}
	}
	return all
}

func (r *Resolver) resolve(e *entry) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	if e.ref.Env != "" {
		err = r.refreshEnv(e)
	} else {
		err = r.refreshFile(e)
	}
	if err != nil {
		e.value, e.raw, e.stat = nil, "", nil
		return nil, source.Unavailable(fmt.Errorf("%s %w", e.label, err))
	}
	return e.value, nil
}

func (r *Resolver) refreshEnv(e *entry) error {
	raw, ok := r.lookup(e.ref.Env)
	if !ok {
		where := "variable " + e.ref.Env
		if e.label == where {
			where = "it"
		}
		return fmt.Errorf("does not resolve: %s is not set", where)
	}
	if e.value != nil && raw == e.raw {
		return nil
	}
	if err := r.accept(e, []byte(raw)); err != nil {
		return fmt.Errorf("%w (variable %s)", err, e.ref.Env)
	}
	e.raw = raw
	return nil
}

// settled is how much older than our reading a file must be for an unchanged time of change to mean unchanged content:
// a file system's clock may tick as slowly as every two seconds.
const settled = 2 * time.Second

func (r *Resolver) refreshFile(e *entry) error {
	stat, err := os.Stat(e.ref.File)
	if err != nil {
		return fmt.Errorf("does not resolve: %w", err)
	}
	if e.value != nil && os.SameFile(stat, e.stat) && stat.Size() == e.stat.Size() && stat.ModTime().Equal(e.stat.ModTime()) &&
		e.read.Sub(stat.ModTime()) > settled {
		return nil
	}
	if !stat.Mode().IsRegular() { // reading a pipe could block for ever
		return fmt.Errorf("does not resolve: %s is no regular file", e.ref.File)
	}
	read := r.now()
	content, stat, err := readFile(e.ref.File)
	if err != nil {
		return fmt.Errorf("does not resolve: %w", err)
	}
	if err := r.accept(e, content); err != nil {
		return fmt.Errorf("%w (file %s)", err, e.ref.File)
	}
	e.stat, e.read = stat, read
	r.warn(e)
	return nil
}

func readFile(name string) ([]byte, fs.FileInfo, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	stat, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, MaxSize+3)) // with room for a line end
	return content, stat, err
}

// accept makes content, without the line end that editors and echo leave, the entry's value.
func (r *Resolver) accept(e *entry, content []byte) error {
	value := bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	if len(bytes.TrimSpace(value)) == 0 {
		return errors.New("is empty")
	}
	if len(value) > MaxSize {
		return fmt.Errorf("is larger than %d bytes", MaxSize)
	}
	if e.value == nil || !bytes.Equal(value, e.value) {
		r.learn(e, value)
		e.value = value
	}
	return nil
}

// remembered is how many values of one secret stay known: what was rotated away may still be printed, but not for ever.
const remembered = 16

func (r *Resolver) learn(e *entry, value []byte) {
	var forgotten []byte
	if e.known = append(e.known, value); len(e.known) > remembered {
		forgotten, e.known = e.known[0], slices.Clone(e.known[1:])
	}
	r.redactor.replace(forgotten, value)
}

// warn says once that everybody on the machine can read the secret.
func (r *Resolver) warn(e *entry) {
	if e.warned || e.stat.Mode().Perm()&0o004 == 0 {
		return
	}
	e.warned = true
	r.log.Warn("everybody on this machine can read a secret's file; take the right away with chmod o-r", "secret", e.label, "file", e.ref.File)
}
