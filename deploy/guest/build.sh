#!/bin/bash
# Builds the tiny guest image from Debian packages only: the cloud kernel, busybox, dropbear and QEMU's guest agent.
#
#   build.sh CACHEDIR      ->  CACHEDIR/tiny.qcow2
#
# Needs no root, no loop device and no mount. The image is rebuilt only when this folder's files change, and appears
# under its name in one rename, so an interrupted build leaves nothing half-made.
set -euo pipefail
umask 022
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# = 1 ] || { echo "usage: $0 CACHEDIR" >&2; exit 2; }
mkdir -p "$1/debs"
OUT=$(cd "$1" && pwd)
DEBS=$OUT/debs
DATA_MIB=16
APPEND="quiet loglevel=1 console=tty0 console=ttyS0 tsc=reliable no_timer_check nokaslr mitigations=off \
random.trust_cpu=on rcupdate.rcu_expedited=1 cryptomgr.notests panic=5"
PACKAGES="busybox-static dropbear-bin libtomcrypt1 libtommath1 qemu-guest-agent libglib2.0-0 libpcre2-8-0 libudev1
  libnuma1 liburing2 zlib1g libcrypt1 libgmp10 libc6"
MODULES="virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net
  virtio_blk virtio_console virtio-rng virtio_balloon virtio_mmio button evdev cdrom isofs scsi_common scsi_mod
  virtio_scsi sd_mod sr_mod libata ata_piix"
LIBRARIES="libtomcrypt.so.1 libtommath.so.1 libz.so.1 libcrypt.so.1 libgmp.so.10 libc.so.6 libudev.so.1 libnuma.so.1
  liburing.so.2 libglib-2.0.so.0 libgmodule-2.0.so.0 libm.so.6 libpcre2-8.so.0"

say() { printf '  %-11s %s\n' "guest" "$*"; }
fail() { echo "guest image: $*" >&2; exit 1; }

exec 9>"$OUT/.lock"
flock -w 600 9 || fail "another build has held $OUT/.lock for ten minutes."
INPUTS=$(cd "$HERE" && find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1)
if [ -s "$OUT/tiny.qcow2" ] && [ "$(cat "$OUT/tiny.inputs" 2>/dev/null)" = "$INPUTS" ]; then exit 0; fi
rm -rf "$OUT"/build.*
W=$(mktemp -d "$OUT/build.XXXXXX")
trap 'rm -rf "$W"' EXIT

download() {
  # apt's own sandbox user cannot write to our folder, of which it warns.
  (cd "$DEBS" && apt-get download -q "$@" >"$W/apt.log" 2>&1)
}

