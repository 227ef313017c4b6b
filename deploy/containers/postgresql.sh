#!/bin/bash
# PostgreSQL in a container: a cluster is made once, and everybody from elsewhere needs TLS and the password.
#
#   VCSTACK_PASSWORD_FILE   the password of the role vcstack
#   VCSTACK_TLS             a folder with tls.crt and tls.key, read again when they change
set -euo pipefail
umask 077
DATA=/var/lib/postgresql/data
NEW=/var/lib/postgresql/new
: "${VCSTACK_PASSWORD_FILE:?}" "${VCSTACK_TLS:?}"

# A cluster has its place once it is whole: an interrupted attempt is begun again.
if [ ! -e $DATA/PG_VERSION ]; then
  rm -rf $NEW
  initdb --pgdata=$NEW --username=vcstack --pwfile="$VCSTACK_PASSWORD_FILE" --encoding=UTF8 --locale=C.UTF-8 \
    --auth-local=peer --auth-host=scram-sha-256
  mv $NEW $DATA
fi
cat >$DATA/pg_hba.conf <<'HBA'
local   all all                peer
hostssl all all 0.0.0.0/0      scram-sha-256
hostssl all all ::/0           scram-sha-256
HBA
cat >$DATA/postgresql.auto.conf <<CONF
listen_addresses = '*'
unix_socket_directories = '/run/postgresql'
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '$VCSTACK_TLS/tls.crt'
ssl_key_file = '$VCSTACK_TLS/tls.key'
ssl_min_protocol_version = 'TLSv1.2'
max_connections = 100
CONF

# A renewed certificate is taken when the server is told so.
(
  seen=$(cat "$VCSTACK_TLS/tls.crt" | sha256sum)
  while sleep 30; do
    now=$(cat "$VCSTACK_TLS/tls.crt" | sha256sum)
    [ "$now" = "$seen" ] || { seen=$now; pg_ctl reload --pgdata=$DATA || true; }
  done
) &
exec postgres -D $DATA
