#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Hours in the life of a small cluster: fio writes and verifies, volumes come and go, a node is restarted now
# and then. What the processes that live through it take (memory, threads, descriptors) may grow while
# they warm up, in the first third, and hardly after that.
#
# usage: soak.sh BUILD [SECONDS]     default 3600, at least 300; not part of the quick tests
set -euo pipefail

build=$(cd "${1:?BUILD is missing}" && pwd)
duration=${2:-3600}
top=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
HCI_TESTBED_NAME=soak
. "$top/tests/integration/faults/cluster.sh"
[ "$duration" -ge 300 ] || { echo "SECONDS: at least 300"; exit 2; }
slack=$((24 * 1024)) # KiB: free lists, blocks of the logs in memory, what the allocator keeps

make_cluster "n1 n2 n3" "n4" 2 0 60s
make_volume 512M 2

# name and host pid of the processes that are never restarted
watched() {
	local n
	for n in n1 n2; do echo "$n $(pgrep -f "hci-node --store $HCI_STORE --name $n " | tail -1)"; done
	echo "export $(pgrep -f "hcictl volume export v --listen unix:$bed/shared/v.sock" | tail -1)"
}
# "KiB threads descriptors" of a process
taken() { echo "$(awk '/^VmRSS/ { print $2 }' "/proc/$1/status") $(ls "/proc/$1/task" | wc -l) $(ls "/proc/$1/fd" | wc -l)"; }

declare -A pid warm
while read -r name p; do
	[ -n "$p" ] || die "$name does not run"
	pid[$name]=$p
done < <(watched)
start_fio "$duration" 400M
end=$((SECONDS + duration)) settled=$((SECONDS + duration / 3)) next=0 round=0
while ((SECONDS < end - 15)); do
	round=$((round + 1))
	on n4 volume create "t$round" 64M --pool p --segment 16M >/dev/null || die "create"
	head -c 16M /dev/urandom >"$bed/shared/data"
	on n4 volume import "t$round" "$bed/shared/data" >/dev/null 2>&1 || die "import"
	on n4 volume list >/dev/null
	on n4 volume delete "t$round" >/dev/null || die "delete"
	if ((round % 8 == 0)); then
		"$testbed" restart n3 >/dev/null && start_node n3
		until_true 60 whole || die "not whole: $(show)"
	fi
	fio_runs || die "fio ended: $(cat "$bed/shared/fio.out")"
	for name in n1 n2 export; do
		[ -d "/proc/${pid[$name]}" ] || die "$name ended"
		read -r kib threads fds <<<"$(taken "${pid[$name]}")"
		if ((SECONDS < settled)); then
			read -r wk wt wf <<<"${warm[$name]:-0 0 0}"
			warm[$name]="$((kib > wk ? kib : wk)) $((threads > wt ? threads : wt)) $((fds > wf ? fds : wf))"
		fi
		((SECONDS < next)) || at "$name: $kib KiB, $threads threads, $fds descriptors; round $round"
	done
	((SECONDS < next)) || next=$((SECONDS + duration / 20))
	sleep 5
done
wait "$fio_pid" || { fio_pid=''; die "fio: $(cat "$bed/shared/fio.out")"; }
fio_pid=''
fio_result
failed=''
for name in n1 n2 export; do
	read -r kib threads fds <<<"$(taken "${pid[$name]}")"
	read -r wk wt wf <<<"${warm[$name]}"
	echo "$name: $wk -> $kib KiB, $wt -> $threads threads, $wf -> $fds descriptors"
	((kib <= wk + slack && threads <= wt && fds <= wf + 4)) || failed="$failed $name"
done
[ -z "$failed" ] || die "grew after the first third:$failed"
compare_copies 2
at "$round rounds held"
