// Package terraform holds the actions terraform.plan, terraform.apply and terraform.drift, which run terraform or tofu.
//
// Guarantees. A plan is bound to what it was made of: the run, the configuration, the state's lineage and serial; an
// apply refuses one whose base has changed since. Within this process no two plans or applies work on one state at the
// same time; beyond it, Terraform's own state lock stands. A saved plan, which holds every secret of the configuration in
// clear, is encrypted at rest with a key of this machine; in clear it exists only in a private directory while terraform
// reads or writes it. What terraform marks as sensitive, and the secrets given in env, appear in no output, error or log.
package terraform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/command"
)

// Options configure the package.
type Options struct {
	// Dir is where the key, the plugin cache and terraform's CLI configuration are kept; it belongs to this package alone.
	Dir string
	// Binary is a path or a name on PATH; empty means terraform, else tofu.
	Binary string
	// Runner starts the program.
	Runner *command.Runner
	// Env stands beside the Runner's allowed variables in every call, as KEY=value.
	Env []string
	// CLIConfig is terraform's CLI configuration file, for a registry mirror; an empty one is made when it is "".
	CLIConfig string
	// Grace is how long terraform may take to stop what it does and release its lock; a minute by default.
	Grace time.Duration
}

func (o Options) withDefaults() Options {
	o.Grace = cmp.Or(o.Grace, time.Minute)
	return o
}

// Validate reports every field that cannot work.
func (o Options) Validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("terraform: Options.Dir is empty"))
	}
	if o.Runner == nil {
		errs = append(errs, errors.New("terraform: Options.Runner is nil"))
	}
	if o.Grace < 0 {
		errs = append(errs, errors.New("terraform: Options.Grace is negative"))
	}
	for i, kv := range o.Env {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			errs = append(errs, fmt.Errorf("terraform: Options.Env[%d] is not KEY=value", i))
		}
	}
	return errors.Join(errs...)
}

// PlanParams are the parameters of terraform.plan.
type PlanParams struct {
	Dir           string            `yaml:"dir" required:"true" doc:"directory of the root module; a relative one is below the run's own directory"`
	Vars          map[string]any    `yaml:"vars" doc:"values of input variables"`
	VarFiles      []string          `yaml:"varFiles" doc:"variable files, relative to dir"`
	Workspace     string            `yaml:"workspace" doc:"workspace, made if it is missing; default when empty"`
	BackendConfig map[string]string `yaml:"backendConfig" doc:"settings of a partial backend configuration"`
	Targets       []string          `yaml:"targets" doc:"addresses to plan alone, with what they depend on"`
	Refresh       bool              `yaml:"refresh" default:"true" doc:"compare the state with what is really there first"`
	Destroy       bool              `yaml:"destroy" doc:"plan to destroy everything"`
	LockTimeout   time.Duration     `yaml:"lockTimeout" default:"1m" doc:"how long to wait for the state lock"`
	Env           map[string]string `yaml:"env" doc:"environment variables"`

	SecretEnv map[string]action.SecretRef `yaml:"secretEnv" doc:"environment variables whose values are secrets, such as a provider's credentials or TF_VAR_name"`
}

// PlanOutputs are the outputs of terraform.plan.
type PlanOutputs struct {
	File          string `yaml:"file" doc:"encrypted plan on this machine, for terraform.apply"`
	Changes       int64  `yaml:"changes" doc:"resources to add, change and destroy, together; a replacement counts as two"`
	Add           int64  `yaml:"add" doc:"resources to add"`
	Change        int64  `yaml:"change" doc:"resources to change in place"`
	Destroy       int64  `yaml:"destroy" doc:"resources to destroy"`
	OutputChanges int64  `yaml:"outputChanges" doc:"root module outputs that change"`
	Summary       string `yaml:"summary" doc:"the plan as people read it, at most 60 KB, sensitive values masked"`
	JSON          []any  `yaml:"json" doc:"list of {address, actions} of each resource that changes, at most 1000"`
	Commit        string `yaml:"commit" doc:"commit of the work tree that dir belongs to; empty outside of one"`
	Serial        int64  `yaml:"serial" doc:"serial of the state that was planned against"`
	Lineage       string `yaml:"lineage" doc:"lineage of that state; empty before the first apply"`
}

// DriftParams are the parameters of terraform.drift.
type DriftParams struct {
	Dir           string            `yaml:"dir" required:"true" doc:"directory of the root module; a relative one is below the run's own directory"`
	RefreshOnly   bool              `yaml:"refreshOnly" doc:"compare the state alone with what is really there, not the configuration"`
	Vars          map[string]any    `yaml:"vars" doc:"values of input variables"`
	VarFiles      []string          `yaml:"varFiles" doc:"variable files, relative to dir"`
	Workspace     string            `yaml:"workspace" doc:"workspace; default when empty"`
	BackendConfig map[string]string `yaml:"backendConfig" doc:"settings of a partial backend configuration"`
	Targets       []string          `yaml:"targets" doc:"addresses to compare alone, with what they depend on"`
	LockTimeout   time.Duration     `yaml:"lockTimeout" default:"1m" doc:"how long to wait for the state lock"`
	Env           map[string]string `yaml:"env" doc:"environment variables"`

	SecretEnv map[string]action.SecretRef `yaml:"secretEnv" doc:"environment variables whose values are secrets, such as a provider's credentials or TF_VAR_name"`
}

