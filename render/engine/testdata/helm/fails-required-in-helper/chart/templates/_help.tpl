{{ define "host" }}{{ required "host is missing" .Values.host }}{{ end }}
