#!/bin/bash
# Builds the tiny guest image from Debian packages only: the cloud kernel, busybox, OpenSSH's server and QEMU's guest agent.
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
USR_MIB=32
APPEND="quiet loglevel=1 console=tty0 console=ttyS0 tsc=reliable no_timer_check nokaslr mitigations=off \
random.trust_cpu=on rcupdate.rcu_expedited=1 cryptomgr.notests panic=5"
PACKAGES="busybox-static openssh-server openssh-client libssl3 libwrap0 libaudit1 libpam0g libsystemd0 libselinux1
  libgssapi-krb5-2 libkrb5-3 libkrb5support0 libk5crypto3 libcom-err2 libkeyutils1 libnsl2 libtirpc3 libcap-ng0 libcap2
  libgcrypt20 libgpg-error0 liblzma5 libzstd1 liblz4-1 zlib1g libcrypt1 qemu-guest-agent libglib2.0-0 libpcre2-8-0
  libudev1 libnuma1 liburing2 libc6"
MODULES="virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net
  virtio_blk virtio_console virtio-rng virtio_balloon virtio_mmio button evdev cdrom isofs scsi_common scsi_mod
  virtio_scsi sd_mod sr_mod libata ata_piix"
LIBRARIES="ld-linux-x86-64.so.2 libcrypto.so.3 libwrap.so.0 libaudit.so.1 libpam.so.0 libsystemd.so.0
  libselinux.so.1 libgssapi_krb5.so.2 libkrb5.so.3 libkrb5support.so.0 libk5crypto.so.3 libcom_err.so.2
  libkeyutils.so.1 libnsl.so.2 libtirpc.so.3 libcap-ng.so.0 libcap.so.2 libgcrypt.so.20 libgpg-error.so.0
  liblzma.so.5 libzstd.so.1 liblz4.so.1 libz.so.1 libcrypt.so.1 libc.so.6 libresolv.so.2 libm.so.6
  libudev.so.1 libnuma.so.1 liburing.so.2 libglib-2.0.so.0 libgmodule-2.0.so.0 libpcre2-8.so.0"

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

# What has to be in memory: the kernel unpacks it before there is a disk, so it holds busybox and modules only.
make_initrd() {
  local r=$W/root x=$W/x m
  mkdir -p "$r"/{bin,sbin,etc/ssh,proc,sys,dev,run,tmp,root,lib/modules,lib64,usr,var/log,var/lib}
  cp "$x/bin/busybox" "$r/bin/"
  ln -s busybox "$r/bin/sh"
  ln -s ../usr/lib/ld-linux-x86-64.so.2 "$r/lib64/"
  for m in $MODULES; do cp "$(find "$x/lib/modules" -name "$m.ko" | grep . || fail "no module $m")" "$r/lib/modules/"; done
  cp "$HERE/init" "$r/init"
  cp "$HERE"/{addresses,cloud,hotplug,network,udhcpc}.sh "$r/etc/"
  cp "$HERE/sshd_config" "$r/etc/ssh/"
  cp "$HERE/shutdown" "$r/sbin/"
  chmod -R a+rX,u+w "$r"
  chmod +x "$r/init" "$r"/etc/*.sh "$r/sbin/shutdown"
  echo "root:$(openssl passwd -6 -salt tiny tiny):0:0:root:/root:/bin/sh" >"$r/etc/passwd"
  echo "sshd:*:100:65534::/run/sshd:/bin/false" >>"$r/etc/passwd"
  echo root:x:0: >"$r/etc/group"
  echo /bin/sh >"$r/etc/shells"
  echo 'tiny \n \l (log in as root, password tiny)' >"$r/etc/issue"
  (cd "$r" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0) >"$W/initrd.cpio"
  lz4 -l -9 -q -f "$W/initrd.cpio" "$W/initrd.img"
}

# What is mounted at /usr: programs with libraries, read from the disk when they are needed.
make_usr() {
  local u=$W/usr x=$W/x p l
  mkdir -p "$u"/{bin,lib,sbin}
  for p in sbin/sshd sbin/qemu-ga bin/ssh-keygen; do cp "$x/usr/$p" "$u/$p"; done
  for l in $LIBRARIES; do cp -L "$(find "$x" -name "$l" | head -n 1 | grep . || fail "no library $l")" "$u/lib/$l"; done
  chmod -R a+rX,u+w "$u"
  truncate -s ${USR_MIB}M "$W/usr.ext"
  mke2fs -q -t ext4 -L TINYUSR -m 0 -O ^metadata_csum,^has_journal -E root_owner=0:0 -d "$u" "$W/usr.ext"
}

# MBR; partition 1 FAT with syslinux and the kernel, 2 ext4 for the guest's own data, 3 ext4 with /usr.
make_disk() {
  local kernel=$W/x/boot/vmlinuz-${KERNEL#linux-image-} boot_mib usr_at
  boot_mib=$((($(stat -c%s "$kernel") + $(stat -c%s "$W/initrd.img")) / 1048576 + 5))
  usr_at=$((1 + boot_mib + DATA_MIB))
  truncate -s ${boot_mib}M "$W/fat"
  mkfs.vfat -F 16 -n TINYBOOT "$W/fat" >/dev/null
  printf 'DEFAULT t\nPROMPT 0\nTIMEOUT 0\nLABEL t\n LINUX /vmlinuz\n INITRD /initrd.img\n APPEND %s\n' "$APPEND" >"$W/syslinux.cfg"
  export MTOOLS_SKIP_CHECK=1
  mcopy -i "$W/fat" "$kernel" ::vmlinuz
  mcopy -i "$W/fat" "$W/initrd.img" ::initrd.img
  mcopy -i "$W/fat" "$W/syslinux.cfg" ::syslinux.cfg
  syslinux --install "$W/fat"
  truncate -s ${DATA_MIB}M "$W/ext"
  # With a journal, since nothing repairs it after the plug was pulled.
  mke2fs -q -t ext4 -L TINYDATA -O ^metadata_csum -J size=1 "$W/ext"
  truncate -s $((usr_at + USR_MIB + 1))M "$W/raw"
  printf '%s\n' 'label: dos' 'label-id: 0x54494e59' \
    "start=2048, size=$((boot_mib * 2048)), type=ef, bootable" \
    "start=$(((1 + boot_mib) * 2048)), size=$((DATA_MIB * 2048)), type=83" \
    "start=$((usr_at * 2048)), size=$((USR_MIB * 2048)), type=83" | sfdisk -q "$W/raw"
  dd if=/usr/lib/syslinux/mbr/mbr.bin of="$W/raw" bs=440 count=1 conv=notrunc status=none
  dd if="$W/fat" of="$W/raw" bs=1M seek=1 conv=notrunc,sparse status=none
  dd if="$W/ext" of="$W/raw" bs=1M seek=$((1 + boot_mib)) conv=notrunc,sparse status=none
  dd if="$W/usr.ext" of="$W/raw" bs=1M seek=$usr_at conv=notrunc,sparse status=none
  qemu-img convert -f raw -O qcow2 "$W/raw" "$W/tiny.qcow2"
}

fetch_packages
say "building the image"
unpack_packages
make_initrd
make_usr
make_disk
mv "$W/tiny.qcow2" "$OUT/tiny.qcow2"
echo "$INPUTS" >"$OUT/tiny.inputs"
