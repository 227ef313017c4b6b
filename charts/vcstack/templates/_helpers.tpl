{{- define "vcstack.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* The beginning of all names; 40 characters, so that what is added still fits into 63. */ -}}
{{- define "vcstack.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "vcstack.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "vcstack.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Labels of a part: (dict "root" $ "part" "management"). */ -}}
{{- define "vcstack.selector" -}}
app.kubernetes.io/name: {{ include "vcstack.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "vcstack.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{ include "vcstack.selector" . }}
app.kubernetes.io/part-of: vcstack
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- define "vcstack.image" -}}
{{- $values := .root.Values.image -}}
{{- $name := printf "vcstack-%s" .part -}}
{{- if $values.registry }}{{ $name = printf "%s/%s" (trimSuffix "/" $values.registry) $name }}{{ end -}}
{{- $digest := get $values.digests .part -}}
{{- if $digest }}{{ printf "%s@%s" $name $digest }}{{ else }}{{ printf "%s:%s" $name (default .root.Chart.AppVersion $values.tag) }}{{ end -}}
{{- end -}}

{{- define "vcstack.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "vcstack.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .Values.podSecurity.runAsUser }}
runAsGroup: {{ .Values.podSecurity.runAsUser }}
fsGroup: {{ .Values.podSecurity.runAsUser }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "vcstack.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "vcstack.host" -}}
{{ include "vcstack.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "vcstack.apiUrl" -}}
https://{{ include "vcstack.host" . }}:{{ .Values.management.service.port }}
{{- end -}}

{{- /* As users know the cloud: the issuer of access tokens. */ -}}
{{- define "vcstack.publicUrl" -}}
{{- if .Values.management.url -}}
{{ .Values.management.url }}
{{- else if .Values.ingress.enabled -}}
https://{{ .Values.ingress.host }}
{{- else -}}
{{ include "vcstack.apiUrl" . }}
{{- end -}}
{{- end -}}

{{- define "vcstack.etcdEndpoints" -}}
{{- if eq .Values.etcd.mode "External" -}}
{{ toJson .Values.etcd.external.endpoints }}
{{- else -}}
{{- $full := include "vcstack.fullname" . -}}
{{- $endpoints := list -}}
{{- range $i := until (int .Values.etcd.replicas) -}}
{{- $endpoints = append $endpoints (printf "%s-etcd-%d.%s-etcd.%s.svc:2379" $full $i $full $.Release.Namespace) -}}
{{- end -}}
{{ toJson $endpoints }}
{{- end -}}
{{- end -}}

{{- /* All members by name: etcd looks up the names in a member's certificate, and wildcards only by reverse lookup. */ -}}
{{- define "vcstack.etcdNames" -}}
{{- $full := include "vcstack.fullname" . -}}
{{- $names := list "127.0.0.1" -}}
{{- range $i := until (int .Values.etcd.replicas) -}}
{{- $names = append $names (printf "%s-etcd-%d.%s-etcd.%s.svc" $full $i $full $.Release.Namespace) -}}
{{- end -}}
{{ toJson $names }}
{{- end -}}

{{- /* What etcd asks of certificates, and vc-management puts into those of etcd and managers alone. */ -}}
{{- define "vcstack.etcdClient" -}}
etcd-client.vcstack.internal
{{- end -}}

{{- define "vcstack.backendsSecret" -}}
{{- if eq .Values.etcd.mode "External" }}{{ .Values.etcd.external.existingSecret }}{{ else }}{{ include "vcstack.fullname" . }}-backends-client{{ end -}}
{{- end -}}

{{- define "vcstack.postgresSecret" -}}
{{- if eq .Values.postgresql.mode "External" }}{{ .Values.postgresql.external.existingSecret }}{{ else }}{{ include "vcstack.fullname" . }}-postgresql{{ end -}}
{{- end -}}

{{- define "vcstack.bundlesBackend" -}}
{{- if or (eq .Values.etcd.mode "Bundled") (eq .Values.postgresql.mode "Bundled") }}yes{{ end -}}
{{- end -}}

{{- define "vcstack.dsn" -}}
{{- $ca := "sslmode=verify-full&sslrootcert=/var/lib/vcstack/postgresql/ca.crt" -}}
{{- if eq .Values.postgresql.mode "External" -}}
{{- with .Values.postgresql.external -}}
postgresql://{{ .user }}@{{ .host }}:{{ .port }}/{{ .database }}?{{ $ca }}
{{- end -}}
{{- else -}}
postgresql://vcstack@{{ include "vcstack.fullname" . }}-postgresql.{{ .Release.Namespace }}.svc:5432/vcstack?{{ $ca }}
{{- end -}}
{{- end -}}

{{- define "vcstack.ovnHost" -}}
{{ include "vcstack.fullname" . }}-ovn.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "vcstack.northbound" -}}
{{- if eq .Values.ovn.mode "External" }}{{ .Values.ovn.external.northbound }}{{ else }}ssl:{{ include "vcstack.ovnHost" . }}:6641{{ end -}}
{{- end -}}

{{- define "vcstack.southbound" -}}
{{- if eq .Values.ovn.mode "External" }}{{ .Values.ovn.external.southbound }}{{ else }}ssl:{{ include "vcstack.ovnHost" . }}:6642{{ end -}}
{{- end -}}

{{- /* What a claim template has besides its name: (dict "size" ... "storageClass" ... "accessModes" ...). */ -}}
{{- define "vcstack.claim" -}}
accessModes: {{ toJson (default (list "ReadWriteOnce") .accessModes) }}
{{- if .storageClass }}
storageClassName: {{ .storageClass | quote }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end -}}

{{- define "vcstack.pdbVersion" -}}
{{- if .Capabilities.APIVersions.Has "policy/v1/PodDisruptionBudget" }}policy/v1{{ else if semverCompare ">=1.21-0" .Capabilities.KubeVersion.Version }}policy/v1{{ else }}policy/v1beta1{{ end -}}
{{- end -}}

{{- define "vcstack.cronVersion" -}}
{{- if semverCompare ">=1.21-0" .Capabilities.KubeVersion.Version }}batch/v1{{ else }}batch/v1beta1{{ end -}}
{{- end -}}

{{- /* What would not work, said before anything is installed. */ -}}
{{- define "vcstack.check" -}}
{{- if and (gt (int .Values.management.replicas) 1) (not (has "ReadWriteMany" .Values.images.persistence.accessModes)) (not .Values.images.persistence.existingClaim) -}}
{{- fail "management.replicas: more than one manager share the images, so images.persistence.accessModes must be [ReadWriteMany], or images.persistence.existingClaim such a claim" -}}
{{- end -}}
{{- if and (eq .Values.etcd.mode "External") (or (not .Values.etcd.external.endpoints) (not .Values.etcd.external.existingSecret)) -}}
{{- fail "etcd.external: name endpoints and existingSecret (ca.crt, tls.crt, tls.key)" -}}
{{- end -}}
{{- if and (eq .Values.postgresql.mode "External") (or (not .Values.postgresql.external.host) (not .Values.postgresql.external.existingSecret)) -}}
{{- fail "postgresql.external: name host and existingSecret (password, ca.crt)" -}}
{{- end -}}
{{- if and (eq .Values.ovn.mode "External") (or (not .Values.ovn.external.northbound) (not .Values.ovn.external.southbound)) -}}
{{- fail "ovn.external: name northbound and southbound" -}}
{{- end -}}
{{- if and (eq .Values.ovn.mode "External") (not (hasPrefix "ssl:" .Values.ovn.external.northbound)) -}}
{{- fail "ovn.external.northbound: write ssl:HOST:PORT; it is on another machine" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.apiFrom .Values.compute.enabled (not .Values.networkPolicy.hostsFrom) -}}
{{- fail "networkPolicy.hostsFrom: with apiFrom, name the nodes' networks here; hosts' agents call the API from there" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.host: is needed by an ingress" -}}
{{- end -}}
{{- end -}}
