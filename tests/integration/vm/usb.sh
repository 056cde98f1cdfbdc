#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A guest with a USB disk that another node has: it comes when the guest runs, goes and comes again with the machine that serves it,
# and follows the guest when it moves. What the guest says of it is held against the file behind the device.
#
# usage: usb.sh VMCTL HCI-NODE PLUGIN-DIR HCICTL
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

hcictl=$4
port=4000
key=$bed/shared/key.img
text="HCI-USB-KEY of the test"
usb_host=$here/../../testbed/usb-host.sh

hci() { tb exec n1 env HCI_PLUGIN_DIR="$plugins" "$hcictl" --store "$store" "$@"; }

# n3 has the device: the mapping names an address there that only n3 itself reaches, so the service of n3 has to carry the bytes.
before_nodes() { node_start n3; }
usb_host_log() { echo "$bed/nodes/n3/log/usbhost.log"; }
usb_host_ready() { grep -aq 'HCI-USBHOST ready' "$(usb_host_log)"; }
usb_host_up() {
	rm -f "$(usb_host_log)"
	tb start n3 usbhost "$usb_host" --disk "$key" --serial key1 --port $port >/dev/null && wait_for 120 usb_host_ready
}
usb_host_down() { tb stop n3 usbhost KILL; }

# What the guest said of USB on NODE, after the first LINES such lines.
told() { grep -aoE 'HCI-USB .*' "$(console "$1")" 2>/dev/null | tr -d '\r' | tail -n +$(($2 + 1)); }
lines() { told "$1" 0 | wc -l; }
says() { told "$1" "$2" | grep -qE "$3"; } # NODE LINES PATTERN
now() { date +%s%3N; }

# The last number that the guest wrote and read again on NODE; what the device holds.
counted() { told "$1" "${2:-0}" | sed -n 's/^HCI-USB wrote \([0-9]*\) read \1$/\1/p' | tail -n 1; }
counter() { "$usb_host" --counter "$key"; }
reaches() { local n; n=$(counted "$1" "$2"); [ -n "$n" ] && [ "$n" -ge "$3" ]; } # NODE LINES N
# Five more writes reach the file behind the device. None was ever read back as another than it was written.
counts() {
	local from n
	from=$(lines "$1")
	wait_for 60 says "$1" "$from" '^HCI-USB wrote' && wait_for 60 reaches "$1" "$from" $(($(counted "$1" "$from") + 5)) || return 1
	n=$(counted "$1" "$from") # before the device is looked at: the guest goes on
	[ "$(counter)" -ge "$n" ] && as_written
}

# Of each console but the last line: it may just be coming.
as_written() {
	local all node
	all=$(for node in n1 n2 n3; do sed '$d' "$(console "$node")" 2>/dev/null; done | tr -d '\r' | grep -aoE 'HCI-USB wrote [0-9]+ read [0-9]+$')
	[ -n "$all" ] && ! grep -vqE 'wrote ([0-9]+) read \1$' <<<"$all"
}

# FROM TO: the guest sees it go and come, and it holds what was written at FROM. That QEMU at TO lives on is a part of it: 7.2
# dies when the socket at FROM is closed between the guest's stop and the end of the state.
moves() {
	local before lines_to began
	lines_to=$(lines "$2")
	before=$(counted "$1")
	began=$(now)
	check "migrates to $2" ctl migrate v1 "$2" 0 0
	check "the guest sees it unplugged" wait_for 60 says "$2" "$lines_to" '^HCI-USB out key1'
	check "and plugged in again" wait_for 60 says "$2" "$lines_to" '^HCI-USB in key1 '
	echo "# $(($(now) - began)) ms after the migration began"
	check "the same one" says "$2" "$lines_to" "^HCI-USB in key1 .* text=$text\$"
	check "with what was written" eval "[ \"\$(told $2 $lines_to | sed -n 's/.* counter=\([0-9]*\) .*/\1/p' | tail -n 1)\" -ge ${before:-1} ]"
	check "reads and writes go on" counts "$2"
	check "runs on $2" vm_is_on "$2"
}

nodes=3 bed_up
wait_for 60 service_up n3 || exit 1
# As any Debian kernel it has USB; its root file system is that of the other guests.
usb_image=$("$here/../../testbed/usb-image.sh" --quiet) || exit 1
"$usb_host" --make "$key" "$text" || exit 1
hci vm define v1 --node n1 --kernel "$usb_image/vmlinuz" --initrd "$usb_image/initrd" --volume vol \
	--usb name=key1,node=n3,server=tcp:127.0.0.1:$port \
	--cmdline "console=ttyS0 quiet panic=-1 no_timer_check hci.rate=50" || exit 1
check "the VM starts, though nothing serves the device" ctl start v1
check "the guest writes" writes
check "there is no USB disk" eval "! says n1 0 '^HCI-USB in'"

echo "# the device comes, goes and comes again"
check "the machine with the device starts" usb_host_up
check "the guest sees it plugged in" wait_for 60 says n1 0 '^HCI-USB in key1 '
check "the very one" says n1 0 "^HCI-USB in key1 .* counter=0 text=$text\$"
check "it is read and written" counts n1
from=$(lines n1)
check "the machine with the device stops" usb_host_down
check "the guest sees it unplugged" wait_for 60 says n1 "$from" '^HCI-USB out key1'
from=$(lines n1)
check "the machine with the device is back" usb_host_up
check "the guest sees it plugged in" wait_for 60 says n1 "$from" '^HCI-USB in key1 '
check "it is read and written" counts n1

echo "# n1 -> n2 -> n3, which has the device -> n1"
moves n1 n2
moves n2 n3
moves n3 n1

echo "# the service is killed and started anew"
from=$(lines n1)
service_kill n1
node_start n1
check "the guest sees it unplugged" wait_for 60 says n1 "$from" '^HCI-USB out key1'
check "and plugged in again" wait_for 60 says n1 "$from" '^HCI-USB in key1 '
check "reads and writes go on" counts n1

echo "# the end"
check "the guest wrote all the time" writes
check "shuts down" ctl stop v1 shutdown
check "no record is lost or stale" verify
check "nothing is left of it" nothing_on n1
finish
