package app

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/riposte-dev/riposte/pkg/action"
	silence "github.com/riposte-dev/riposte/pkg/action/alertmanager"
	"github.com/riposte-dev/riposte/pkg/action/ansible"
	"github.com/riposte-dev/riposte/pkg/action/exec"
	"github.com/riposte-dev/riposte/pkg/action/flow"
	actforge "github.com/riposte-dev/riposte/pkg/action/forge"
	"github.com/riposte-dev/riposte/pkg/action/git"
	"github.com/riposte-dev/riposte/pkg/action/helm"
	"github.com/riposte-dev/riposte/pkg/action/http"
	"github.com/riposte-dev/riposte/pkg/action/kubernetes"
	"github.com/riposte-dev/riposte/pkg/action/notify"
	"github.com/riposte-dev/riposte/pkg/action/prometheus"
	"github.com/riposte-dev/riposte/pkg/action/terraform"
	"github.com/riposte-dev/riposte/pkg/action/webhook"
	"github.com/riposte-dev/riposte/pkg/command"
	"github.com/riposte-dev/riposte/pkg/config"
	"github.com/riposte-dev/riposte/pkg/forge"
	forgegitea "github.com/riposte-dev/riposte/pkg/forge/gitea"
	forgegithub "github.com/riposte-dev/riposte/pkg/forge/github"
	forgegitlab "github.com/riposte-dev/riposte/pkg/forge/gitlab"
	"github.com/riposte-dev/riposte/pkg/kube"
	"github.com/riposte-dev/riposte/pkg/outbound"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/alertmanager"
	"github.com/riposte-dev/riposte/pkg/source/generic"
	"github.com/riposte-dev/riposte/pkg/source/gitea"
	"github.com/riposte-dev/riposte/pkg/source/github"
	"github.com/riposte-dev/riposte/pkg/source/gitlab"
	sourcekubernetes "github.com/riposte-dev/riposte/pkg/source/kubernetes"
	"github.com/riposte-dev/riposte/pkg/source/schedule"
	"github.com/riposte-dev/riposte/pkg/source/standardwebhooks"
)

// Sources lists the presets there are.
func Sources() source.Registry {
	return source.NewRegistry(
		alertmanager.Type(), generic.Type(), gitea.Type(), github.Type(), gitlab.Type(), schedule.Type(), sourcekubernetes.Type(), standardwebhooks.Type(),
	)
}

// forges lists the kinds of hosts that Riposte can speak on.
func forges() forge.Registry {
	return forge.NewRegistry(forgegithub.Type(), forgegitlab.Type(), forgegitea.Type())
}

// actions builds the integrations, and the differ that shares the mirrors of git.pull; the function returned stops what
// they keep running.
func (a *App) actions(runner *command.Runner) (action.Registry, func(context.Context) error) {
	c := a.config
	ofGit := a.gitOptions(runner)
	pull, differ := git.Open(ofGit)
	a.differ, a.hosts = differ, a.newHosts(ofGit)
	a.cluster = kube.New(kube.Options{
		Kubeconfig: c.Kubernetes.Kubeconfig, Context: c.Kubernetes.Context, Timeout: c.Kubernetes.Timeout, QPS: c.Kubernetes.QPS, Version: a.o.Version,
	})
	client := outbound.New(outbound.Options{AllowPrivate: c.Outbound.AllowPrivate})
	sender := notify.New(notify.Options{Client: client, Logger: a.log, Now: time.Now})
	return action.NewRegistry(
		pull,
		terraform.Definitions(terraform.Options{
			Dir: filepath.Join(c.Data, "terraform"), Binary: c.Terraform.Binary, Runner: runner, Env: environment(c.Exec.Env),
		}),
		sender.Definitions(),
		exec.Definitions(exec.Options{Runner: runner, OutputBytes: c.Exec.OutputBytes}),
		http.Definitions(http.Options{Client: client}),
		flow.Definitions(flow.Options{Append: a.events.Append, Now: time.Now}),
		ansible.Definitions(ansible.Options{Runner: runner, Binary: c.Ansible.Binary}),
		webhook.Definitions(webhook.Options{Client: client}),
		prometheus.Definitions(prometheus.Options{Server: a.server(c.Prometheus), Client: client}),
		silence.Definitions(silence.Options{Server: a.server(c.Alertmanager)}),
		kubernetes.Definitions(kubernetes.Options{Cluster: a.cluster}),
		helm.Definitions(helm.Options{
			Runner: runner, Binary: c.Helm.Binary, Kubeconfig: c.Kubernetes.Kubeconfig, Context: c.Kubernetes.Context, User: a.cluster.User,
		}),
		actforge.Definitions(actforge.Options{Forge: a.hosts.forge, Redact: a.redactor.String, Version: a.o.Version}),
	), sender.Close
}

// server is an API that the configuration names: the platform team's own choice, so that it may stand at a private address.
func (a *App) server(c config.API) outbound.API {
	anywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	api := outbound.API{URL: c.URL, Username: c.Username, Client: outbound.New(outbound.Options{AllowPrivate: anywhere})}
	if c.Token != "" {
		api.Token = func() (string, error) {
			v, err := a.secrets.Get(c.Token)
			return string(v), err
		}
	}
	return api
}

// environment returns the server's variables that children get.
func environment(names []string) []string {
	var env []string
	for _, name := range names {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func (a *App) gitOptions(runner *command.Runner) git.Options {
	c := a.config
	dialer := outbound.New(outbound.Options{AllowPrivate: c.Git.AllowPrivate, Setting: "git.allowPrivate"})
	o := git.Options{
		Dir: filepath.Join(c.Data, "git"), MaxBytes: c.Git.MaxBytes, Timeout: c.Git.Timeout, Backend: c.Git.Backend,
		AllowLocal: c.Dev, Dial: dialer.DialContext, Runner: runner,
	}
	for _, cred := range c.Credentials {
		o.Credentials = append(o.Credentials, a.credential(cred))
	}
	return o
}

func (a *App) credential(c config.Credential) git.Credential {
	out := git.Credential{URLPrefix: c.URL, Username: c.Username, KnownHosts: c.KnownHosts}
	if c.Token != "" {
		out.Token = func() (string, error) {
			v, err := a.secrets.Get(c.Token)
			return string(v), err
		}
	}
	if c.SSHKey != "" {
		out.SSHKey = func() ([]byte, error) { return a.secrets.Get(c.SSHKey) }
	}
	return out
}

// Describe returns the registries for commands that only read rules: nothing in them can be run.
func Describe() Registries {
	a := &App{config: config.Default(), log: slog.New(slog.DiscardHandler)}
	actions, _ := a.actions(nil)
	return Registries{Sources: Sources(), Actions: actions}
}
