{{- define "riposte.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* Short enough that the longest suffix of an object's name fits, and the name of a pod with it. */ -}}
{{- define "riposte.fullname" -}}
{{- $name := include "riposte.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- define "riposte.selector" -}}
app.kubernetes.io/name: {{ include "riposte.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "riposte.labels" -}}
app.kubernetes.io/name: {{ include "riposte.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "riposte.serviceAccount" -}}
{{- ternary (default (include "riposte.fullname" .) .Values.serviceAccount.name) .Values.serviceAccount.name .Values.serviceAccount.create -}}
{{- end -}}

{{- define "riposte.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* "true" where the store is a NATS cluster. */ -}}
{{- define "riposte.remote" -}}
{{- if or .Values.nats.url .Values.nats.urlSecret }}true{{ end -}}
{{- end -}}

{{- /* The kind of the workload. */ -}}
{{- define "riposte.kind" -}}
{{- ternary "Deployment" "StatefulSet" (eq (include "riposte.remote" .) "true") -}}
{{- end -}}

{{- /* "true" where the pods need a token of their service account. */ -}}
{{- define "riposte.token" -}}
{{- with .Values.rbac }}{{ if or .actions .rules .watch .impersonate }}true{{ end }}{{ end -}}
{{- end -}}

{{- /* The variable that holds a secret. */ -}}
{{- define "riposte.variable" -}}
SECRET_{{ . | upper | replace "-" "_" | replace "." "_" }}
{{- end -}}

{{- define "riposte.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "riposte.podSecurity" -}}
runAsNonRoot: true
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- range $name, $id := .Values.security }}
{{- if not (kindIs "invalid" $id) }}
{{ $name }}: {{ int64 $id }}
{{- end }}
{{- end }}
{{- end -}}
