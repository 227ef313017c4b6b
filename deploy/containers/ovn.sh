#!/bin/bash
# One of OVN's central programs in a container: northbound, southbound, northd; or check, whether those here answer.
#
# Certificates: /etc/ovn/tls with tls.crt, tls.key and ca.crt; ovsdb-server reads them again when they change.
set -euo pipefail
umask 077
RUN=/run/ovn
TLS=/etc/ovn/tls
PROBE_MS=60000 # a busy small machine must not lose its sessions to the default of 5 s

database() {
  local short=$1 port=$2 role=${5:-} file=/var/lib/ovn/ovn$1_db.db
  if [ ! -s "$file" ]; then
    rm -f "$file.new" "/var/lib/ovn/.ovn${short}_db.db.new.~lock~"
    ovsdb-tool create "$file.new" "/usr/share/ovn/ovn-$short.ovsschema"
    mv "$file.new" "$file"
  else
    # A newer OVN has a newer schema; nothing happens when it is the same.
    ovsdb-tool convert "$file" "/usr/share/ovn/ovn-$short.ovsschema"
  fi
  (until listen "$short" "$port" "$role"; do sleep 1; done) &
  exec ovsdb-server -vconsole:info -vfile:off -vsyslog:off --no-chdir \
    --remote="punix:$RUN/ovn${short}_db.sock" --unixctl="$RUN/ovn${short}_db.ctl" --pidfile="$RUN/ovn${short}_db.pid" \
    --remote="db:$3,$4,connections" --private-key=$TLS/tls.key --certificate=$TLS/tls.crt --ca-cert=$TLS/ca.crt \
    --ssl-protocols=TLSv1.2 "$file"
}

listen() {
  local ctl=("ovn-${1}ctl" --db="unix:$RUN/ovn${1}_db.sock" --timeout=10 --no-leader-only --bare) before
  "${ctl[@]}" init || return
  if [ "$3" ]; then
    # ovsdb-server gives connections the role that their address had when it began to listen there: one without goes.
    before=$("${ctl[@]}" --columns=role list connection) || return
    [ "$before" = "$3" ] || "${ctl[@]}" del-connection || return
  fi
  "${ctl[@]}" -- set-connection ${3:+"role=$3"} "pssl:$2" -- set connection . inactivity_probe=$PROBE_MS
}

case ${1:-} in
  northbound) database nb 6641 OVN_Northbound NB_Global ;;
  southbound) database sb 6642 OVN_Southbound SB_Global ovn-controller ;;
  northd)
    exec ovn-northd -vconsole:info -vfile:off -vsyslog:off --no-chdir --pidfile=$RUN/ovn-northd.pid \
      --unixctl=$RUN/ovn-northd.ctl --ovnnb-db=unix:$RUN/ovnnb_db.sock --ovnsb-db=unix:$RUN/ovnsb_db.sock
    ;;
  check)
    for control in "$RUN"/*.ctl; do ovs-appctl -t "$control" --timeout=5 version; done
    ;;
  *)
    echo "usage: vcstack-ovn northbound | southbound | northd | check" >&2
    exit 2
    ;;
esac
