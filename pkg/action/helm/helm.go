// Package helm holds the actions helm.upgrade and helm.rollback, which run the helm program, version 3 or 4.
//
// Guarantees. helm acts as the service account that the grant of the rule's path names. Values, among them secrets, stand in a
// file that only this user can read and that goes with the step; neither they nor a release's manifest are in an output, a log or
// an argument. helm finds no plugins, repositories or registry logins but those that a step names. A value of an event can't
// choose where a chart is fetched from.
package helm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/command"
)

const (
	defaultTimeout = 5 * time.Minute
	maxAnswer      = 16 << 20 // bytes of what helm prints as JSON, a manifest in it
	maxText        = 2000
)

// Options configure the actions.
type Options struct {
	Runner *command.Runner
	Binary string // name or path; empty means helm
	// Kubeconfig and Context say where the cluster is, as the server's configuration does.
	Kubeconfig, Context string
	// User returns as whom to act for a service account that a grant names; empty for the server itself.
	User func(account string) (string, error)
}

// UpgradeParams are the parameters of helm.upgrade.
type UpgradeParams struct {
	Release      string                      `yaml:"release" required:"true" doc:"name of the release; it is installed where there is none"`
	Chart        string                      `yaml:"chart" required:"true" doc:"chart: a path, where a relative one is below the run's own directory, an oci:// address, or with repo a name"`
	Repo         string                      `yaml:"repo,omitempty" doc:"https address of the repository that chart is in"`
	Version      string                      `yaml:"version,omitempty" doc:"version of a chart that is fetched"`
	Namespace    string                      `yaml:"namespace,omitempty" default:"default" doc:"namespace of the release"`
	Values       map[string]any              `yaml:"values,omitempty" doc:"values; they win over those of valuesFiles"`
	ValuesFiles  []string                    `yaml:"valuesFiles,omitempty" doc:"files of values; relative ones are below the run's own directory"`
	SecretValues map[string]action.SecretRef `yaml:"secretValues,omitempty" doc:"values that are secrets, by their path: database.password"`
	Timeout      time.Duration               `yaml:"timeout,omitempty" default:"5m" doc:"how long hooks and the rollout may take, before all is rolled back"`
}

// ReleaseOutputs are the outputs of both actions.
type ReleaseOutputs struct {
	Revision     int64  `yaml:"revision" doc:"revision that the release has now"`
	FromRevision int64  `yaml:"fromRevision" doc:"revision that it had; 0 where it was installed"`
	Status       string `yaml:"status" doc:"status of the release: deployed"`
	Chart        string `yaml:"chart" doc:"chart and its version: shop-1.2.3"`
	AppVersion   string `yaml:"appVersion" doc:"version of the application"`
}

// RollbackParams are the parameters of helm.rollback.
type RollbackParams struct {
	Release    string        `yaml:"release" required:"true" doc:"name of the release"`
	Namespace  string        `yaml:"namespace,omitempty" default:"default" doc:"namespace of the release"`
	ToRevision int64         `yaml:"toRevision,omitempty" doc:"revision to go back to; default: the newest before that did not fail and that no rollback has left"`
	Timeout    time.Duration `yaml:"timeout,omitempty" default:"5m" doc:"how long hooks and the rollout may take"`
}

type actions struct{ Options }

// Definitions lists the actions.
func Definitions(o Options) []action.Definition {
	a := actions{o}
	fenced := "by helm's own record of the release: while one change is under way, or where its revision is there already, another is refused"
	doc := "`helm:NAMESPACE/RELEASE`"
	return []action.Definition{
		{
			Name:      "helm.upgrade",
			Doc:       "Installs or upgrades a release, waits until it is healthy, and rolls all of it back where it does not become so. A release that a crash has left in the middle is refused by helm until somebody rolls it back.",
			Params:    &UpgradeParams{},
			Outputs:   ReleaseOutputs{},
			Changes:   true,
			Target:    func(c *action.Call) string { p := c.Params.(*UpgradeParams); return target(p.Namespace, p.Release) },
			TargetDoc: doc,
			Rights:    rights(),
			Fenced:    fenced,
			Quote:     map[string]func(string, string) (string, error){"chart": quoteChart, "repo": quoteChart},
			Check:     func(params any) error { return params.(*UpgradeParams).check() },
			Run:       a.upgrade,
		},
		{
			Name:      "helm.rollback",
			Doc:       "Rolls a release back to an earlier revision and waits until it is healthy.",
			Params:    &RollbackParams{},
			Outputs:   ReleaseOutputs{},
			Changes:   true,
			Target:    func(c *action.Call) string { p := c.Params.(*RollbackParams); return target(p.Namespace, p.Release) },
			TargetDoc: doc,
			Rights:    rights(),
			Fenced:    fenced,
			Replaces:  []string{"pod", "instance", "container_id", "uid"},
			Check: func(params any) error {
				if p := params.(*RollbackParams); p.Timeout < 0 || p.ToRevision < 0 {
					return errors.New("timeout and toRevision are not negative")
				}
				return nil
			},
			Run: a.rollback,
		},
	}
}

