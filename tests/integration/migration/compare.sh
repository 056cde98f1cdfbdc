#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The memory of a guest that arrives, against that which left: byte for byte. Half of the guests run until QEMU stops them for
# the last pass, half are suspended in the first one, with many pages sent and changed again. The destination's libvirtd is
# stopped, so that nobody lets the guest go on there: when all is sent both QEMUs have its memory. Every class of the
# codec must have been used; a guest that runs at the destination, and never moved, must have had pages for it. In the end with hashes that
# collide: wrong references, refused.
#
# usage: compare.sh VMCTL HCI-NODE PLUGIN-DIR [ROUNDS]
# shellcheck source=../vm/lib.sh
. "$(dirname "$0")/../vm/lib.sh"

rounds=${4:-6}
memory=96    # MiB
slow=300000  # bytes/s, until it is suspended
brisk=2000000 # of one that runs on: several passes
dir=$(dirname "$0")
declare -A sum pid init place=([v1]=n1 [v2]=n1)

nap() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; }
elsewhere() { [ "$1" = n1 ] && echo n2 || echo n1; }
# The initrd of the image with another first process and what changes a structured heap.
make_initrd() {
	local work=$bed/shared/initrd.d
	mkdir -p "$work"
	install -m 0755 "$dir/compare_init" "$work/init"
	gcc -O2 -static -o "$work/churn" "$dir/../../bench/migration/churn.c" || exit 1
	{
		cat "$image/initrd"
		(cd "$work" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1)
	} >"$bed/shared/initrd"
}
guest() { # NAME [VOLUME]; at $node
	VM_MEMORY=$memory ctl define "$1" "${node:-n1}" "$image/vmlinuz" "$bed/shared/initrd" \
		"console=ttyS0 quiet panic=-1 nokaslr ${2:-nodisk}" "${@:2}" || exit 1
}
pids() {
	local n what number
	while read -r n what number; do
		[ "$what" = init ] && init[$n]=$number || pid[$n]=$number
	done < <(tb status --json | python3 -c '
import json, sys
for n in json.load(sys.stdin)["nodes"]:
    print(n["name"], "init", n["init_pid"])
    for d in n["daemons"]:
        if d["name"] == "libvirtd":
            print(n["name"], "libvirtd", d["host_pid"])')
}

ticks() { cat "$(run_dir n1)/$1.console" "$(run_dir n2)/$1.console" 2>/dev/null | grep -ac '^HCI-TICK'; }
ticked() { [ "$(ticks "$1")" -gt "$2" ]; }
lives() { wait_for 60 ticked "$1" "$(($(ticks "$1") + 1))"; }
listens() { compgen -G "$(run_dir "$1")/mig-*/i" >/dev/null; }
asks() { tb exec "$1" timeout 10 virsh -q qemu-monitor-command "$2" "{\"execute\":\"$3\"}" 2>/dev/null; }
all_sent() { asks "$1" "$2" query-status | grep -q '"status":"postmigrate"'; }
in_first_pass() { asks "$1" "$2" query-migrate | grep -q '"dirty-sync-count":1[,}]'; }
suspended() { # NODE VM
	nap $((RANDOM % 1500 + 500))
	tb exec "$1" virsh -q suspend "$2" >/dev/null && in_first_pass "$1" "$2" || { echo "not in the first pass"; return 1; }
}

to_the_end() { ctl limit "$1" "$brisk"; }

# One hand-over; its figures are added to those of all.
compare() { # VM [suspended|to_the_end]
	local vm=$1 how=${2:-suspended} from=${place[$1]} to job rc result=$bed/shared/result class
	to=$(elsewhere "$from")
	ctl limit "$from" "$slow"
	ctl migrate "$vm" "$to" 0 0 >"$result" 2>&1 &
	job=$!
	until listens "$to"; do
		kill -0 "$job" 2>/dev/null || { cat "$result"; return 1; }
		sleep 0.02
	done
	kill -STOP "${pid[$to]}"
	"$how" "$from" "$vm" && { [ "$how" = to_the_end ] || ctl limit "$from" 0; } && wait_for 40 all_sent "$from" "$vm" &&
		"$dir/memories.py" "$vm" "$memory" "${init[$from]}" "${init[$to]}" 5
	rc=$?
	kill -CONT "${pid[$to]}"
	[ "$rc" = 0 ] || ctl limit "$from" 0
	wait "$job" || { cat "$result"; return 1; }
	place[$vm]=$to
	for class in zero same ref delta new raw refused wire bytes store volume guest; do
		sum[$class]=$((${sum[$class]:-0} + $(sed -n "s/.*\"$class\":\([0-9]*\).*/\1/p" "$result")))
	done
	return $rc
}
runs() { running_on "${place[v1]}" && volume_is_on "${place[v1]}"; }
restart() { # with another node_env
	local n
	for n in n1 n2; do
		service_kill "$n"
		node_start "$n"
	done
	check "the VM is with the new services" wait_for 60 runs
}
used() { # NAME...: each more than none
	local k
	for k in "$@"; do
		[ "${sum[$k]:-0}" -gt 0 ] || { echo "$k: none"; return 1; }
	done
}
figures() {
	local k
	printf '#'
	for k in zero same ref delta new raw refused wire bytes store volume guest; do
		printf ' %s %s' "$k" "${sum[$k]:-0}"
	done
	echo
}

# Between these nodes the codec would always step aside.
node_env="HCI_MIGRATE_INDEX=now HCI_MIGRATE_ASIDE=never"
bed_up
make_initrd
guest v1 vol
guest v2
pids
check "a VM with a disk starts" ctl start v1
check "a VM of the same kernel and no disk starts" ctl start v2
check "writes" writes
check "both change their memory" lives v1
lives v2
known() { grep -q 'volume vol: what its blocks contain is known' "$bed/nodes/n1/log/node.log"; }
check "what is on the volume is known" wait_for 60 known

check "the first, to a node that has nothing but the volume" compare v1
check "referred to blocks of the volume" used volume
sum=()
check "the second, to a node that has pages of the first" compare v2
check "referred to pages of another guest" used store
ctl stop v2 destroy
for i in $(seq "$rounds"); do
	[ $((i % 2)) = 0 ] && how=suspended || how=to_the_end
	check "$i: identical, $how" compare v1 "$how"
	[ $((i % 10)) != 1 ] || check "$i: lives" lives v1
done
figures
declare -A before
for k in "${!sum[@]}"; do before[$k]=${sum[$k]}; done

echo "# the codec steps aside: as the link has it, then up and down, batch by batch"
for aside in follows dances; do
	node_env="HCI_MIGRATE_INDEX=now HCI_MIGRATE_ASIDE=$aside"
	restart
	sum=()
	brisk=20000000 # what goes as it is takes so much
	for i in 1 2; do
		[ $i = 1 ] && how=suspended || how=to_the_end
		check "$aside $i: identical, $how" compare v1 "$how"
	done
	figures
	check "some pages went as they are" used raw
done
check "some did not" used ref

echo "# a guest that runs at the destination, and nothing else that is known there"
# It is at n2, which v1 is to come to, and stays there to the end.
[ "${place[v1]}" = n1 ] || check "back" compare v1
node=n2 guest v3
check "a VM of the same kernel starts at the destination" ctl start v3
lives v3
node_env="HCI_MIGRATE_INDEX=now HCI_MIGRATE_ASIDE=never HCI_MIGRATE_WITHOUT=store,volume"
restart
sum=()
check "identical" compare v1 to_the_end
figures
check "referred to pages of the guest that runs there" used guest
served() { [ "${sum[guest]}" -gt 500 ] && [ "${sum[guest]}" = "${sum[ref]}" ] && [ "${sum[refused]}" -lt $((sum[guest] / 4)) ]; }
check "many, and few in vain" served
check "which goes on" lives v3
check "v1 back, where none runs" compare v1

echo "# hashes that collide"
node_env="HCI_MIGRATE_INDEX=now HCI_MIGRATE_ASIDE=never HCI_MIGRATE_COLLIDE=1"
restart
check "writes" writes
sum=()
for i in 1 2 3; do # to one that has the volume; back; to one that has pages
	check "$i: identical" compare v1
done
figures
check "wrong references were refused" used ref refused
# Few rounds may see none of the pages again that the guest had changed meanwhile: in all, that is.
for k in "${!before[@]}"; do sum[$k]=$((${sum[$k]:-0} + before[$k])); done
check "each class was used" used zero same ref delta new raw
check "writes" writes
check "nothing of the path is left" wait_for 30 no_path
ctl stop v3 destroy
check "is stopped" ctl stop v1 destroy
check "the replicas are equal" ctl compare vol
finish
