#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# teaching.sh BUILD EXAMPLE SCRATCH TRY CC CMAKE
# Installs BUILD below SCRATCH, builds a copy of the EXAMPLE plugin against that with make and with
# CMake, and has TRY load and ask each result.
set -euo pipefail
build=$1 example=$2 scratch=$3 try=$4 cc=$5 cmake=$6

rm -rf "$scratch"
mkdir -p "$scratch"
"$cmake" --install "$build" --prefix "$scratch/root" >/dev/null
# A copy elsewhere: no relative path into this tree can help it.
cp -r "$example" "$scratch/plugin"
pc=$(dirname "$(find "$scratch/root" -name libhci.pc)")

echo "make with pkg-config"
PKG_CONFIG_PATH=$pc make -s -C "$scratch/plugin" CC="$cc" CFLAGS="-O2 -Wall -Wextra -Wshadow -Werror"
"$try" "$scratch/plugin/placement-teaching.so"
if needed=$(objdump -p "$scratch/plugin/placement-teaching.so" | grep 'NEEDED.*libhci'); then
	echo "a plugin must not link libhci: $needed" >&2
	exit 1
fi

echo "CMake with find_package"
"$cmake" -S "$scratch/plugin" -B "$scratch/cmake" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/root" \
	-DCMAKE_C_COMPILER="$cc" >"$scratch/cmake.log" || { cat "$scratch/cmake.log"; exit 1; }
"$cmake" --build "$scratch/cmake" >"$scratch/cmake.log" || { cat "$scratch/cmake.log"; exit 1; }
"$try" "$scratch/cmake/placement-teaching.so"