// rights are those on the usual kinds; what else a chart has in it is granted by hand. helm keeps releases in Secrets.
func rights() []action.Right {
	all := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	return []action.Right{
		{APIGroup: "", Resources: []string{"configmaps", "persistentvolumeclaims", "secrets", "serviceaccounts", "services"}, Verbs: all},
		{APIGroup: "", Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroup: "apps", Resources: []string{"daemonsets", "deployments", "statefulsets"}, Verbs: all},
		{APIGroup: "apps", Resources: []string{"replicasets"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroup: "autoscaling", Resources: []string{"horizontalpodautoscalers"}, Verbs: all},
		{APIGroup: "batch", Resources: []string{"cronjobs", "jobs"}, Verbs: all},
		{APIGroup: "networking.k8s.io", Resources: []string{"ingresses", "networkpolicies"}, Verbs: all},
		{APIGroup: "policy", Resources: []string{"poddisruptionbudgets"}, Verbs: all},
	}
}

func target(namespace, release string) string {
	return "helm:" + cmp.Or(namespace, "default") + "/" + release
}

// quoteChart lets a value be a path, or a name within an address.
func quoteChart(before, value string) (string, error) {
	if strings.Contains(before, "://") {
		if !regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`).MatchString(value) {
			return "", errors.New("a value within an address must be one name: letters, digits, dots, dashes and underscores")
		}
		return value, nil
	}
	if strings.Contains(before+value, "://") || strings.HasPrefix(before+value, "-") || slices.Contains(strings.Split(value, "/"), "..") {
		return "", errors.New("a value can't say where a chart is fetched from: write the address into the rule")
	}
	return value, nil
}

func releaseName() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,51}[a-z0-9])?$`) }

// check looks at what is literal: a templated field is zero.
func (p *UpgradeParams) check() error {
	switch {
	case p.Release != "" && !releaseName().MatchString(p.Release):
		return fmt.Errorf("release: %q is no name of at most 53 lower-case letters, digits, dots and dashes", p.Release)
	case p.Repo != "" && !strings.HasPrefix(p.Repo, "https://"):
		return errors.New("repo must be an https:// address")
	case strings.Contains(p.Chart, "://") && !strings.HasPrefix(p.Chart, "oci://"):
		return errors.New("chart: only oci:// addresses can be fetched; of a repository, give repo")
	case p.Timeout < 0:
		return errors.New("timeout is negative")
	}
	return nil
}

// helm is the program for one step.
type helm struct {
	actions
	call    *action.Call
	private string // a directory that only this user can read
	flags   []string
	secrets []string
}

func (a actions) prepare(call *action.Call, namespace string) (*helm, error) {
	if a.Runner == nil {
		return nil, errors.New("helm: Options.Runner is nil")
	}
	own, err := call.Path()
	if err != nil {
		return nil, err
	}
	h := &helm{actions: a, call: call, private: own + ".helm", flags: []string{"--namespace=" + cmp.Or(namespace, "default")}}
	if err := errors.Join(os.RemoveAll(h.private), os.Mkdir(h.private, 0o700)); err != nil {
		return nil, fmt.Errorf("make a private directory: %w", err)
	}
	for flag, value := range map[string]string{"kubeconfig": a.Kubeconfig, "kube-context": a.Context} {
		if value != "" {
			h.flags = append(h.flags, "--"+flag+"="+value)
		}
	}
	user, err := a.User(call.ServiceAccount)
	if err != nil {
		return nil, err
	}
	if user != "" {
		h.flags = append(h.flags, "--kube-as-user="+user)
	}
	return h, nil
}

func (h *helm) close() { _ = os.RemoveAll(h.private) } // the run's directory goes too

// run returns what helm prints; what it says beside is logged, without secrets.
func (h *helm) run(ctx context.Context, args ...string) (string, error) {
	stdout, last := &command.Head{Limit: maxAnswer}, &command.Head{Limit: 64 << 10}
	_, errs := command.Together(h.call.Log) // stdout has the manifest, Secrets in it
	env := []string{}
	for _, name := range []string{"CACHE_HOME", "CONFIG_HOME", "DATA_HOME", "PLUGINS"} {
		env = append(env, "HELM_"+name+"="+filepath.Join(h.private, strings.ToLower(name)))
	}
	for _, name := range []string{"KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "HTTPS_PROXY", "NO_PROXY"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	_, err := h.Runner.Run(ctx, command.Cmd{
		Path: cmp.Or(h.Binary, "helm"), Args: append(append([]string{args[0]}, h.flags...), args[1:]...), Dir: h.call.Dir, Env: env,
		Key: h.call.RunID + "/" + h.call.StepID, Stdout: stdout, Stderr: io.MultiWriter(last, errs),
	})
	var exit *command.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
		return "", action.Permanent(fmt.Errorf("%w (is helm installed on the server, or set as helm.binary?)", err))
	case errors.As(err, &exit):
		return "", fmt.Errorf("helm %s: %w: %s", args[0], err, h.clean(last.String()))
	case err != nil:
		return "", fmt.Errorf("helm %s: %w", args[0], err)
	}
	return stdout.String(), nil
}

