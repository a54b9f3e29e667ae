package config

import "strings"

// Field is one setting that the file, a variable and a flag can give.
type Field struct {
	Key  string // in the file: "limits.maxBodyBytes"; empty where the file can't give it
	Flag string // without dashes: "max-body-bytes"
	Doc  string
	// Value reads and writes the setting in the Config that listed the field. It suits flag libraries as it is.
	Value Value
}

// Value is a setting as text. Lists are separated by commas; the first Set replaces the default, later ones add to it.
type Value interface {
	String() string
	Set(text string) error
	// Type is string, bool, int, bytes, duration, strings or cidrs.
	Type() string
}

// Env is the variable's name: RIPOSTE_MAX_BODY_BYTES.
func (f Field) Env() string {
	return "RIPOSTE_" + strings.ToUpper(strings.ReplaceAll(f.Flag, "-", "_"))
}

// Fields lists the settings of c in the order of the reference page.
func (c *Config) Fields() []Field {
	return []Field{
		{"hooksListen", "hooks-listen", "address of the hooks listener", str(&c.HooksListen)},
		{"adminListen", "admin-listen", "address of the admin listener; beyond loopback it needs tokens", str(&c.AdminListen)},
		{"healthListen", "health-listen", "address of the health and metrics listener", str(&c.HealthListen)},
		{"publicURL", "public-url", "address under which senders reach the hooks listener", str(&c.PublicURL)},
		{"tls.hooks.cert", "tls-hooks-cert", "PEM file with the hooks listener's certificate chain, re-read when it changes", str(&c.TLS.Hooks.Cert)},
		{"tls.hooks.key", "tls-hooks-key", "PEM file with the key of that certificate", str(&c.TLS.Hooks.Key)},
		{"tls.admin.cert", "tls-admin-cert", "PEM file with the admin listener's certificate chain, re-read when it changes", str(&c.TLS.Admin.Cert)},
		{"tls.admin.key", "tls-admin-key", "PEM file with the key of that certificate", str(&c.TLS.Admin.Key)},
		{"trustedProxies", "trusted-proxies", "networks of the proxies whose X-Forwarded-For is believed", cidrs(&c.TrustedProxies)},
		{"rules.dirs", "rules", "directories that hold the rules", list(&c.Rules.Dirs)},
		{"rules.git.url", "rules-git-url", "repository that holds the rules, instead of directories", str(&c.Rules.Git.URL)},
		{"rules.git.ref", "rules-git-ref", "branch, tag or full reference that is followed; default: the repository's HEAD", str(&c.Rules.Git.Ref)},
		{"rules.git.path", "rules-git-path", "directory of the repository", str(&c.Rules.Git.Path)},
		{"rules.git.interval", "rules-git-interval", "time between two looks at the repository, beside its webhooks", span(&c.Rules.Git.Interval)},
		{"rules.git.allowedSigners", "rules-git-allowed-signers", "file of the SSH keys that may sign commits of the rules, as OpenSSH's allowed_signers", str(&c.Rules.Git.AllowedSigners)},
		{"rules.git.allowedGPGKeys", "rules-git-allowed-gpg-keys", "file of the armoured GPG keys that may sign commits of the rules", str(&c.Rules.Git.AllowedGPGKeys)},
		{"rules.git.forge", "rules-git-forge", "kind of the repository's host, for commit statuses: github, gitlab or gitea; default: by its name", str(&c.Rules.Git.Forge)},
		{"rules.git.api", "rules-git-api", "address of the host's API, where it is not the usual one", str(&c.Rules.Git.API)},
		{"rules.git.statusToken", "rules-git-status-token", "secret with the token for commit statuses; default: that of the repository's credential", str(&c.Rules.Git.StatusToken)},
		{"rules.git.backtest.since", "rules-git-backtest-since", "judge pull requests of the repository by the events of so long, with commit statuses; 0 for not at all", span(&c.Rules.Git.Backtest.Since)},
		{"rules.git.backtest.failOn", "rules-git-backtest-fail-on", "differences that make the status a failure, as of riposte backtest --fail-on: appear, disappear, change, any, each with :N for more than N", list(&c.Rules.Git.Backtest.FailOn)},
		{"data", "data", "directory of the store", str(&c.Data)},
		{"natsURL", "nats-url", "address of a NATS cluster, instead of the embedded store", str(&c.NATSURL)},
		{"natsMonitoring", "nats-monitoring", "addresses of the NATS servers' HTTP monitoring, like http://nats-0:8222, to ask at the start whether they sync each write to the disk", list(&c.NATSMonitoring)},
		{"natsAllowLazySync", "nats-allow-lazy-sync", "use NATS servers that are known not to sync each write to the disk: accepted events can be lost with a machine", flag(&c.NATSAllowLazySync)},
		{"limits.maxBodyBytes", "max-body-bytes", "largest request body, where a source says nothing else", size(&c.Limits.MaxBodyBytes)},
		{"limits.bodyBudget", "body-budget", "memory for the bodies of all unfinished requests together", size(&c.Limits.BodyBudget)},
		{"limits.perAddress.requests", "per-address-requests", "unproven requests of one remote address in each `per`; 0 for no bound", number(&c.Limits.PerAddress.Requests)},
		{"limits.perAddress.per", "per-address-per", "time that the bound per address counts in", span(&c.Limits.PerAddress.Per)},
		{"limits.perAddress.burst", "per-address-burst", "unproven requests of one remote address that may come at once", number(&c.Limits.PerAddress.Burst)},
		{"limits.storm.runs", "storm-runs", "runs that answer alerts in each `per`, above which all healing stops until it is less; 0 for no bound", number(&c.Limits.Storm.Requests)},
		{"limits.storm.per", "storm-per", "time that the storm brake counts in", span(&c.Limits.Storm.Per)},
		{"limits.breaker.runs", "breaker-runs", "how many of a rule's last runs that answered alerts its circuit breaker looks at; 0 for no breaker", number(&c.Limits.Breaker.Runs)},
		{"limits.breaker.successPercent", "breaker-success-percent", "share of them that must have succeeded; below it the rule's runs are refused for a while", number(&c.Limits.Breaker.SuccessPercent)},
		{"limits.breaker.within", "breaker-within", "how far back it looks", span(&c.Limits.Breaker.Within)},
		{"limits.breaker.open", "breaker-open", "how long it refuses, before one run may try", span(&c.Limits.Breaker.Open)},
		{"limits.queue", "queue", "runs that may wait in one concurrency group; further ones are refused", number(&c.Limits.Queue)},
		{"eventLog.maxBytes", "event-log-max-bytes", "size of the store: event log, large bodies, ids, sets of rules and journals together", size(&c.EventLog.MaxBytes)},
		{"eventLog.maxAge", "event-log-max-age", "age at which history is purged; 0 for no bound", span(&c.EventLog.MaxAge)},
		{"eventLog.idWindow", "event-log-id-window", "how long ids are kept, to know duplicates", span(&c.EventLog.IDWindow)},
		{"eventLog.maxIDs", "event-log-max-ids", "how many ids are kept, as far as a tenth of the store holds 128 bytes of each", number(&c.EventLog.MaxIDs)},
		{"eventLog.reserveBytes", "event-log-reserve-bytes", "free space to leave on the disk; 0 for the larger of 1 GiB and 5 %", size(&c.EventLog.ReserveBytes)},
		{"stepLogs.maxBytes", "step-logs-max-bytes", "size of what is kept of steps' logs", size(&c.StepLogs.MaxBytes)},
		{"stepLogs.maxAge", "step-logs-max-age", "how long steps' logs are kept", span(&c.StepLogs.MaxAge)},
		{"audit.maxBytes", "audit-max-bytes", "size of the audit log", size(&c.Audit.MaxBytes)},
		{"audit.maxAge", "audit-max-age", "how long the audit log is kept", span(&c.Audit.MaxAge)},
		{"engine.partitions", "engine-partitions", "shards of the work, fixed when the store is made", number(&c.Engine.Partitions)},
		{"engine.workers", "engine-workers", "steps that run at once", number(&c.Engine.Workers)},
		{"engine.stopTimeout", "engine-stop-timeout", "time for running steps to end when the server stops", span(&c.Engine.StopTimeout)},
		{"loops.maxDepth", "loops-max-depth", "runs that may stand above another in a chain in which each caused the event that started the next", number(&c.Loops.MaxDepth)},
		{"loops.accounts", "loops-accounts", "accounts at Git hosts that only this server uses: what they do without naming a run starts nothing", list(&c.Loops.Accounts)},
		{"catchUp.interval", "catch-up-interval", "time between two times that senders are asked for what was missed", span(&c.CatchUp.Interval)},
		{"exec.env", "exec-env", "variables of the server that child processes get", list(&c.Exec.Env)},
		{"exec.outputBytes", "exec-output-bytes", "output kept of one step", size(&c.Exec.OutputBytes)},
		{"git.backend", "git-backend", "what fetches repositories: go-git or git", str(&c.Git.Backend)},
		{"git.maxBytes", "git-max-bytes", "most bytes of one fetch", size(&c.Git.MaxBytes)},
		{"git.timeout", "git-timeout", "longest time of one fetch", span(&c.Git.Timeout)},
		{"git.allowPrivate", "git-allow-private", "private networks that Git may connect to", cidrs(&c.Git.AllowPrivate)},
		{"terraform.binary", "terraform-binary", "terraform or tofu, by name or path", str(&c.Terraform.Binary)},
		{"ansible.binary", "ansible-binary", "ansible-playbook, by name or path", str(&c.Ansible.Binary)},
		{"kubernetes.kubeconfig", "kubernetes-kubeconfig", "file that says where the cluster is; default: the service account of the pod that the server runs in, else KUBECONFIG or ~/.kube/config", str(&c.Kubernetes.Kubeconfig)},
		{"kubernetes.context", "kubernetes-context", "context of the kubeconfig; default: its current one", str(&c.Kubernetes.Context)},
		{"kubernetes.timeout", "kubernetes-timeout", "longest time of one request to the API server", span(&c.Kubernetes.Timeout)},
		{"kubernetes.qps", "kubernetes-qps", "requests a second that all actions together make, with bursts of twice as many", number(&c.Kubernetes.QPS)},
		{"helm.binary", "helm-binary", "helm, by name or path", str(&c.Helm.Binary)},
		{"outbound.allowPrivate", "outbound-allow-private", "private networks that requests and notifications may connect to", cidrs(&c.Outbound.AllowPrivate)},
		{"prometheus.url", "prometheus-url", "address of the Prometheus that prometheus.query asks; it may be a private one", str(&c.Prometheus.URL)},
		{"prometheus.token", "prometheus-token", "secret that proves to it who asks, a bearer token", str(&c.Prometheus.Token)},
		{"prometheus.username", "prometheus-username", "user for basic authentication, whose password the secret is then", str(&c.Prometheus.Username)},
		{"alertmanager.url", "alertmanager-url", "address of the Alertmanager that alertmanager.silence talks to; it may be a private one", str(&c.Alertmanager.URL)},
		{"alertmanager.token", "alertmanager-token", "secret that proves to it who asks, a bearer token", str(&c.Alertmanager.Token)},
		{"alertmanager.username", "alertmanager-username", "user for basic authentication, whose password the secret is then", str(&c.Alertmanager.Username)},
		{"log.format", "log-format", "text or json", str(&c.Log.Format)},
		{"log.level", "log-level", "debug, info, warn or error", str(&c.Log.Level)},
		{"", "dev", "for trying out: rules may name environment variables as secrets, and one that is made up stands in for each undeclared one", flag(&c.Dev)},
	}
}
