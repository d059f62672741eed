{{/* What a schema cannot say: values that need, exclude or bound each other. Each message names the remedy. */}}
{{- define "signalbox.validate" -}}
{{- $gateway := .Values.gateway -}}
{{- $config := $gateway.config -}}
{{- $redis := .Values.redis -}}
{{- $hasRedis := include "signalbox.hasRedis" . -}}

{{- if and (not $hasRedis) (include "signalbox.gateway.isMany" .) -}}
{{- fail "more than one gateway needs Redis, which they share: set redis.mode (builtin for trying out), or gateway.replicas=1 without gateway.autoscaling" -}}
{{- end -}}

{{- if $redis.existingUrlSecret -}}
{{- if has $redis.mode (list "none" "builtin") -}}
{{- fail "redis.existingUrlSecret needs redis.mode=standalone, sentinel or cluster" -}}
{{- end -}}
{{- if or $redis.addresses $redis.auth.password $redis.auth.existingSecret -}}
{{- fail "redis.existingUrlSecret has the whole URL: remove redis.addresses and redis.auth" -}}
{{- end -}}
{{- else if eq $redis.mode "standalone" -}}
{{- if ne (len $redis.addresses) 1 }}{{ fail "redis.mode=standalone needs one host:port in redis.addresses" }}{{ end -}}
{{- else if has $redis.mode (list "sentinel" "cluster") -}}
{{- if not $redis.addresses }}{{ fail (printf "redis.mode=%s needs host:port of several servers in redis.addresses" $redis.mode) }}{{ end -}}
{{- else if $redis.addresses -}}
{{- fail (printf "redis.addresses has no effect with redis.mode=%s: use standalone, sentinel or cluster" $redis.mode) -}}
{{- end -}}
{{- if and (eq $redis.mode "builtin") $redis.tls }}{{ fail "the built-in Redis has no TLS: remove redis.tls" }}{{ end -}}
{{- with .Values.coturn -}}
{{- if and .enabled (not .existingSecret) (not (and $.Values.turn.enabled (index $.Values.turn.secretEnv "SIGNALBOX_SECRET"))) }}{{ fail "coturn needs the secret that it shares with signalbox-turn: set coturn.existingSecret, or turn.enabled with turn.secretEnv.SIGNALBOX_SECRET" }}{{ end -}}
{{- if gt (int64 .relayPorts.min) (int64 .relayPorts.max) }}{{ fail "coturn.relayPorts.min is greater than coturn.relayPorts.max" }}{{ end -}}
{{- end -}}
{{- if and $redis.ca.existingSecret (not $redis.tls) (not $redis.existingUrlSecret) }}{{ fail "redis.ca has no effect without TLS: set redis.tls=true, or name the whole URL in redis.existingUrlSecret" }}{{ end -}}
{{- if and (eq $redis.mode "cluster") (int64 $redis.database) }}{{ fail "a Redis Cluster has no other database than 0: remove redis.database" }}{{ end -}}
{{- if and $redis.auth.password $redis.auth.existingSecret }}{{ fail "give one of redis.auth.password and redis.auth.existingSecret" }}{{ end -}}
{{- if and $redis.auth.username (not $redis.auth.password) (not $redis.auth.existingSecret) }}{{ fail "redis.auth.username needs redis.auth.password or redis.auth.existingSecret" }}{{ end -}}
{{- if and $gateway.clusterSecret.value $gateway.clusterSecret.existingSecret }}{{ fail "give one of gateway.clusterSecret.value and gateway.clusterSecret.existingSecret" }}{{ end -}}
{{- if and (ne $gateway.clusterTls.mode "off") (not $gateway.clusterTls.existingSecret) }}{{ fail "gateway.clusterTls needs existingSecret: a Secret with ca.crt, tls.crt and tls.key" }}{{ end -}}
{{- if and (ne $gateway.clusterTls.mode "off") (not $hasRedis) }}{{ fail "gateway.clusterTls has no effect without Redis: set redis.mode, or gateway.clusterTls.mode=off" }}{{ end -}}

{{- if and $config.proxied (not (index $config "trusted-proxies")) -}}
{{- fail "gateway.config.proxied needs gateway.config.trusted-proxies: the address ranges of the proxies" -}}
{{- end -}}
{{- if and (index $config "proxy-protocol") (not (index $config "trusted-proxies")) -}}
{{- fail "gateway.config.proxy-protocol needs gateway.config.trusted-proxies: the address ranges of the proxies" -}}
{{- end -}}
{{- if and (index $config "trusted-proxies") (not $config.proxied) (not (index $config "proxy-protocol")) -}}
{{- fail "gateway.config.trusted-proxies has no effect without gateway.config.proxied: true" -}}
{{- end -}}
{{- $ports := list (int64 $config.port) (int64 (index $config "admin-port")) (int64 (index $config "metrics-port")) (include "signalbox.gateway.linkPort" . | int64) -}}
{{- if ne (len ($ports | uniq)) 4 -}}
{{- fail "gateway.config.port, admin-port and metrics-port and gateway.nodeLink.port must differ" -}}
{{- end -}}

