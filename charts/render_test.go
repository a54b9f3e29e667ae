package charts_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestDefault(t *testing.T) {
	all := render(t, "")
	set := all.get(t, "StatefulSet", "rip-riposte")
	if at(set, "spec.replicas") != 1.0 || len(items(set, "spec.volumeClaimTemplates")) != 1 {
		t.Errorf("the workload is %v", set["spec"])
	}
	if at(set, "spec.template.spec.automountServiceAccountToken") != false {
		t.Error("a pod without rights has a token")
	}
	c := loadConfig(t, all)
	if c.HooksListen != ":8080" || c.AdminListen != ":8081" || c.HealthListen != ":8082" || c.Data != "/var/lib/riposte" || len(c.Tokens) != 1 || c.NATSURL != "" || c.Log.Format != "json" {
		t.Errorf("the configuration is %+v", c)
	}
	token, err := base64.StdEncoding.DecodeString(fmt.Sprint(at(all.get(t, "Secret", "-tokens"), "data.admin")))
	if sum := sha256.Sum256(token); err != nil || len(token) < 40 || hex.EncodeToString(sum[:]) != c.Tokens[0].SHA256 {
		t.Errorf("the configuration does not hold the hash of the token: %v", err)
	}
	for _, kind := range []string{"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "Deployment", "Ingress", "HTTPRoute", "ServiceMonitor", "PodDisruptionBudget"} {
		if found := all.all(kind, ""); len(found) > 0 {
			t.Errorf("by default there are %s", found)
		}
	}
	for name, port := range map[string]string{"rip-riposte": "hooks", "-health": "health", "-admin": "admin"} {
		ports := items(all.get(t, "Service", name), "spec.ports")
		if len(ports) != 1 || at(ports[0], "targetPort") != port {
			t.Errorf("the service %s has the ports %v", name, ports)
		}
	}
}

func TestOnlyTheServersPodsAreSelected(t *testing.T) {
	all := render(t, "replicas: 2\nnats: {url: \"nats://nats:4222\"}\nserviceMonitor: {enabled: true}")
	labels := func(o object) map[string]any {
		l, _ := at(o, "spec.template.metadata.labels").(map[string]any)
		return l
	}
	server, test := labels(all.workload(t)), labels(all.get(t, "Job", "-test"))
	selectors := map[string]any{
		"the workload": at(all.workload(t), "spec.selector.matchLabels"), "the policy": at(all.get(t, "NetworkPolicy", ""), "spec.podSelector.matchLabels"),
		"the budget": at(all.get(t, "PodDisruptionBudget", ""), "spec.selector.matchLabels"),
	}
	for _, s := range all.all("Service", "") {
		selectors["the service "+s.name()] = at(s, "spec.selector")
	}
	for what, s := range selectors {
		if !selects(s, server) || selects(s, test) {
			t.Errorf("%s selects %v, the servers are %v and the test is %v", what, s, server, test)
		}
	}
	monitor := at(all.get(t, "ServiceMonitor", ""), "spec.selector.matchLabels")
	for _, s := range all.all("Service", "") {
		if l := at(s, "metadata.labels").(map[string]any); selects(monitor, l) != strings.HasSuffix(s.name(), "-health") {
			t.Errorf("the monitor selects %v, and %s has %v", monitor, s.name(), l)
		}
	}
}

func selects(selector any, labels map[string]any) bool {
	s, _ := selector.(map[string]any)
	for k, v := range s {
		if labels[k] != v {
			return false
		}
	}
	return len(s) > 0
}

