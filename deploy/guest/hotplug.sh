#!/bin/sh
# Called by busybox uevent for every kernel event, with the event's fields in the environment.
case $ACTION:$SUBSYSTEM in
  add:net)
    case $INTERFACE in eth*) [ -e /run/udhcpc.$INTERFACE.pid ] || /etc/network.sh $INTERFACE ;; esac ;;
  remove:net)
    [ -e /run/udhcpc.$INTERFACE.pid ] && kill $(cat /run/udhcpc.$INTERFACE.pid)
    rm -f /run/udhcpc.$INTERFACE.pid /run/address.$INTERFACE /run/static.$INTERFACE ;;
  add:block | remove:block | change:block)
    # Before GUEST-READY the list would only get in the way of people reading the boot.
    [ -e /run/ready ] || exit 0
    now=DISKS
    for b in /sys/block/vd* /sys/block/sd*; do [ -e $b ] && now="$now ${b##*/}:$(cat $b/size)"; done
    [ "$now" = "$(cat /run/disks 2>/dev/null)" ] && exit 0
    echo "$now" >/run/disks
    echo "$now" >/dev/console ;;
esac
exit 0
