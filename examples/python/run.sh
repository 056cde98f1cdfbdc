#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh SOURCE BUILD: runs the Python example with the library of BUILD and a cluster; 77 without python3.
set -euo pipefail
[ $# = 2 ] || { echo "usage: run.sh SOURCE BUILD, such as: examples/python/run.sh examples/python build/release" >&2; exit 2; }
command -v python3 >/dev/null || exit 77
export PYTHONDONTWRITEBYTECODE=1 # nothing into the source tree
exec "$1/../with-cluster.sh" "$2" python3 "$1/volume-io.py" v