{{- if $gateway.autoscaling.enabled -}}
{{- if gt (int64 $gateway.autoscaling.minReplicas) (int64 $gateway.autoscaling.maxReplicas) }}{{ fail "gateway.autoscaling.minReplicas is greater than maxReplicas" }}{{ end -}}
{{- if not (or $gateway.autoscaling.targetCPU $gateway.autoscaling.targetMemory $gateway.autoscaling.metrics) }}{{ fail "gateway.autoscaling needs targetCPU, targetMemory or metrics" }}{{ end -}}
{{- end -}}
{{- $none := list "0" "0%" -}}
{{- if and (has (toString $gateway.strategy.maxSurge) $none) (has (toString $gateway.strategy.maxUnavailable) $none) -}}
{{- fail "gateway.strategy: maxSurge and maxUnavailable are both 0, so that no upgrade could proceed" -}}
{{- end -}}
{{- $grace := include "signalbox.gateway.grace" . | int64 -}}
{{- $shortest := include "signalbox.gateway.shortestGrace" . | int64 -}}
{{- if lt $grace $shortest -}}
{{- fail (printf "gateway.terminationGracePeriodSeconds=%d would kill pods while they drain: %d or more, or a shorter gateway.config.drain-timeout" $grace $shortest) -}}
{{- end -}}
{{- $deadline := include "signalbox.gateway.progressDeadline" . | int64 -}}
{{- if le $deadline (include "signalbox.gateway.minReadySeconds" . | int64) -}}
{{- fail "gateway.progressDeadlineSeconds must be greater than minReadySeconds (by default the time of a drain)" -}}
{{- end -}}
{{- $budget := $gateway.podDisruptionBudget -}}
{{- if and (not (kindIs "invalid" $budget.maxUnavailable)) (not (kindIs "invalid" $budget.minAvailable)) -}}
{{- fail "gateway.podDisruptionBudget: give minAvailable with maxUnavailable: null" -}}
{{- end -}}

{{- if and $gateway.ingress.enabled (not $gateway.ingress.hosts) }}{{ fail "gateway.ingress needs hosts, such as [{host: signal.example.org}]" }}{{ end -}}
{{- if and $gateway.httpRoute.enabled (not $gateway.httpRoute.parentRefs) }}{{ fail "gateway.httpRoute needs parentRefs, such as [{name: my-gateway}]" }}{{ end -}}
{{- if and $gateway.ingress.enabled (eq $gateway.ingress.controller "alb") .Values.networkPolicy.enabled (not .Values.networkPolicy.healthCheckFrom) -}}
{{- fail "an ALB checks the metrics port from its subnets: name them in networkPolicy.healthCheckFrom, such as [10.0.0.0/16]" -}}
{{- end -}}
{{- $turn := .Values.turn -}}
{{- if $turn.enabled -}}
{{- if and (not $turn.config.uri) (not $turn.config.upstream) -}}
{{- fail "turn needs TURN servers: turn.config.uri, such as [\"turn:turn.example.org:3478?transport=udp\"], or turn.config.upstream" -}}
{{- end -}}
{{- if and $turn.config.uri $turn.config.upstream }}{{ fail "give one of turn.config.uri and turn.config.upstream" }}{{ end -}}
{{- if not (or $turn.secretEnv $turn.existingSecret (index $turn.config "secret-file") (index $turn.config "upstream-key-file")) -}}
{{- fail "turn needs its secrets: turn.existingSecret, or turn.secretEnv with SIGNALBOX_SECRET (SIGNALBOX_UPSTREAM_KEY for a provider)" -}}
{{- end -}}
{{- if and $turn.config.proxied (not (index $turn.config "trusted-proxies")) }}{{ fail "turn.config.proxied needs turn.config.trusted-proxies: the address ranges of the proxies" }}{{ end -}}
{{- if eq (int64 $turn.config.port) (int64 (index $turn.config "admin-port")) }}{{ fail "turn.config.port and admin-port must differ" }}{{ end -}}
{{- if and $turn.gatewayKey (index $config "turn-url") }}{{ fail "give one of turn.gatewayKey and gateway.config.turn-url" }}{{ end -}}
{{- else if $turn.gatewayKey -}}
{{- fail "turn.gatewayKey has no effect without turn.enabled" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}{{ fail "serviceMonitor and podMonitor together would scrape each pod twice: enable one" }}{{ end -}}
{{- if and .Values.serviceMonitor.enabled (not $gateway.metrics.enabled) }}{{ fail "serviceMonitor needs gateway.metrics.enabled; or use podMonitor" }}{{ end -}}
{{- end -}}
