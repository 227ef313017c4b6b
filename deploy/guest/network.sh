#!/bin/sh
# network.sh INTERFACE: bring an interface up: DHCP for IPv4; IPv6 by the kernel from router advertisements.
ip link set $1 up
# -b: go on in the background when nobody answers; -S: log to syslog, which is nobody.
udhcpc -i $1 -t 20 -T 1 -A 5 -S -b -p /run/udhcpc.$1.pid -s /etc/udhcpc.sh >/dev/null 2>&1 &
