#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fio writes and verifies over NBD while a disk dies and a spare takes over, and a node is cut off and
# returns. fio must see no error and read what it wrote; afterwards the copies must be equal.
#
# usage: fio_faults.sh BUILD [SECONDS]     SECONDS of load, default 30; the figure in docs: 180
set -euo pipefail

build=$(cd "${1:?BUILD is missing}" && pwd)
duration=${2:-30}
top=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
testbed=$top/tests/testbed/testbed
ctl=$build/examples/hcictl/hcictl
export HCI_TESTBED_NAME=fiofaults HCI_PLUGIN_DIR=$build/plugins-out HCI_NAME=admin
bed=${HCI_TESTBED_DIR:-/var/tmp/hci-testbed}/$HCI_TESTBED_NAME
export HCI_STORE=sqlite:$bed/shared/cluster.db HCI_CERT_DIR=$bed/shared/admin
[ "$(id -u)" = 0 ] || { echo "needs root: skipped"; exit 77; }
fio --enghelp | grep -q nbd || { echo "fio has no nbd engine: skipped"; exit 77; }
[ "$duration" -ge 20 ] || { echo "SECONDS: at least 20"; exit 2; }

die() {
	echo "FAILED: $*" >&2
	for n in n1 n2 n3; do tail -n 15 "$bed/nodes/$n/log"/{hci-node,export}.log 2>/dev/null || true; done >&2
	exit 1
}
cleanup() {
	local rc=$?
	trap '' INT TERM
	[ -z "${fio_pid:-}" ] || kill "$fio_pid" 2>/dev/null || true
	"$testbed" --quiet down >/dev/null 2>&1 || true
	exit $rc
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

at() { echo "$(awk -v t="$(($(date +%s%3N) - began))" 'BEGIN { printf "%5.1f s  ", t / 1000 }')$*"; }
on_n1() { "$testbed" exec n1 "$ctl" "$@"; }
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}
show() { on_n1 volume show v --json; }
out() { show | jq -e '.out > 0' >/dev/null; }
whole() { show | jq -e '.out == 0 and .rebuilding == 0' >/dev/null; }
off_disk() { on_n1 volume show v --replicas --json | jq -e --arg d "$1" 'all(.disk != $d and .state == "in sync")' >/dev/null; }
fio_runs() { kill -0 "$fio_pid" 2>/dev/null; }

# ---- the cluster ----

"$testbed" sweep >/dev/null 2>&1 || true
"$testbed" --quiet up --nodes 3 --disks 2 --spares 1 --disk-size 1G --owner $$ >/dev/null
pki=$bed/shared/pki
mkdir -p "$pki/ca" "$bed/shared/admin"
"$ctl" cluster create fio >/dev/null
"$ctl" pki ca "$pki/ca" fio >/dev/null
"$ctl" pki issue "$pki/ca" admin "$bed/shared/admin" >/dev/null
for n in n1 n2 n3; do
	mkdir -p "$pki/$n" "$bed/nodes/$n/data/run"
	"$ctl" pki issue "$pki/ca" $n "$pki/$n" --address "10.77.0.${n#n}" >/dev/null
	"$testbed" start $n hci-node "$build/examples/hci-node/hci-node" --store "$HCI_STORE" --name $n \
		--listen "tcp:10.77.0.${n#n}:7400" --ca "$pki/$n/ca.crt" --cert "$pki/$n/node.crt" --key "$pki/$n/node.key" \
		--run-dir "$bed/nodes/$n/data/run" >/dev/null
done
# Cut off for less time than what makes others take its place.
delay=$((duration / 6)) cut=$((duration / 10))
on_n1 pool create p --rebuild-delay ${delay}s >/dev/null
for n in n1 n2 n3; do
	for d in d1 d2 s1; do
		mkdir "$bed/nodes/$n/disks/$d/hci"
		spare=()
		[ $d != s1 ] || spare=(--spare)
		until_true 20 on_n1 disk add $n "$bed/nodes/$n/disks/$d/hci" --pool p "${spare[@]}" >/dev/null || die "disk $d of $n"
	done
done
on_n1 volume create v 512M --pool p --segment 32M --write-timeout 1s >/dev/null
"$testbed" start n1 export "$ctl" volume export v --listen "unix:$bed/shared/v.sock" >/dev/null
until_true 10 test -S "$bed/shared/v.sock" || die "the export does not start"

# ---- load and faults ----

began=$(date +%s%3N)
fio --name=f --ioengine=nbd --uri="nbd+unix:///v?socket=$bed/shared/v.sock" --rw=randwrite --bsrange=4k-256k --size=400M \
	--iodepth=8 --fsync=64 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --verify_backlog=512 --time_based --runtime="$duration" \
	--output-format=json --output="$bed/shared/fio.json" >"$bed/shared/fio.out" 2>&1 &
fio_pid=$!
at "fio writes and verifies for $duration s"
sleep $((duration / 10))
disk=$(on_n1 volume show v --replicas --json | jq -r '[.[] | select(.node == "n2")] | group_by(.disk) | max_by(length) | .[0] | "\(.disk) \(.path)"')
name=$(basename "$(dirname "${disk#* }")")
"$testbed" disk n2 "$name" fail
at "disk $name of n2 fails"
until_true 15 out || die "nobody noticed the failed disk"
until_true $((delay + 60)) off_disk "${disk%% *}" || die "the disk's segments were not rebuilt"
at "its segments are rebuilt elsewhere"
fio_runs || die "fio ended early: $(cat "$bed/shared/fio.out")"
"$testbed" link n3 down
at "n3 is cut off"
until_true 15 out || die "nobody noticed that n3 is gone"
sleep "$cut"
"$testbed" link n3 up
at "n3 is joined again"
until_true 60 whole || die "n3 did not come back into sync"
at "n3 is in sync"
fio_runs || at "(fio had ended by then)"
wait "$fio_pid" || { fio_pid=''; die "fio: $(cat "$bed/shared/fio.out")"; }
fio_pid=''
at "fio ended without an error"
jq -r '.jobs[0] | "fio: wrote \(.write.io_bytes / 1048576 | floor) MiB, verified \(.read.io_bytes / 1048576 | floor) MiB, " +
	"slowest write \(.write.clat_ns.max / 1000000 | floor) ms, error \(.error)"' "$bed/shared/fio.json"
jq -e '.jobs[0] | .error == 0 and .total_err != 1 and .write.io_bytes > 0 and .read.io_bytes > 0' "$bed/shared/fio.json" >/dev/null ||
	die "fio's report"

# ---- the copies ----

"$testbed" stop n1 export
until_true 20 whole || die "the volume is not whole"
for i in 1 2; do on_n1 volume read v "$bed/shared/copy$i" --replica $i; done
qemu-img compare -f raw -F raw "$bed/shared/copy1" "$bed/shared/copy2" || die "the replicas differ"
on_n1 volume compare v || die "the replicas differ"
at "all held"
