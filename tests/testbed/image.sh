#!/bin/bash
# Builds the guest image of the tests and the demo from Debian packages, or finds the one
# built before. Prints the directory that holds
#   vmlinuz, initrd   for direct kernel boot: append "console=ttyS0 quiet" and hci.* options
#   disk.img          512 MiB raw: ext4 root in the first half, records in the second
#   verify            the host's tool (examples/demo/guest/verify.c)
#   packages          what it was made of
# The directory's name carries a hash of the recipe (this file and examples/demo/guest), so
# a changed recipe makes a new image and an old checkout keeps its own.
#
# usage: image.sh [--quiet] [--path]     --path: only print where it is or would be
# Cache: $HCI_CACHE_DIR, else $XDG_CACHE_HOME/hci, else /var/cache/hci
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
guest=$(cd "$here/../../examples/demo/guest" && pwd)
cache=${HCI_CACHE_DIR:-${XDG_CACHE_HOME:-/var/cache}/hci}
disk_mib=512 root_mib=256
quiet='' path_only=''

die() {
	echo "image.sh: $*" >&2
	exit 1
}

say() { [ -n "$quiet" ] || echo "image.sh: $*" >&2; }

for arg in "$@"; do
	case $arg in
	--quiet) quiet=1 ;;
	--path) path_only=1 ;;
	*) die "unknown option '$arg': see the head of this file" ;;
	esac
done

recipe_hash() {
	cat "$here/image.sh" "$guest"/{recorder.c,verify.c,record.h,init.initramfs,inittab,rc,record,shell,stop} |
		sha256sum | cut -c1-12
}

# The name of the kernel package changes with every security update: ask for the newest.
kernel_package() {
	apt-cache depends linux-image-cloud-amd64 2>/dev/null |
		sed -n 's/.*Depends: \(linux-image-[0-9].*-cloud-amd64\)$/\1/p' | head -n 1
}

fetch_packages() {
	local kernel
	kernel=$(kernel_package)
	if [ -z "$kernel" ]; then
		say "apt has no package lists: apt-get update"
		apt-get -q update >&2 || die "apt-get update failed: a Debian mirror must be reachable once"
		kernel=$(kernel_package)
	fi
	[ -n "$kernel" ] || die "apt knows no linux-image-cloud-amd64: is this Debian on x86-64?"
	say "fetching $kernel and busybox-static"
	# As root apt would try to drop to its own user, who may not write here.
	apt-get -q -o APT::Sandbox::User=root download "$kernel" busybox-static >apt.log 2>&1 ||
		die "apt-get download $kernel busybox-static failed: $(tail -n 3 apt.log)"
	for deb in ./*.deb; do
		basename "$deb" .deb >>out/packages
		dpkg -x "$deb" pkg
	done
}

make_initrd() {
	local m modules
	modules=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk
		failover net_failover virtio_net evdev button)
	mkdir -p initrd/bin initrd/modules
	cp pkg/bin/busybox initrd/bin/
	cp "$guest/init.initramfs" initrd/init
	for m in "${modules[@]}"; do
		find pkg/lib/modules -name "$m.ko" -exec cp {} initrd/modules/ \;
		[ -f "initrd/modules/$m.ko" ] || die "the kernel package has no $m.ko"
	done
	(cd initrd && find . | ../pkg/bin/busybox cpio -o -H newc 2>/dev/null) | gzip -1 >out/initrd
}

make_disk() {
	mkdir -p root/{bin,sbin,etc/acpi/PWRF,dev,proc,sys,run,tmp,var}
	cp pkg/bin/busybox root/bin/
	for applet in $(pkg/bin/busybox --list); do
		[ "$applet" = busybox ] || ln -s busybox "root/bin/$applet"
	done
	ln -s ../bin/busybox root/sbin/init
	cp "$guest"/{inittab,rc,record,shell,stop} root/etc/
	printf '#!/bin/sh\n/bin/poweroff\n' >root/etc/acpi/PWRF/00000080
	chmod +x root/etc/acpi/PWRF/00000080
	echo 'root::0:0:root:/:/bin/sh' >root/etc/passwd
	gcc -O2 -static -o root/bin/recorder "$guest/recorder.c" ||
		die "gcc -static failed: install gcc and libc6-dev"
	# The root file system is smaller than the disk: the rest is the records' raw area.
	mke2fs -q -t ext4 -L hci-root -E root_owner=0:0 -d root out/disk.img "${root_mib}M" >/dev/null ||
		die "mke2fs failed: install e2fsprogs"
	truncate -s "${disk_mib}M" out/disk.img
}

build() {
	cd "$work"
	mkdir out pkg
	fetch_packages
	cp pkg/boot/vmlinuz-* out/vmlinuz
	make_initrd
	make_disk
	gcc -O2 -o out/verify "$guest/verify.c"
}

out=$cache/image-$(recipe_hash)
if [ -n "$path_only" ]; then
	echo "$out"
	exit 0
fi
if [ ! -d "$out" ]; then
	mkdir -p "$cache" || die "cannot make $cache: set HCI_CACHE_DIR"
	exec 8>"$cache/image.lock"
	flock 8
	if [ ! -d "$out" ]; then
		for c in gcc mke2fs dpkg apt-get; do
			command -v $c >/dev/null || die "$c is missing: install the packages of $here/packages.txt"
		done
		rm -rf "$cache"/image-build.* # of a builder that died: we hold the lock
		work=$(mktemp -d "$cache/image-build.XXXXXX")
		trap 'rm -rf "$work"' EXIT
		build
		mv "$work/out" "$out"
		say "built $out"
	fi
fi
echo "$out"
