{{- /* Values that contradict each other are refused, each with what to do about it. */ -}}
{{- define "riposte.validate" -}}
{{- $v := .Values -}}
{{- $config := default dict $v.config -}}
{{- $remote := eq (include "riposte.remote" .) "true" -}}
{{- if and (gt (int $v.replicas) 1) (not $remote) -}}
{{- fail (printf "replicas: %d need a store that they share: set nats.url or nats.urlSecret to a NATS cluster, or replicas to 1" (int $v.replicas)) -}}
{{- end -}}
{{- if and $v.nats.url $v.nats.urlSecret -}}
{{- fail "nats.url and nats.urlSecret both name the NATS cluster: remove one" -}}
{{- end -}}
{{- if contains "@" $v.nats.url -}}
{{- fail "nats.url holds a password or token: put the whole address into a Secret, and name its key with nats.urlSecret" -}}
{{- end -}}
{{- if and $v.persistence.existingClaim (or $remote (not $v.persistence.enabled)) -}}
{{- fail (printf "persistence.existingClaim would not be used %s: remove one of the two" (ternary "with nats, where nothing is stored on a volume" "with persistence.enabled: false" $remote)) -}}
{{- end -}}
{{- $rules := list -}}
{{- range $from := list "inline" "configMap" "git" -}}
{{- if index $v.rules $from -}}{{- $rules = append $rules (printf "rules.%s" $from) -}}{{- end -}}
{{- end -}}
{{- if gt (len $rules) 1 -}}
{{- fail (printf "rules come from one place: keep one of %s" (join ", " $rules)) -}}
{{- end -}}
{{- if and $v.rules.git (not $v.rules.git.url) -}}
{{- fail "rules.git.url is missing beside the other settings of rules.git" -}}
{{- end -}}
{{- $own := dict "hooksListen" "service" "adminListen" "admin.tokens" "healthListen" "serviceMonitor" "data" "persistence" "natsURL" "nats" "rules" "rules" "secrets" "secrets" -}}
{{- range $key, $instead := $own -}}
{{- if hasKey $config $key -}}
{{- fail (printf "config.%s is set by the chart: use %s" $key $instead) -}}
{{- end -}}
{{- end -}}
{{- include "riposte.validateSecrets" . -}}
{{- include "riposte.validateTokens" . -}}
{{- include "riposte.validateRights" . -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) -}}
{{- fail "ingress.hosts is empty: name the hosts that senders post to, or every host's hooks would come here" -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is empty: name the Gateway that the route belongs to" -}}
{{- end -}}
{{- $stop := dig "engine" "stopTimeout" "25s" $config | toString -}}
{{- if regexMatch "^[0-9]+[sm]$" $stop -}}
{{- $seconds := mul (regexFind "[0-9]+" $stop) (ternary 60 1 (hasSuffix "m" $stop)) -}}
{{- if lt (int $v.terminationGracePeriodSeconds) (int (add $seconds 30)) -}}
{{- fail (printf "terminationGracePeriodSeconds: %d would end the pods before the steps that have config.engine.stopTimeout (%s) to end, and the store after them: set it to %d or more" (int $v.terminationGracePeriodSeconds) $stop (add $seconds 30)) -}}
{{- end -}}
{{- end -}}
{{- range $e := $v.extraEnv -}}
{{- if hasPrefix "RIPOSTE_" $e.name -}}
{{- fail (printf "extraEnv: %s would change the server's configuration behind the chart's back: set its key in config" $e.name) -}}
{{- end -}}
{{- end -}}
{{- range $volume := $v.extraVolumes -}}
{{- if has $volume.name (list "data" "tmp" "config" "rules" "secrets" "files") -}}
{{- fail (printf "extraVolumes: the name %s is the chart's: choose another" $volume.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "riposte.validateSecrets" -}}
{{- $seen := dict -}}
{{- range $name, $ref := .Values.secrets -}}
{{- if eq (default "file" $ref.as) "env" -}}
{{- $variable := include "riposte.variable" $name -}}
{{- if hasKey $seen $variable -}}
{{- fail (printf "secrets.%s and secrets.%s would both be the variable %s: rename one, or make it a file" (get $seen $variable) $name $variable) -}}
{{- end -}}
{{- $_ := set $seen $variable $name -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "riposte.validateTokens" -}}
{{- $seen := dict -}}
{{- range $token := concat (default list .Values.admin.tokens) (default list (default dict .Values.config).tokens) -}}
{{- if hasKey $seen $token.name -}}
{{- fail (printf "the token %s stands twice in admin.tokens and config.tokens: each name once" $token.name) -}}
{{- end -}}
{{- $_ := set $seen $token.name true -}}
{{- end -}}
{{- end -}}

{{- define "riposte.validateRights" -}}
{{- $r := .Values.rbac -}}
{{- if and $r.clusterWide $r.namespaces -}}
{{- fail "rbac.clusterWide lets actions work in all namespaces, and rbac.namespaces in some: remove one" -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) (include "riposte.token" .) -}}
{{- fail "serviceAccount.create: false needs serviceAccount.name: the namespace's default account would get the rights of rbac, and every pod there with it" -}}
{{- end -}}
{{- end -}}