fetch_packages() {
  local need=() p
  KERNEL=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends:/ { print $2; exit }')
  if [ -z "$KERNEL" ]; then
    apt-get -q update >"$W/apt.log" 2>&1 || { cat "$W/apt.log" >&2; fail "apt-get update failed."; }
    KERNEL=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ { print $2; exit }')
  fi
  for p in $KERNEL $PACKAGES; do compgen -G "$DEBS/${p}_*.deb" >/dev/null || need+=("$p"); done
  [ ${#need[@]} = 0 ] && return
  say "downloading ${#need[@]} packages"
  download "${need[@]}" || { apt-get -q update >/dev/null 2>&1 && download "${need[@]}"; } ||
    { cat "$W/apt.log" >&2; fail "apt-get download ${need[*]} failed."; }
}

unpack_packages() {
  local p
  for p in $KERNEL $PACKAGES; do dpkg -x "$(ls -t "$DEBS/${p}"_*.deb | head -n 1)" "$W/x"; done
}

make_initrd() {
  local r=$W/root x=$W/x m l
  mkdir -p "$r"/{bin,sbin,etc/dropbear,proc,sys,dev,run,tmp,root,lib/modules,lib64,usr/sbin,usr/bin,var/log,var/lib}
  cp "$x/bin/busybox" "$r/bin/"
  ln -s busybox "$r/bin/sh"
  for m in $MODULES; do cp "$(find "$x/lib/modules" -name "$m.ko" | grep . || fail "no module $m")" "$r/lib/modules/"; done
  cp "$x/usr/sbin/dropbear" "$x/usr/sbin/qemu-ga" "$r/usr/sbin/"
  cp "$x/usr/bin/dropbearkey" "$r/usr/bin/"
  for l in $LIBRARIES; do cp -L "$(find "$x" -name "$l" | head -n 1 | grep . || fail "no library $l")" "$r/lib/$l"; done
  cp -L "$(find "$x" -name ld-linux-x86-64.so.2 | head -n 1)" "$r/lib64/"
  cp "$HERE/init" "$r/init"
  cp "$HERE"/{addresses,cloud,hotplug,network,udhcpc}.sh "$r/etc/"
  cp "$HERE/shutdown" "$r/sbin/"
  chmod -R a+rX,u+w "$r"
  chmod +x "$r/init" "$r"/etc/*.sh "$r/sbin/shutdown"
  echo "root:$(openssl passwd -6 -salt tiny tiny):0:0:root:/root:/bin/sh" >"$r/etc/passwd"
  echo root:x:0: >"$r/etc/group"
  echo /bin/sh >"$r/etc/shells"
  echo 'tiny \n \l (log in as root, password tiny)' >"$r/etc/issue"
  (cd "$r" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0) >"$W/initrd.cpio"
  lz4 -l -9 -q -f "$W/initrd.cpio" "$W/initrd.img"
}

# MBR; partition 1 FAT with syslinux and the kernel, partition 2 ext4 for the guest's own data.
make_disk() {
  local kernel=$W/x/boot/vmlinuz-${KERNEL#linux-image-} boot_mib
  boot_mib=$((($(stat -c%s "$kernel") + $(stat -c%s "$W/initrd.img")) / 1048576 + 5))
  truncate -s ${boot_mib}M "$W/fat"
  mkfs.vfat -F 16 -n TINYBOOT "$W/fat" >/dev/null
  printf 'DEFAULT t\nPROMPT 0\nTIMEOUT 0\nLABEL t\n LINUX /vmlinuz\n INITRD /initrd.img\n APPEND %s\n' "$APPEND" >"$W/syslinux.cfg"
  export MTOOLS_SKIP_CHECK=1
  mcopy -i "$W/fat" "$kernel" ::vmlinuz
  mcopy -i "$W/fat" "$W/initrd.img" ::initrd.img
  mcopy -i "$W/fat" "$W/syslinux.cfg" ::syslinux.cfg
  syslinux --install "$W/fat"
  truncate -s ${DATA_MIB}M "$W/ext"
  mke2fs -q -t ext4 -L TINYDATA -O ^metadata_csum,^has_journal "$W/ext"
  truncate -s $((1 + boot_mib + DATA_MIB + 1))M "$W/raw"
  printf 'label: dos\nlabel-id: 0x54494e59\nstart=2048, size=%d, type=ef, bootable\nstart=%d, size=%d, type=83\n' \
    $((boot_mib * 2048)) $(((1 + boot_mib) * 2048)) $((DATA_MIB * 2048)) | sfdisk -q "$W/raw"
  dd if=/usr/lib/syslinux/mbr/mbr.bin of="$W/raw" bs=440 count=1 conv=notrunc status=none
  dd if="$W/fat" of="$W/raw" bs=1M seek=1 conv=notrunc,sparse status=none
  dd if="$W/ext" of="$W/raw" bs=1M seek=$((1 + boot_mib)) conv=notrunc,sparse status=none
  qemu-img convert -f raw -O qcow2 "$W/raw" "$W/tiny.qcow2"
}

fetch_packages
say "building the image"
unpack_packages
make_initrd
make_disk
mv "$W/tiny.qcow2" "$OUT/tiny.qcow2"
echo "$INPUTS" >"$OUT/tiny.inputs"
