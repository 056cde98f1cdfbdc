#!/bin/bash
# Runs inside a node and leaves a daemon there, as a child of the node's init.
# The extra step in between matters: a process put into a pid namespace from outside is
# reaped by the outside's init, one that is born inside by the node's own.
# Arguments: PIDFILE LOGFILE CMD...
set -euo pipefail

pidfile=$1 log=$2
shift 2
command -v -- "$1" >/dev/null || {
	echo "testbed: start: no command '$1' in the node" >&2
	exit 127
}
# A daemon must not inherit locks or pipes of the script that started it.
for fd in /proc/self/fd/*; do
	fd=${fd##*/}
	[ "$fd" -le 2 ] || eval "exec $fd>&-"
done
rm -f "$pidfile"
# A shell's background job ignores SIGINT and SIGQUIT: undo that.
# shellcheck disable=SC2016 # expands in there
setsid bash -c '
	read -r -a stat </proc/self/stat
	echo "${stat[0]} ${stat[21]}" >"$0.new" && mv "$0.new" "$0"
	exec env --default-signal "$@"
' "$pidfile" "$@" </dev/null >>"$log" 2>&1 &
for ((i = 0; i < 250; i++)); do
	[ ! -s "$pidfile" ] || exit 0
	sleep 0.02
done
echo "testbed: start: '$1' did not begin within 5 s" >&2
exit 1
