{{- define "signalbox.redis.addresses" -}}
{{- if eq .Values.redis.mode "builtin" -}}
{{- printf "%s:6379" (include "signalbox.name" (list . "redis")) -}}
{{- else -}}
{{- join "," .Values.redis.addresses -}}
{{- end -}}
{{- end -}}

{{- define "signalbox.redis.scheme" -}}
{{- $scheme := ternary "rediss" "redis" .Values.redis.tls -}}
{{- if has .Values.redis.mode (list "sentinel" "cluster") -}}
{{- printf "%s+%s" $scheme .Values.redis.mode -}}
{{- else -}}
{{- $scheme -}}
{{- end -}}
{{- end -}}

{{/* `user:password@`; the password of an existing Secret is filled in by the kubelet. */}}
{{- define "signalbox.redis.credentials" -}}
{{- $auth := .Values.redis.auth -}}
{{- if $auth.existingSecret -}}
{{- printf "%s:$(REDIS_PASSWORD)@" (urlquery $auth.username | replace "+" "%20") -}}
{{- else if $auth.password -}}
{{- printf "%s:%s@" (urlquery $auth.username | replace "+" "%20") (urlquery $auth.password | replace "+" "%20") -}}
{{- end -}}
{{- end -}}

{{- define "signalbox.redis.url" -}}
{{- $base := printf "%s://%s%s" (include "signalbox.redis.scheme" .) (include "signalbox.redis.credentials" .) (include "signalbox.redis.addresses" .) -}}
{{- if eq .Values.redis.mode "sentinel" -}}
{{- $base = printf "%s/%s" $base .Values.redis.sentinelMaster -}}
{{- end -}}
{{- $database := int64 .Values.redis.database -}}
{{- if $database }}{{ printf "%s/%d" $base $database }}{{ else }}{{ $base }}{{ end -}}
{{- end -}}

{{/* "true" where the chart keeps the URL in a Secret of the release, since it contains a password. */}}
{{- define "signalbox.redis.urlIsSecret" -}}
{{- if and (include "signalbox.hasRedis" .) .Values.redis.auth.password (not .Values.redis.existingUrlSecret) }}true{{ end -}}
{{- end -}}

{{/* Variables that tell the gateway where Redis is. */}}
{{- define "signalbox.redis.env" -}}
{{- $redis := .Values.redis -}}
{{- if $redis.existingUrlSecret }}
- name: SIGNALBOX_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ $redis.existingUrlSecret }}
      key: {{ $redis.existingUrlSecretKey }}
{{- else if include "signalbox.redis.urlIsSecret" . }}
- name: SIGNALBOX_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "signalbox.name" (list . "gateway") }}
      key: redis-url
{{- else }}
{{- if $redis.auth.existingSecret }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $redis.auth.existingSecret }}
      key: {{ $redis.auth.existingSecretKey }}
{{- end }}
- name: SIGNALBOX_REDIS_URL
  value: {{ include "signalbox.redis.url" . | quote }}
{{- end }}
{{- end -}}

{{/* Ports at which an external Redis is reached, as text separated by spaces. */}}
{{- define "signalbox.redis.ports" -}}
{{- $ports := list -}}
{{- range .Values.redis.addresses }}{{ $ports = append $ports (regexFind "[0-9]+$" . | int64) }}{{ end -}}
{{- range .Values.networkPolicy.redisPorts }}{{ $ports = append $ports (int64 .) }}{{ end -}}
{{- $ports | uniq | join " " -}}
{{- end -}}
