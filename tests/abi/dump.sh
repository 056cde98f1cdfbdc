#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dump.sh LIBRARY INCLUDE OUT: the binary interface as abidw sees it, without what differs between
# machines (paths). Only types of the public headers count.
set -euo pipefail
abidw --exported-interfaces-only --headers-dir "$2" --drop-private-types --no-corpus-path --no-comp-dir-path --no-show-locs "$1" |
	sed -E "s#path='[^']*/(lib|include)/#path='\1/#" >"$3"
