#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the NBD server itself costs: fio against a RAM disk behind our server, nbdkit's and QEMU's, in one
# run, over a unix socket. Prints JSON: IOPS, and CPU per request of the server (user and system, us).
#	nbd_ram.sh FOLDER_OF_NBD_RAMSERVER [SECONDS]
set -eu
bin=$1
secs=${2:-5}
mib=512
dir=$(mktemp -d /dev/shm/nbd-bench.XXXXXX)
pid=0
cleanup() {
	[ "$pid" = 0 ] || kill "$pid" 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT
sock=$dir/s

up() {
	rm -f "$sock"
	"$@" >"$dir/out" 2>&1 &
	pid=$!
	for _ in $(seq 100); do
		[ -S "$sock" ] && break
		sleep 0.05
	done
	nbdinfo --size "nbd+unix:///?socket=$sock" >/dev/null
}
down() {
	kill "$pid"
	wait "$pid" || true
	pid=0
}
# Ticks of 10 ms: user and system.
ticks() {
	awk '{ print $14, $15 }' "/proc/$pid/stat"
}
# run SERVER: one JSON object a pattern
run() {
	local server=$1 rw bs qd before after
	for job in "randread 4k 1" "randread 4k 32" "randwrite 4k 1" "randwrite 4k 32" "read 1M 8" "write 1M 8"; do
		read -r rw bs qd <<<"$job"
		before=$(ticks)
		fio --name=b --ioengine=nbd --uri="nbd+unix:///?socket=$sock" --rw="$rw" --bs="$bs" --iodepth="$qd" \
			--size=${mib}M --time_based --runtime="$secs" --refill_buffers=0 --output-format=json >"$dir/fio.json"
		after=$(ticks)
		python3 - "$dir/fio.json" "$server" "$rw" "$bs" "$qd" $before $after <<-'PY'
		import json, sys
		text = open(sys.argv[1]).read()
		j = json.loads(text[text.index("{"):])["jobs"][0]
		server, rw, bs, qd = sys.argv[2:6]
		u0, s0, u1, s1 = map(int, sys.argv[6:])
		d = j["read"] if "read" in rw else j["write"]
		n = max(d["total_ios"], 1)
		print(json.dumps({"server": server, "rw": rw, "bs": bs, "qd": int(qd), "iops": round(d["iops"]),
		                  "mb_s": round(d["bw_bytes"] / 1e6, 1), "p50_us": round(d["clat_ns"].get("percentile", {}).get("50.000000", 0) / 1e3, 1),
		                  "user_us": round((u1 - u0) * 1e4 / n, 2), "system_us": round((s1 - s0) * 1e4 / n, 2)}))
		PY
	done
}

{
	up "$bin/nbd_ramserver" "unix:$sock" $mib -f
	run libhci
	down
	if command -v nbdkit >/dev/null; then
		up nbdkit -f -U "$sock" memory ${mib}M
		nbdcopy -- [ nbdkit pattern ${mib}M ] "nbd+unix:///?socket=$sock"
		run nbdkit-memory
		down
	fi
	if command -v qemu-nbd >/dev/null; then
		head -c ${mib}M /dev/urandom >"$dir/img"
		up qemu-nbd -t -f raw -k "$sock" --cache=writeback --aio=threads "$dir/img"
		run qemu-nbd-shm
		down
	fi
} | python3 -c 'import json, sys; print("[\n  " + ",\n  ".join(l.strip() for l in sys.stdin) + "\n]")'
