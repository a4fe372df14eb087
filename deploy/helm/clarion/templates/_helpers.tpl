{{- define "clarion.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* With nameOverride=metallb this gives the names that MetalLB's chart gives to its objects. */ -}}
{{- define "clarion.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "clarion.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "clarion.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Arguments of what follows: dict "root" $ "part" "controller" or "speaker". */ -}}
{{- define "clarion.selector" -}}
app.kubernetes.io/name: {{ include "clarion.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "clarion.labels" -}}
{{ include "clarion.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "clarion.account" -}}
{{- $account := (index .root.Values .part).serviceAccount -}}
{{- if $account.create -}}
{{- default (printf "%s-%s" (include "clarion.fullname" .root) .part) $account.name -}}
{{- else -}}
{{- default "default" $account.name -}}
{{- end -}}
{{- end -}}

{{- define "clarion.image" -}}
{{- $image := (index .root.Values .part).image -}}
{{- printf "%s:%s" $image.repository (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}

{{- /* Whether Prometheus comes to the speakers. */ -}}
{{- define "clarion.scraped" -}}
{{- $prometheus := .Values.prometheus -}}
{{- if or $prometheus.scrapeAnnotations $prometheus.podMonitor.enabled $prometheus.serviceMonitor.enabled -}}
true
{{- end -}}
{{- end -}}

{{- define "clarion.webhooks" -}}
{{- if and .Values.controller.enabled (eq .Values.controller.webhookMode "enabled") -}}
true
{{- end -}}
{{- end -}}

{{- /* A probe of the HTTP endpoint; also takes "probe", "path" and "host" (empty: the Pod's). */ -}}
{{- define "clarion.probe" -}}
httpGet:
  {{- with .host }}
  host: {{ . }}
  {{- end }}
  path: {{ .path }}
  port: monitoring
{{- range $key, $value := omit .probe "enabled" }}
{{ $key }}: {{ $value }}
{{- end }}
{{- end -}}

{{- /* What both Pods have in common, above their containers. */ -}}
{{- define "clarion.pod" -}}
{{- $values := index .root.Values .part -}}
serviceAccountName: {{ include "clarion.account" . }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
nodeSelector:
  kubernetes.io/os: linux
  {{- with $values.nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  seccompProfile:
    type: RuntimeDefault
  {{- with $values.securityContext }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
# Time to hand over: the traffic, the lease, the addresses, the sessions.
terminationGracePeriodSeconds: {{ add 10 ($values.bgpGracefulShutdownSeconds | default 0) }}
volumes:
  - name: tmp
    emptyDir:
      medium: Memory
      sizeLimit: 16Mi
  {{- if and (eq .part "speaker") .root.Values.speaker.frr.enabled }}
  - name: frr
    emptyDir:
      medium: Memory
      sizeLimit: 16Mi
  {{- end }}
{{- end -}}

{{- define "clarion.podmeta" -}}
{{- $values := index .root.Values .part -}}
labels:
  {{- include "clarion.selector" . | nindent 2 }}
  {{- with $values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or .root.Values.prometheus.scrapeAnnotations $values.podAnnotations }}
annotations:
  {{- if .root.Values.prometheus.scrapeAnnotations }}
  prometheus.io/scrape: "true"
  prometheus.io/port: {{ .root.Values.prometheus.metricsPort | quote }}
  {{- end }}
  {{- with $values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What announces by BGP, as `--bgp` of both programs takes it. */}}
{{- define "clarion.backend" -}}
{{- ternary "frr" (ternary "frr-k8s" "native" .Values.frrk8s.external) .Values.speaker.frr.enabled -}}
{{- end -}}
