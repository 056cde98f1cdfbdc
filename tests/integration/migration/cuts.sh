#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A guest moves to and fro between two nodes, and each time something breaks at a random moment. After each the guest
# runs at exactly one node with its disk, and nothing of the migration is left at either.
#
# usage: cuts.sh VMCTL HCI-NODE PLUGIN-DIR [ROUNDS [SEED]]     (each kind once in random order, over and over)
# CUTS="KIND...": these, in this order.
# shellcheck source=../vm/lib.sh
. "$(dirname "$0")/../vm/lib.sh"

rounds=${4:-8}
RANDOM=${5:-$$}
echo "# seed ${5:-$$}"
kinds=(cut destination_killed source_killed cancelled qemu_killed libvirtd_killed source_libvirtd_killed qemu_stalls
	service_stalls nothing)

at=n1 to=n2 # where the guest is, where it goes

elsewhere() { [ "$1" = n1 ] && echo n2 || echo n1; }
nap() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; }

# ---- what breaks; each ends when it is mended ----

cut() {
	tb partition n1 n2
	nap $((RANDOM % 8000 + 500))
	tb heal
}
destination_killed() { service_kill "$to" && node_start "$to"; }
source_killed() { service_kill "$at" && node_start "$at"; }
cancelled() { :; }
qemu_killed() { tb exec "$to" pkill -9 qemu-system || true; }
# Killed between noting a domain and the begin of its process, libvirtd 9.0 has it for ever: it has no process to look for, and the job
# that was under way lets nobody destroy it. So not at that moment: it is stopped, looked at, and goes on first if it is there.
half_made() { tb exec "$1" grep -qs "<domstatus .*pid='0'" /run/libvirt/qemu/v1.xml; }
libvirtd_killed() {
	local i
	for i in {1..100}; do
		tb stop "$to" libvirtd STOP
		half_made "$to" || break
		tb stop "$to" libvirtd CONT
	done
	tb stop "$to" libvirtd KILL && tb libvirt "$to" restart
}
source_libvirtd_killed() { tb stop "$at" libvirtd KILL && tb libvirt "$at" restart; }
qemu_stalls() {
	tb exec "$to" pkill -STOP qemu-system || return 0
	nap $((RANDOM % 3000))
	tb exec "$to" pkill -CONT qemu-system
}
# Shorter and longer than the six seconds after which a silent node counts as lost.
service_stalls() {
	local pid
	pid=$(service_pid "$to")
	kill -STOP "$pid"
	nap $((RANDOM % 9000))
	kill -CONT "$pid"
}
nothing() { :; }

# ---- one round ----

# ended NODE REASON: when libvirt saw the last QEMU of the VM end there, if for this reason.
ended() {
	tb exec "$1" sh -c 'grep -a "shutting down, reason=" /var/log/libvirt/qemu/v1.log | tail -n 1' 2>/dev/null |
		sed -n "s/: shutting down, reason=$2\$//p"
}
# The kill came so late that it was the guest itself that died, not its half-made copy: libvirt of the source saw it
# leave before.
guest_was_killed() {
	local left died
	left=$(ended "$at" migrated)
	died=$(ended "$to" crashed)
	[[ -n "$left" && -n "$died" && "$left" > "$begun" && "$left" < "$died" ]]
}
settled() { one_side || has_ended; }
has_ended() { ctl vms | grep -q "^v1 node=$to wanted=0 state=0"; }

one_side() {
	local runs other
	runs=$(ctl vms | sed -n 's/^v1 node=\([^ ]*\) wanted=1 state=1.*/\1/p')
	[ -n "$runs" ] || return 1
	other=$(elsewhere "$runs")
	running_on "$runs" && no_domain_on "$other" && volume_is_on "$runs" && at=$runs to=$other
}
what_is_where() {
	local n
	ctl vms
	ctl volumes
	for n in n1 n2; do
		echo "# $n: $(tb exec $n virsh -q list --all 2>&1 | tr '\n' ' ') QEMU: $(tb exec $n pgrep qemu-system | tr '\n' ' ')"
		ls "$(run_dir $n)"
		tb exec $n sh -c 'tail -n 5 /var/log/libvirt/qemu/v1.log' 2>/dev/null
	done
	finish
}
round() {
	local kind=$1 when=$((RANDOM % 3500)) cancel=0 rate=$((RANDOM % 3 ? 2000000 : 8000000)) job begun
	begun=$(date -u '+%F %T')
	[ "$kind" = cancelled ] && cancel=$((when + 1))
	echo "# $at -> $to: $kind after $when ms, at $rate bytes/s"
	ctl migrate v1 "$to" "$rate" "$cancel" >/dev/null 2>&1 &
	job=$!
	nap "$when"
	check "$kind: happens" "$kind"
	wait "$job"
	rc=$?
	check "$kind: the job ends" [ "$rc" != 124 ]
	[ "$kind" != nothing ] || check "$kind: it moved" [ "$rc" = 0 ]
	wait_for 40 settled
	if [ "$kind" = qemu_killed ] && has_ended && guest_was_killed; then
		echo "# the guest had arrived when it was killed"
		check "$kind: it starts again" ctl start v1
	fi
	check "$kind: runs at one node" wait_for 40 one_side
	# shellcheck disable=SC2154
	[ "$failed" = 0 ] || what_is_where # later rounds would only fail for this one's reason
	check "$kind: the guest writes" writes
	check "$kind: nothing is left at the other" wait_for 40 nothing_on "$to"
}

cluster_up
check "the VM starts" ctl start v1
check "the guest writes" writes
while [ "$rounds" -gt 0 ]; do
	for kind in ${CUTS:-$(shuf -e "${kinds[@]}" --random-source=<(yes "$RANDOM"))}; do
		[ "$rounds" -gt 0 ] || break
		rounds=$((rounds - 1))
		round "$kind"
	done
done
check "shuts down" ctl stop v1 shutdown
check "no record is lost or stale" verify
whole() { ctl compare vol >/dev/null 2>&1; }
check "the replicas are equal" wait_for 60 whole
no_domains() { no_domain_on n1 && no_domain_on n2; }
check "no domain is left" no_domains
check "no QEMU is left" test -z "$(tb exec n1 pgrep qemu-system; tb exec n2 pgrep qemu-system)"
finish
