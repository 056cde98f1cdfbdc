#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# headers.sh INCLUDE CC CXX
# Every public header compiles alone as C11 and as C++17 without a warning, has no padding in its
# structs (a field put there later would hold garbage in old callers), and keeps to what Python
# and Go can read: no bool, enum, union, bit field, variadic or inline function.
set -euo pipefail
include=$1 cc=$2 cxx=$3
failed=0
flags=(-fsyntax-only -Wall -Wextra -pedantic -Wpadded -Werror -I"$include")

fail() {
	echo "$*" >&2
	failed=1
}

while read -r header; do
	name=${header#"$include"/}
	# Twice: the include guard works.
	text="#include <$name>"$'\n'"#include <$name>"
	"$cc" -x c -std=c11 "${flags[@]}" - <<<"$text" || fail "$name: not clean as C11"
	"$cxx" -x c++ -std=c++17 "${flags[@]}" - <<<"$text" || fail "$name: not clean as C++17"
	# Without comments, strings and preprocessor lines.
	found=$(perl -0777 -pe 's{/\*.*?\*/}{}gs; s{"(\\.|[^"\\])*"}{""}g; s{^[ \t]*#(.*\\\n)*.*$}{}gm' "$header" |
		grep -nE '\b(bool|_Bool|enum|union|inline|off_t|size_t|long|time_t)\b|\.\.\.|[a-z_]+ *: *[0-9]+ *;' || true)
	[ -z "$found" ] || fail "$name: not for other languages (docs/conventions.md): $found"
done < <(find "$include" -name '*.h' | sort)
exit $failed
