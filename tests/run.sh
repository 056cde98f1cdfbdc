#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every test that does not take long for what it says. See --help.
set -euo pipefail

usage() {
	cat <<'EOF'
tests/run.sh [--quick] [--asan] [--tsan] [--fuzz-seconds N] [--long]

Without flags: builds preset dev and runs all of its tests (unit, simulator, interface, fuzz corpora,
examples, integration on the test bed), then unit, simulator and corpora under ASan and UBSan, then
the unit tests under TSan.

  --quick           preset dev only, without integration tests and examples
  --asan, --tsan    only that build's tests (both may be given)
  --fuzz-seconds N  after the rest: each fuzz target for N seconds with libFuzzer (clang)
  --long            also what has the label `long`: soak tests, more rounds of faults and migrations, the options of
                    migrations. Takes hours
  -h, --help        this text

Needs root: test nodes live in network, mount, PID and UTS namespaces on loop-mounted disks. What is
missing is installed with apt. Nothing is left behind but build/. The last line is "N passed, N failed".
EOF
}

top=$(cd "$(dirname "$0")/.." && pwd)
stages=()
quick= fuzz_seconds=0 long=
while [ $# -gt 0 ]; do
	case $1 in
	--quick) quick=1 ;;
	--asan | --tsan) stages+=("${1#--}") ;;
	--fuzz-seconds)
		fuzz_seconds=${2:-}
		[[ $fuzz_seconds =~ ^[0-9]+$ ]] || { echo "--fuzz-seconds wants a number of seconds" >&2; exit 2; }
		shift
		;;
	--long) long=1 ;;
	-h | --help) usage; exit 0 ;;
	*) echo "unknown option '$1': see tests/run.sh --help" >&2; exit 2 ;;
	esac
	shift
done
if [ ${#stages[@]} -eq 0 ]; then
	stages=(dev)
	[ -n "$quick" ] || stages+=(asan tsan)
fi
if [ "$(id -u)" != 0 ]; then
	echo "tests/run.sh must run as root: the test bed makes namespaces and mounts loop devices. Nothing was done." >&2
	exit 1
fi

cd "$top"
passed=0 failed=0 skipped=0 child= ahead=
log=$(mktemp) built=$(mktemp -d)

sweep() {
	[ ! -x tests/testbed/testbed ] || tests/testbed/testbed sweep >/dev/null || true
}

# Children run in process groups of their own, so that an interrupt ends all of them, also those
# that ctest would leave.
stop_group() {
	[ -n "$1" ] || return 0
	kill -TERM -- "-$1" 2>/dev/null || return 0
	for _ in {1..50}; do
		kill -0 -- "-$1" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -KILL -- "-$1" 2>/dev/null || true
}

finish() {
	local status=$?
	trap - EXIT INT TERM HUP
	stop_group "$child"
	stop_group "$ahead"
	sweep
	rm -rf "$log" "$built"
	exit $status
}
trap finish EXIT
trap 'echo "interrupted" >&2; exit 130' INT
trap 'exit 143' TERM HUP

run() {
	local status=0
	set -m
	"$@" </dev/null &
	child=$!
	set +m
	wait $child || status=$?
	child=
	return $status
}

make_preset() {
	cmake --preset "$1" && cmake --build --preset "$1" -j "$(nproc)"
}

# build_ahead PRESET...: in the background, beside tests of which many wait; it gives way to them.
build_ahead() {
	[ $# -gt 0 ] || return 0
	set -m
	{
		renice -n 19 $BASHPID
		for preset; do
			status=0
			make_preset "$preset" || status=$?
			echo $status >"$built/part"
			mv "$built/part" "$built/$preset"
		done
	} </dev/null >/dev/null 2>&1 &
	ahead=$!
	set +m
}

# What was built ahead, if it was: waits for it.
built_ahead() {
	[ -n "$ahead" ] || return 1
	while [ ! -e "$built/$1" ] && kill -0 "$ahead" 2>/dev/null; do
		sleep 0.2
	done
	[ "$(cat "$built/$1" 2>/dev/null)" = 0 ]
}

# build PRESET: quiet unless it fails. If it was built ahead and that failed, this is where it is seen why.
build() {
	echo "== $1: build"
	if ! built_ahead "$1" && ! run make_preset "$1" >"$log" 2>&1; then
		cat "$log"
		echo "== $1: the build failed"
		failed=$((failed + 1))
		return 1
	fi
}

# run_ctest PRESET ARG...: adds what it counts to the totals.
run_ctest() {
	local preset=$1 total bad skip
	shift
	echo "== $preset: tests"
	# Many tests wait most of the time. Those that compute say so, take two places, and give way to those that watch the clock.
	run bash -c 'set -o pipefail; ctest --preset "$0" -j $((3 * $(nproc))) "${@:2}" 2>&1 | tee "$1"' "$preset" "$log" "$@" || true
	read -r bad total < <(sed -nE 's/^[0-9]+% tests passed, ([0-9]+) tests? failed out of ([0-9]+)$/\1 \2/p' "$log") || true
	if [ -z "${total:-}" ]; then
		echo "== $preset: ctest did not finish"
		failed=$((failed + 1))
		return
	fi
	skip=$(grep -cE '\*\*\*Skipped' "$log" || true)
	passed=$((passed + total - bad - skip))
	failed=$((failed + bad))
	skipped=$((skipped + skip))
}

# Each fuzz target from its corpus; what it finds stays in build/fuzz/findings.
run_fuzzers() {
	local target name
	mkdir -p build/fuzz/findings
	for target in build/fuzz/tests/fuzz/fuzz_* build/fuzz/tests/fuzz/*/fuzz_*; do
		[ -x "$target" ] && [ -f "$target" ] || continue
		name=${target##*/fuzz_}
		echo "== fuzz: $name for $fuzz_seconds s"
		mkdir -p "build/fuzz/new/$name" "tests/fuzz/corpus/$name"
		if run "$target" -max_total_time="$fuzz_seconds" -timeout=10 -rss_limit_mb=2048 \
			-artifact_prefix="build/fuzz/findings/$name-" \
			"build/fuzz/new/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
			passed=$((passed + 1))
			tail -1 "$log"
		else
			failed=$((failed + 1))
			tail -40 "$log"
		fi
		rmdir --ignore-fail-on-non-empty "tests/fuzz/corpus/$name"
	done
}

lists=(tests/packages.txt tests/testbed/packages.txt)
[ "$fuzz_seconds" = 0 ] || lists+=(tests/packages-fuzz.txt)
run tests/install-packages.sh "${lists[@]}"
sweep

for stage in "${stages[@]}"; do
	build "$stage" || continue
	[ "$stage" != "${stages[0]}" ] || build_ahead "${stages[@]:1}"
	select=()
	case $stage in
	dev) [ -z "$quick" ] || select=(-LE 'integration|example|long') ;;
	asan) select=(-L 'unit|sim|fuzz') ;;
	tsan) select=(-L 'unit') ;;
	esac
	[ -n "$long" ] || [ -n "$quick" ] || select+=(-LE long)
	run_ctest "$stage" "${select[@]}"
done
if [ "$fuzz_seconds" != 0 ] && build fuzz; then
	run_fuzzers
fi

[ "$skipped" = 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
