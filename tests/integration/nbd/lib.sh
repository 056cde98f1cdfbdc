# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts here: a scratch folder, a server started and stopped, checks that count.
# shellcheck shell=bash
set -u
# Debian's python3 has the nbd module; another one earlier in the path would not.
PATH=/usr/bin:$PATH
bin=$1
dir=$(mktemp -d /tmp/nbd-it.XXXXXX)
server=0 failed=0 checks=0

stop() {
	[ "$server" = 0 ] && return
	kill -TERM "$server" 2>/dev/null
	wait "$server"
	local rc=$?
	server=0
	check "server ended cleanly" [ "$rc" = 0 ]
}
cleanup() {
	[ "$server" = 0 ] || kill -KILL "$server" 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT

# start ADDR SIZE_MIB OPTION...: sets $addr
start() {
	"$bin/nbd_ramserver" "$@" >"$dir/out" 2>"$dir/err" &
	server=$!
	for _ in $(seq 1200); do # a minute: the machine may be busy
		grep -q ^ready "$dir/out" && break
		kill -0 "$server" 2>/dev/null || break
		sleep 0.05
	done
	addr=$(sed -n 's/^ready //p' "$dir/out")
	[ -n "$addr" ] || { echo "the server did not start:"; cat "$dir/err"; exit 1; }
}
# check WHAT COMMAND...: the command must succeed
check() {
	local what=$1
	shift
	checks=$((checks + 1))
	if "$@" >"$dir/log" 2>&1; then
		echo "ok   $what"
	else
		failed=$((failed + 1))
		echo "FAIL $what"
		sed 's/^/     /' "$dir/log" | tail -20
	fi
}
# refuse WHAT COMMAND...: the command must fail, and not hang
refuse() {
	local what=$1
	shift
	checks=$((checks + 1))
	timeout 20 "$@" >"$dir/log" 2>&1
	local rc=$?
	if [ $rc != 0 ] && [ $rc != 124 ]; then
		echo "ok   $what"
	else
		failed=$((failed + 1))
		echo "FAIL $what (status $rc)"
	fi
}
finish() {
	echo "$checks checks, $failed failed"
	[ "$failed" = 0 ]
	exit
}