func TestReplicasOnNATS(t *testing.T) {
	all := render(t, "replicas: 3\nnats: {url: \"nats://nats-0:4222,nats://nats-1:4222\"}")
	d := all.get(t, "Deployment", "")
	spec := at(d, "spec.template.spec")
	if at(d, "spec.replicas") != 3.0 || loadConfig(t, all).NATSURL == "" || len(all.all("StatefulSet", "")) != 0 {
		t.Errorf("%v", d["spec"])
	}
	if volume(spec, "data")["emptyDir"] == nil {
		t.Errorf("the data directory of a replica is %v", volume(spec, "data"))
	}
	spread := items(spec, "topologySpreadConstraints")
	if len(spread) != 1 || !selects(at(spread[0], "labelSelector.matchLabels"), at(d, "spec.template.metadata.labels").(map[string]any)) {
		t.Errorf("the replicas are spread by %v", spread)
	}
	if at(all.get(t, "PodDisruptionBudget", ""), "spec.maxUnavailable") != 1.0 {
		t.Error("a drain may stop several replicas")
	}
	all = render(t, "replicas: 2\nnats: {urlSecret: {name: nats, key: url}}\ntopologySpreadConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]")
	spec = at(all.get(t, "Deployment", ""), "spec.template.spec")
	if v := variable(spec, "RIPOSTE_NATS_URL"); at(v, "valueFrom.secretKeyRef.name") != "nats" || at(v, "valueFrom.secretKeyRef.key") != "url" {
		t.Errorf("the address of NATS is %v", v)
	}
	if s := items(spec, "topologySpreadConstraints"); len(s) != 1 || at(s[0], "maxSkew") != 2.0 || at(s[0], "labelSelector.matchLabels") == nil {
		t.Errorf("the replicas are spread by %v", s)
	}
}

func volume(spec any, name string) map[string]any {
	for _, v := range items(spec, "volumes") {
		if at(v, "name") == name {
			return v.(map[string]any)
		}
	}
	return nil
}

func mount(spec any, name string) string {
	for _, m := range items(items(spec, "containers")[0], "volumeMounts") {
		if at(m, "name") == name {
			return fmt.Sprint(at(m, "mountPath"))
		}
	}
	return ""
}

func variable(spec any, name string) any {
	for _, e := range items(items(spec, "containers")[0], "env") {
		if at(e, "name") == name {
			return e
		}
	}
	return nil
}

func TestRules(t *testing.T) {
	all := render(t, "rules: {inline: {a.yaml: \"kind: Rule\"}}")
	c, spec := loadConfig(t, all), at(all.workload(t), "spec.template.spec")
	if name := at(volume(spec, "rules"), "configMap.name"); name != all.get(t, "ConfigMap", "-rules").name() || !slices.Equal(c.Rules.Dirs, []string{mount(spec, "rules")}) {
		t.Errorf("the rules are in %v, and the server reads %v", name, c.Rules.Dirs)
	}
	all = render(t, "rules: {configMap: mine}")
	if spec = at(all.workload(t), "spec.template.spec"); at(volume(spec, "rules"), "configMap.name") != "mine" || len(all.all("ConfigMap", "-rules")) != 0 {
		t.Errorf("the rules are in %v", volume(spec, "rules"))
	}
	all = render(t, `
rules: {git: {url: "https://github.com/acme/rules.git", ref: main, interval: 30s, backtest: {since: 1d, failOn: [disappear]}}}
secrets: {rules-token: {secret: rules, key: token}}
config: {credentials: [{url: "https://github.com/acme/rules", token: rules-token}]}`)
	if c = loadConfig(t, all); c.Rules.Git.URL == "" || len(c.Rules.Dirs) != 0 || c.Secrets["rules-token"].File == "" {
		t.Errorf("the configuration is %+v", c.Rules)
	}
}

func TestSecretsAreReferences(t *testing.T) {
	all := render(t, "secrets: {github-webhook: {secret: hooks, key: github}, pager.duty: {secret: pager, key: url, as: env}}\nfiles: {known_hosts: \"a b\"}")
	c, spec := loadConfig(t, all), at(all.workload(t), "spec.template.spec")
	if c.Secrets["github-webhook"].File != mount(spec, "secrets")+"/github-webhook" {
		t.Errorf("the secret is at %q, and mounted at %q", c.Secrets["github-webhook"].File, mount(spec, "secrets"))
	}
	if got := fmt.Sprint(items(volume(spec, "secrets"), "projected.sources")); got != "[map[secret:map[items:[map[key:github path:github-webhook]] name:hooks]]]" {
		t.Errorf("the volume of secrets is %s", got)
	}
	if at(volume(spec, "secrets"), "projected.defaultMode") != 0o440+0.0 {
		t.Error("others may read the secrets")
	}
	if v := variable(spec, c.Secrets["pager.duty"].Env); at(v, "valueFrom.secretKeyRef.name") != "pager" {
		t.Errorf("the secret is the variable %q, which is %v", c.Secrets["pager.duty"].Env, v)
	}
	if at(volume(spec, "files"), "configMap.name") != all.get(t, "ConfigMap", "-files").name() {
		t.Errorf("the files are in %v", volume(spec, "files"))
	}
}

