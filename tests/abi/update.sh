#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# update.sh [BUILD]: writes the ABI baseline from the library in BUILD (default build/dev).
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$top/build/dev}
library=$(realpath "$build/lib/libhci.so")
version=${library##*.so.}

# Without paths: the baseline is the same wherever it is made.
abidw --headers-dir "$top/include" --drop-private-types --no-corpus-path --no-comp-dir-path \
	--no-show-locs --out-file "$top/tests/abi/libhci-$version.abi" "$library"
echo "wrote tests/abi/libhci-$version.abi"
