{{/* The name of everything: the release's, with the chart's behind it unless it is in there. */}}
{{- define "cachedservice-operator.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What tells the pods of this release from all others; it can never change. */}}
{{- define "cachedservice-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cachedservice-operator.labels" -}}
{{ include "cachedservice-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with omit .Values.commonLabels "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "cachedservice-operator.priorityClassName" -}}
{{- .Values.priorityClassName | default (ternary (include "cachedservice-operator.fullname" .) "" .Values.priorityClass.create) -}}
{{- end -}}

{{/* Fails where the cluster does not know a kind of the Prometheus operator. */}}
{{- define "cachedservice-operator.needs" -}}
{{- $kind := printf "monitoring.coreos.com/v1/%s" .kind -}}
{{- if not (.root.Capabilities.APIVersions.Has $kind) -}}
{{- fail (printf "%s is true, but the cluster has no kind %s (monitoring.coreos.com/v1): install the Prometheus operator first, or set it to false. `helm template` knows of no cluster: add --api-versions %s" .value .kind $kind) -}}
{{- end -}}
{{- end -}}

{{- define "cachedservice-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "cachedservice-operator.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "cachedservice-operator.leaseName" -}}
{{- .Values.leaderElection.leaseName | default (include "cachedservice-operator.fullname" .) -}}
{{- end -}}

{{- define "cachedservice-operator.image" -}}
{{- $repository := required "image.repository is not set, and no image is published yet: push your own build (see images/README.md) and add --set image.repository=registry.example.com/cachedservice-operator" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* Of the same release as the operator, and so where images/push has put it unless told otherwise. */}}
{{- define "cachedservice-operator.sidecarImage" -}}
{{- $image := .Values.sidecar.image -}}
{{- $repository := $image.repository | default (regexReplaceAll "[^/]+$" .Values.image.repository "cachedservice-sidecar") -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository ($image.tag | default .Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
