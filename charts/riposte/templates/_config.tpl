{{- /* The generated tokens by name, as YAML. They are made once for all templates of a rendering, and never again where the
Secret exists. */ -}}
{{- define "riposte.tokens" -}}
{{- if not (hasKey . "generated") -}}
{{- $tokens := dict -}}
{{- $kept := dig "data" dict (lookup "v1" "Secret" .Release.Namespace (printf "%s-tokens" (include "riposte.fullname" .))) -}}
{{- range .Values.admin.tokens -}}
{{- $_ := set $tokens .name (ternary (get $kept .name | b64dec) (randAlphaNum 48) (hasKey $kept .name)) -}}
{{- end -}}
{{- $_ := set . "generated" $tokens -}}
{{- end -}}
{{- toYaml .generated -}}
{{- end -}}

{{- /* riposte.yaml: what the values say, and what the chart sets. */ -}}
{{- define "riposte.config" -}}
{{- $c := deepCopy (default dict .Values.config) -}}
{{- $generated := include "riposte.tokens" . | fromYaml -}}
{{- $tokens := list -}}
{{- range .Values.admin.tokens -}}
{{- $token := dict "name" .name "role" .role "sha256" (get $generated .name | sha256sum) -}}
{{- with .groups }}{{- $_ := set $token "groups" . -}}{{ end -}}
{{- $tokens = append $tokens $token -}}
{{- end -}}
{{- $tokens = concat $tokens (default list $c.tokens) -}}
{{- if $tokens }}{{- $_ := set $c "tokens" $tokens -}}{{ end -}}
{{- $_ := set $c "hooksListen" ":8080" -}}
{{- $_ := set $c "adminListen" (ternary ":8081" "127.0.0.1:8081" (gt (len $tokens) 0)) -}}
{{- $_ := set $c "healthListen" ":8082" -}}
{{- $_ := set $c "data" "/var/lib/riposte" -}}
{{- with .Values.nats.url }}{{- $_ := set $c "natsURL" . -}}{{ end -}}
{{- if .Values.rules.git -}}
{{- $_ := set $c "rules" (dict "git" .Values.rules.git) -}}
{{- else if or .Values.rules.inline .Values.rules.configMap -}}
{{- $_ := set $c "rules" (dict "dirs" (list "/etc/riposte/rules")) -}}
{{- end -}}
{{- $secrets := dict -}}
{{- range $name, $ref := .Values.secrets -}}
{{- if eq (default "file" $ref.as) "env" -}}
{{- $_ := set $secrets $name (dict "env" (include "riposte.variable" $name)) -}}
{{- else -}}
{{- $_ := set $secrets $name (dict "file" (printf "/etc/riposte/secrets/%s" $name)) -}}
{{- end -}}
{{- end -}}
{{- if $secrets }}{{- $_ := set $c "secrets" $secrets -}}{{ end -}}
{{- $_ := set $c "log" (merge (dict) (default dict $c.log) (dict "format" "json")) -}}
{{- toYaml $c -}}
{{- end -}}
