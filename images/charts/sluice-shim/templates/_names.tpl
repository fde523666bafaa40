{{/* The name of everything: the release's, with the chart's unless the release's contains that. */}}
{{- define "sluice-shim.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What tells the Pod of this release from others. */}}
{{- define "sluice-shim.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Not empty if several Pods stand by for each other. */}}
{{- define "sluice-shim.several" -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- if eq .Values.database.type "sqlite" -}}
{{- fail (printf "database.type is sqlite, so replicas must be 1, not %d: one process serves a file. Set database.type to postgres or mysql" (int .Values.replicas)) -}}
{{- end -}}
yes
{{- end -}}
{{- end -}}

{{/* The domain of the Pods' own names, if there are several. */}}
{{- define "sluice-shim.peers" -}}
{{ include "sluice-shim.name" . }}-peers.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "sluice-shim.labels" -}}
{{ include "sluice-shim.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "sluice-shim.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The URL for --endpoint. It is empty if a secret has the URL. */}}
{{- define "sluice-shim.endpoint" -}}
{{- with .Values.database -}}
{{- if eq .type "sqlite" -}}
{{- if or .endpoint .endpointSecret.name .passwordSecret.name -}}
{{- fail "database.type is sqlite, so database.endpoint, endpointSecret and passwordSecret must be empty: set database.type to postgres or mysql" -}}
{{- end -}}
sqlite:///data/sluice.db
{{- else -}}
{{- if and .endpoint .endpointSecret.name -}}
{{- fail "set database.endpoint or database.endpointSecret.name, not both" -}}
{{- end -}}
{{- if not (or .endpoint .endpointSecret.name) -}}
{{- fail (printf "database.type is %s, which needs database.endpoint (a URL such as %s://user@host/database) or database.endpointSecret.name" .type .type) -}}
{{- end -}}
{{- if .endpoint -}}
{{- $scheme := regexFind "^[a-z]+" .endpoint -}}
{{- if not (has $scheme (ternary (list "postgres" "postgresql") (list "mysql" "mariadb") (eq .type "postgres"))) -}}
{{- fail (printf "database.type is %s, but database.endpoint is a URL of %s://" .type $scheme) -}}
{{- end -}}
{{- if regexMatch "^[a-z]+://[^/?@]*:[^/?@]*@" .endpoint -}}
{{- fail "database.endpoint has a password, which anybody could read in the Pod: put it into a secret and name that in database.passwordSecret.name" -}}
{{- end -}}
{{- .endpoint -}}
{{- if .caSecret.name -}}
{{- ternary "&" "?" (contains "?" .endpoint) -}}sslrootcert=/database-ca/{{ .caSecret.key }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