// DriftOutputs are the outputs of terraform.drift.
type DriftOutputs struct {
	Drifted       bool   `yaml:"drifted" doc:"something is not as it should be"`
	Changes       int64  `yaml:"changes" doc:"resources that differ"`
	OutputChanges int64  `yaml:"outputChanges" doc:"root module outputs that differ"`
	Addresses     []any  `yaml:"addresses" doc:"addresses of the resources that differ, the first 1000"`
	Summary       string `yaml:"summary" doc:"the differences as people read them, at most 60 KB, sensitive values masked"`
}

// ApplyParams are the parameters of terraform.apply.
type ApplyParams struct {
	Plan        string            `yaml:"plan" required:"true" doc:"output file of a terraform.plan step of the same run"`
	LockTimeout time.Duration     `yaml:"lockTimeout" default:"1m" doc:"how long to wait for the state lock"`
	Parallelism int64             `yaml:"parallelism" default:"10" doc:"operations at the same time"`
	Env         map[string]string `yaml:"env" doc:"environment variables"`

	SecretEnv map[string]action.SecretRef `yaml:"secretEnv" doc:"environment variables whose values are secrets"`
}

// ApplyOutputs are the outputs of terraform.apply.
type ApplyOutputs struct {
	Outputs map[string]any `yaml:"outputs" doc:"the root module's outputs by name; sensitive ones are ***"`
	Add     int64          `yaml:"add" doc:"resources that were added"`
	Change  int64          `yaml:"change" doc:"resources that were changed"`
	Destroy int64          `yaml:"destroy" doc:"resources that were destroyed"`
}

// Definitions returns terraform.plan, terraform.apply and terraform.drift. Options that do not validate make every call fail with what is
// wrong; a missing program is reported when it is needed.
func Definitions(o Options) []action.Definition {
	invalid := o.Validate()
	a := newActions(o.withDefaults())
	guard := func(run func(context.Context, *action.Call) (action.Outputs, error)) func(context.Context, *action.Call) (action.Outputs, error) {
		return func(ctx context.Context, call *action.Call) (action.Outputs, error) {
			if invalid != nil {
				return nil, action.Permanent(invalid)
			}
			return run(ctx, call)
		}
	}
	return []action.Definition{
		{
			Name:             "terraform.plan",
			Doc:              "Plans the changes of a Terraform or OpenTofu root module, and keeps the plan encrypted for terraform.apply. Changes nothing.",
			Params:           &PlanParams{},
			Outputs:          PlanOutputs{},
			LocalOutputs:     true,
			Unbounded:        true,
			RetryInterrupted: true,
			Check:            func(params any) error { return params.(*PlanParams).check() },
			Run:              guard(a.plan),
		},
		{
			Name:      "terraform.apply",
			Doc:       "Applies a plan of terraform.plan. A plan whose configuration or state has changed since is refused as StalePlan.",
			Params:    &ApplyParams{},
			Outputs:   ApplyOutputs{},
			Unbounded: true,
			Changes:   true,
			Target:    applyTarget,
			TargetDoc: "the root module's path in its checkout and the workspace, with the repository of the event",
			Fenced:    "by Terraform's state lock and serial",
			Check:     func(params any) error { return params.(*ApplyParams).check() },
			Run:       guard(a.apply),
		},
		{
			Name:             "terraform.drift",
			Doc:              "Says whether what is really there differs from a Terraform or OpenTofu root module, so that an apply would change something. Changes nothing, and keeps no plan.",
			Params:           &DriftParams{},
			Outputs:          DriftOutputs{},
			Unbounded:        true,
			RetryInterrupted: true,
			Check:            func(params any) error { return params.(*DriftParams).plan().check() },
			Run:              guard(a.drift),
		},
	}
}

var workspaceName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,89}$`)

func (p *PlanParams) check() error {
	var errs []error
	if p.Workspace != "" && !workspaceName.MatchString(p.Workspace) {
		errs = append(errs, fmt.Errorf("workspace %q: letters, digits, dots, dashes and underscores only", p.Workspace))
	}
	if p.LockTimeout < 0 {
		errs = append(errs, errors.New("lockTimeout is negative"))
	}
	if slices.Contains(p.VarFiles, "") || slices.Contains(p.Targets, "") {
		errs = append(errs, errors.New("varFiles and targets must not hold empty text"))
	}
	errs = append(errs, checkEnv(p.Env), checkEnv(p.SecretEnv))
	return errors.Join(errs...)
}

func (p *ApplyParams) check() error {
	var errs []error
	if p.LockTimeout < 0 {
		errs = append(errs, errors.New("lockTimeout is negative"))
	}
	if p.Parallelism < 0 {
		errs = append(errs, errors.New("parallelism is negative"))
	}
	errs = append(errs, checkEnv(p.Env), checkEnv(p.SecretEnv))
	return errors.Join(errs...)
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// checkEnv refuses names that would change how terraform is called or what it runs.
func checkEnv[V any](env map[string]V) error {
	var errs []error
	for name := range env {
		reserved := strings.HasPrefix(name, "TF_") && !strings.HasPrefix(name, "TF_VAR_") && !strings.HasPrefix(name, "TF_TOKEN_") ||
			strings.HasPrefix(name, "LD_") || name == "PATH" || name == "CHECKPOINT_DISABLE"
		if !envName.MatchString(name) || reserved {
			errs = append(errs, fmt.Errorf("env: %q cannot be set here", name))
		}
	}
	return errors.Join(errs...)
}
