#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A machine with a USB device, for machines that have no USB: a small QEMU guest with an emulated USB disk, and Debian's usbredir
# server in it. Becomes that QEMU; so as a daemon of a test bed's node
#
#   testbed start n3 usbhost /path/to/usb-host.sh --disk FILE --serial key1 --port 4000
#   until the daemon's log has "HCI-USBHOST ready"
#   testbed stop n3 usbhost KILL
#
# it serves the device at 127.0.0.1:4000 of the node. Whoever connects before the guest is up is hung up on, as the port is
# QEMU's. One client at a time, as with any usbredir server.
#
# usage: usb-host.sh --make FILE [TEXT]    a disk of 8 MiB: TEXT is its first line, by which it is known
#        usb-host.sh --counter FILE        what a guest (usb/usbwatch.c) has last written to it
#        usb-host.sh --disk FILE --serial SERIAL --port PORT [--address ADDRESS]
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
disk='' serial='' port='' address=127.0.0.1

die() {
	echo "usb-host.sh: $*" >&2
	exit 1
}

while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || die "option '$1' needs a value, or is unknown: see the head of this file"
	case $1 in
	--make)
		truncate -s 8M "$2"
		printf '%s\n' "${3:-HCI-USB-KEY}" | dd of="$2" conv=notrunc status=none
		exit
		;;
	--counter)
		dd if="$2" bs=4096 skip=256 count=1 status=none | tr -d '\0'
		exit
		;;
	--disk) disk=$2 ;;
	--serial) serial=$2 ;;
	--port) port=$2 ;;
	--address) address=$2 ;;
	*) die "unknown option '$1': see the head of this file" ;;
	esac
	shift 2
done
[ -n "$disk" ] && [ -n "$serial" ] && [ -n "$port" ] || die "--disk, --serial and --port are needed"
image=$("$here/usb-image.sh" --quiet)

# cache=writethrough: what the device acknowledged is in the file. no_timer_check: on a busy machine the emulated timer is late, and
# the kernel takes it for broken.
exec qemu-system-x86_64 -accel tcg -machine q35 -m 256 -nodefaults -no-user-config -display none -no-reboot -serial stdio \
	-kernel "$image/vmlinuz" -initrd "$image/host-initrd" -append "console=ttyS0 quiet panic=-1 no_timer_check" \
	-drive "if=none,id=disk,file=$disk,format=raw,cache=writethrough" -device qemu-xhci \
	-device "usb-storage,drive=disk,serial=$serial" \
	-nic "user,model=e1000,restrict=on,hostfwd=tcp:$address:$port-10.0.2.15:4000"
