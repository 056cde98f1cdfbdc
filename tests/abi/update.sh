#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# update.sh [BUILD]: writes the ABI baseline from the library in BUILD (default build/dev).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
library=$(realpath "${1:-$top/build/dev}/lib/libhci.so")
version=${library##*.so.}

"$here/dump.sh" "$library" "$top/include" "$here/libhci-$version.abi"
echo "wrote tests/abi/libhci-$version.abi"
