{{- /* What the service account may do: {namespaced: rules, cluster: rules, impersonate: {namespace: names}}. */ -}}
{{- define "riposte.rights" -}}
{{- $known := .Files.Get "files/rights.yaml" | fromYaml -}}
{{- $all := list -}}
{{- range $action := .Values.rbac.actions -}}
{{- if not (hasKey $known $action) -}}
{{- fail (printf "rbac.actions: there are no rights for %s; there are for %s" $action (keys $known | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $all = concat $all (get $known $action) -}}
{{- end -}}
{{- $all = concat $all .Values.rbac.rules -}}
{{- range .Values.rbac.watch }}{{- $all = append $all (merge (dict "verbs" (list "get" "list" "watch")) .) -}}{{ end -}}
{{- $namespaced := list -}}
{{- $cluster := list -}}
{{- range $all -}}
{{- if or .cluster $.Values.rbac.clusterWide }}{{- $cluster = append $cluster (omit . "cluster") -}}{{ else }}{{- $namespaced = append $namespaced (omit . "cluster") -}}{{ end -}}
{{- end -}}
{{- $impersonate := dict -}}
{{- range .Values.rbac.impersonate | uniq -}}
{{- $namespace := ternary (splitList "/" . | first) $.Release.Namespace (contains "/" .) -}}
{{- $_ := set $impersonate $namespace (append (get $impersonate $namespace | default list) (splitList "/" . | last)) -}}
{{- end -}}
{{- dict "namespaced" ($namespaced | uniq) "cluster" ($cluster | uniq) "impersonate" $impersonate | toYaml -}}
{{- end -}}

{{- /* A role and its binding to the service account. */ -}}
{{- define "riposte.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ .name | quote }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "riposte.labels" .root | nindent 4 }}
rules:
  {{- toYaml .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
metadata:
  name: {{ .name | quote }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "riposte.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name | quote }}
subjects:
  - kind: ServiceAccount
    name: {{ include "riposte.serviceAccount" .root }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}
