{{/* The TOML file of the gateway. Helm's own `toToml` writes whole numbers as floats, which the program refuses. */}}
{{- define "signalbox.gateway.toml" -}}
{{- $config := deepCopy .Values.gateway.config -}}
{{- if and .Values.gateway.management.enabled (not (index $config "admin-host")) -}}
{{- $_ := set $config "admin-host" (default "0.0.0.0" $config.host) -}}
{{- end -}}
{{- /* The image names its directory in a variable, which would win over the file. */ -}}
{{- $_ := unset $config "vendor-dir" -}}
{{- include "signalbox.toml" $config -}}
{{- end -}}

{{/* Settings as TOML: numbers, switches, texts and lists of texts. */}}
{{- define "signalbox.toml" -}}
{{- $config := . -}}
{{- range $name := keys $config | sortAlpha -}}
{{- $value := index $config $name -}}
{{- if kindIs "invalid" $value -}}
{{- else if kindIs "bool" $value }}
{{ $name }} = {{ $value }}
{{- else if or (kindIs "float64" $value) (kindIs "int64" $value) (kindIs "int" $value) }}
{{ $name }} = {{ int64 $value }}
{{- else }}
{{ $name }} = {{ toJson $value }}
{{- end -}}
{{- end -}}
{{- end -}}
