#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The node services are started anew below running guests, as for an upgrade, and the guests migrated at once or a little later:
# no migration may fail for that, and every guest goes on.
# v1 asks for its disk all the time; v2 each 20 s or so, thus some time after the restart, when it is on its way.
#
# usage: restart.sh VMCTL HCI-NODE PLUGIN-DIR
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

slow=1000000 # bytes/s: v2 asks for its disk meanwhile

listens() { [ "$(grep -c 'listening on' "$bed/nodes/$1/log/node.log")" -gt "$2" ]; }
# restart SIGNAL: of both services
restart() {
	local n
	for n in n1 n2; do tb stop "$n" node "$1"; done
	for n in n1 n2; do : >"$bed/nodes/$n/log/node.log"; done
	for n in n1 n2; do node_start "$n"; done
	for n in n1 n2; do wait_for 60 listens "$n" 0 || return 1; done
}
reports() { cat "$(run_dir n1)/$1.console" "$(run_dir n2)/$1.console" 2>/dev/null | grep -ac '^HCI-ACK'; }
more_of() { [ "$(reports "$1")" -gt "$2" ]; }
asks() { wait_for "$2" more_of "$1" "$(reports "$1")"; }
is_on() { ctl vms | grep -q "^$1 node=$2 wanted=1 state=1"; }
runs_at() { [ "$(tb exec "$2" virsh -q domstate "$1" 2>/dev/null | head -n 1)" = running ]; }

cluster_up
ctl import vol2 "$image/disk.img" 2 || exit 1
ctl define v2 n1 "$image/vmlinuz" "$image/initrd" "console=ttyS0 quiet panic=-1 hci.rate=1 hci.batch=20" vol2 || exit 1
check "the VMs start" ctl start v1
check "the VMs start" ctl start v2
check "the guests write" writes
check "the guests write" wait_for 120 more_of v2 0

echo "# started anew, and moved some time after"
asks v2 60
restart TERM
check "found again" wait_for 60 grep -q 'VM v2: found running' "$bed/nodes/n1/log/node.log"
check "v2 migrates" ctl migrate v2 n2 $slow 0
check "it was on its way for longer than it leaves its disk alone" asks v2 40
check "v2 is on n2" is_on v2 n2
check "v2 runs there" runs_at v2 n2

echo "# started anew, and moved at once"
restart TERM
check "v1 migrates" ctl migrate v1 n2 0 0
check "v2 migrates" ctl migrate v2 n1 0 0
check "v1 is on n2" is_on v1 n2
check "the guest writes" writes
check "v2 asks for its disk" asks v2 40

echo "# killed, started anew, and moved at once"
restart KILL
check "v2 migrates" ctl migrate v2 n2 0 0
check "v1 migrates" ctl migrate v1 n1 0 0
check "v1 is on n1" is_on v1 n1
check "v1 runs there" runs_at v1 n1
check "the guest writes" writes
check "v2 asks for its disk" asks v2 40

echo "# started anew; nobody does anything"
restart TERM
now=$(newest)
check "v1 goes on within seconds" wait_for 10 grown "$now"

check "nothing of the migrations' path is left" wait_for 30 no_path
check "shuts down" ctl stop v1 shutdown
check "shuts down" ctl stop v2 shutdown
check "no record is lost or stale" verify
check "the replicas are equal" ctl compare vol
check "the replicas are equal" ctl compare vol2
finish
