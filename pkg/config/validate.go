package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/backtest"
	"github.com/riposte-dev/riposte/pkg/quiet"
)

// Validate reports everything that is wrong with c, as an *Error that names each field.
func (c *Config) Validate() error {
	if problems := c.problems(); len(problems) > 0 {
		return &Error{Problems: problems}
	}
	return nil
}

// checks collects problems.
type checks struct{ problems []Problem }

func (k *checks) require(ok bool, field, format string, args ...any) {
	if !ok {
		k.problems = append(k.problems, Problem{Field: field, Msg: fmt.Sprintf(format, args...)})
	}
}

func (c *Config) problems() []Problem {
	k := &checks{}
	c.checkListeners(k)
	c.checkSecrets(k)
	if _, err := c.Quiet(); err != nil {
		var field *quiet.FieldError
		errors.As(err, &field) // it is always one
		k.require(false, fmt.Sprintf("quietTimes[%d].%s", field.Index, field.Field), "%v", field.Err)
	}
	for i, q := range c.QuietTimes {
		k.require(q.Name != "", fmt.Sprintf("quietTimes[%d].name", i), "must not be empty: it is what people read where a run was refused")
	}
	for i, cred := range c.Credentials {
		c.checkCredential(k, fmt.Sprintf("credentials[%d]", i), cred)
	}
	for _, p := range c.Grants.Validate() {
		k.require(false, "grants"+p.Field, "%s", p.Msg)
	}
	c.checkTokens(k)
	c.checkApprovals(k)
	c.checkRulesGit(k)
	c.checkAPI(k, "prometheus", c.Prometheus)
	c.checkAPI(k, "alertmanager", c.Alertmanager)
	c.checkCatchUp(k)
	c.checkBounds(k)
	k.require(slices.Contains([]string{"go-git", "git"}, c.Git.Backend), "git.backend", "%q is neither go-git nor git", c.Git.Backend)
	k.require(slices.Contains([]string{"text", "json"}, c.Log.Format), "log.format", "%q is neither text nor json", c.Log.Format)
	k.require(slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level), "log.level", "%q is none of debug, info, warn, error", c.Log.Level)
	for i, name := range c.Exec.Env {
		k.require(!strings.ContainsAny(name, "=\x00"), fmt.Sprintf("exec.env[%d]", i), "is the name of a variable, without a value")
	}
	slices.SortStableFunc(k.problems, func(a, b Problem) int { return strings.Compare(a.Field, b.Field) })
	return k.problems
}

func (c *Config) checkListeners(k *checks) {
	for field, addr := range map[string]string{"hooksListen": c.HooksListen, "adminListen": c.AdminListen, "healthListen": c.HealthListen} {
		err := checkAddress(addr)
		k.require(err == nil, field, "%v", err)
	}
	k.require(Loopback(c.AdminListen) || len(c.Tokens) > 0, "adminListen",
		"%q is reachable beyond loopback, so serve needs tokens: add one under tokens, or listen on 127.0.0.1:8081", c.AdminListen)
	for field, pair := range map[string]KeyPair{"tls.admin": c.TLS.Admin, "tls.hooks": c.TLS.Hooks} {
		k.require((pair.Cert == "") == (pair.Key == ""), field, "needs both cert and key")
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		k.require(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "publicURL", "must be an address like https://hooks.example.com")
	}
	k.require(c.Data != "", "data", "must name a directory")
	if c.NATSURL != "" {
		for part := range strings.SplitSeq(c.NATSURL, ",") {
			u, err := url.Parse(strings.TrimSpace(part))
			// The address may hold a password, so the message doesn't repeat it.
			k.require(err == nil && slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) && u.Host != "", "natsURL", "must be addresses like nats://nats-0:4222, separated by commas")
		}
	}
	for _, address := range c.NATSMonitoring {
		u, err := url.Parse(address)
		k.require(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "natsMonitoring", "must be addresses like http://nats-0:8222")
	}
}

func checkAddress(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not an address like 127.0.0.1:8080 or :8080", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q of %q is not a number from 0 to 65535", port, addr)
	} else if n == 0 && port != "0" {
		return fmt.Errorf("port of %q is missing", addr)
	}
	return nil
}

