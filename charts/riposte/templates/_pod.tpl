{{- /* The pod template of both kinds of workload. */ -}}
{{- define "riposte.pod" -}}
metadata:
  labels:
    {{- include "riposte.labels" . | nindent 4 }}
    app.kubernetes.io/component: server
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "riposte.config" . | sha256sum }}
    {{- with .Values.files }}
    checksum/files: {{ toYaml . | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "riposte.serviceAccount" . | default "default" }}
  automountServiceAccountToken: {{ eq (include "riposte.token" .) "true" }}
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ int .Values.terminationGracePeriodSeconds }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- include "riposte.spread" . | nindent 2 }}
  securityContext:
    {{- include "riposte.podSecurity" . | nindent 4 }}
  containers:
    - name: riposte
      image: {{ include "riposte.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/riposte/config/riposte.yaml]
      securityContext:
        {{- include "riposte.containerSecurity" . | nindent 8 }}
      env:
        - {name: HOME, value: /tmp}
        - {name: RIPOSTE_DATA, value: /var/lib/riposte}
        {{- with .Values.nats.urlSecret }}
        - name: RIPOSTE_NATS_URL
          valueFrom:
            secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}
        {{- end }}
        {{- range $name, $ref := .Values.secrets }}
        {{- if eq (default "file" $ref.as) "env" }}
        - name: {{ include "riposte.variable" $name }}
          valueFrom:
            secretKeyRef: {name: {{ $ref.secret | quote }}, key: {{ $ref.key | quote }}}
        {{- end }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: hooks, containerPort: 8080}
        - {name: admin, containerPort: 8081}
        - {name: health, containerPort: 8082}
      startupProbe: # the store is recovered before anything is answered
        httpGet: {path: /healthz, port: health}
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        httpGet: {path: /healthz, port: health}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: health}
        periodSeconds: 5
        timeoutSeconds: 3
      {{- if eq (include "riposte.remote" .) "true" }}
      lifecycle:
        preStop: # until no more requests are sent here
          sleep: {seconds: 5}
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - {name: data, mountPath: /var/lib/riposte}
        - {name: tmp, mountPath: /tmp}
        - {name: config, mountPath: /etc/riposte/config, readOnly: true}
        {{- if or .Values.rules.inline .Values.rules.configMap }}
        - {name: rules, mountPath: /etc/riposte/rules, readOnly: true}
        {{- end }}
        {{- if eq (include "riposte.secretFiles" .) "true" }}
        - {name: secrets, mountPath: /etc/riposte/secrets, readOnly: true}
        {{- end }}
        {{- if .Values.files }}
        - {name: files, mountPath: /etc/riposte/files, readOnly: true}
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- if eq (include "riposte.remote" .) "true" }}
    - name: data
      emptyDir: {sizeLimit: {{ .Values.scratchSize }}}
    {{- else if .Values.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim: {claimName: {{ .Values.persistence.existingClaim }}}
    {{- else if not .Values.persistence.enabled }}
    - name: data
      emptyDir: {}
    {{- end }}
    - name: tmp
      emptyDir: {sizeLimit: {{ .Values.scratchSize }}}
    - name: config
      configMap: {name: {{ include "riposte.fullname" . }}-config}
    {{- if or .Values.rules.inline .Values.rules.configMap }}
    - name: rules
      configMap: {name: {{ .Values.rules.configMap | default (printf "%s-rules" (include "riposte.fullname" .)) }}}
    {{- end }}
    {{- if .Values.files }}
    - name: files
      configMap: {name: {{ include "riposte.fullname" . }}-files}
    {{- end }}
    {{- if eq (include "riposte.secretFiles" .) "true" }}
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          {{- range $name, $ref := .Values.secrets }}
          {{- if ne (default "file" $ref.as) "env" }}
          - secret:
              name: {{ $ref.secret | quote }}
              items:
                - {key: {{ $ref.key | quote }}, path: {{ $name | quote }}}
          {{- end }}
          {{- end }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- /* "true" where some secret is a file. */ -}}
{{- define "riposte.secretFiles" -}}
{{- $some := false -}}
{{- range .Values.secrets }}{{- if ne (default "file" .as) "env" }}{{- $some = true -}}{{ end -}}{{ end -}}
{{- if $some }}true{{ end -}}
{{- end -}}

{{- define "riposte.spread" -}}
{{- $ours := dict "matchLabels" (include "riposte.selector" . | fromYaml) -}}
{{- $all := .Values.topologySpreadConstraints -}}
{{- if and (not $all) (gt (int .Values.replicas) 1) -}}
{{- $all = list (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway") -}}
{{- end -}}
{{- with $all -}}
topologySpreadConstraints:
{{- range . }}
  - {{ merge (dict) . (dict "labelSelector" $ours) | toYaml | nindent 4 | trim }}
{{- end }}
{{- end -}}
{{- end -}}