func TestAdminListener(t *testing.T) {
	all := render(t, "admin: {tokens: []}")
	if c := loadConfig(t, all); c.AdminListen != "127.0.0.1:8081" || len(all.all("Service", "-admin"))+len(all.all("Secret", "")) != 0 {
		t.Errorf("without tokens the admin listener is at %s, and there are %s", c.AdminListen, all)
	}
	sum := strings.Repeat("ab", 32)
	all = render(t, "admin: {tokens: [{name: bot, role: viewer, groups: [ci]}]}\nconfig: {tokens: [{name: ana, role: operator, sha256: "+sum+"}]}")
	c := loadConfig(t, all)
	if len(c.Tokens) != 2 || c.Tokens[0].Groups[0] != "ci" || c.Tokens[1].SHA256 != sum || c.AdminListen != ":8081" {
		t.Errorf("the tokens are %+v", c.Tokens)
	}
}

// rules are a role's, each as API groups, resources, names and verbs.
func rules(o object) (texts []string) {
	for _, r := range items(o, "rules") {
		texts = append(texts, fmt.Sprint(items(r, "apiGroups"), items(r, "resources"), items(r, "resourceNames"), items(r, "verbs")))
	}
	return texts
}

func rights(t *testing.T) map[string][]map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chart, "files/rights.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var known map[string][]map[string]any
	if err := yaml.Unmarshal(text, &known); err != nil {
		t.Fatal(err)
	}
	return known
}

// TestRightsOfActions: each action alone gives its rights and no others, those of the cluster by a ClusterRole.
func TestRightsOfActions(t *testing.T) {
	for action, want := range rights(t) {
		all := render(t, "rbac: {actions: ["+action+"], impersonate: [other/account]}")
		if at(all.workload(t), "spec.template.spec.automountServiceAccountToken") != true {
			t.Errorf("%s: the pod has no token", action)
		}
		var namespaced, cluster []string
		for _, r := range want {
			text := rules(object{"rules": []any{r}})
			if strings.Contains(text[0], "*") {
				t.Errorf("%s asks for more than it can need: %s", action, text[0])
			}
			if r["cluster"] == true {
				cluster = append(cluster, text...)
			} else {
				namespaced = append(namespaced, text...)
			}
		}
		for kind, want := range map[string][]string{"Role": namespaced, "ClusterRole": cluster} {
			var got []string
			for _, role := range all.all(kind, "ns:rip-riposte") {
				got = append(got, rules(role)...)
				bound(t, all, role)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: the %s has %q, want %q", action, kind, got, want)
			}
		}
	}
}

// bound checks that the role is given to the chart's service account and nobody else.
func bound(t *testing.T, all manifests, role object) {
	t.Helper()
	for _, b := range all.all(role.kind()+"Binding", role.name()) {
		if at(b, "metadata.namespace") != at(role, "metadata.namespace") {
			continue
		}
		want := fmt.Sprintf("[map[kind:ServiceAccount name:%s namespace:ns]]", at(all.workload(t), "spec.template.spec.serviceAccountName"))
		if got := fmt.Sprint(items(b, "subjects")); got != want || at(b, "roleRef.name") != role.name() || at(b, "roleRef.kind") != role.kind() {
			t.Errorf("%s is bound as %v to %s, want %s", role.name(), b["roleRef"], got, want)
		}
		return
	}
	t.Errorf("%s of %v is not bound", role.name(), at(role, "metadata.namespace"))
}

