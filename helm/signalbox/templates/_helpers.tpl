{{- define "signalbox.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of a component's objects: (list $ "gateway"). */}}
{{- define "signalbox.name" -}}
{{- printf "%s-%s" (include "signalbox.fullname" (index . 0)) (index . 1) -}}
{{- end -}}

{{/* Labels by which a component's pods are selected: (list $ "gateway"). They never change during the life of a release. */}}
{{- define "signalbox.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Metadata of an object: (list $ "gateway" NAME), with further labels and annotations as (dict ...) after it. */}}
{{- define "signalbox.metadata" -}}
{{- $root := index . 0 -}}
{{- $labels := dict -}}
{{- $annotations := dict -}}
{{- if gt (len .) 3 }}{{ $labels = index . 3 }}{{ end -}}
{{- if gt (len .) 4 }}{{ $annotations = index . 4 }}{{ end -}}
name: {{ index . 2 }}
labels:
  {{- include "signalbox.selector" (list $root (index . 1)) | nindent 2 }}
  app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
  app.kubernetes.io/part-of: signalbox
  app.kubernetes.io/managed-by: {{ $root.Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 }}
  {{- with merge (dict) $labels $root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) $annotations $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "signalbox.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "signalbox.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* An integer, or the default where there is none: (list VALUE DEFAULT). Unlike `default`, zero is a value. */}}
{{- define "signalbox.integer" -}}
{{- $value := index . 0 -}}
{{- if kindIs "invalid" $value }}{{ index . 1 | int64 }}{{ else }}{{ $value | int64 }}{{ end -}}
{{- end -}}

{{/* "true" where the nodes share a Redis, else nothing. */}}
{{- define "signalbox.hasRedis" -}}
{{- if ne .Values.redis.mode "none" }}true{{ end -}}
{{- end -}}

{{/* Whole seconds of milliseconds, rounded up: (list VALUE DEFAULT). */}}
{{- define "signalbox.seconds" -}}
{{- div (add (include "signalbox.integer" . | int64) 999) 1000 -}}
{{- end -}}

{{/* Seconds from SIGTERM until the last client has left. */}}
{{- define "signalbox.gateway.drainSeconds" -}}
{{- $config := .Values.gateway.config -}}
{{- if include "signalbox.hasRedis" . -}}
{{- $delay := include "signalbox.seconds" (list (index $config "drain-delay") 5000) | int64 -}}
{{- $timeout := include "signalbox.seconds" (list (index $config "drain-timeout") 60000) | int64 -}}
{{- add $delay $timeout -}}
{{- else -}}
{{- /* A node without Redis stops within ten seconds, whatever is configured. */ -}}
10
{{- end -}}
{{- end -}}

{{- define "signalbox.gateway.preStopSeconds" -}}
{{- $default := ternary 0 5 (eq (include "signalbox.hasRedis" .) "true") -}}
{{- include "signalbox.integer" (list .Values.gateway.preStopSleepSeconds $default) -}}
{{- end -}}

{{/* The shortest grace period in which a drain ends by itself: the program allows itself 9.5 s more than the drain. */}}
{{- define "signalbox.gateway.shortestGrace" -}}
{{- add (include "signalbox.gateway.preStopSeconds" . | int64) (include "signalbox.gateway.drainSeconds" . | int64) 15 -}}
{{- end -}}

{{- define "signalbox.gateway.grace" -}}
{{- include "signalbox.integer" (list .Values.gateway.terminationGracePeriodSeconds (include "signalbox.gateway.shortestGrace" .)) -}}
{{- end -}}

{{- define "signalbox.gateway.minReadySeconds" -}}
{{- include "signalbox.integer" (list .Values.gateway.minReadySeconds (include "signalbox.gateway.drainSeconds" .)) -}}
{{- end -}}

{{- define "signalbox.gateway.progressDeadline" -}}
{{- $default := add (include "signalbox.gateway.minReadySeconds" . | int64) 300 -}}
{{- include "signalbox.integer" (list .Values.gateway.progressDeadlineSeconds $default) -}}
{{- end -}}

{{- define "signalbox.gateway.maxPayload" -}}
{{- include "signalbox.integer" (list (index .Values.gateway.config "max-payload") 1000000) -}}
{{- end -}}

{{/* Port of the node link. */}}
{{- define "signalbox.gateway.linkPort" -}}
{{- with index .Values.gateway.config "cluster-addr" -}}
{{- regexFind "[0-9]+$" . -}}
{{- else -}}
{{- .Values.gateway.nodeLink.port | int64 -}}
{{- end -}}
{{- end -}}

{{/* "true" where there may be more than one pod. */}}
{{- define "signalbox.gateway.isMany" -}}
{{- if or .Values.gateway.autoscaling.enabled (gt (int64 .Values.gateway.replicas) 1) }}true{{ end -}}
{{- end -}}

{{- define "signalbox.gateway.image" -}}
{{- $image := .Values.gateway.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}
