package rule

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/grant"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/source"
)

// What a document may use is asked twice: when it is loaded, of all that stands in it, and when it is used, of all. The
// second time finds what an expression named, and what was granted when the rules were activated and is not now.
//
// A step is asked for the grant of the file that it is written in, so that a Workflow lends its rights to the rules that may
// use it. A Target lends its secret and its fallbacks to the rules that may use it.

// place is where in the repository a file is, as grants see it.
func (f File) place() string {
	if f.Within != "" {
		return f.Within
	}
	return f.Path
}

// grantOf returns what the documents of a file may use.
func (o *Options) grantOf(f File) grant.Grant {
	if o.Grants == nil {
		return grant.All()
	}
	return o.Grants(f.place())
}

// forbid reports that a document uses what it may not; of a set that was active before, use is refused instead. Where no
// grant holds at all, that is all that is said.
func (l *loader) forbid(file string, at *document.Item, err error) {
	if l.grants[file].Matched() == nil {
		l.forbidden(file, at, err)
	}
}

func (l *loader) forbidden(file string, at *document.Item, err error) {
	var denied *grant.DeniedError
	if errors.As(err, &denied) && !l.opts.WasActive {
		l.problem(file, at, denied.Hint(), "%s", denied.Reason())
	}
}

// grantDocument looks whether any grant holds for a document. A test uses nothing.
func (l *loader) grantDocument(d doc) {
	if d.Kind != "RuleTest" {
		l.forbidden(d.file, keyOf(d.item, "kind"), l.grants[d.file].Matched())
	}
}

// grantSource asks for the name of a Source document, its secrets and, where it watches a cluster, its account. A source that may not be receives nothing.
func (l *loader) grantSource(d doc, s *Source) {
	g := l.grants[d.file]
	errs := []error{g.Source(s.Name)}
	l.forbid(d.file, d.item.Get("metadata").Get("name"), errs[0])
	for _, ref := range s.Secrets {
		err := maySecret(g, ref)
		errs = append(errs, err)
		l.forbid(d.file, secretItem(d.Spec, ref), err)
	}
	if _, watches := s.Source.(source.Watched); watches {
		account, err := g.ServiceAccount()
		s.Account, errs = account, append(errs, err)
		l.forbid(d.file, d.Spec.Get("type"), err)
	}
	s.Denied = errors.Join(errs...)
}

// grantTarget asks for the name of a Target document, its secret and its fallback, and takes from it the fallback that it
// may not have. One that may not be, or may not have its secret, gets nothing.
func (l *loader) grantTarget(d doc, t action.Target) action.Target {
	g := l.grants[d.file]
	name, secret := g.Target(t.Name), error(nil)
	l.forbid(d.file, d.item.Get("metadata").Get("name"), name)
	if t.URL != (action.SecretRef{}) {
		secret = maySecret(g, source.SecretRef(t.URL))
		l.forbid(d.file, secretItem(d.Spec.Get("url"), source.SecretRef(t.URL)), secret)
	}
	if t.Fallback != "" {
		if err := g.Target(t.Fallback); err != nil {
			l.forbid(d.file, d.Spec.Get("fallback"), err)
			t.Fallback = ""
		}
	}
	if err := errors.Join(name, secret); err != nil {
		l.denied[t.Name] = err
	}
	return t
}

// grantRule gives a rule its grant, and asks for its mode. A rule that was activated with a higher one asks a person
// now, or only observes.
func (l *loader) grantRule(d doc, r *Rule) {
	r.grant, r.denied = l.grants[d.file], l.denied
	if !slices.Contains(grant.Modes(), r.Mode) {
		return // which is told
	}
	if r.overMode = r.grant.Mode(r.Mode); r.overMode != nil {
		l.forbid(d.file, orItem(d.Spec.Get("mode"), d.Spec), r.overMode)
		if r.Mode = "observe"; r.grant.Mode("approve") == nil {
			r.Mode, r.overMode = "approve", nil
		}
	}
}

