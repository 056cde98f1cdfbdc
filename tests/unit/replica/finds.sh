#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A bug planted in the replica is found: a check of the suite fails. One that crashes, hangs or cannot be started has found nothing.
# What a failed check leaves on the disk goes.
#
# usage: finds.sh PROGRAM BUG
dir=$(mktemp -d /var/tmp/hci-finds-XXXXXX) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
TMPDIR=$dir HCI_MUTATE=$2 "$1" >"$dir/out" 2>&1
rc=$?
tail -n 3 "$dir/out"
[ $rc -ne 0 ] && grep -q 'Failures: [1-9]' "$dir/out"
