# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables are shared with demo.sh and the other parts
# SPDX-License-Identifier: Apache-2.0
# Owns: what is printed, the results and their table, and the end, however it comes.

export LC_ALL=C
bed=demo
testbed=$top/tests/testbed/testbed
export HCI_TESTBED_NAME=$bed
beddir=${HCI_TESTBED_DIR:-/var/tmp/hci-testbed}/$bed
tty='' interrupted='' begin=$SECONDS
[ ! -t 1 ] || tty=1
bold='' plain='' red=''
if [ -n "$tty" ]; then bold=$'\e[1m' plain=$'\e[0m' red=$'\e[31m'; fi

ours='' # the bed is this run's: nobody else's is taken down
current=0 titles=() results=() texts=() seconds=()
acknowledged=0 lost=-1 stale=-1
facts='{}' # for --json: numbers by name

# say LINE: what a reader wants to know about the step
say() { echo "    $*"; }

# fact NAME NUMBER
fact() { facts=$(jq -c --arg k "$1" --argjson v "$2" '. + {($k): $v}' <<<"$facts"); }

# text LINE: the step's line in the table
text() { texts[current]=$*; }

die() {
	echo "${red}demo: $*${plain}" >&2
	[ "$current" = 0 ] || text "$*"
	exit 1
}

# run COMMAND...: quiet unless it fails
run() {
	local out
	[ -z "$verbose" ] || echo "    \$ $*"
	if ! out=$("$@" 2>&1); then
		echo "$out" | tail -20 >&2
		die "failed: ${*##*/}"
	fi
	[ -z "$verbose" ] || [ -z "$out" ] || sed 's/^/      /' <<<"$out"
}

# until_true SECONDS COMMAND...
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

now_ms() { date +%s%3N; }

step() {
	local from
	current=$1
	titles[current]=$2 results[current]=failed texts[current]=''
	from=$(now_ms)
	echo "${bold}$current. $2${plain}"
	"$3"
	seconds[current]=$(awk -v a="$from" -v b="$(now_ms)" 'BEGIN { printf "%.1f", (b - a) / 1000 }')
	[ "${results[current]}" = skipped ] || results[current]=held
}

skip() {
	results[current]=skipped
	text "$*"
	say "$*"
}

table() {
	local i
	echo
	echo "${bold}step                                       result   seconds  ${plain}"
	for i in "${!titles[@]}"; do
		printf '%d  %-38s  %-7s  %7s  %s\n' "$i" "${titles[i]}" "${results[i]}" "${seconds[i]:--}" "${texts[i]}"
	done
	[ "$lost" = -1 ] || echo "records: $acknowledged acknowledged, $lost lost, $stale stale"
}

write_json() {
	local i steps='[]'
	for i in "${!titles[@]}"; do
		steps=$(jq -c --argjson n "$i" --arg title "${titles[i]}" --arg result "${results[i]}" --arg text "${texts[i]}" \
			--argjson seconds "${seconds[i]:-null}" \
			'. + [{step: $n, $title, $result, $seconds, $text}]' <<<"$steps")
	done
	jq -n --argjson held "$1" --argjson nodes "$nodes" --argjson replicas "$replicas" --argjson steps "$steps" \
		--argjson acknowledged "$acknowledged" --argjson lost "$lost" --argjson stale "$stale" --argjson facts "$facts" \
		--argjson seconds $((SECONDS - begin)) \
		'{$held, $nodes, $replicas, $seconds, records: {$acknowledged, $lost, $stale}, $facts, $steps}' >"$json"
}

all_held() {
	local i
	[ ${#titles[@]} = 8 ] || return 1
	for i in "${!titles[@]}"; do [ "${results[i]}" != failed ] || return 1; done
	[ "$lost" = 0 ] && [ "$stale" = 0 ] && [ "$acknowledged" -gt 0 ]
}

how_to_go_on() {
	cat <<EOF

The cluster stays up. To go on:
    alias n1='$testbed --name $bed exec n1'
    export HCI_STORE=$HCI_STORE HCI_CERT_DIR=$HCI_CERT_DIR HCI_NAME=$HCI_NAME HCI_PLUGIN_DIR=$HCI_PLUGIN_DIR
    n1 $bin/hcictl/hcictl volume list
    n1 virsh list
    $testbed --name $bed status
    $testbed --name $bed down
EOF
}

# What a failed run has to tell goes with the bed: its logs and consoles are copied first, as far as there are any.
keep_evidence() {
	local to
	to=$(mktemp -d /var/tmp/hci-demo-failed.XXXX)
	(cd "$beddir" && cp -r --parents nodes/*/log nodes/*/data/run/*.console "$to") 2>/dev/null || true
	echo "logs and consoles are in $to now; --keep leaves the cluster up" >&2
}

finish() {
	local rc=$?
	trap - EXIT
	trap '' INT TERM HUP
	[ ${#titles[@]} = 0 ] || [ -n "$interrupted" ] || table
	if [ $rc = 0 ] && ! all_held; then rc=1; fi
	if [ -n "$json" ] && [ ${#titles[@]} -gt 0 ]; then
		write_json "$([ $rc = 0 ] && echo true || echo false)" || rc=1
	fi
	if [ -n "$keep" ] && [ -z "$interrupted" ] && [ ${#titles[@]} -gt 0 ]; then
		# `testbed down` will take what is in the bed's directory with it.
		"$testbed" keep && mv "$scratch" "$beddir/demo" && how_to_go_on
	else
		[ -z "$interrupted" ] || echo "interrupted: cleaning up" >&2
		[ $rc = 0 ] || [ -n "$interrupted" ] || [ -z "$ours" ] || keep_evidence || true
		[ -z "$ours" ] || "$testbed" --quiet down >/dev/null 2>&1 || "$testbed" sweep || rc=1
		[ -z "${scratch:-}" ] || rm -rf "$scratch"
	fi
	exit $rc
}
