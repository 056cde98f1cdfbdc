#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# exports.sh LIBRARY MAP INCLUDE
# What the headers declare with HCI_API, what the version map lists and what the library exports are
# the same set, and the map has no wildcard but `local: *`.
set -euo pipefail
library=$1 map=$2 include=$3
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# A perl without modules: that is what every Debian has.
find "$include" -name '*.h' -exec cat {} + |
	perl -0777 -ne 's{/\*.*?\*/}{}gs; s{^[ \t]*#.*$}{}gm;
		print "$1\n" while /\bHCI_API\b[^;{]*?\b(\w+)\s*\(/g' | sort -u >"$tmp/headers"
perl -0777 -ne 's{/\*.*?\*/}{}gs;
	for my $node (/\{(.*?)\}/gs) {
		$node =~ s/\blocal:.*//s; $node =~ s/\bglobal://;
		print "$_\n" for grep { length } split /[\s;]+/, $node;
	}' "$map" | sort >"$tmp/map"
nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u >"$tmp/library"

failed=0
complain() {
	[ -z "$2" ] && return
	echo "$1:" >&2
	sed 's/^/    /' <<<"$2" >&2
	failed=1
}
complain "listed twice in the map" "$(uniq -d "$tmp/map")"
complain "wildcards in the map's global part" "$(grep '[*?[]' "$tmp/map" || true)"
complain "not named hci_*" "$(grep -v '^hci_' "$tmp/library" || true)"
complain "declared HCI_API but not in the map" "$(comm -23 "$tmp/headers" <(sort -u "$tmp/map"))"
complain "in the map but declared in no header" "$(comm -13 "$tmp/headers" <(sort -u "$tmp/map"))"
complain "in the map but not in the library" "$(comm -23 <(sort -u "$tmp/map") "$tmp/library")"
complain "exported but not in the map" "$(comm -13 <(sort -u "$tmp/map") "$tmp/library")"
echo "$(wc -l <"$tmp/library") symbols exported"
exit $failed
