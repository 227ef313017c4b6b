#!/bin/bash
# Installs what VC Stack needs on a Debian 12 machine: Debian packages and the locked Python environment in .venv.
#
#   deploy/install.sh
#
# Idempotent: done in well under a second when nothing is missing. The packages bring daemons (etcd, PostgreSQL,
# Open vSwitch, OVN, libvirt) that belong to the machine's owner, not to us: none is started, none is enabled at
# boot, and no PostgreSQL cluster is made. The lab starts its own copies from the same programs.
set -euo pipefail
umask 022
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=$PWD/.venv
POLICY=/usr/sbin/policy-rc.d
MARK="# written by VC Stack's deploy/install.sh while it installs packages; safe to delete"

STORE="etcd-server etcd-client postgresql-15"
NETWORK="openvswitch-common openvswitch-switch ovn-common ovn-central ovn-host iproute2 ethtool"
COMPUTE="libvirt-daemon libvirt-daemon-system libvirt-clients libvirt-dev qemu-system-x86 qemu-utils"
# python-ldap is built here, against Debian's OpenLDAP.
PYTHON="python3 python3-venv python3-dev gcc libc6-dev pkg-config libldap2-dev libsasl2-dev"
GUEST="cpio lz4 mtools dosfstools syslinux syslinux-common e2fsprogs fdisk openssl"
SECRETS="softhsm2"
# For tests: a directory, the browser of the console's users, letters for its Chinese pages, what makes pictures
# of it small. Node is in the Python environment: Debian 12's is beyond its end of life.
IDENTITY="slapd ldap-utils chromium fonts-wqy-microhei pngquant"
# Git sources: git fetches, gpg and ssh-keygen verify signatures; the tests have a server for ssh.
GITOPS="git gpg openssh-client openssh-server"
TOOLS="util-linux procps kmod iputils-ping openssh-client ca-certificates make git dpkg-dev"

say() { printf '  %-11s %s\n' "install" "$*"; }
fail() { printf 'install failed: %s\n' "$*" >&2; exit 1; }

missing_packages() {
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $STORE $NETWORK $COMPUTE $PYTHON $GUEST $SECRETS $IDENTITY $GITOPS $TOOLS \
    2>/dev/null | awk '$1 == "installed" { print $2 }') || true
  comm -23 <(printf '%s\n' $STORE $NETWORK $COMPUTE $PYTHON $GUEST $SECRETS $IDENTITY $GITOPS $TOOLS | sort -u) <(sort -u <<<"$installed")
}

# invoke-rc.d asks this script before it starts anything; 101 means "forbidden by policy".
forbid_service_starts() {
  if [ -e $POLICY ] && ! grep -qF "$MARK" $POLICY; then mv $POLICY $POLICY.vcstack-saved; fi
  printf '#!/bin/sh\n%s\nexit 101\n' "$MARK" >$POLICY
  chmod 755 $POLICY
}

allow_service_starts() {
  if grep -qsF "$MARK" $POLICY; then rm -f $POLICY; fi
  if [ -e $POLICY.vcstack-saved ]; then mv $POLICY.vcstack-saved $POLICY; fi
}

enabled_units() {
  [ -d /run/systemd/system ] || return 0
  systemctl list-unit-files --state=enabled --no-legend --plain | awk '{ print $1 }' | sort
}

disable_new_units() {
  local new
  new=$(comm -13 <(printf '%s\n' "$1") <(enabled_units) |
    grep -E '^(etcd|postgresql|openvswitch|ovs|ovn|libvirt|virt|qemu|slapd|ssh)' || true)
  [ -z "$new" ] || systemctl disable --quiet $new
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
    -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 install "$@" >"$LOG" 2>&1 ||
    { tail -n 20 "$LOG" >&2; fail "apt-get install $* (its whole output: $LOG)"; }
}

install_packages() {
  local before cluster_conf=/etc/postgresql-common/createcluster.conf
  [ "$(id -u)" = 0 ] || fail "Debian packages are missing ($*); run this as root to install them."
  LOG=$(mktemp /tmp/vcstack-apt.XXXXXX)
  before=$(enabled_units)
  trap allow_service_starts EXIT
  forbid_service_starts
  say "updating the package lists"
  apt-get -q update >"$LOG" 2>&1 || { tail -n 20 "$LOG" >&2; fail "apt-get update (its whole output: $LOG)"; }
  if ! dpkg-query -W postgresql-15 >/dev/null 2>&1; then
    # PostgreSQL's package makes and starts a cluster of its own unless told not to.
    apt_install postgresql-common
    cp -a $cluster_conf $cluster_conf.vcstack-saved
    echo "create_main_cluster = false" >>$cluster_conf
  fi
  say "installing $# Debian packages: $*"
  apt_install "$@"
  if [ -e $cluster_conf.vcstack-saved ]; then mv $cluster_conf.vcstack-saved $cluster_conf; fi
  disable_new_units "$before"
  allow_service_starts
  trap - EXIT
  rm -f "$LOG"
}

find_python() {
  local p
  for p in /usr/bin/python3 "$(command -v python3 || true)"; do
    [ -x "$p" ] && "$p" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$p"; return; }
  done
  fail "no Python 3.11 or newer with the venv module was found."
}

pip_install() {
  "$VENV/bin/python" -m pip --disable-pip-version-check --no-input install "$@" >"$VENV/pip.log" 2>&1 ||
    { tail -n 20 "$VENV/pip.log" >&2; fail "pip install $* (its whole output: $VENV/pip.log)"; }
}

# The stamp names what the environment was made from; it is written last, so an interrupted run is repeated.
install_python() {
  local stamp python
  stamp=$(cat requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1)
  if [ -x "$VENV/bin/python" ] && [ "$(cat "$VENV/.vcstack-stamp" 2>/dev/null)" = "$stamp" ]; then return; fi
  if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    say "making the Python environment .venv with $python"
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
  fi
  say "installing the locked Python packages"
  # setuptools comes first, from the lock as well: it builds what has no wheel, without fetching anything unlocked.
  awk '/^[a-zA-Z0-9]/ { on = /^setuptools==/ } on' requirements.lock >"$VENV/setuptools.lock"
  pip_install --require-hashes -r "$VENV/setuptools.lock"
  pip_install --require-hashes --no-build-isolation --use-pep517 -r requirements.lock
  pip_install --no-deps --no-build-isolation -e .
  echo "$stamp" >"$VENV/.vcstack-stamp"
}

mapfile -t MISSING < <(missing_packages)
[ ${#MISSING[@]} = 0 ] || install_packages "${MISSING[@]}"
(
  flock -w 900 9 || fail "another installation has held $VENV.lock for 15 minutes."
  install_python
) 9>"$(dirname "$VENV")/.venv.lock"
