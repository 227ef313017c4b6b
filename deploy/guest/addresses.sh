#!/bin/sh
# addresses.sh INTERFACE: set what the network-config says of the card with the interface's MAC (lines of cloud.sh).
mac=$(cat /sys/class/net/$1/address)
grep "^$mac " /run/ci/net >/run/net.$1 2>/dev/null || exit 0
if ! grep -q ' dhcp4$' /run/net.$1; then
  # udhcpc.sh looks for this mark, so that a client that is just starting does not flush what is set here.
  : >/run/static.$1
  kill $(cat /run/udhcpc.$1.pid) 2>/dev/null
fi
: >/run/resolv.$1.static
while read mac what value via metric; do
  case $what in
    mtu) ip link set $1 mtu $value ;;
    address)
      ip addr add $value dev $1 2>/dev/null || continue
      case $value in *:*) ;; *) echo ${value%/*} >/run/address.$1 ;; esac
      echo "GUEST-ADDRESS $1 ${value%/*}" >/dev/console ;;
    route) ip route replace $value via $via dev $1 metric ${metric:-100} ;;
    dns) echo "nameserver $value" >>/run/resolv.$1.static ;;
  esac
done </run/net.$1
cat /run/resolv.* >/etc/resolv.conf
exit 0
