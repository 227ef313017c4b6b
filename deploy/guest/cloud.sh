# A very small cloud-init, read by init: where the instance's addresses, name, ssh keys and user data come from.
# Sources: a NoCloud disk (label cidata), an OpenStack config drive, or the metadata service over HTTP.
# cloud_drive reads a disk and sets the addresses that its network-config names; cloud_settings sets SRC and the host
# name and writes authorized_keys; cloud_user_data runs the user data, once per instance id.
SRC=none; HN=; IID=
mkdir -p /run/ci /mnt
# field NAME FILE: a top-level scalar of a small YAML or JSON file.
field() { sed -n 's/.*["]\{0,1\}\b'"$1"'["]\{0,1\} *: *["'\'']\{0,1\}\([^"'\'',}]*\).*/\1/p' "$2" 2>/dev/null | head -n 1; }
authorized() { grep -ohE '(cert-authority )?(ssh-(rsa|ed25519)|ecdsa-sha2-[a-z0-9-]+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/=]+' "$@" 2>/dev/null; }

# The parts of a network-config (version 2, one value a line) that matter here, each as a line that begins with the MAC.
network_lines() {
  awk '
    { gsub(/[][",{}]/, ""); sub(/^[ -]+/, "") }
    $1 == "macaddress:" { mac = $2 }
    $1 == "mtu:" { print mac, "mtu", $2 }
    $1 == "dhcp4:" && $2 == "true" { print mac, "dhcp4" }
    $1 == "to:" { to = $2 }
    $1 == "via:" { via = $2 }
    $1 == "metric:" { print mac, "route", to, via, $2 }
    NF == 1 && mac && $1 !~ /:$/ { print mac, (/\// ? "address" : "dns"), $1 }' "$1"
}

cloud_drive() {
  # The label is read from the ISO 9660 volume descriptor itself: findfs prefers Joliet's, with the blanks it is padded by.
  CD=
  for b in /sys/block/vd* /sys/block/sd* /sys/block/sr*; do
    [ -e $b ] || continue
    case $(dd if=/dev/${b##*/} bs=1 skip=32769 count=71 2>/dev/null | tr '\0' ' ' | tr A-Z a-z) in
      cd001*" cidata "* | cd001*" config-2 "*) CD=/dev/${b##*/} ;;
    esac
  done
  if [ "$CD" ] && mount -o ro $CD /mnt 2>/dev/null; then
    if [ -f /mnt/meta-data ]; then
      SRC=nocloud
      cp /mnt/meta-data /run/ci/md; cp /mnt/user-data /run/ci/ud 2>/dev/null
      if [ -f /mnt/network-config ]; then
        network_lines /mnt/network-config >/run/ci/net
        for i in /sys/class/net/eth*; do [ -e $i ] && /etc/addresses.sh ${i##*/}; done
      fi
      HN=$(field local-hostname /run/ci/md); IID=$(field instance-id /run/ci/md)
    elif [ -f /mnt/openstack/latest/meta_data.json ]; then
      SRC=configdrive
      cp /mnt/openstack/latest/meta_data.json /run/ci/md; cp /mnt/openstack/latest/user_data /run/ci/ud 2>/dev/null
      HN=$(field hostname /run/ci/md); IID=$(field uuid /run/ci/md)
    fi
    umount /mnt
  fi
}

cloud_settings() {
  if [ $SRC = none ] && [ -s /run/address.eth0 ]; then
    U=http://169.254.169.254
    ip route add 169.254.169.254 dev eth0 2>/dev/null
    W="timeout 5 wget -q -O" # busybox 1.35's own wget -T crashes
    if $W /run/ci/md $U/openstack/latest/meta_data.json 2>/dev/null; then
      SRC=http
      $W /run/ci/ud $U/openstack/latest/user_data 2>/dev/null
      HN=$(field hostname /run/ci/md); IID=$(field uuid /run/ci/md)
    fi
  fi

  # A #cloud-config may name the host and give keys as well; a script's text is never searched for keys.
  CLOUD_CONFIG=; head -n 1 /run/ci/ud 2>/dev/null | grep -q '^#cloud-config' && CLOUD_CONFIG=/run/ci/ud
  [ "$CLOUD_CONFIG" ] && h=$(sed -n 's/^hostname: *["'\'']\{0,1\}\([^"'\'']*\).*/\1/p' $CLOUD_CONFIG) && [ "$h" ] && HN=$h
  hostname "${HN:-tiny}"
  echo "127.0.0.1 localhost ${HN:-tiny}" >/etc/hosts
  echo "::1 localhost" >>/etc/hosts
  [ "$CLOUD_CONFIG" ] && sed -n '/^ssh_authorized_keys:/,/^[a-z]/p' $CLOUD_CONFIG >/run/ci/keys
  authorized /run/ci/md /run/ci/keys | sort -u >/root/.ssh/authorized_keys
  chmod 600 /root/.ssh/authorized_keys
}

cloud_user_data() {
  # "Once per instance" is what cloud-init promises for scripts; a disk copied to a new instance runs them again.
  [ "$IID" ] && [ "$(cat /data/instance-id 2>/dev/null)" = "$IID" ] && return
  if head -c 2 /run/ci/ud 2>/dev/null | grep -q '#!'; then
    cp /run/ci/ud /run/ci/script
  elif [ "$CLOUD_CONFIG" ]; then
    sed -n '/^runcmd:/,/^[a-z]/s/^ *- *//p' $CLOUD_CONFIG |
      sed -e '/^\[.*\]$/{s/^\[//;s/\]$//;s/, */ /g}' -e 's/^"\(.*\)"$/\1/' -e "s/^'\(.*\)'\$/\1/" >/run/ci/runcmd
    [ -s /run/ci/runcmd ] && { echo '#!/bin/sh'; cat /run/ci/runcmd; } >/run/ci/script
  elif [ -s /run/ci/ud ]; then
    say "USERDATA-IGNORED: neither a script (#!) nor a #cloud-config"
  fi
  if [ -s /run/ci/script ]; then
    chmod +x /run/ci/script
    /run/ci/script >/run/ci/out 2>&1
    say "USERDATA-EXIT $?"
    sed 's/^/USERDATA: /' /run/ci/out >/dev/console
  fi
  if [ "$IID" ] && [ -d /data/lost+found ]; then echo "$IID" >/data/instance-id; fi
}
