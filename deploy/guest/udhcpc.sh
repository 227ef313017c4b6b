#!/bin/sh
# What to do with a DHCP lease. Called by udhcpc with the lease's fields in the environment.
[ -e /run/static.$interface ] && exit 0
n=${interface#eth}
case $1 in
  bound | renew)
    # Only IPv4 is flushed: IPv6 addresses belong to the kernel.
    [ "$(cat /run/address.$interface 2>/dev/null)" = "$ip" ] || ip -4 addr flush dev $interface
    ip addr replace $ip/${mask:-24} dev $interface
    [ "$mtu" ] && ip link set $interface mtu $mtu
    # Option 121, "net/len gateway" pairs, replaces the router option (RFC 3442).
    if [ "$staticroutes" ]; then
      set -- $staticroutes
      while [ $# -ge 2 ]; do
        if [ "$2" = 0.0.0.0 ]; then ip route replace $1 dev $interface metric $((100 + n))
        else ip route replace $1 via $2 dev $interface metric $((100 + n)); fi
        shift 2
      done
    else
      for r in $router; do ip route replace default via $r dev $interface metric $((100 + n)); break; done
    fi
    : >/run/resolv.$interface
    [ "$domain" ] && echo "search $domain" >>/run/resolv.$interface
    for d in $dns; do echo "nameserver $d" >>/run/resolv.$interface; done
    cat /run/resolv.* >/etc/resolv.conf
    [ "$(cat /run/address.$interface 2>/dev/null)" = "$ip" ] || echo "GUEST-ADDRESS $interface $ip" >/dev/console
    echo $ip >/run/address.$interface ;;
  deconfig)
    ip link set $interface up
    ip -4 addr flush dev $interface
    rm -f /run/address.$interface ;;
esac