func TestWhereRightsHold(t *testing.T) {
	all := render(t, "rbac: {actions: [kubernetes.restart], namespaces: [shop, cart, shop]}")
	var in []string
	for _, r := range all.all("Role", "") {
		in = append(in, fmt.Sprint(at(r, "metadata.namespace")))
		bound(t, all, r)
	}
	if !slices.Equal(in, []string{"shop", "cart"}) {
		t.Errorf("the rights hold in %v", in)
	}
	known := rights(t)
	all = render(t, "rbac: {actions: [kubernetes.restart, kubernetes.cordon], clusterWide: true}")
	if len(all.all("Role", "")) != 0 || len(rules(all.get(t, "ClusterRole", ""))) != len(known["kubernetes.restart"])+len(known["kubernetes.cordon"]) {
		t.Errorf("of the whole cluster there are %v", rules(all.get(t, "ClusterRole", "")))
	}
	all = render(t, `rbac:
  rules: [{apiGroups: [cert-manager.io], resources: [certificates], verbs: [get, patch]}, {apiGroups: [""], resources: [namespaces], verbs: [get], cluster: true}]
  watch: [{apiGroups: [""], resources: [events]}]`)
	if got := rules(all.get(t, "Role", "")); !slices.Equal(got, []string{"[cert-manager.io] [certificates] [] [get patch]", "[] [events] [] [get list watch]"}) {
		t.Errorf("the role has %q", got)
	}
	if got := rules(all.get(t, "ClusterRole", "")); !slices.Equal(got, []string{"[] [namespaces] [] [get]"}) {
		t.Errorf("the role of the cluster has %q", got)
	}
	all = render(t, "rbac: {actions: [kubernetes.get], impersonate: [payments, shop/cart]}")
	got := map[string][]string{}
	for _, r := range all.all("Role", ":impersonate") {
		got[fmt.Sprint(at(r, "metadata.namespace"))] = rules(r)
		bound(t, all, r)
	}
	if fmt.Sprint(got) != "map[ns:[[] [serviceaccounts] [payments] [impersonate]] shop:[[] [serviceaccounts] [cart] [impersonate]]]" {
		t.Errorf("as others: %v", got)
	}
	all = render(t, "rbac: {create: false, actions: [kubernetes.restart]}\nserviceAccount: {create: false, name: mine}")
	spec := at(all.workload(t), "spec.template.spec")
	if len(all.all("Role", ""))+len(all.all("ServiceAccount", "")) != 0 || at(spec, "automountServiceAccountToken") != true || at(spec, "serviceAccountName") != "mine" {
		t.Errorf("with rights of one's own there are %s", all)
	}
}

func TestNetworkPolicy(t *testing.T) {
	p := render(t, "").get(t, "NetworkPolicy", "")
	if got := policy(p); got != "hooks from everybody; health from [map[namespaceSelector:map[]]]; " || fmt.Sprint(items(p, "spec.policyTypes")) != "[Ingress]" {
		t.Errorf("by default: %s %v", got, at(p, "spec.policyTypes"))
	}
	p = render(t, `networkPolicy:
  hooksFrom: [{ipBlock: {cidr: 192.0.2.0/24}}]
  healthFrom: []
  adminFrom: [{podSelector: {matchLabels: {app: ops}}}]
  egress: [{to: [{ipBlock: {cidr: 198.51.100.0/24}}], ports: [{port: 443, protocol: TCP}]}]`).get(t, "NetworkPolicy", "")
	if got := policy(p); got != "hooks from [map[ipBlock:map[cidr:192.0.2.0/24]]]; admin from [map[podSelector:map[matchLabels:map[app:ops]]]]; " {
		t.Errorf("narrowed: %s", got)
	}
	if got := fmt.Sprint(at(p, "spec.policyTypes"), items(p, "spec.egress")); got != "[Ingress Egress] [map[ports:[map[port:53 protocol:UDP] map[port:53 protocol:TCP]]] map[ports:[map[port:443 protocol:TCP]] to:[map[ipBlock:map[cidr:198.51.100.0/24]]]]]" {
		t.Errorf("outwards: %s", got)
	}
	if all := render(t, "networkPolicy: {enabled: false}"); len(all.all("NetworkPolicy", "")) != 0 {
		t.Error("there is a policy that was not wanted")
	}
}

func policy(p object) (text string) {
	for _, rule := range items(p, "spec.ingress") {
		from := "everybody"
		if at(rule, "from") != nil {
			from = fmt.Sprint(at(rule, "from"))
		}
		for _, port := range items(rule, "ports") {
			text += fmt.Sprintf("%v from %s; ", at(port, "port"), from)
		}
	}
	return text
}

func TestRoutesReachTheHooksListenerAlone(t *testing.T) {
	all := render(t, `service: {port: 8080}
ingress: {enabled: true, className: nginx, hosts: [hooks.example.com], tls: [{secretName: hooks-tls, hosts: [hooks.example.com]}]}
httpRoute: {enabled: true, parentRefs: [{name: public, namespace: gateways}], hostnames: [hooks.example.com]}
config: {publicURL: "https://hooks.example.com"}`)
	hooks := all.get(t, "Service", "rip-riposte")
	backend := at(items(items(all.get(t, "Ingress", ""), "spec.rules")[0], "http.paths")[0], "backend.service")
	if at(backend, "name") != hooks.name() || at(backend, "port.name") != at(items(hooks, "spec.ports")[0], "name") {
		t.Errorf("the ingress leads to %v", backend)
	}
	ref := items(items(all.get(t, "HTTPRoute", ""), "spec.rules")[0], "backendRefs")[0]
	if at(ref, "name") != hooks.name() || at(ref, "port") != at(items(hooks, "spec.ports")[0], "port") {
		t.Errorf("the route leads to %v", ref)
	}
}

