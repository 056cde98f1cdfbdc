#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Three nodes whose metadata are in an etcd with a member on each: fio writes and verifies over NBD on a fourth machine while
# each node in turn is killed with its member (one of them leads) and returns. fio must see no error; afterwards the
# copies must be equal.
#
# usage: fio_etcd.sh BUILD [SECONDS]     at least SECONDS of load, default 30
set -euo pipefail

build=$(cd "${1:?BUILD is missing}" && pwd)
duration=${2:-30}
top=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
HCI_TESTBED_NAME=fioetcd
. "$top/tests/integration/faults/cluster.sh"
command -v etcd >/dev/null || { echo "no etcd: skipped"; exit 77; }

use_etcd=1
make_cluster "n1 n2 n3" "n4" 1 0 10m
make_volume 128M 2
start_fio $((duration + 400)) 100M
for n in n1 n2 n3; do
	sleep 2
	fio_runs || die "fio ended early: $(cat "$bed/shared/fio.out")"
	"$testbed" kill "$n"
	at "$n is killed, and its member of etcd"
	until_true 60 out || die "nobody noticed that $n is gone"
	at "it is out of the in-sync set"
	sleep 2
	"$testbed" restart "$n"
	"$testbed" etcd wait
	start_node "$n"
	until_true 120 whole || die "$n did not come back into sync"
	at "$n has returned and is in sync"
done
end_fio "$duration"
compare_copies 2
at "all held"
