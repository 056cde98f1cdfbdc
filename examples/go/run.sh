#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh SOURCE BUILD SCRATCH: builds the Go example against the library of BUILD and runs it with a cluster; 77 without go.
set -euo pipefail
[ $# = 3 ] || { echo "usage: run.sh SOURCE BUILD SCRATCH, such as: examples/go/run.sh examples/go build/release /tmp/hci-go" >&2; exit 2; }
source=$(cd "$1" && pwd) build=$(cd "$2" && pwd) scratch=$3
command -v go >/dev/null || exit 77
mkdir -p "$scratch"
scratch=$(cd "$scratch" && pwd)
export GOCACHE=$scratch/cache GOPATH=$scratch/path GOFLAGS=-mod=mod GOPROXY=off CGO_ENABLED=1
export CGO_CFLAGS="-I$source/../../include" CGO_LDFLAGS="-L$build/lib"
(cd "$source" && go vet ./... && go build -o "$scratch/volume-io" .)
exec "$source/../with-cluster.sh" "$build" "$scratch/volume-io" v