func TestPodsAreProbedAtTheHealthListener(t *testing.T) {
	all := render(t, "serviceMonitor: {enabled: true, labels: {release: prometheus}}")
	c := items(all.workload(t), "spec.template.spec.containers")[0]
	for probe, path := range map[string]string{"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"} {
		if at(c, probe+".httpGet.path") != path || at(c, probe+".httpGet.port") != "health" {
			t.Errorf("%s asks %v", probe, at(c, probe))
		}
	}
	if e := items(all.get(t, "ServiceMonitor", ""), "spec.endpoints"); len(e) != 1 || at(e[0], "port") != "health" || at(e[0], "path") != "/metrics" {
		t.Errorf("the monitor asks %v", e)
	}
}

func TestWhatElseCanBeSet(t *testing.T) {
	all := render(t, `
fullnameOverride: r
labels: {team: a}
image: {repository: registry.example.com/riposte, digest: "sha256:`+strings.Repeat("0", 64)+`"}
imagePullSecrets: [{name: pull}]
persistence: {existingClaim: old}
security: {runAsUser: null, runAsGroup: null, fsGroup: null}
podAnnotations: {a: b}
podLabels: {c: d}
priorityClassName: system-cluster-critical
nodeSelector: {disk: ssd}
tolerations: [{key: a, operator: Exists, effect: NoSchedule}]
affinity: {nodeAffinity: {}}
resources: {requests: {cpu: 2, memory: 1Gi}, limits: {memory: 2Gi, ephemeral-storage: 10Gi}}
extraEnv: [{name: HTTPS_PROXY, value: "http://proxy:3128"}]
extraVolumes: [{name: kube, secret: {secretName: other-cluster}}]
extraVolumeMounts: [{name: kube, mountPath: /kube, readOnly: true}]
config: {limits: {maxBodyBytes: 26214400, storm: {runs: 60, per: 1m}}, engine: {workers: 128, stopTimeout: 60s}, grants: [{paths: ["**"], allow: everything}]}`)
	w := all.get(t, "StatefulSet", "r")
	spec := at(w, "spec.template.spec")
	for path, want := range map[string]any{
		"priorityClassName": "system-cluster-critical", "nodeSelector.disk": "ssd", "securityContext.runAsUser": nil, "securityContext.runAsNonRoot": true,
	} {
		if at(spec, path) != want {
			t.Errorf("%s is %v, want %v", path, at(spec, path), want)
		}
	}
	if at(volume(spec, "data"), "persistentVolumeClaim.claimName") != "old" || len(items(w, "spec.volumeClaimTemplates")) != 0 || volume(spec, "kube") == nil || mount(spec, "kube") != "/kube" {
		t.Errorf("the volumes are %v", items(spec, "volumes"))
	}
	if image := at(items(spec, "containers")[0], "image"); image != "registry.example.com/riposte@sha256:"+strings.Repeat("0", 64) {
		t.Errorf("the image is %v", image)
	}
	if c := loadConfig(t, all); c.Limits.MaxBodyBytes != 26214400 || c.Engine.Workers != 128 || c.Limits.Storm.Requests != 60 {
		t.Errorf("the configuration is %+v", c)
	}
	for _, o := range all {
		if at(o, "metadata.labels.team") != "a" {
			t.Errorf("%s/%s lacks the label", o.kind(), o.name())
		}
	}
	if c := loadConfig(t, render(t, "config: {log: {level: debug}}")); c.Log.Level != "debug" || c.Log.Format != "json" {
		t.Errorf("the log is %+v", c.Log)
	}
	if c := loadConfig(t, render(t, "config:\nadmin: {tokens: null}\nrules: {inline: null}\nsecrets: null")); len(c.Tokens) != 0 {
		t.Errorf("keys without a value make tokens: %+v", c.Tokens)
	}
	if all := render(t, "persistence: {enabled: false}"); volume(at(all.workload(t), "spec.template.spec"), "data")["emptyDir"] == nil {
		t.Error("without persistence the store is no emptyDir")
	}
}

