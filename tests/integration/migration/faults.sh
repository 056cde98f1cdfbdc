#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Faults that a migration meets at its destination, one after the other: a certificate of another cluster, no room in the run
# directory, a QEMU or a service that takes nothing any more, a full disk of the pool. Each time the guest goes on where it is, the
# reason is told, and nothing is left at the other node.
#
# usage: faults.sh VMCTL HCI-NODE PLUGIN-DIR HCICTL ["PART ..."]      parts: the functions below
# shellcheck source=../vm/lib.sh
. "$(dirname "$0")/../vm/lib.sh"

hcictl=$4
disks=2       # the second has n2's run directory
slow=200000   # bytes/s
result=$bed/shared/result

run_dir() { [ "$1" = n2 ] && echo "$bed/nodes/n2/disks/d2/run" || inside_run_dir "$1"; }
before_nodes() {
	mkdir -p "$(run_dir n2)" "$(inside_run_dir n2)"
	tb exec n2 mount --bind "$(run_dir n2)" "$(inside_run_dir n2)" || exit 1
	pki=$bed/shared/pki
	mkdir -p "$pki"
	export VM_CERTS=$pki/admin
	"$hcictl" pki ca "$pki/ca" test >/dev/null && "$hcictl" pki ca "$pki/other-ca" other >/dev/null || exit 1
	"$hcictl" pki issue "$pki/ca" n1 "$pki/n1" --address n1,10.77.0.1 >/dev/null || exit 1
	"$hcictl" pki issue "$pki/ca" n2 "$pki/n2" --address n2,10.77.0.2 >/dev/null || exit 1
	"$hcictl" pki issue "$pki/ca" admin "$pki/admin" --address n1 >/dev/null || exit 1
	"$hcictl" pki issue "$pki/other-ca" n2 "$pki/stranger" --address n2,10.77.0.2 >/dev/null || exit 1
}
service_again() { # NODE
	service_kill "$1"
	: >"$bed/nodes/$1/log/node.log"
	node_start "$1"
	wait_for 60 service_up "$1"
}
# MS: so long it may take. What is said goes to the log, and into $result.
fails() { # MS
	VM_TIMEOUT=$1 ctl migrate v1 n2 $slow 0 >"$result" 2>&1
	local rc=$?
	cut -c1-400 "$result"
	[ "$rc" = 1 ]
}
says() { grep -qiE "$1" "$result"; }
runs_here() { running_on n1 && vm_is_on n1 && volume_is_on n1; }
as_before() {
	check "$1: runs at n1, with its disk" wait_for 60 runs_here
	check "$1: the guest writes" writes
	check "$1: nothing is left at n2" wait_for 40 nothing_on n2
}
in_sync() { ctl volumes | grep -q '^vol .* out=0$'; }
half_way() { domain_on n2 && compgen -G "$(run_dir n2)/mig-*/i" >/dev/null; } # its QEMU listens

stranger() {
	echo "# n2 has a certificate of another cluster"
	cert_of[n2]=stranger
	service_again n2
	local began=$SECONDS
	check "the migration fails" fails 60000
	check "soon" [ $((SECONDS - began)) -lt 15 ]
	check "and says why" says 'certificate'
	as_before stranger
	cert_of[n2]=n2
	service_again n2
	check "all copies are in the set again" wait_for 60 in_sync
}
no_room() {
	echo "# no room in n2's run directory"
	tb disk n2 d2 fill
	local n=0
	while touch "$(run_dir n2)/fill-$n" 2>/dev/null; do n=$((n + 1)); done
	check "the migration fails" fails 60000
	check "and says why" says 'no space left'
	tb disk n2 d2 unfill
	rm -f "$(run_dir n2)"/fill-*
	as_before "no room"
}
# QEMU's stop of the guest may wait for requests that the full disk holds up, so it moves when there is room again, or not.
full() {
	echo "# the pool's disk of n2 is full for a while"
	tb disk n2 d1 fill
	ctl migrate v1 n2 0 0 >"$result" 2>&1 &
	sleep 20
	tb disk n2 d1 unfill
	wait $!
	if [ $? = 0 ]; then
		check "full: moved" vm_is_on n2
		check "full: the guest writes" writes
		check "full: and moves back" ctl migrate v1 n1 0 0
	fi
	as_before full
	check "all copies are in the set again" wait_for 60 in_sync
}
begins() { tb exec n2 pgrep -f guest=v1 >/dev/null; }
qemu_stops() { # WHEN WHAT
	fails 8000 &
	job=$!
	wait_for 60 "$1"
	tb exec n2 pkill -STOP -f guest=v1
	wait "$job"
	check "$2: the migration ends by its time limit" [ $? = 0 ]
	check "$2: and says so" says 'within'
	as_before "$2"
}
qemu_silent() {
	echo "# n2's QEMU takes nothing any more"
	qemu_stops half_way "QEMU silent"
}
# libvirt at n2 waits for it, libvirt at n1 for that.
qemu_silent_early() {
	echo "# n2's QEMU hangs as it starts"
	qemu_stops begins "QEMU hangs"
}
service_silent() {
	echo "# n2's service takes nothing any more"
	fails 0 &
	job=$!
	wait_for 60 half_way
	sleep 0.5
	pid=$(service_pid n2)
	kill -STOP "$pid"
	wait "$job"
	check "the migration ends by its silence" [ $? = 0 ]
	check "silent: runs at n1" wait_for 60 runs_here
	check "silent: the guest writes" writes
	kill -CONT "$pid"
	as_before silent
}

cluster_up
check "the VM starts" ctl start v1
check "the guest writes" writes
for part in ${5:-stranger no_room qemu_silent qemu_silent_early service_silent full}; do "$part"; done

check "and then it moves" ctl migrate v1 n2 0 0
check "the guest writes" writes
check "shuts down" ctl stop v1 shutdown
check "no record is lost or stale" verify
check "all copies are in the set again" wait_for 60 in_sync
check "the replicas are equal" ctl compare vol
finish
