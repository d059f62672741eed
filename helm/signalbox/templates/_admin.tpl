{{/* "true" where the chart makes a token of the admin API. */}}
{{- define "signalbox.admin.hasToken" -}}
{{- $management := .Values.gateway.management -}}
{{- if and $management.enabled $management.token.create (empty (index .Values.gateway.config "admin-token-hash")) }}true{{ end -}}
{{- end -}}

{{/* That token: the one that the Secret has already, else a new one, which is the same wherever it is asked for. */}}
{{- define "signalbox.admin.token" -}}
{{- $management := .Values.gateway.management -}}
{{- if not (hasKey $management "made") -}}
{{- $name := printf "%s-admin" (include "signalbox.name" (list . "gateway")) -}}
{{- $there := index (default dict (lookup "v1" "Secret" .Release.Namespace $name).data) "token" -}}
{{- $_ := set $management "made" (ternary (default "" $there | b64dec) (printf "sba_%s" (randAlphaNum 43)) (not (empty $there))) -}}
{{- end -}}
{{- $management.made -}}
{{- end -}}