// TestContradictionsAreRefused: with what the values say, and what to do instead.
func TestContradictionsAreRefused(t *testing.T) {
	for values, want := range map[string]string{
		"replicas: 2": "replicas: 2 need a store that they share: set nats.url or nats.urlSecret to a NATS cluster, or replicas to 1",
		"nats: {url: \"nats://a:4222\", urlSecret: {name: a, key: b}}":                    "nats.url and nats.urlSecret both name the NATS cluster: remove one",
		"nats: {url: \"nats://u:p@a:4222\"}":                                              "nats.url holds a password or token: put the whole address into a Secret",
		"nats: {url: \"nats://a:4222\"}\npersistence: {existingClaim: c}":                 "persistence.existingClaim would not be used with nats",
		"persistence: {enabled: false, existingClaim: c}":                                 "persistence.existingClaim would not be used with persistence.enabled: false",
		"rules: {configMap: a, inline: {a.yaml: x}}":                                      "rules come from one place: keep one of rules.inline, rules.configMap",
		"rules: {git: {ref: main}}":                                                       "rules.git.url is missing beside the other settings of rules.git",
		"config: {hooksListen: \":80\"}":                                                  "config.hooksListen is set by the chart: use service",
		"config: {natsURL: \"nats://a:4222\"}":                                            "config.natsURL is set by the chart: use nats",
		"config: {secrets: {a: {env: A}}}":                                                "config.secrets is set by the chart: use secrets",
		"config: {rules: {dirs: [/a]}}":                                                   "config.rules is set by the chart: use rules",
		"secrets: {a.b: {secret: s, key: k, as: env}, a-b: {secret: s, key: k, as: env}}": "would both be the variable SECRET_A_B",
		"config: {tokens: [{name: admin, role: viewer, sha256: a}]}":                      "the token admin stands twice in admin.tokens and config.tokens",
		"rbac: {clusterWide: true, namespaces: [a]}":                                      "rbac.clusterWide lets actions work in all namespaces, and rbac.namespaces in some: remove one",
		"rbac: {actions: [kubernetes.restart]}\nserviceAccount: {create: false}":          "serviceAccount.create: false needs serviceAccount.name",
		"rbac: {actions: [kubernetes.dance]}":                                             "rbac.actions: there are no rights for kubernetes.dance; there are for ",
		"ingress: {enabled: true}":                                                        "ingress.hosts is empty",
		"httpRoute: {enabled: true}":                                                      "httpRoute.parentRefs is empty",
		"config: {engine: {stopTimeout: 2m}}":                                             "terminationGracePeriodSeconds: 90 would end the pods before the steps that have config.engine.stopTimeout (2m) to end, and the store after them: set it to 150 or more",
		"extraEnv: [{name: RIPOSTE_ADMIN_LISTEN, value: \":8081\"}]":                      "extraEnv: RIPOSTE_ADMIN_LISTEN would change the server's configuration behind the chart's back",
		"extraVolumes: [{name: data, emptyDir: {}}]":                                      "extraVolumes: the name data is the chart's",
	} {
		if out, err := template(t, values); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s\n gives %v %s\n want %s", values, err, out, want)
		}
	}
}

// TestUnknownAndMisshapenValuesAreRefused: by the schema, with the path of what is wrong.
func TestUnknownAndMisshapenValuesAreRefused(t *testing.T) {
	for values, want := range map[string][]string{
		"replica: 2":                                  {"replica"},
		"rbac:":                                       {"missing property 'rbac'"},
		"image: {repo: a}":                            {"/image", "repo"},
		"replicas: two":                               {"/replicas"},
		"config: {limit: {}}":                         {"/config", "limit"},
		"config: {limits: {storm: {run: 1}}}":         {"/config/limits/storm", "run"},
		"config: {eventLog: {maxAge: two days}}":      {"/config/eventLog/maxAge"},
		"config: {grants: [{path: [a]}]}":             {"/config/grants/0", "path"},
		"rules: {git: {uri: a}}":                      {"/rules/git", "uri"},
		"rules: {inline: {rules.txt: a}}":             {"rules.txt"},
		"secrets: {a: {value: x}}":                    {"/secrets/a"},
		"secrets: {a: {secret: s, key: k, as: text}}": {"/secrets/a/as"},
		"nats: {urlSecret: {name: a}}":                {"/nats/urlSecret", "key"},
		"nats: {url: \"http://a\"}":                   {"/nats/url"},
		"admin: {tokens: [{name: a, role: root}]}":    {"/admin/tokens/0/role"},
		"security: {runAsUser: 0}":                    {"/security/runAsUser"},
		"podDisruptionBudget: {maxUnavailable: 0}":    {"/podDisruptionBudget/maxUnavailable"},
		"rbac: {rules: [{resources: [a]}]}":           {"/rbac/rules/0"},
		"networkPolicy: {adminFrom: [{pods: {}}]}":    {"/networkPolicy/adminFrom/0", "pods"},
	} {
		out, err := template(t, values)
		for _, w := range want {
			if err == nil || !strings.Contains(out, w) {
				t.Errorf("%s\n gives %v %s\n want %s", values, err, out, w)
			}
		}
	}
}

