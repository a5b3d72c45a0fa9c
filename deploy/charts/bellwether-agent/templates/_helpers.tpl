{{/*
Names do not follow the release's: an agent keeps its identity and its journal in Secrets with fixed names, so there is one
agent in a namespace, and it is found there by the same names however it was installed.
*/}}

{{- define "bellwether-agent.selector" -}}
app.kubernetes.io/name: bellwether-agent
{{- end -}}

{{- define "bellwether-agent.labels" -}}
{{- $own := include "bellwether-agent.selector" . | fromYaml -}}
{{- merge $own .Values.commonLabels | toYaml -}}
{{- end -}}

{{/* The namespace is part of it, so that the agents of two hubs in one cluster do not share it. */}}
{{- define "bellwether-agent.clusterRole" -}}
bellwether-agent-{{ .Release.Namespace }}
{{- end -}}

{{- define "bellwether-agent.image" -}}
{{- $image := .Values.image -}}
{{- $tag := $image.tag -}}
{{- if not (or $tag $image.digest) }}{{ $tag = .Chart.AppVersion }}{{ end -}}
{{- $image.repository -}}
{{- with $tag }}:{{ . }}{{ end -}}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Empty when there is none: an agent that has joined needs it no more. */}}
{{- define "bellwether-agent.secret" -}}
{{- if and .Values.token .Values.existingSecret -}}
{{- fail "say `token` or `existingSecret`, not both" -}}
{{- end -}}
{{- if .Values.token }}bellwether-agent-join{{ else }}{{ .Values.existingSecret }}{{ end -}}
{{- end -}}

{{/* Of the hub, or of the proxy before it; a proxy without one is at 80. */}}
{{- define "bellwether-agent.hubPort" -}}
{{- $address := .Values.hub -}}
{{- with .Values.proxy.https }}{{ $address = (urlParse .).host }}{{ end -}}
{{- regexFind ":[0-9]+$" $address | trimPrefix ":" | default "80" -}}
{{- end -}}

{{- define "bellwether-agent.cidrs" -}}
{{- with . }}
to:
  {{- range . }}
  - ipBlock:
      cidr: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}
