#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds what the tests with USB devices boot, or finds what was built before. Prints the directory that holds
#   vmlinuz       Debian's plain kernel: the cloud kernel of image.sh has no USB
#   initrd        of a guest that sees USB (usb/guest-init, usb/usbwatch.c); its root is the disk.img of image.sh
#   host-initrd   of the machine that has the device: see usb-host.sh
#   packages      what it was made of
# The directory's name carries a hash of the recipe (this file and usb), so a changed recipe makes new ones.
#
# usage: usb-image.sh [--quiet] [--path]     --path: only print where it is or would be
# Cache: as image.sh. The kernel's package (70 MB) is fetched once a build and not kept.
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
cache=${HCI_CACHE_DIR:-${XDG_CACHE_HOME:-/var/cache}/hci}
quiet='' path_only=''

die() {
	echo "usb-image.sh: $*" >&2
	exit 1
}

say() { [ -n "$quiet" ] || echo "usb-image.sh: $*" >&2; }

for arg in "$@"; do
	case $arg in
	--quiet) quiet=1 ;;
	--path) path_only=1 ;;
	*) die "unknown option '$arg': see the head of this file" ;;
	esac
done

recipe_hash() { cat "$here/usb-image.sh" "$here"/usb/{usbwatch.c,guest-init,host-init} | sha256sum | cut -c1-12; }

# The name of the kernel package changes with every security update: ask for the newest.
kernel_package() {
	apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1
}

fetch_packages() {
	local kernel
	kernel=$(kernel_package)
	if [ -z "$kernel" ]; then
		say "apt has no package lists: apt-get update"
		apt-get -q update >&2 || die "apt-get update failed: a Debian mirror must be reachable once"
		kernel=$(kernel_package)
	fi
	[ -n "$kernel" ] || die "apt knows no linux-image-amd64: is this Debian on x86-64?"
	say "fetching $kernel and busybox-static"
	# As root apt would try to drop to its own user, who may not write here.
	apt-get -q -o APT::Sandbox::User=root download "$kernel" busybox-static >apt.log 2>&1 ||
		die "apt-get download $kernel busybox-static failed: $(tail -n 3 apt.log)"
	for deb in ./*.deb; do
		basename "$deb" .deb >>out/packages
		dpkg -x "$deb" pkg
	done
	dpkg-query -W -f '${Package}_${Version}\n' usbredirect >>out/packages
}

# Each module needs those before it. A module's parameters follow its name after colons.
usb=(usb-common usbcore xhci-hcd xhci-pci)
virtio=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk failover net_failover virtio_net)
scsi=(scsi_common scsi_mod crct10dif_common crct10dif_generic crc-t10dif crc64 crc64-rocksoft t10-pi sd_mod
	usb-storage:delay_use=0)
ext4=(crc32c_generic crc16 mbcache jbd2 ext4)

# DIR INIT MODULE...: the skeleton of an initramfs; its init runs the script modules/load.
initramfs() {
	local dir=$1 m name
	mkdir -p "$dir/bin" "$dir/modules"
	cp pkg/bin/busybox "$dir/bin/"
	install -m 0755 "$2" "$dir/init"
	shift 2
	for m; do
		name=${m%%:*}
		# One name has other dashes in the package than in its dependants.
		find pkg/lib/modules \( -name "$name.ko" -o -name "${name//-/_}.ko" \) -exec cp {} "$dir/modules/$name.ko" \;
		[ -f "$dir/modules/$name.ko" ] || die "the kernel package has no $name.ko"
		m=${m#"$name"}
		echo "/bin/busybox insmod /modules/$name.ko${m//:/ } || echo 'init: $name does not load'" >>"$dir/modules/load"
	done
}

pack() { (cd "$1" && find . | ../pkg/bin/busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"out/$2"; }

make_guest() {
	initramfs guest "$here/usb/guest-init" "${virtio[@]}" "${ext4[@]}" "${usb[@]}" "${scsi[@]}" evdev button
	gcc -O2 -static -o guest/bin/usbwatch "$here/usb/usbwatch.c" || die "gcc -static failed: install gcc and libc6-dev"
	pack guest initrd
}

# The server and its libraries are those that are installed here.
make_host() {
	local server lib
	server=$(command -v usbredirect)
	initramfs host "$here/usb/host-init" e1000 "${usb[@]}"
	cp "$server" host/bin/
	for lib in $(ldd "$server" | grep -o '/[^ ]*'); do
		mkdir -p "host$(dirname "$lib")"
		cp -L "$lib" "host$lib"
	done
	pack host host-initrd
}

build() {
	cd "$work"
	mkdir out pkg
	fetch_packages
	cp pkg/boot/vmlinuz-* out/vmlinuz
	make_guest
	make_host
}

out=$cache/usb-image-$(recipe_hash)
if [ -n "$path_only" ]; then
	echo "$out"
	exit 0
fi
if [ ! -d "$out" ]; then
	mkdir -p "$cache" || die "cannot make $cache: set HCI_CACHE_DIR"
	exec 8>"$cache/usb-image.lock"
	flock 8
	if [ ! -d "$out" ]; then
		for c in gcc dpkg apt-get usbredirect; do
			command -v $c >/dev/null || die "$c is missing: install the packages of $here/packages.txt"
		done
		rm -rf "$cache"/usb-image-build.* # of a builder that died: we hold the lock
		work=$(mktemp -d "$cache/usb-image-build.XXXXXX")
		trap 'rm -rf "$work"' EXIT
		build
		mv "$work/out" "$out"
		say "built $out"
	fi
fi
echo "$out"