// clean is the end of what helm said, without secrets.
func (h *helm) clean(text string) string {
	for _, s := range h.secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ")
	if len(text) > maxText {
		text = "…" + strings.ToValidUTF8(text[len(text)-maxText:], "")
	}
	return text
}

// revision is one of a release's history.
type revision struct {
	Revision    int64  `json:"revision"`
	Status      string `json:"status"`
	Chart       string `json:"chart"`
	AppVersion  string `json:"app_version"`
	Description string `json:"description"`
}

// history lists a release's revisions, the oldest first; none where there is no release.
func (h *helm) history(ctx context.Context, release string) ([]revision, error) {
	text, err := h.run(ctx, "history", "--max=50", "--output=json", "--", release)
	if err != nil && strings.Contains(err.Error(), "release: not found") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []revision
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, errors.New("helm history: the answer is not JSON")
	}
	return list, nil
}

func (h *helm) outputs(ctx context.Context, release string, from int64) (action.Outputs, error) {
	list, err := h.history(ctx, release)
	if err != nil || len(list) == 0 {
		return nil, cmp.Or(err, fmt.Errorf("release %s is gone", release))
	}
	r := list[len(list)-1]
	return action.Outputs{"revision": r.Revision, "fromRevision": from, "status": r.Status, "chart": r.Chart, "appVersion": r.AppVersion}, nil
}

func newest(list []revision) int64 {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].Revision
}

func (a actions) upgrade(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*UpgradeParams)
	if err := p.check(); err != nil {
		return nil, action.Permanent(err)
	}
	h, err := a.prepare(call, p.Namespace)
	if err != nil {
		return nil, action.Permanent(err)
	}
	defer h.close()
	args, err := h.upgradeArgs(ctx, p)
	if err != nil {
		return nil, err
	}
	before, err := h.history(ctx, p.Release)
	if err != nil {
		return nil, err
	}
	if _, err := h.run(ctx, args...); err != nil {
		return nil, err
	}
	return h.outputs(ctx, p.Release, newest(before))
}

func (h *helm) upgradeArgs(ctx context.Context, p *UpgradeParams) ([]string, error) {
	version, err := h.run(ctx, "version", "--template={{.Version}}")
	if err != nil {
		return nil, err
	}
	atomic := "--rollback-on-failure"
	if strings.HasPrefix(version, "v3.") {
		atomic = "--atomic"
	}
	args := []string{"upgrade", "--install", atomic, "--wait", "--timeout=" + cmp.Or(p.Timeout, defaultTimeout).String(), "--output=json"}
	for flag, value := range map[string]string{"repo": p.Repo, "version": p.Version} {
		if value != "" {
			args = append(args, "--"+flag+"="+value)
		}
	}
	for _, name := range p.ValuesFiles {
		file, err := h.below(name)
		if err != nil {
			return nil, action.Permanent(fmt.Errorf("valuesFiles: %w", err))
		}
		args = append(args, "--values="+file)
	}
	file, err := h.values(p)
	if err != nil {
		return nil, action.Permanent(err)
	}
	chart := p.Chart
	if p.Repo == "" && !strings.HasPrefix(chart, "oci://") {
		if chart, err = h.below(chart); err != nil {
			return nil, action.Permanent(fmt.Errorf("chart: %w", err))
		}
	}
	return append(args, "--values="+file, "--", p.Release, chart), nil
}

