#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fio writes and verifies over NBD while a disk dies and a spare takes over, and a node is cut off and
# returns. fio must see no error and read what it wrote; afterwards the copies must be equal.
#
# usage: fio_faults.sh BUILD [SECONDS]     at least SECONDS of load, default 30; the figure in docs: 180
set -euo pipefail

build=$(cd "${1:?BUILD is missing}" && pwd)
duration=${2:-30}
top=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
HCI_TESTBED_NAME=fiofaults
. "$top/tests/integration/faults/cluster.sh"
[ "$duration" -ge 20 ] || { echo "SECONDS: at least 20"; exit 2; }

# Cut off for less time than what makes others take its place.
delay=$((duration / 6)) cut=$((duration / 10))
make_cluster "n1 n2 n3" "" 2 1 ${delay}s
make_volume 512M 2

# ---- load and faults ----

start_fio $((duration + 400)) 400M
sleep $((duration / 10))
disk=$(on n1 volume show v --replicas --json | jq -r '[.[] | select(.node == "n2")] | group_by(.disk) | max_by(length) | .[0] | "\(.disk) \(.path)"')
name=$(basename "$(dirname "${disk#* }")")
"$testbed" disk n2 "$name" fail
at "disk $name of n2 fails"
until_true 60 out || die "nobody noticed the failed disk"
until_true $((delay + 60)) off_disk "${disk%% *}" || die "the disk's segments were not rebuilt"
at "its segments are rebuilt elsewhere"
fio_runs || die "fio ended early: $(cat "$bed/shared/fio.out")"
"$testbed" link n3 down
at "n3 is cut off"
until_true 60 out || die "nobody noticed that n3 is gone"
sleep "$cut"
"$testbed" link n3 up
at "n3 is joined again"
until_true 120 whole || die "n3 did not come back into sync"
at "n3 is in sync"
end_fio "$duration"
compare_copies 2
at "all held"
