# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A cluster of hci-node processes on 127.0.0.1 with directories as disks, in $work. Sourced.
# Wants BIN_NODE, BIN_CTL and HCI_PLUGIN_DIR in the environment.
set -euo pipefail

work=$(mktemp -d /var/tmp/hci-cli-XXXXXX)
export HCI_STORE=sqlite:$work/cluster.db HCI_CERT_DIR=$work/admin HCI_NAME=admin
declare -A node_pid

fail() {
	echo "FAILED: $*" >&2
	for log in "$work"/*.log; do
		echo "--- $log" >&2
		tail -15 "$log" >&2
	done
	exit 1
}

cleanup() {
	local rc=$?
	trap - EXIT INT TERM
	for pid in "${node_pid[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	[ -n "${KEEP:-}" ] || rm -rf "$work"
	exit $rc
}
trap cleanup EXIT
trap 'exit 130' INT TERM

ctl() { "$BIN_CTL" "$@"; }

# Waits up to $1 seconds until the rest succeeds.
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

node_up() {
	local n=$1 i=${1#n} ext=${2:-}
	[ -d "$work/$n" ] || { mkdir -p "$work/$n/run"; ctl pki issue "$work/ca" "$n" "$work/$n" --address 127.0.0.1 >/dev/null; }
	"$BIN_NODE" --store "$HCI_STORE" --name "$n" --listen "tcp:127.0.0.1:$((base_port + i))" --run-dir "$work/$n/run" \
		--ca "$work/$n/ca.crt" --cert "$work/$n/node.crt" --key "$work/$n/node.key" --heartbeat 500 \
		${ext:+--metrics "$ext"} </dev/null >>"$work/$n.log" 2>&1 &
	node_pid[$n]=$!
	until_true 60 grep -qs "listening on" "$work/$n.log" || fail "$n does not start"
}

node_kill() {
	kill "-${2:-9}" "${node_pid[$1]}"
	wait "${node_pid[$1]}" 2>/dev/null || true
	unset "node_pid[$1]"
	: >"$work/$1.log"
}

# Ports below the ephemeral range, sixteen others for each concurrent run: their process IDs may be neighbours.
base_port=$((20000 + $$ % 768 * 16))
mkdir -m 700 "$work/ca" "$work/admin"
ctl cluster create lab >/dev/null
ctl pki ca "$work/ca" lab >/dev/null
ctl pki issue "$work/ca" admin "$work/admin" >/dev/null
