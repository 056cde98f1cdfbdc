#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# diff.sh LIBRARY BASELINE INCLUDE
# The binary interface is the committed baseline's. After a change that is meant, update.sh writes a
# new baseline, to be reviewed with the change; suppressions.abignore holds reviewed exceptions.
set -euo pipefail
library=$1 baseline=$2 include=$3
here=$(dirname "$0")

if ! command -v abidiff >/dev/null; then
	echo "skipped: abidiff is missing (package abigail-tools)"
	exit 77
fi
if [ ! -e "$baseline" ]; then
	echo "skipped: no baseline $(basename "$baseline") yet: run tests/abi/update.sh"
	exit 77
fi
now=$(mktemp --suffix=.abi)
trap 'rm -f "$now"' EXIT
# Dump against dump: with a library on one side, abidiff takes types without locations for private.
"$here/dump.sh" "$library" "$include" "$now"
abidiff --harmless --suppressions "$here/suppressions.abignore" "$baseline" "$now" || {
	echo "the ABI is not the baseline's (abidiff status $?): undo, or run tests/abi/update.sh if it is meant" >&2
	exit 1
}
