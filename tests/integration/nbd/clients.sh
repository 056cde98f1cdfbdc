#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The NBD server against clients we did not write: libnbd's tools, QEMU's, fio.
#	clients.sh FOLDER_OF_NBD_RAMSERVER
here=$(dirname "$(readlink -f "$0")")
. "$here/lib.sh"

start "unix:$dir/s" 64
uri="nbd+unix:///ram?socket=$dir/s"

info() {
	nbdinfo --json "$uri" >"$dir/info" && python3 - "$dir/info" <<-'PY'
	import json, sys
	d = json.load(open(sys.argv[1]))
	e = d["exports"][0]
	assert d["protocol"] == "newstyle-fixed" and d["structured"], d
	assert e["export-name"] == "ram" and e["description"] == "a RAM disk", e
	assert e["export-size"] == 64 << 20, e
	assert e["contexts"] == ["base:allocation"], e
	for k in ("can_multi_conn", "can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero", "can_df", "can_cache"):
	    assert e[k], k
	assert not e["is_read_only"]
	assert (e["block_size_minimum"], e["block_size_preferred"], e["block_size_maximum"]) == (1, 4096, 32 << 20), e
	PY
}
check "nbdinfo --json" info
check "nbdinfo --list" nbdinfo --list --json "nbd+unix:///?socket=$dir/s"
check "nbdinfo --map of nothing" sh -c "nbdinfo --map --json '$uri' | grep -q '\"type\": 3'"

# A sparse image with data at odd places.
python3 - "$dir/a.raw" <<'PY'
import random, sys
r = random.Random(1)
with open(sys.argv[1], "wb") as f:
    f.truncate(64 << 20)
    for off in [0, 4096, 65536 + 512, 1 << 20, (20 << 20) + 7 * 512, (64 << 20) - 4096]:
        f.seek(off)
        f.write(r.randbytes(min(300000, (64 << 20) - off)))
PY
check "qemu-img convert up" qemu-img convert -n -f raw -O raw "$dir/a.raw" "$uri"
check "qemu-img compare" qemu-img compare -f raw -F raw "$dir/a.raw" "$uri"
check "qemu-img convert down to qcow2" qemu-img convert -f raw -O qcow2 "$uri" "$dir/b.qcow2"
check "qemu-img compare qcow2" qemu-img compare -f raw -F qcow2 "$dir/a.raw" "$dir/b.qcow2"
check "holes stay holes" sh -c "qemu-img map --output=json -f raw '$uri' | grep -q '\"data\": false'"
check "nbdcopy down, 4 connections" nbdcopy --connections=4 "$uri" "$dir/c.raw"
check "the same bytes" cmp "$dir/a.raw" "$dir/c.raw"
check "nbdcopy up, 4 connections" nbdcopy --connections=4 "$dir/c.raw" "$uri"
check "qemu-img compare again" qemu-img compare -f raw -F raw "$dir/a.raw" "$uri"

qio() {
	qemu-io -f raw "$@" "$uri" >"$dir/qio" 2>&1 && ! grep -qiE 'fail|error|mismatch' "$dir/qio" || { cat "$dir/qio"; false; }
}
check "qemu-io patterns" qio -c 'write -P 0x11 0 1M' -c 'write -P 0x22 512 512' -c 'write -P 0x33 4095 4098' \
	-c 'read -P 0x11 0 512' -c 'read -P 0x22 512 512' -c 'read -P 0x11 1k 3071' -c 'read -P 0x33 4095 4098' -c 'read -P 0x11 8193 4k'
check "qemu-io zero, discard, flush, FUA" qio -c 'write -P 0x44 2M 1M' -c 'write -z 2100001 3001' -c 'read -P 0 2100001 3001' \
	-c 'read -P 0x44 2M 2849' -c 'write -z -u 2M 64k' -c 'read -P 0 2M 64k' -c 'discard 3M 1M' -c 'write -f -P 5 5M 4k' -c 'flush'
check "qemu-io 32 MiB in one" qio -c 'write -P 0x55 8M 32M' -c 'read -P 0x55 8M 32M'
check "qemu-io aio" qio -c 'aio_write -P 1 0 64k' -c 'aio_write -P 2 64k 100' -c 'aio_write -P 3 65636 100' -c 'aio_flush' \
	-c 'read -P 2 64k 100' -c 'read -P 3 65636 100'
check "libnbd from python" env NBD_URI="$uri" python3 "$here/checks.py"
check "libnbd, old ways" env NBD_SOCKET="$dir/s" python3 "$here/legacy.py"
fio_verify() {
	fio --name=v --ioengine=nbd --uri="$uri" --rw=randwrite --bsrange="$1" --bs_unaligned="$2" --size=48M --io_size=96M \
		--iodepth=16 --verify=crc32c --verify_fatal=1 --fsync=64 --randseed=7 --minimal
}
check "fio verify, 4k to 256k" fio_verify 4k-256k 0
check "fio verify, odd sizes" fio_verify 512-64k 1
stop
check "no error was answered but the 6 asked for" grep '"errors":6,' "$dir/out"

start "unix:$dir/s" 16 -r
check "read-only is told" sh -c "nbdinfo --json '$uri' | grep -q '\"is_read_only\": true'"
refuse "a write to a read-only export" qemu-io -f raw -c 'write 0 4k' "$uri"
check "a read of a read-only export" qio -r -c 'read -P 0 0 1M'
stop

start "tcp:127.0.0.1:0" 16 -H
uri="nbd://127.0.0.1:${addr##*:}/ram"
check "a held export shakes hands" nbdinfo --size "$uri"
(sleep 1; kill -USR1 "$server") &
begin=$(date +%s%N)
check "held I/O runs after resume" qio -c 'write -P 9 100 100' -c 'read -P 9 100 100'
check "and not before" [ $(($(date +%s%N) - begin)) -gt 900000000 ]
wait $!
stop
finish