// Loopback reports whether only this machine can reach a listener at addr.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (c *Config) checkSecrets(k *checks) {
	name := regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$`)
	for _, n := range slices.Sorted(maps.Keys(c.Secrets)) {
		s, field := c.Secrets[n], "secrets."+n
		k.require(name.MatchString(n), field, "a secret's name has letters, digits, dots, dashes and underscores")
		k.require((s.Env == "") != (s.File == ""), field, "needs either env or file")
		k.require(!strings.ContainsAny(s.Env, "=\x00"), field, "env is the name of a variable, not a value")
	}
}

func (c *Config) checkCredential(k *checks, field string, cred Credential) {
	k.require((cred.Token == "") != (cred.SSHKey == ""), field, "needs either token or sshKey")
	for key, name := range map[string]string{"token": cred.Token, "sshKey": cred.SSHKey} {
		_, declared := c.Secrets[name]
		k.require(name == "" || declared, field+"."+key, "no secret %q is declared under secrets", name)
	}
	k.require(cred.SSHKey == "" || cred.KnownHosts != "", field+".knownHosts", "is needed beside sshKey, or any host could pose as the remote")
	k.require(cred.SSHKey != "" || cred.KnownHosts == "", field+".knownHosts", "is only for sshKey")
	k.require(cred.Token != "" || cred.Username == "", field+".username", "is only for token; an ssh address names the user itself")
	k.require(cred.Token != "" || cred.Forge == "" && cred.API == "" && cred.Account == "", field, "forge, api and account are only for token")
	err := checkPrefix(cred)
	k.require(err == nil, field+".url", "%v", err)
}

// scpLike matches Git's short form of ssh addresses, git@host:path.
const scpLike = `^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^/].*$`

// checkPrefix refuses prefixes that a foreign host could match: a host without a path ends anywhere, so that
// https://git.example.com would lend its token to https://git.example.com.evil.test.
func checkPrefix(cred Credential) error {
	if regexp.MustCompile(scpLike).MatchString(cred.URL) {
		if cred.Token != "" {
			return fmt.Errorf("%q is an ssh address, which needs sshKey", cred.URL)
		}
		return nil
	}
	u, err := url.Parse(cred.URL)
	switch {
	case err != nil || u.Host == "":
		return fmt.Errorf("must be an address like https://github.com/acme/ or git@github.com:acme/rules.git")
	case u.User != nil && (u.Scheme != "ssh" || hasPassword(u)):
		return fmt.Errorf("must not hold a user or password; name a secret with token")
	case u.Path == "":
		return fmt.Errorf("%q must go on to a path, at least a slash, or it would match other hosts", cred.URL)
	case u.Scheme == "ssh" && cred.Token != "":
		return fmt.Errorf("%q is an ssh address, which needs sshKey", cred.URL)
	case u.Scheme == "https" && cred.SSHKey != "":
		return fmt.Errorf("%q is an https address, which needs token", cred.URL)
	case u.Scheme == "http" && Loopback(net.JoinHostPort(u.Hostname(), "0")):
		return nil // a server on this machine, as in tests
	case u.Scheme != "https" && u.Scheme != "ssh":
		return fmt.Errorf("%q is neither https nor ssh", cred.URL)
	}
	return nil
}

func (c *Config) checkRulesGit(k *checks) {
	g := c.Rules.Git
	if g.URL == "" {
		k.require(reflect.DeepEqual(g, Default().Rules.Git), "rules.git.url", "is missing beside the other settings of rules.git")
		return
	}
	k.require(len(c.Rules.Dirs) == 0, "rules.git.url", "rules come from a repository or from directories: remove one, rules.git or rules.dirs (--rules)")
	k.require(g.Interval >= time.Second, "rules.git.interval", "%s is less than 1s", FormatDuration(g.Interval))
	k.require(!slices.Contains(strings.Split(g.Path, "/"), ".."), "rules.git.path", "must be a directory of the repository")
	_, declared := c.Secrets[g.StatusToken]
	k.require(g.StatusToken == "" || declared, "rules.git.statusToken", "no secret %q is declared under secrets", g.StatusToken)
	if g.API != "" {
		u, err := url.Parse(g.API)
		k.require(err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http"), "rules.git.api", "must be an address like https://git.example.com/api/v4")
	}
	k.require(g.Backtest.Since >= 0, "rules.git.backtest.since", "must not be negative")
	k.require(g.Backtest.Since > 0 || len(g.Backtest.FailOn) == 0, "rules.git.backtest.since", "is missing beside rules.git.backtest.failOn: how far back the events go, as 24h")
	_, err := backtest.ParseLimits(g.Backtest.FailOn)
	k.require(err == nil, "rules.git.backtest.failOn", "%v", err)
}

// checkAPI never quotes the address: someone may have written a password into it.
func (c *Config) checkAPI(k *checks, field string, a API) {
	if a.URL == "" {
		k.require(a == API{}, field+".url", "is missing beside the other settings of %s", field)
		return
	}
	u, err := url.Parse(a.URL)
	k.require(err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") && u.RawQuery == "", field+".url", "must be an address like https://%s.example.com", field)
	k.require(err != nil || u.User == nil, field+".url", "must not hold a user or password: name a secret with token, and a username beside it")
	_, declared := c.Secrets[a.Token]
	k.require(a.Token == "" || declared, field+".token", "no secret %q is declared under secrets", a.Token)
	k.require(a.Username == "" || a.Token != "", field+".username", "needs token, the secret that holds the password")
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}

func (c *Config) checkTokens(k *checks) {
	hash := regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
	names, hashes := map[string]bool{}, map[string]bool{}
	for i, t := range c.Tokens {
		field := fmt.Sprintf("tokens[%d]", i)
		k.require(t.Name != "", field+".name", "must not be empty")
		k.require(t.Name == "" || !names[t.Name], field+".name", "%q stands twice", t.Name)
		k.require(hash.MatchString(t.SHA256), field+".sha256", "must be 64 hexadecimal digits, as `printf %%s TOKEN | sha256sum` prints them")
		k.require(t.SHA256 == "" || !hashes[strings.ToLower(t.SHA256)], field+".sha256", "stands twice; each token needs its own")
		k.require(slices.Contains([]string{"viewer", "operator", "admin"}, t.Role), field+".role", "%q is none of viewer, operator, admin", t.Role)
		names[t.Name], hashes[strings.ToLower(t.SHA256)] = true, true
	}
}

func (c *Config) checkApprovals(k *checks) {
	names := make([]string, len(c.Tokens))
	for i, t := range c.Tokens {
		names[i] = t.Name
	}
	for _, p := range c.Approvals.Validate(names) {
		k.require(false, "approvals."+p.Field, "%s", p.Msg)
	}
	for i, p := range c.Approvals.People {
		k.require(len(p.Links) == 0 || c.PublicURL != "", fmt.Sprintf("approvals.people[%d].links", i), "needs publicURL, under which the links are opened")
	}
}

func (c *Config) checkCatchUp(k *checks) {
	k.require(c.CatchUp.Interval >= time.Minute, "catchUp.interval", "%s is less than 1m", FormatDuration(c.CatchUp.Interval))
	seen := map[string]bool{}
	for i, s := range c.CatchUp.Sources {
		field := fmt.Sprintf("catchUp.sources[%d]", i)
		k.require(s.Source != "" && !seen[s.Source], field+".source", "must name a Source document, each once")
		seen[s.Source] = true
		k.require((s.Receiver == "") != (len(s.Repositories) == 0), field, "needs either receiver, for Alertmanager, or repositories, for a Git host")
		k.require(s.Receiver == "" || c.Alertmanager.URL != "", field+".receiver", "needs alertmanager.url: which Alertmanager to ask")
		k.require(len(s.Repositories) == 0 || c.PublicURL != "", field+".repositories", "needs publicURL: the address of whose deliveries the host is asked")
	}
}

func (c *Config) checkBounds(k *checks) {
	const kib, mib = 1 << 10, 1 << 20
	l := c.Limits
	k.require(l.MaxBodyBytes >= kib && l.MaxBodyBytes <= 512*mib, "limits.maxBodyBytes", "%s is not between 1KiB and 512MiB", FormatSize(l.MaxBodyBytes))
	k.require(l.BodyBudget >= mib, "limits.bodyBudget", "%s is less than 1MiB", FormatSize(l.BodyBudget))
	k.require(l.BodyBudget >= 2*l.MaxBodyBytes, "limits.bodyBudget", "%s is less than twice limits.maxBodyBytes (%s), so that one large body could block all others", FormatSize(l.BodyBudget), FormatSize(l.MaxBodyBytes))
	k.require(l.PerAddress.Requests >= 0, "limits.perAddress.requests", "must not be negative")
	k.require(l.PerAddress.Requests == 0 || l.PerAddress.Per > 0, "limits.perAddress.per", "must be above 0")
	k.require(l.PerAddress.Requests == 0 || l.PerAddress.Burst > 0, "limits.perAddress.burst", "must be above 0")
	k.require(l.Storm.Requests >= 0, "limits.storm.runs", "must not be negative")
	k.require(l.Storm.Requests == 0 || l.Storm.Per > 0, "limits.storm.per", "must be above 0")
	k.require(l.Breaker.Runs >= 0, "limits.breaker.runs", "must not be negative")
	k.require(l.Breaker.SuccessPercent >= 0 && l.Breaker.SuccessPercent <= 100, "limits.breaker.successPercent", "%d is not between 0 and 100", l.Breaker.SuccessPercent)
	k.require(l.Breaker.Runs == 0 || l.Breaker.Within > 0, "limits.breaker.within", "must be above 0")
	k.require(l.Breaker.Runs == 0 || l.Breaker.Open > 0, "limits.breaker.open", "must be above 0")
	k.require(l.Queue >= 1, "limits.queue", "must be at least 1")
	for _, err := range l.Gate().Validate() {
		if field, msg, ok := strings.Cut(err.Error(), ": "); ok && strings.HasPrefix(field, "blastRadius") {
			k.require(false, "limits."+field, "%s", msg)
		}
	}
	k.require(c.Kubernetes.Timeout >= time.Second, "kubernetes.timeout", "must be a second or more")
	k.require(c.Kubernetes.QPS >= 1, "kubernetes.qps", "must be at least 1")
	k.require(c.EventLog.MaxBytes >= 16*mib, "eventLog.maxBytes", "%s is less than 16MiB", FormatSize(c.EventLog.MaxBytes))
	k.require(c.EventLog.MaxBytes < 16*mib || c.EventLog.MaxBytes >= 12*l.MaxBodyBytes, "eventLog.maxBytes", "%s is less than 12 times limits.maxBodyBytes (%s), and large bodies have only a part of the store: raise it, or lower the other", FormatSize(c.EventLog.MaxBytes), FormatSize(l.MaxBodyBytes))
	k.require(c.EventLog.IDWindow > 0, "eventLog.idWindow", "must be above 0")
	k.require(c.EventLog.MaxIDs > 0, "eventLog.maxIDs", "must be above 0")
	for field, h := range map[string]History{"stepLogs": c.StepLogs, "audit": c.Audit} {
		k.require(h.MaxBytes >= 4*mib, field+".maxBytes", "%s is less than 4MiB", FormatSize(h.MaxBytes))
		k.require(h.MaxAge >= time.Minute, field+".maxAge", "must be a minute or more")
	}
	k.require(c.Engine.Partitions >= 1 && c.Engine.Partitions <= 1024, "engine.partitions", "%d is not between 1 and 1024", c.Engine.Partitions)
	k.require(c.Engine.Workers >= 1 && c.Engine.Workers <= 4096, "engine.workers", "%d is not between 1 and 4096", c.Engine.Workers)
	k.require(c.Engine.StopTimeout > 0, "engine.stopTimeout", "must be above 0")
	k.require(c.Loops.MaxDepth >= 1 && c.Loops.MaxDepth <= 20, "loops.maxDepth", "%d is not between 1 and 20", c.Loops.MaxDepth)
	k.require(c.Exec.OutputBytes >= kib && c.Exec.OutputBytes <= 64*kib, "exec.outputBytes", "%s is not between 1KiB and 64KiB", FormatSize(c.Exec.OutputBytes))
	k.require(c.Git.MaxBytes >= mib, "git.maxBytes", "%s is less than 1MiB", FormatSize(c.Git.MaxBytes))
	k.require(c.Git.Timeout > 0, "git.timeout", "must be above 0")
}