// below resolves a path, which must lead to something below the run's directory.
func (h *helm) below(path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(h.call.Dir, path)
	}
	root, err := filepath.EvalSymlinks(h.call.Dir)
	if err != nil {
		return "", err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	if rel, err := filepath.Rel(root, path); err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%s is not below the run's directory", path)
	}
	return path, nil
}

// values writes the values of the parameters, with secrets, into a file.
func (h *helm) values(p *UpgradeParams) (string, error) {
	text, err := yaml.Marshal(p.Values)
	if err != nil {
		return "", fmt.Errorf("values: %w", err)
	}
	all := map[string]any{}
	if err := yaml.Unmarshal(text, &all); err != nil { // a copy, which secrets can be put into
		return "", fmt.Errorf("values: %w", err)
	}
	if all == nil {
		all = map[string]any{}
	}
	for path, ref := range p.SecretValues {
		secret, err := h.call.Secret(ref)
		if err != nil {
			return "", fmt.Errorf("secretValues.%s: %w", path, err)
		}
		if secret != "" {
			h.secrets = append(h.secrets, secret)
		}
		at, keys := all, strings.Split(path, ".")
		for _, k := range keys[:len(keys)-1] {
			next, ok := at[k].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[k] = next
			}
			at = next
		}
		at[keys[len(keys)-1]] = secret
	}
	if text, err = yaml.Marshal(all); err != nil {
		return "", fmt.Errorf("values: %w", err)
	}
	file := filepath.Join(h.private, "values.yaml")
	return file, os.WriteFile(file, text, 0o600)
}

func (a actions) rollback(ctx context.Context, call *action.Call) (action.Outputs, error) {
	p := call.Params.(*RollbackParams)
	if !releaseName().MatchString(p.Release) {
		return nil, action.Permanent(fmt.Errorf("release: %q is no name of a release", p.Release))
	}
	h, err := a.prepare(call, p.Namespace)
	if err != nil {
		return nil, action.Permanent(err)
	}
	defer h.close()
	list, err := h.history(ctx, p.Release)
	if err != nil {
		return nil, err
	}
	to, err := choose(list, p.ToRevision)
	if err != nil {
		return nil, action.Permanent(fmt.Errorf("release %s: %w", p.Release, err))
	}
	args := []string{"rollback", "--wait", "--timeout=" + cmp.Or(p.Timeout, defaultTimeout).String(), "--", p.Release, strconv.FormatInt(to, 10)}
	if _, err := h.run(ctx, args...); err != nil {
		return nil, err
	}
	return h.outputs(ctx, p.Release, newest(list))
}

// choose finds the revision to go back to: not one that failed, and not one that a rollback has left.
func choose(list []revision, wanted int64) (int64, error) {
	if len(list) == 0 {
		return 0, errors.New("there is no such release")
	}
	for i := len(list) - 1; i >= 0; i-- {
		r := list[i]
		left := i+1 < len(list) && strings.HasPrefix(list[i+1].Description, "Rollback")
		switch {
		case wanted == r.Revision:
			return wanted, nil
		case wanted == 0 && i < len(list)-1 && r.Status == "superseded" && !left && !same(list, i):
			return r.Revision, nil
		}
	}
	if wanted != 0 {
		return 0, fmt.Errorf("there is no revision %d in its history", wanted)
	}
	return 0, errors.New("no earlier revision is one that did not fail and that no rollback has left: name one in toRevision")
}

// same reports whether the newest revision is a rollback to the i-th, which would change nothing.
func same(list []revision, i int) bool {
	return list[len(list)-1].Description == "Rollback to "+strconv.FormatInt(list[i].Revision, 10)
}
