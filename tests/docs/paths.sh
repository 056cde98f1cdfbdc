#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# paths.sh TOP: every relative link of the documents leads to a file, and every path of the tree that
# README.md and docs/ name in code marks exists (* stands for any). Tells all that do not.
set -euo pipefail
cd "$1"
bad=0

complain() {
	echo "$1: '$2' is not there" >&2
	bad=1
}

while read -r doc; do
	while read -r link; do
		[ -e "$(dirname "$doc")/$link" ] || complain "$doc" "$link"
	done < <(grep -oP '\]\(\K[^)#]+' "$doc" | grep -vE '^[a-z]+:' || true)
done < <(git ls-files -co --exclude-standard -- '*.md' 2>/dev/null || find . -name '*.md' -not -path './build*')

for doc in README.md docs/*.md; do
	while read -r path; do
		compgen -G "$path" >/dev/null || complain "$doc" "$path"
	done < <(grep -oP '`\.?/?\K(lib|include|tests|plugins|examples|cmake|docs|bindings)/[A-Za-z0-9_./*{},-]*(?=[ `])' "$doc" |
		grep -v '[{}]' | sort -u || true)
done
exit $bad
