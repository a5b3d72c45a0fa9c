{{ define "tag" }}
{{ .Values.image.tag.name }}
{{ end }}