// grantTrigger lets a trigger select events of granted sources only. A source that it names must be granted; of those that
// it selects without naming any, one must be.
func (l *loader) grantTrigger(file string, t trigger, item *document.Item) trigger {
	g := l.grants[file]
	if g.Unbounded() {
		return t
	}
	t.granted = &g
	at := orItem(item.Get("source"), item)
	some, first := slices.ContainsFunc(t.sources, func(s string) bool { return !isGlob(s) }), error(nil)
	for _, name := range slices.Sorted(maps.Keys(l.set.Sources)) {
		if !oneOf(t.sources, name) {
			continue
		}
		err := g.Source(name)
		if slices.Contains(t.sources, name) {
			l.forbid(file, at, err)
		}
		some, first = some || err == nil, cmp.Or(first, err)
	}
	if !some {
		l.forbid(file, at, first)
	}
	return t
}

// grantUses asks for the action that a step names.
func (c *stepCompiler) grantUses(item *document.Item, uses string) {
	if uses == "" {
		return
	}
	g := c.grants[c.doc.file]
	c.forbid(c.doc.file, item.Get("uses"), g.Action(uses))
	if len(c.opts.Actions[uses].Rights) > 0 {
		_, err := g.ServiceAccount()
		c.forbid(c.doc.file, item.Get("uses"), err)
	}
}

// grantParams asks for the secrets and targets among what is known of a step's parameters.
func (c *stepCompiler) grantParams(def action.Definition, params any, known *document.Item) {
	g := c.grants[c.doc.file]
	if g.Unbounded() {
		return
	}
	for _, ref := range secretsOf(params) {
		c.forbid(c.doc.file, secretItem(known, ref), maySecret(g, ref))
	}
	for _, name := range document.Tagged(def.Params, "ref", "target") {
		for _, to := range textsOf(params, name) {
			c.forbid(c.doc.file, orItem(known.Get(name), known), g.Target(to))
		}
	}
}

// secretItem finds where below an item a secret is named, or returns the item.
func secretItem(i *document.Item, ref source.SecretRef) *document.Item {
	if found := findSecret(i, ref); found != nil {
		return found
	}
	return i
}

func findSecret(i *document.Item, ref source.SecretRef) *document.Item {
	if i == nil {
		return nil
	}
	for _, m := range i.Members {
		if m.Name == "secret" && ref.Secret != "" && m.Item.Value == ref.Secret || m.Name == "env" && ref.Env != "" && m.Item.Value == ref.Env {
			return m.Item
		}
		if found := findSecret(m.Item, ref); found != nil {
			return found
		}
	}
	for _, e := range i.Elements {
		if found := findSecret(e, ref); found != nil {
			return found
		}
	}
	return nil
}

func maySecret(g grant.Grant, ref source.SecretRef) error {
	var errs []error
	if ref.Env != "" {
		errs = append(errs, g.Variable(ref.Env))
	}
	if ref.Secret != "" || ref.Env == "" {
		errs = append(errs, g.Secret(ref.Secret))
	}
	return errors.Join(errs...)
}

// secretsOf returns the secrets that decoded parameters name, in fields of any depth.
func secretsOf(params any) []source.SecretRef {
	var out []source.SecretRef
	collectSecrets(reflect.ValueOf(params), &out)
	return out
}

func collectSecrets(v reflect.Value, out *[]source.SecretRef) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			collectSecrets(v.Elem(), out)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[action.SecretRef]() || v.Type() == reflect.TypeFor[source.SecretRef]() {
			if !v.IsZero() {
				*out = append(*out, source.SecretRef{Secret: v.FieldByName("Secret").String(), Env: v.FieldByName("Env").String()})
			}
			return
		}
		for i := range v.NumField() {
			collectSecrets(v.Field(i), out)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			collectSecrets(v.Index(i), out)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			collectSecrets(it.Value(), out)
		}
	}
}

// Grant returns what the rule may use.
func (r *Rule) Grant() grant.Grant { return r.grant }

