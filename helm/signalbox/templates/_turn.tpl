{{/* "true" where the service counts in the Redis of the release. */}}
{{- define "signalbox.turn.hasRedis" -}}
{{- if and .Values.turn.enabled .Values.turn.useRedis (has .Values.redis.mode (list "builtin" "standalone")) }}true{{ end -}}
{{- end -}}

{{/* "true" where the gateways ask it for credentials. */}}
{{- define "signalbox.turn.hasGateways" -}}
{{- if and .Values.turn.enabled .Values.turn.gatewayKey }}true{{ end -}}
{{- end -}}

{{/* The TOML file of the service. */}}
{{- define "signalbox.turn.toml" -}}
{{- $config := deepCopy .Values.turn.config -}}
{{- if not (index $config "admin-host") -}}
{{- $_ := set $config "admin-host" (default "::" $config.host) -}}
{{- end -}}
{{- if .Values.turn.gatewayKey -}}
{{- $key := printf "gateway:issue:%s" (sha256sum .Values.turn.gatewayKey) -}}
{{- $_ := set $config "api-key" (append (default list (index $config "api-key")) $key) -}}
{{- end -}}
{{- include "signalbox.toml" $config -}}
{{- end -}}

{{/* Ports of the TURN servers, as text separated by spaces. */}}
{{- define "signalbox.turn.ports" -}}
{{- $ports := list -}}
{{- range .Values.turn.config.uri -}}
{{- $address := regexReplaceAll "[?;].*$" . "" -}}
{{- $port := regexFind ":[0-9]+$" (regexReplaceAll "^[a-z]+:" $address "") | trimPrefix ":" -}}
{{- $default := ternary "5349" "3478" (or (hasPrefix "turns:" .) (hasPrefix "stuns:" .)) -}}
{{- $ports = append $ports (default $default $port) -}}
{{- end -}}
{{- $ports | uniq | join " " -}}
{{- end -}}
