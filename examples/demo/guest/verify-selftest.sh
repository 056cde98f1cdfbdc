#!/bin/bash
# A check that cannot fail shows nothing: this damages a recorded image in every way verify
# knows and wants to see each found. Needs gcc, and a file system with O_DIRECT.
# usage: verify-selftest.sh [SCRATCH_DIR]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=$(mktemp -d "${1:-${TMPDIR:-/var/tmp}}/verify-selftest.XXXXXX")
trap 'rm -rf "$dir"' EXIT
cc=${CC:-gcc}
$cc -O2 -o "$dir/recorder" "$here/recorder.c"
$cc -O2 -o "$dir/verify" "$here/verify.c"
cd "$dir"
passed=0 failed=0

# expect NAME EXIT FIELD MIN IMAGE LOG...: verify must exit so and count at least MIN there.
expect() {
	local name=$1 want=$2 field=$3 min=$4 rc=0 out n
	shift 4
	out=$(./verify "$@" 2>err) || rc=$?
	n=$(sed -n "s/.*\"$field\": \([0-9]*\).*/\1/p" <<<"$out")
	if [ $rc = "$want" ] && [ "${n:-0}" -ge "$min" ]; then
		echo "ok - $name"
		passed=$((passed + 1))
	else
		echo "not ok - $name: exit $rc (want $want), $field=${n:-none} (want $min): $out"
		failed=$((failed + 1))
	fi
}

# Sector of the Nth newest acknowledged record.
lba() { grep HCI-ACK "${2:-log}" | tail -n "$1" | head -n 1 | cut -d' ' -f3; }
damage() { cp --sparse=always good.img bad.img; }
block() { dd if="$1" of="$2" bs=4096 count=1 skip=$(($3 / 8)) seek=$(($4 / 8)) conv=notrunc status=none; }

truncate -s 64M good.img
opts=(area=16,32 slots=256 rate=0 batch=8)
./recorder good.img "${opts[@]}" count=1000 seed=7 >log
cp --sparse=always good.img older.img
cp log older.log
./recorder good.img "${opts[@]}" count=400 seed=8 >>log

expect "a good image passes" 0 acknowledged 1400 good.img log
expect "in two logs, cut in the middle of a line" 0 acknowledged 1400 good.img \
	<(head -c 30001 log) <(tail -c +30002 log)
expect "no log line, no proof" 2 acknowledged 0 good.img /dev/null

damage; block /dev/zero bad.img 0 "$(lba 1)"
expect "the last record zeroed is lost" 1 lost 1 bad.img log
damage; block older.img bad.img "$(lba 100)" "$(lba 100)"
expect "a block of an older image is stale" 1 stale 1 bad.img log
expect "an older image as a whole is stale" 1 stale 256 older.img log
damage; printf 'X' | dd of=bad.img bs=1 seek=$(($(lba 50) * 512 + 2000)) conv=notrunc status=none
expect "one wrong byte is corrupt" 1 corrupt 1 bad.img log
damage; block good.img bad.img "$(lba 9)" "$(lba 10)"
expect "a block in another's place is corrupt" 1 corrupt 1 bad.img log
damage; dd if=older.img of=bad.img bs=512 count=4 skip="$(lba 20)" seek="$(lba 20)" conv=notrunc status=none
expect "a torn block is corrupt" 1 corrupt 1 bad.img log
truncate -s 20M bad.img
expect "a volume that ends too early is refused" 2 lost 0 bad.img log

# A disk that went back in time and was written on: all checksums are right, the past is not.
cp --sparse=always older.img bad.img
./recorder bad.img "${opts[@]}" count=900 seed=9 >back.log
expect "a guest restarted on an older disk" 1 stale 1 bad.img log back.log
cp --sparse=always good.img bad.img
block /dev/zero bad.img 0 "$(lba 3)"
./recorder bad.img "${opts[@]}" count=600 seed=9 >back.log
expect "a record gone before a restart, since overwritten" 1 lost 1 bad.img log back.log
# What was not acknowledged may be there or not.
head -n -9 log >short.log
expect "newer than acknowledged is fine" 0 newer 1 good.img short.log
{ cat log; echo "HCI-ERR fdatasync 1401 5"; } >err.log
expect "guest errors fail --strict" 1 guest_errors 1 --strict good.img err.log
expect "guest errors are only told otherwise" 0 guest_errors 1 good.img err.log
{ cat log; echo "HCI-BAD $(lba 1) 1400 1144"; } >err.log
expect "a wrong read in the guest is corrupt" 1 corrupt 1 good.img err.log

echo "$passed passed, $failed failed"
[ $failed = 0 ]
