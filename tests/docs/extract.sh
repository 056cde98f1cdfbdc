#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# extract.sh MARKDOWN OUT: the C program in a document, from its ```c to the closing ```.
set -eu
sed -n '/^```c$/,/^```$/{//!p}' "$1" >"$2"
[ -s "$2" ] || { echo "$1: there is no C program in it" >&2; exit 1; }
