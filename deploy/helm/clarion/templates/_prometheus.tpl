{{- /* The list of one endpoint of a PodMonitor or ServiceMonitor. */ -}}
{{- define "clarion.endpoint" -}}
- port: monitoring
  path: /metrics
  {{- with .interval }}
  interval: {{ . }}
  {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* Alerts under the names that MetalLB's chart gives them. */ -}}
{{- define "clarion.alerts" -}}
{{- if .staleConfig.enabled }}
- alert: MetalLBStaleConfig
  expr: metallb_k8s_client_config_stale_bool == 1
  for: 1m
  labels:
    {{- toYaml .staleConfig.labels | nindent 4 }}
  annotations:
    summary: Part of the configuration is in error
    description: {{ `"{{ $labels.job }} {{ $labels.instance }}: an object of the configuration is in error and its last good version is in force. kubectl get configurationstates tells which."` }}
{{- end }}
{{- if .configNotLoaded.enabled }}
- alert: MetalLBConfigNotLoaded
  expr: metallb_k8s_client_config_loaded_bool == 0
  for: 1m
  labels:
    {{- toYaml .configNotLoaded.labels | nindent 4 }}
  annotations:
    summary: The configuration was not read yet
    description: {{ `"{{ $labels.job }} {{ $labels.instance }}: a minute after its start it has not read the configuration."` }}
{{- end }}
{{- if .addressPoolExhausted.enabled }}
- alert: MetalLBAddressPoolExhausted
  expr: {{ include "clarion.usage" .addressPoolExhausted }} >= 1
  for: 1m
  labels:
    {{- toYaml .addressPoolExhausted.labels | nindent 4 }}
  annotations:
    summary: A pool has no free address
    description: {{ `"Pool {{ $labels.pool }}: every address is in use."` }}
{{- end }}
{{- if .addressPoolUsage.enabled }}
{{- $usage := include "clarion.usage" .addressPoolUsage }}
{{- range .addressPoolUsage.thresholds }}
- alert: MetalLBAddressPoolUsage{{ .percent }}Percent
  expr: {{ $usage }} * 100 > {{ .percent }}
  for: 1m
  labels:
    {{- toYaml .labels | nindent 4 }}
  annotations:
    summary: A pool is {{ .percent }} % full
    description: {{ printf `"Pool {{ $labels.pool }}: more than %v %% of its addresses are in use."` .percent }}
{{- end }}
{{- end }}
{{- if .bgpSessionDown.enabled }}
- alert: MetalLBBGPSessionDown
  expr: metallb_bgp_session_up == 0
  for: 1m
  labels:
    {{- toYaml .bgpSessionDown.labels | nindent 4 }}
  annotations:
    summary: A BGP session is down
    description: {{ `"{{ $labels.instance }}: the session with {{ $labels.peer }} (VRF {{ $labels.vrf }}) is down."` }}
{{- end }}
{{- if .bgpSessionNeverUp.enabled }}
- alert: MetalLBBGPSessionNeverUp
  expr: clarion_bgp_sessions_established_total == 0
  for: 5m
  labels:
    {{- toYaml .bgpSessionNeverUp.labels | nindent 4 }}
  annotations:
    summary: A BGP session never came up
    description: {{ `"{{ $labels.instance }}: the session with {{ $labels.peer }} (VRF {{ $labels.vrf }}) has not been established since the speaker started. clarion explain peer says why."` }}
{{- end }}
{{- if .bgpSessionFlapping.enabled }}
- alert: MetalLBBGPSessionFlapping
  expr: increase(clarion_bgp_session_flaps_total[15m]) > 3
  for: 0m
  labels:
    {{- toYaml .bgpSessionFlapping.labels | nindent 4 }}
  annotations:
    summary: A BGP session comes and goes
    description: {{ `"{{ $labels.instance }}: the session with {{ $labels.peer }} (VRF {{ $labels.vrf }}) was lost more than three times in a quarter of an hour."` }}
{{- end }}
{{- if .bfdSessionDown.enabled }}
- alert: MetalLBBFDSessionDown
  expr: metallb_bfd_session_up == 0
  for: 1m
  labels:
    {{- toYaml .bfdSessionDown.labels | nindent 4 }}
  annotations:
    summary: A BFD session is down
    description: {{ `"{{ $labels.instance }}: BFD does not see {{ $labels.peer }} (VRF {{ $labels.vrf }})."` }}
{{- end }}
{{- if .bgpPrefixLimitNear.enabled }}
- alert: MetalLBBGPPrefixLimitNear
  expr: clarion_bgp_prefix_limit_near_bool == 1
  for: 1m
  labels:
    {{- toYaml .bgpPrefixLimitNear.labels | nindent 4 }}
  annotations:
    summary: A router announces nearly as much as it may
    description: {{ `"{{ $labels.instance }}: {{ $labels.peer }} (VRF {{ $labels.vrf }}) announces three quarters of the prefixes that end the session."` }}
{{- end }}
{{- with .extraAlerts }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{- /* Share of a pool's addresses that are in use; a pool without addresses has none. */ -}}
{{- define "clarion.usage" -}}
{{- $pools := "" -}}
{{- with .excludePools -}}
{{- $pools = printf "{pool!~%q}" . -}}
{{- end -}}
metallb_allocator_addresses_in_use_total{{ $pools }} / (metallb_allocator_addresses_total{{ $pools }} > 0)
{{- end -}}