// granted asks again for all that a step is about to use; an error refuses the run.
func (r *Rule) granted(phase run.Phase, id string, params any) error {
	s := r.lookup(phase, id)
	if s == nil || s.grant.Unbounded() && r.overMode == nil {
		return nil
	}
	errs := []error{r.overMode, s.grant.Action(s.def().Name)}
	for _, ref := range secretsOf(params) {
		errs = append(errs, maySecret(s.grant, ref))
	}
	for _, name := range document.Tagged(s.def().Params, "ref", "target") {
		for _, to := range textsOf(params, name) {
			errs = append(errs, s.grant.Target(to))
		}
	}
	if len(s.def().Rights) > 0 {
		_, err := s.grant.ServiceAccount()
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	if err == nil {
		return nil
	}
	return action.Refused(run.ReasonNotGranted, err)
}

// ServiceAccount is as whom a step acts on Kubernetes; empty for the server's own. Whether the step may act at all, Prepare says.
func (r *Rule) ServiceAccount(phase run.Phase, id string) string {
	if s := r.lookup(phase, id); s != nil && len(s.def().Rights) > 0 {
		account, _ := s.grant.ServiceAccount()
		return account
	}
	return ""
}

// textsOf returns the text, or the texts, of the parameter with the name.
func textsOf(params any, name string) []string {
	v := reflect.Indirect(reflect.ValueOf(params))
	for i := range v.NumField() {
		if tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ","); tag != name {
			continue
		}
		switch f := v.Field(i).Interface().(type) {
		case string:
			return given([]string{f})
		case []string:
			return given(slices.Clone(f))
		}
	}
	return nil
}

// given leaves out what is not known yet, or not given.
func given(texts []string) []string {
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

// Secrets returns resolve for the secrets that the rule's steps, or the targets that they may send to, may use; of all
// others it returns an error. It suits action.Call.
func (r *Rule) Secrets(resolve func(action.SecretRef) (string, error)) func(action.SecretRef) (string, error) {
	return func(ref action.SecretRef) (string, error) {
		if err := r.maySecret(ref); err != nil {
			return "", action.Refused(run.ReasonNotGranted, err)
		}
		return resolve(ref)
	}
}

func (r *Rule) maySecret(ref action.SecretRef) error {
	err := maySecret(r.grant, source.SecretRef(ref))
	if err == nil {
		return nil
	}
	for _, g := range r.grants() {
		if maySecret(g, source.SecretRef(ref)) == nil {
			return nil
		}
	}
	for name, t := range r.targets {
		if t.URL == ref && r.mayTarget(name) == nil {
			return nil
		}
	}
	return err
}

// grants are those of the files that the rule's steps are written in, with those of the workflows that it uses.
func (r *Rule) grants() []grant.Grant {
	return grantsOf(r.steps, []grant.Grant{r.grant})
}

func grantsOf(steps map[stepKey]*step, out []grant.Grant) []grant.Grant {
	for _, s := range steps {
		if !slices.Contains(out, s.grant) {
			out = append(out, s.grant)
		}
		if s.workflow != nil {
			out = grantsOf(s.workflow.steps, out)
		}
	}
	return out
}

// mayTarget asks whether a step may send to a target, or a target that it may send to falls back to it.
func (r *Rule) mayTarget(name string) error {
	if err := r.denied[name]; err != nil {
		return fmt.Errorf("target %s: %w", name, err)
	}
	err := r.grant.Target(name)
	if err == nil {
		return nil
	}
	for _, g := range r.grants() {
		for from := range r.targets {
			if g.Target(from) == nil && r.fallsBack(from, name) {
				return nil
			}
		}
	}
	return err
}

// fallsBack follows a target's fallbacks, as far as these may be used, to another one or itself.
func (r *Rule) fallsBack(from, to string) bool {
	for range len(r.targets) {
		if from == to {
			return true
		}
		if from == "" || r.denied[from] != nil {
			return false
		}
		from = r.targets[from].Fallback
	}
	return false
}
