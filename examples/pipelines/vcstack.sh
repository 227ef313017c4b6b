#!/bin/sh
# What a pipeline runs, wherever it runs; github.yml and gitlab.yml beside it show how.
#
#   vcstack.sh review FILE   what the manifests would change, as Markdown; fails when some of it would be refused
#   vcstack.sh deploy        plans the same, and does exactly that or nothing
#
# VCSTACK_API_URL     https://HOST:PORT
# VCSTACK_CA          the certificates to trust, as PEM
# VCSTACK_API_KEY     of a service account, from `vcctl auth key create`
# VCSTACK_PROJECT     whose objects these are, where a manifest names no project
# VCSTACK_SET         a name for all of them: what is in no manifest any more is deleted
# VCSTACK_MANIFESTS   their folder; default cloud
set -eu
: "${VCSTACK_API_URL:?}" "${VCSTACK_CA:?}" "${VCSTACK_API_KEY:?}" "${VCSTACK_PROJECT:?}" "${VCSTACK_SET:?}"
folder=${VCSTACK_MANIFESTS:-cloud}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
export VCCTL_CONFIG="$scratch/config.yaml"
printf '%s\n' "$VCSTACK_CA" >"$scratch/ca.crt"
vcctl config set-context pipeline --api-url "$VCSTACK_API_URL" --ca-file "$scratch/ca.crt" -p "$VCSTACK_PROJECT" >&2

case "${1:-} $#" in
"review 2")
  code=0
  vcctl diff -f "$folder" -R --prune --set "$VCSTACK_SET" -o markdown >"$2" || code=$?
  if [ ! -s "$2" ]; then
    echo "What would change could not be found out; the job's log says why." >"$2"
    exit "$code"
  fi
  cat "$2"
  # 0: nothing would change; 1: something would; more: it would be refused.
  [ "$code" -le 1 ] || exit "$code"
  ;;
"deploy 1")
  vcctl plan -f "$folder" -R --prune --set "$VCSTACK_SET" -o "$scratch/change.plan"
  # Secret values are in no plan, so the manifests are given again.
  vcctl apply --plan "$scratch/change.plan" -f "$folder" -R
  ;;
*)
  echo "usage: $0 review FILE | deploy" >&2
  exit 2
  ;;
esac
