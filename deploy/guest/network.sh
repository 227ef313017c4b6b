#!/bin/sh
# network.sh INTERFACE: bring an interface up: what the drive says of it, once that was read; DHCP for IPv4; IPv6 also by
# the kernel from router advertisements.
echo 0 >/proc/sys/net/ipv6/conf/$1/dad_transmits # nobody else can have the address, so no second is lost
ip link set $1 up
/etc/addresses.sh $1
[ -e /run/static.$1 ] && exit 0
# -b: go on in the background when nobody answers; -S: log to syslog, which is nobody.
udhcpc -i $1 -t 20 -T 1 -A 5 -S -b -p /run/udhcpc.$1.pid -s /etc/udhcpc.sh >/dev/null 2>&1 &
