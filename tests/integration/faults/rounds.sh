#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Five nodes, three replicas, fio writing and verifying all the time; in each round one or two things break
# that three replicas must stand: nodes are killed or lose power, disks die and return, cables are pulled,
# nodes are cut off from each other, one way or both. After each round the volume must be whole again.
#
# usage: rounds.sh BUILD [ROUNDS [SEED]]     default 3 rounds; the figure in docs: 100
set -euo pipefail

build=$(cd "${1:?BUILD is missing}" && pwd)
rounds=${2:-3}
RANDOM=${3:-1}
top=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
HCI_TESTBED_NAME=rounds
. "$top/tests/integration/faults/cluster.sh"

# Long enough that most of what returns is resynced, short enough that some of it is rebuilt.
make_cluster "n1 n2 n3 n4 n5" "n6" 2 0 6s
make_volume 512M 3

mends=() # what ends this round's faults, in order
pick() { local a=("$@"); echo "${a[RANDOM % ${#a[@]}]}"; }
all_but() { local n; for n in $nodes n6; do [ "$n" = "$1" ] || printf '%s,' "$n"; done | sed 's/,$//'; }

# break_node NODE: at random; $what says how.
break_node() {
	local d=d$((RANDOM % 2 + 1))
	case $((RANDOM % 6)) in
	0) what="kill -9 of $1"; "$testbed" kill "$1"; mends+=("boot $1") ;;
	1) what="power loss of $1"; "$testbed" kill --power "$1"; mends+=("boot $1") ;;
	2) what="disk $d of $1 dies"; "$testbed" disk "$1" $d fail; mends+=("$testbed disk $1 $d return") ;;
	3) what="$1 is cut off"; "$testbed" partition "$1" "$(all_but "$1")"; mends+=("$testbed heal") ;;
	4) what="nobody hears $1"; "$testbed" partition --one-way "$1" "$(all_but "$1")"; mends+=("$testbed heal") ;;
	5) what="cable of $1"; "$testbed" link "$1" down; mends+=("$testbed link $1 up") ;;
	esac
}
boot() { "$testbed" restart "$1" && start_node "$1"; }

declare -A count
start_fio $((rounds * 120 + 60)) 400M
sleep 2
slowest=0
for ((i = 1; i <= rounds; i++)); do
	mends=()
	first=$(pick $nodes)
	break_node "$first"
	said=$what
	count[${what//n[0-9]/N}]=$((${count[${what//n[0-9]/N}]:-0} + 1))
	if ((RANDOM % 3 == 0)); then
		sleep $((RANDOM % 3))
		second=$(pick ${nodes/$first/})
		break_node "$second"
		said="$said, $what"
		count[${what//n[0-9]/N}]=$((${count[${what//n[0-9]/N}]:-0} + 1))
	fi
	away=$((RANDOM % 10 + 1))
	sleep $away
	fio_runs || die "round $i ($said): fio ended: $(cat "$bed/shared/fio.out")"
	for m in "${mends[@]}"; do $m >/dev/null || die "round $i: $m"; done
	mended=$SECONDS
	until_true 90 whole || die "round $i ($said for $away s): not whole after 90 s: $(show)"
	took=$((SECONDS - mended))
	((took <= slowest)) || slowest=$took
	at "round $i: $said for $away s; whole after $took s"
	fio_runs || die "round $i ($said): fio ended: $(cat "$bed/shared/fio.out")"
done
end_fio
compare_copies 3
for k in "${!count[@]}"; do echo "  ${count[$k]} x $k"; done
at "$rounds rounds held; healed after at most $slowest s"
