#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The long run of the simulator. See --help.
set -euo pipefail

usage() {
	cat <<'EOF'
tests/sim/long.sh [--build DIR] [--out DIR] [--jobs N] [--seeds FIRST-LAST] [--lies] [--bugs]

Runs seeds 0-19999 of test_sim_volume in pieces of 100, N side by side, and prints one summary: violations with their
seeds, and marked points of the engine that no seed reached (which fails the run, too). A run that was interrupted
goes on where it stopped when it is started again with the same --out and the same program.

  --build DIR  where tests/sim/test_sim_volume was built (build/release)
  --out DIR    results of each piece (sim-long in the build's)
  --jobs N     processes at a time (one for each processor)
  --seeds      which
  --lies       of these, only worlds whose disks rot, drop writes, or put them elsewhere (one of eight)
  --bugs       instead: every planted bug, up to 2000 seeds each; which seed finds it
EOF
}

build=build/release out= jobs=$(nproc) seeds=0-19999 lies= bugs=
while [ $# -gt 0 ]; do
	case $1 in
	--build) build=$2; shift ;;
	--out) out=$2; shift ;;
	--jobs) jobs=$2; shift ;;
	--seeds) seeds=$2; shift ;;
	--lies) lies=--lies ;;
	--bugs) bugs=1 ;;
	-h | --help) usage; exit 0 ;;
	*) echo "unknown option '$1': see --help" >&2; exit 2 ;;
	esac
	shift
done
program=$build/tests/sim/test_sim_volume
[ -x "$program" ] || { echo "$program is not there: cmake --build --preset release --target test_sim_volume" >&2; exit 2; }
out=${out:-$build/sim-long}
mkdir -p "$out"

if [ -n "$bugs" ]; then
	names=$("$program" --mutate '?' 2>&1 | sed -n 's/.*there are: //p' || true)
	missed=0
	for name in $names; do
		if "$program" --seeds 0-1999 --mutate "$name" >"$out/bug-$name" 2>&1; then
			echo "$name: found by $(sed -n 's/^\(seed [0-9]*\):.*/\1/p' "$out/bug-$name" | head -1)"
		else
			echo "$name: NOT found"
			missed=$((missed + 1))
		fi
	done
	exit $((missed > 0))
fi

# Results of another program are of no use: a changed source gives other runs.
sum=$(sha256sum <"$program" | cut -c1-16)$lies
[ "$(cat "$out/program" 2>/dev/null)" = "$sum" ] || rm -f "$out"/[0-9]*
echo "$sum" >"$out/program"

piece() {
	[ ! -e "$2/$3.done" ] || return 0
	"$1" --seeds "$3" ${4:+"$4"} --points "$2/$3.points" >"$2/$3.out" 2>&1 || true
	# A piece that was cut off has no summary, and is run again.
	if grep -q '^[0-9]* seeds, [0-9]* violations' "$2/$3.out"; then
		touch "$2/$3.done"
	else
		echo "$3: cut off, or crashed: see $2/$3.out"
	fi
}
export -f piece

first=${seeds%-*} last=${seeds#*-}
start=$(date +%s)
for ((k = first; k <= last; k += 100)); do
	echo "$k-$((k + 99 < last ? k + 99 : last))"
done >"$out/pieces"
xargs -a "$out/pieces" -P "$jobs" -I{} bash -c 'piece "$@"' _ "$program" "$out" {} $lies

cd "$out"
missing=0 files=() tables=()
while read -r p; do
	if [ -e "$p.done" ]; then
		files+=("$p.out") tables+=("$p.points")
	else
		missing=$((missing + 1))
	fi
done <pieces
[ ${#files[@]} -gt 0 ] || exit 1
grep -h '^seed ' "${files[@]}" || true
awk '{ n = $1; $1 = ""; c[$0] += n } END { for (p in c) printf "%12d%s\n", c[p], p }' "${tables[@]}" | sort -k2 >points
[ -n "$lies" ] || awk '$1 == 0 { $1 = "never reached:"; print }' points
awk -v missing="$missing" -v never="$([ -n "$lies" ] || awk '$1 == 0' points | wc -l)" -v secs="$(($(date +%s) - start))" '
	/^[0-9]+ seeds, / { seeds += $1; bad += $3 }
	END {
		printf "%d seeds, %d violations, %d pieces missing, %d points never reached; %d s\n", seeds, bad, missing, never, secs
		exit bad > 0 || missing > 0 || never > 0
	}' "${files[@]}"
