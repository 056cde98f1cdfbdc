#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A demo that cannot begin says so and takes nobody's cluster down; one that fails leaves what it has to tell.
#
# usage: refuses.sh BUILD
set -euo pipefail
build=$1 here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
testbed=$here/../../tests/testbed/testbed
[ "$(id -u)" = 0 ] || exit 77
HCI_TESTBED_DIR=$(mktemp -d /var/tmp/hci-demo-test-XXXXXX)
export HCI_TESTBED_DIR HCI_TESTBED_NAME=demo

fail() {
	echo "FAILED: $*" >&2
	tail -20 "$HCI_TESTBED_DIR/out" >&2
	exit 1
}

cleanup() {
	"$testbed" --quiet down || true
	rm -rf "$HCI_TESTBED_DIR"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# refused TEXT OPTION...
refused() {
	local rc=0
	"$here/demo.sh" "${@:2}" >"$HCI_TESTBED_DIR/out" 2>&1 || rc=$?
	[ $rc = 1 ] || fail "status $rc instead of 1: demo.sh ${*:2}"
	grep -q -- "$1" "$HCI_TESTBED_DIR/out" || fail "'$1' is not said: demo.sh ${*:2}"
	! grep -q ' line [0-9]*: ' "$HCI_TESTBED_DIR/out" || fail "the shell complains: demo.sh ${*:2}"
}

refused "no such directory" --build /nonexistent
refused "no hcictl" --build "$HCI_TESTBED_DIR"
"$testbed" --quiet up --nodes 1 --disks 0 --owner $$
refused "cluster is up" --build "$build"
refused "no such directory" --build /nonexistent
"$testbed" status >/dev/null || fail "the cluster that was up is gone"
echo "refused three times, the cluster is still up"
