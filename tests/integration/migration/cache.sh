#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A VM whose volume has its only copy at the other node: where it ran before, the read cache still has blocks of the volume, and a
# migration back need not bring them. A cache that has nothing is told of nothing, so nothing is asked for in vain.
#
# usage: cache.sh VMCTL HCI-NODE PLUGIN-DIR HCICTL
# shellcheck source=../vm/lib.sh
. "$(dirname "$0")/../vm/lib.sh"

hcictl=$4
result=$bed/shared/result
# shellcheck disable=SC2034 # lib.sh's
disks=2 node_env="HCI_MIGRATE_INDEX=now HCI_MIGRATE_ASIDE=never HCI_MIGRATE_WITHOUT=store,guest" node_args="--cache-ram 192M"

hci() { tb exec n1 timeout 100 env HCI_PLUGIN_DIR="$plugins" "$hcictl" "$@" --store "$store"; }
known() { grep -q 'volume one: what its blocks contain is known' "$bed/nodes/$1/log/node.log"; }
figure() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" "$result"; }
is_at() { tb exec "$1" virsh -q domstate v1 2>/dev/null | grep -q running; }
has() { echo "# to $1: $(figure volume) blocks of the volume, $(figure refused) in vain, $(figure wire) bytes of $(figure bytes)"; }
move() { # TO
	ctl migrate v1 "$1" 0 0 >"$result" 2>&1 || { cut -c1-300 "$result"; return 1; }
	has "$1"
}
ticks() { cat "$(run_dir n1)/v1.console" "$(run_dir n2)/v1.console" 2>/dev/null | grep -ac '^HCI-ACK'; }
ticked() { [ "$(ticks)" -gt "$1" ]; }
lives() { wait_for 60 ticked "$(($(ticks) + 20))"; }
restart() {
	local n
	for n in n1 n2; do
		service_kill "$n"
		node_start "$n"
	done
	wait_for 60 service_up n1 && wait_for 60 service_up n2 && wait_for 60 running_on n1
}
many() { [ "$(figure volume)" -gt 200 ] && [ "$(figure refused)" -lt $(($(figure volume) / 4)) ]; }
none() { [ "$(figure volume)" = 0 ] && [ "$(figure refused)" = 0 ]; }

bed_up
{
	mkdir -p "$bed/nodes/n1/disks/d2/hci"
	hci pool create q && hci disk add n1 "$bed/nodes/n1/disks/d2/hci" --pool q &&
		hci volume create one "$(stat -c %s "$image/disk.img")" --pool q --replicas 1 && hci volume import one "$image/disk.img"
} >/dev/null || exit 1
ctl define v1 n2 "$image/vmlinuz" "$image/initrd" "console=ttyS0 quiet panic=-1 hci.rate=200" one || exit 1
check "starts where its volume has no copy" ctl start v1
check "writes" lives
check "goes to the copy" move n1
check "which is used" many
check "what is on the volume is known there" wait_for 60 known n1
check "goes back to where it ran" move n2
check "blocks that the cache kept were not sent" many
check "lives there" lives
check "goes to the copy again" move n1
check "the services start anew, so that the cache is empty" restart
wait_for 60 known n1
check "goes to a node that has nothing" move n2
check "and is told so" none
check "lives there" lives
check "nothing of the path is left" wait_for 30 no_path
check "is stopped" ctl stop v1 destroy
finish
