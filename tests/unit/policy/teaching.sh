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

echo "the lines of its README, in a cluster without nodes"
bin=$(dirname "$(find "$scratch/root" -type f -name hcictl)")
export HCI_STORE=sqlite:$scratch/cluster.db LD_LIBRARY_PATH=$(dirname "$(dirname "$pc")") HCI_CERT_DIR='' HCI_NAME=''
path=/usr/local/lib/hci/placement-teaching.so
line=$(grep -o "hcictl policy add .*" "$example/README.md")
[[ $line == *$path*--config* ]] || { echo "README.md no longer says how the plugin is configured: $line" >&2; exit 1; }
mkdir -m 755 "$scratch/root/plugins"
install -m 644 "$scratch/plugin/placement-teaching.so" "$scratch/root/plugins/"
"$bin/hcictl" cluster create teaching
read -r -a words <<<"${line//$path/$scratch/root/plugins/placement-teaching.so}"
"$bin/${words[0]}" "${words[@]:1}"
said=$("$bin/hcictl" policy list --json | grep -o '"config": "at-least=ssd"') || { "$bin/hcictl" policy list >&2; exit 1; }
echo "the plugin got $said"
