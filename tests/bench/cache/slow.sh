#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A volume on media of an HDD's speed, with and without a warm read cache on the fast disk: random reads of 4 KiB by fio
# over NBD. Two nodes on 127.0.0.1, each with one XFS on a loop device whose reads are throttled by the block cgroup
# (v1); the cache file lies on the unthrottled disk. JSON on stdout. As root.
#   slow.sh BUILD [IOPS] [SECONDS]
set -euo pipefail
build=$(realpath "$1") iops=${2:-150} seconds=${3:-10}
dir=$(mktemp -d /var/tmp/hci-slow-XXXXXX) group=/sys/fs/cgroup/blkio/hci-slow-$$
export HCI_STORE=sqlite:$dir/cluster.db HCI_PLUGIN_DIR=$build/plugins-out
ctl=$build/examples/hcictl/hcictl pids=()

cleanup() {
	local p d
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
	for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done
	for d in "$dir"/n1 "$dir"/n2; do umount "$d" 2>/dev/null || true; done
	rmdir "$group" 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT

# $1: image of 1 GiB; mounted at $2
disk() {
	local loop
	truncate -s 1G "$1"
	mkfs.xfs -q "$1"
	mkdir "$2"
	loop=$(losetup --find --show --direct-io=on "$1")
	mount -o noatime "$loop" "$2"
	losetup -d "$loop" # goes with its mount
	mkdir "$2/hci"
}

"$ctl" cluster create slow --store "$HCI_STORE" >&2
mkdir "$group"
for n in n1 n2; do
	disk "$dir/$n.img" "$dir/$n"
	(echo $BASHPID >"$group/cgroup.procs"
	exec "$build/examples/hci-node/hci-node" --store "$HCI_STORE" --name $n --listen tcp:127.0.0.1:0 --run-dir "$dir") \
		2>"$dir/$n.log" &
	pids+=($!)
done
until [ "$("$ctl" --json node list 2>/dev/null | grep -c alive)" -ge 1 ] && "$ctl" node list | grep -q n2; do sleep 0.2; done
"$ctl" pool create p >&2
for n in n1 n2; do "$ctl" disk add $n "$dir/$n/hci" --pool p >&2; done
"$ctl" volume create v 256M --pool p --replicas 2 >&2
head -c 256M /dev/urandom >"$dir/data"
"$ctl" volume import v "$dir/data" >&2
sleep 3 # until the write logs are moved: they are read from memory
for n in n1 n2; do
	dev=$(awk -v d="$dir/$n" '$5 == d { print $3 }' /proc/self/mountinfo)
	echo "$dev $iops" >"$group/blkio.throttle.read_iops_device"
done

# $1: name; the rest: options of the export. Two rounds: the first is cold.
measure() {
	local name=$1 i
	shift
	"$ctl" volume export v --listen "unix:$dir/v.sock" "$@" --wait 20s >"$dir/uri" &
	local pid=$!
	pids+=($pid)
	until [ -S "$dir/v.sock" ]; do sleep 0.1; done
	for i in $rounds; do
		fio --name=x --ioengine=nbd --uri="nbd+unix:///?socket=$dir/v.sock" --rw=$i --bs=${bs:-4k} --iodepth=32 \
			--size=256M --randrepeat=0 ${time:-} --output-format=json --output="$dir/fio.json" >/dev/null 2>&1
		printf '  "%s, %s": { "iops": %s, "p50_us": %s },\n' "$name" "$i ${bs:-4k}" \
			"$(jq '.jobs[0].read.iops | floor' "$dir/fio.json")" \
			"$(jq '.jobs[0].read.clat_ns.percentile["50.000000"] / 1000 | floor' "$dir/fio.json")"
	done
	[ "$name" = none ] || "$ctl" --json cache list >"$dir/cache.json"
	kill -INT $pid
	wait $pid || true
	rm -f "$dir/v.sock"
}

echo "{"
rounds="randread" time="--time_based --runtime=$seconds" measure none
rounds="read" bs=256k measure filling --cache "$dir/cache" --cache-size 512M --cache-ram 8M
rounds="randread randread" time="--time_based --runtime=$seconds" measure warm --cache "$dir/cache" --cache-size 512M --cache-ram 8M
echo "  \"media_read_iops\": $iops, \"cache\": $(cat "$dir/cache.json")"
echo "}"