// TestSchemaIsClosed: every mapping of the chart's own refuses keys that it does not know. What belongs to Kubernetes is
// checked by the API server.
func TestSchemaIsClosed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	kubernetes := regexp.MustCompile(`/(global|extraVolumes/items|valueFrom|claims/items|labelSelector|(node|pod|podAnti)Affinity|podSelector|namespaceSelector|ipBlock)$`)
	var walk func(path string, v any)
	walk = func(path string, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			return
		}
		if m["type"] == "object" && m["additionalProperties"] == nil && !kubernetes.MatchString(path) {
			t.Errorf("%s takes any key", path)
		}
		for name, below := range m {
			walk(path+"/"+name, below)
		}
	}
	walk("", schema)
}

func TestLint(t *testing.T) {
	if out, err := exec.Command(helm(t), "lint", "--strict", chart).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDocumentedValuesInstall: the values that the pages show can be rendered.
func TestDocumentedValuesInstall(t *testing.T) {
	n := 0
	for _, page := range []string{"../docs/kubernetes.md", "../README.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?s)```yaml\n(# values.yaml\n.*?)```").FindAllStringSubmatch(string(text), -1) {
			n++
			// A page shows one thing at a time: what stands beside it is on the page, too.
			render(t, m[1])
		}
	}
	if n < 5 {
		t.Errorf("only %d blocks of values were found", n)
	}
}

// notes are what helm prints at the end of an installation.
func notes(t *testing.T, values string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(helm(t), "install", "rip", chart, "--namespace", "ns", "--dry-run=client", "--values", file)
	cmd.Env = append(os.Environ(), "KUBECONFIG=") // no cluster is asked
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "cluster unreachable") {
		t.Skip("helm 3 asks a cluster also in a dry run: go install helm.sh/helm/v4/cmd/helm@v4.3.1")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, text, found := strings.Cut(string(out), "NOTES:\n")
	if !found {
		t.Fatalf("there are no notes in\n%s", out)
	}
	return text
}

// TestNotesSayWhatIsNext: three commands that can be run as they are printed, and what is missing.
func TestNotesSayWhatIsNext(t *testing.T) {
	text := notes(t, "admin: {tokens: [{name: ops.team, role: admin}]}")
	for _, want := range []string{
		"no rules yet", "no grants", "without a registry",
		"\n  kubectl -n ns rollout status statefulset/rip-riposte\n",
		"\n  kubectl -n ns port-forward svc/rip-riposte-admin 8081 &\n",
		"\n  RIPOSTE_TOKEN=$(kubectl -n ns get secret rip-riposte-tokens -o jsonpath='{.data.ops\\.team}' | base64 -d) riposte rules list --server http://127.0.0.1:8081\n",
		"Senders post to http://rip-riposte.ns/hooks/SOURCE.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	text = notes(t, `
image: {repository: registry.example.com/riposte}
nats: {url: "nats://nats:4222"}
admin: {tokens: []}
rules: {configMap: a}
service: {port: 8080}
config: {publicURL: "https://hooks.example.com", grants: [{paths: ["**"], allow: everything}]}`)
	for _, want := range []string{"rollout status deployment/rip-riposte\n", "port-forward deployment/rip-riposte 8081 &\n  riposte rules list --server http://127.0.0.1:8081\n", "Senders post to https://hooks.example.com/hooks/SOURCE."} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	for _, not := range []string{"no rules", "no grants", "without a registry"} {
		if strings.Contains(text, not) {
			t.Errorf("%q is in\n%s", not, text)
		}
	}
}
