#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# etcd without a majority under I/O: two of three members are stopped, for a few seconds, then for longer than any lease, while fio writes
# and verifies over NBD. fio must see no error. In the short time I/O goes on; in the long one it waits where it must
# (docs/operations.md, "While the store is away"), and goes on by itself. Afterwards the copies must be equal.
#
# usage: fio_quorum.sh BUILD
set -euo pipefail

build=$(cd "${1:?BUILD is missing}" && pwd)
top=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
HCI_TESTBED_NAME=fioquorum
. "$top/tests/integration/faults/cluster.sh"
command -v etcd >/dev/null || { echo "no etcd: skipped"; exit 77; }

# With two of its three members standing still etcd decides nothing.
members() {
	local n
	for n in n1 n2; do "$testbed" stop "$n" etcd "$1"; done
}
# Sectors that the disk of n1 or n2 or n3 was given: each write of fio is in the log of two of them before it is over.
sectors() {
	local n d all=0 x
	for n in n1 n2 n3; do
		d=$(findmnt -no SOURCE --target "$bed/nodes/$n/disks/d1")
		x=$(awk -v d="${d##*/}" '$3 == d { print $10 }' /proc/diskstats)
		all=$((all + x))
	done
	echo "$all"
}
goes_on() { [ "$(sectors)" -gt $((before + 2048)) ]; }

use_etcd=1
make_cluster "n1 n2 n3" "n4" 1 0 10m
make_volume 128M 2
start_fio 500 100M
sleep 3

members STOP
at "etcd has no majority"
sleep 1
before=$(sectors)
until_true 3 goes_on || die "I/O does not go on in the first seconds without the store"
members CONT
at "it has, and I/O went on without it"
"$testbed" etcd wait
sleep 3
fio_runs || die "fio ended early: $(cat "$bed/shared/fio.out")"

members STOP
at "etcd has no majority"
sleep 20
fio_runs || die "fio ended early: $(cat "$bed/shared/fio.out")"
members CONT
at "it has, after 20 s"
"$testbed" etcd wait
before=$(sectors)
until_true 30 goes_on || die "I/O does not go on after the store is back"
at "I/O goes on"
until_true 60 whole || die "the volume is not whole: $(show)"
sleep 3
end_fio
# 20 s less what is left of a lease of 6 s: documented is that reads wait then.
jq -r '.jobs[0] | "slowest read \(.read.clat_ns.max / 1000000 | floor) ms"' "$bed/shared/fio.json"
jq -e '.jobs[0].read.clat_ns.max >= 12e9' "$bed/shared/fio.json" >/dev/null || die "reads went on past the lease"
compare_copies 2
at "all held"
