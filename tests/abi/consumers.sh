#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# consumers.sh BUILD SCRATCH VERSION CC CXX CMAKE
# Installs BUILD below SCRATCH, then builds and runs a program against it three ways: C and C++
# through pkg-config, and CMake through find_package(hci), also by its other name.
set -euo pipefail
build=$1 scratch=$2 version=$3 cc=$4 cxx=$5 cmake=$6
here=$(cd "$(dirname "$0")" && pwd)

rm -rf "$scratch"
mkdir -p "$scratch"
# Not the configured prefix: the tree must work wherever it is put.
"$cmake" --install "$build" --prefix "$scratch/root" >/dev/null
pc=$(dirname "$(find "$scratch/root" -name libhci.pc)")
export PKG_CONFIG_PATH=$pc
[ "$(pkg-config --modversion libhci)" = "$version" ]
lib=$(pkg-config --variable=libdir libhci)
read -ra flags < <(pkg-config --cflags --libs libhci)

[ "$(objdump -p "$lib/libhci.so" | awk '/SONAME/ { print $2 }')" = libhci.so.0 ]
for file in hci_static libhci_static; do
	[ -z "$(find "$scratch/root" -name "$file*")" ] || { echo "internal $file is installed" >&2; exit 1; }
done

echo "C through pkg-config"
"$cc" -std=c11 -Wall -Wextra -pedantic -Werror -o "$scratch/c" "$here/consumer/main.c" "${flags[@]}"
LD_LIBRARY_PATH=$lib "$scratch/c"

echo "C++ through pkg-config"
"$cxx" -x c++ -std=c++17 -Wall -Wextra -pedantic -Werror -o "$scratch/cxx" "$here/consumer/main.c" \
	-x none "${flags[@]}"
LD_LIBRARY_PATH=$lib "$scratch/cxx"

echo "CMake through find_package"
"$cmake" -S "$here/consumer" -B "$scratch/cmake" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/root" \
	-DCMAKE_C_COMPILER="$cc" -DHCI_WANTED="${version%.*}" >"$scratch/cmake.log" ||
	{ cat "$scratch/cmake.log"; exit 1; }
"$cmake" --build "$scratch/cmake" >"$scratch/cmake.log" || { cat "$scratch/cmake.log"; exit 1; }
"$scratch/cmake/consumer"
"$cmake" -S "$here/consumer" -B "$scratch/alias" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/root" -DHCI_PACKAGE=libhci \
	-DCMAKE_C_COMPILER="$cc" -DHCI_WANTED="${version%.*}" >"$scratch/alias.log" || { cat "$scratch/alias.log"; exit 1; }
"$cmake" --build "$scratch/alias" --target consumer >"$scratch/alias.log" || { cat "$scratch/alias.log"; exit 1; }

if "$cmake" -S "$here/consumer" -B "$scratch/newer" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/root" \
	-DCMAKE_C_COMPILER="$cc" -DHCI_WANTED=99.0 >"$scratch/newer.log" 2>&1; then
	echo "a CMake consumer that wants version 99.0 was satisfied with $version" >&2
	exit 1
fi
