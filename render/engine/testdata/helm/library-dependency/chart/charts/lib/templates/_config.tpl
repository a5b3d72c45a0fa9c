{{- define "lib.config" -}}
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .name }}, labels: {release: {{ .root.Release.Name }}}}
{{- end }}
