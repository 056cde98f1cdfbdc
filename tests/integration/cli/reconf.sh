#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Jobs that change where copies are outlive the process that does them: it is killed (kill -9) in the middle, with the
# disks and copies it serves; another node goes on, and nothing of the volume is lost.
#
# usage: reconf.sh BUILD
build=$(cd "${1:?BUILD is missing}" && pwd)
export BIN_NODE=$build/examples/hci-node/hci-node BIN_CTL=$build/examples/hcictl/hcictl HCI_PLUGIN_DIR=$build/plugins-out
# shellcheck source=tests/integration/cli/local.sh
. "$(dirname "$(readlink -f "$0")")/local.sh"

value() { ctl "${@:2}" --json | jq -r "$1"; }
on_disk() { value "[.[] | select(.disk == \"$1\")] | length" volume show v --replicas; }
job_taken() { [ -n "$(value .node job show "$1")" ]; }
job_is() { [[ $(value .state job show "$1") == "$2" ]]; }
whole() { [ "$(value '.[0].out + .[0].rebuilding' volume list)" = 0 ]; }

# kill_executor JOB: kills the node that does it, and starts it again after a while
kill_executor() {
	local node
	until_true 30 job_taken "$1" || fail "nobody takes job $1"
	node=$(value .node job show "$1")
	[ -n "${node_pid[$node]:-}" ] || fail "job $1 is at '$node'"
	node_kill "$node"
	sleep 3
	node_up "$node"
}

for n in n1 n2 n3; do
	node_up $n
done
ctl pool create p >/dev/null
for n in n1 n2 n3; do
	for d in d1 d2; do
		mkdir "$work/$n/$d"
		ctl disk add $n "$work/$n/$d" --pool p --timeout 100s >/dev/null || fail "disk add"
	done
done
head -c 48M /dev/urandom >"$work/image"
ctl volume create v 48M --pool p --replicas 2 --segment 2M --write-timeout 1s >/dev/null
ctl volume import v "$work/image" >/dev/null 2>&1 || fail "import"

# A disk is emptied.
disk=$(value '.[0].disk' volume show v --replicas)
ctl disk remove "$disk" 2>/dev/null && fail "a disk in use was removed"
job=$(value .job disk evacuate "$disk" --no-wait)
kill_executor "$job"
timeout 150 "$BIN_CTL" job wait "$job" >/dev/null 2>&1 || fail "the evacuation does not end"
[ "$(on_disk "$disk")" = 0 ] || fail "copies are left on the disk"
ctl disk remove "$disk" >/dev/null || fail "the empty disk is not removed"

# More replicas, and back.
job=$(value .job volume set v --replicas 3 --no-wait)
kill_executor "$job"
timeout 150 "$BIN_CTL" job wait "$job" >/dev/null 2>&1 || fail "no third replica"
[ "$(value length volume show v --replicas)" = 72 ] || fail "not three copies of each segment"
timeout 150 "$BIN_CTL" volume set v --replicas 2 >/dev/null 2>&1 || fail "not back to two"
[ "$(value length volume show v --replicas)" = 48 ] || fail "not two copies of each segment"

# Evened out, with a disk more.
mkdir "$work/n1/d3"
ctl disk add n1 "$work/n1/d3" --pool p --timeout 100s >/dev/null
ctl pool balance p --dry-run >/dev/null || fail "no plan"
timeout 150 "$BIN_CTL" pool balance p >/dev/null 2>&1 || fail "balance"

until_true 60 whole || fail "the volume does not become whole"
ctl volume compare v >/dev/null || fail "copies differ"
ctl volume read v "$work/back" --wait 20s >/dev/null 2>&1 || fail "read"
cmp "$work/image" "$work/back" || fail "the volume is not what was written"
echo "reconfiguration through kill -9: passed"
