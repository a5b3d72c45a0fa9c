{{ define "under.name" }}{{ .Chart.Name }}/{{ .Values.own }}{{ end }}
