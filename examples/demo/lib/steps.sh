# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables are shared with demo.sh and the other parts
# SPDX-License-Identifier: Apache-2.0
# Owns: the eight steps. Each ends the demo (die) when what it is to show did not hold.

bring_up() {
	local i from
	certificates
	ours=1
	run "$testbed" --quiet up --nodes "$nodes" --disks 2 --spares 1 --disk-size 2G --libvirt --pki "$scratch/libvirt" --owner $$
	cp -r "$scratch/admin" "$beddir/shared/admin"
	echo "    \$ hcictl cluster create demo"
	run "$bin/hcictl/hcictl" cluster create demo
	from=$(now_ms)
	for ((i = 1; i <= nodes; i++)); do start_node "n$i"; done
	until_true 60 nodes_alive "$nodes" || die "not all nodes joined: see nodes/n1/log/hci-node.log"
	say "each with its own network, mount, PID and UTS namespace, disks, libvirtd and hci-node;"
	say "all joined in $(($(now_ms) - from)) ms, TLS 1.3 with certificates of a CA made just now"
	watch node list
	text "$nodes nodes alive"
}

nodes_alive() { [ "$(ctl node list --json | jq '[.[] | select(.state == "alive")] | length')" = "$1" ]; }

disks_online() { [ "$(ctl disk list --json | jq '[.[] | select(.state == "online")] | length')" = "$1" ]; }

make_pool() {
	local i d
	act pool create $pool --policy spread --rebuild-delay ${rebuild_delay}s
	for ((i = 1; i <= nodes; i++)); do
		for d in d1 d2 s1; do
			mkdir "$beddir/nodes/n$i/disks/$d/hci"
			if [ $d = s1 ]; then
				run ctl disk add "n$i" "$beddir/nodes/n$i/disks/$d/hci" --pool $pool --spare
			else
				run ctl disk add "n$i" "$beddir/nodes/n$i/disks/$d/hci" --pool $pool
			fi
		done
	done
	say "$((3 * nodes)) times hcictl disk add"
	watch pool list
	until_true 30 disks_online $((3 * nodes)) || die "not all disks are online: hcictl disk list"
	text "$((2 * nodes)) data disks, $nodes spares"
}

make_volume() {
	local rate data
	act volume create $volume ${volume_mib}M --pool $pool --replicas "$replicas" --segment ${segment_mib}M --write-timeout 2s
	say "the placement plugin 'spread' (placement-spread.so) chose, each copy on another node:"
	ctl policy explain spread --pool $pool --replicas "$replicas" | sed 's/^/      /' | head -8
	[ "$(ctl volume show $volume --replicas --json |
		jq --argjson r "$replicas" 'group_by(.segment) | all((map(.node) | unique | length) == $r)')" = true ] ||
		die "the copies of a segment are not on $replicas distinct nodes"
	watch volume import $volume "$image/disk.img"
	# The guest's image is small: something more for the disk that will die.
	head -c $(((volume_mib - image_mib) << 20)) /dev/urandom >"$scratch/filler"
	echo "    and $((volume_mib - image_mib)) MiB of noise behind it"
	rate=$(ctl volume import $volume "$scratch/filler" --offset ${image_mib}M --json)
	rm "$scratch/filler"
	data=$(jq -r '.mb_per_s | floor' <<<"$rate")
	say "written to $replicas replicas at $data MB/s"
	fact import_mb_per_s "$data"
	text "$data MB/s to $replicas replicas"
}

console() { echo "$(node_data "$1")/run/$vm.console"; }

consoles() {
	local i f
	for ((i = 1; i <= 2; i++)); do
		f=$(console "n$i")
		[ ! -e "$f" ] || echo "$f"
	done
}

# Records the guest has reported so far
acked() {
	local files
	mapfile -t files < <(consoles)
	[ ${#files[@]} -gt 0 ] || { echo 0; return; }
	cat "${files[@]}" | grep -c '^HCI-ACK' || true
}

acked_reaches() { [ "$(acked)" -ge "$1" ]; }

# goes_on COUNT SECONDS WHAT: that many new records within the time
goes_on() {
	local from now
	from=$(acked)
	until_true "$2" acked_reaches $((from + $1)) && return
	now=$(acked)
	die "$3: the guest wrote only $((now - from)) of $1 records in $2 s (slow machine? stuck?); $now in all"
}

start_vm() {
	act vm define $vm --node n1 --volume $volume --memory 256M --kernel "$image/vmlinuz" --initrd "$image/initrd" \
		--cmdline "console=ttyS0 quiet panic=-1 hci.rate=100"
	watch vm start $vm
	until_true 90 acked_reaches 200 || die "the guest does not write: see nodes/n1/data/run/$vm.console"
	say "the guest has booted and reported $(acked) records, each numbered, checksummed and synced before"
	watch vm list
	text "$(acked) records"
}

attached_by() { ctl volume show $volume --json | jq -r .attached_by; }

move_vm() {
	local out total down bytes wire before after
	before=$(attached_by)
	echo "    \$ hcictl vm migrate $vm n2"
	out=$(ctl vm migrate $vm n2 --json) || die "the migration failed"
	read -r total down bytes wire < <(jq -r '.result | "\(.total_ms) \(.downtime_ms) \(.bytes) \(.wire)"' <<<"$out")
	after=$(attached_by)
	say "total $total ms, downtime $down ms, $((bytes / 1000000)) MB of memory, $((wire / 1000000)) MB sent"
	say "the disk moved with it: attached by $before before, by $after now"
	[ "$after" = n2 ] || die "the volume is attached by '$after', not by n2"
	[ "$(ctl vm list --json | jq -r ".[] | select(.name == \"$vm\") | .node")" = n2 ] || die "the VM is not on n2"
	goes_on 200 90 "after the move"
	fact migration_total_ms "$total"
	fact migration_downtime_ms "$down"
	fact migration_bytes "$bytes"
	fact migration_wire "$wire"
	text "$total ms, down $down ms, $((wire / 1000000)) MB sent"
}

# MB/s at which dd copies from one disk of a node to another of it, past the page cache
raw_speed() {
	local n=$1 from=$2 to=$3 t
	dd if=/dev/urandom of="$from/raw" bs=1M count=256 oflag=direct conv=fsync 2>/dev/null
	t=$(now_ms)
	"$testbed" exec "$n" dd if="$from/raw" of="$to/raw" bs=1M iflag=direct oflag=direct conv=fsync 2>/dev/null
	t=$(($(now_ms) - t))
	rm -f "$from/raw" "$to/raw"
	echo $((256 * 1048576 / 1000 / (t > 0 ? t : 1)))
}

whole() { ctl volume show $volume --json | jq -e '.out == 0 and .rebuilding == 0' >/dev/null; }

# No copy is on a disk that is not online, and all are in sync
rebuilt() {
	local bad
	whole || return 1
	bad=$(ctl disk list --json | jq -c '[.[] | select(.state != "online") | .uuid]')
	ctl volume show $volume --replicas --json |
		jq -e --argjson bad "$bad" 'all(.state == "in sync" and (.disk as $d | $bad | index($d) | not))' >/dev/null
}

# resync_since SECONDS-OF-EPOCH: "BYTES MS" of the copying jobs since
resync_since() {
	ctl job list --type resync --json | jq -r --argjson t "$1" \
		'[.[] | select(.created >= $t and .state == "done") | .message | fromjson] |
		"\(map(.bytes) | add // 0) \(map(.ms) | add // 0)"'
}

fail_disk() {
	local victim node name since bytes ms rate raw
	[ "$replicas" -gt 1 ] || { skip "with one replica a dead disk is lost data: not shown"; return; }
	# The fullest disk, but not of the node that is cut off next.
	victim=$(ctl volume show $volume --replicas --json | jq -c --arg cut "n$cut" \
		'[.[] | select(.node != $cut)] | group_by(.disk) | max_by(length) | {node: .[0].node, path: .[0].path, n: length}')
	node=$(jq -r .node <<<"$victim")
	name=$(basename "$(dirname "$(jq -r .path <<<"$victim")")")
	raw=$(raw_speed "$node" "$beddir/nodes/$node/disks/$name" "$beddir/nodes/$node/disks/s1")
	say "raw speed of the media (dd from disk to disk): $raw MB/s"
	say "disk $name of $node with $(jq .n <<<"$victim") segments fails: every I/O gives EIO from now on"
	since=$(date +%s)
	run "$testbed" disk "$node" "$name" fail
	until_true 60 out_of_sync || die "nobody noticed that disk $name of $node failed"
	goes_on 100 90 "with a failed disk"
	say "the guest goes on; after ${rebuild_delay} s the lost segments are rebuilt:"
	until_true $((rebuild_delay + 90)) rebuilt || die "not rebuilt after $((rebuild_delay + 90)) s: hcictl volume show $volume --replicas"
	until_true 30 resync_told "$since" || die "nothing was copied"
	read -r bytes ms < <(resync_since "$since")
	rate=$((bytes / 1000 / (ms > 0 ? ms : 1)))
	say "$((bytes >> 20)) MiB in $ms ms: $rate MB/s, it held back for the guest, which wrote all the while (rebuild_impact)"
	ctl disk list | sed 's/^/      /' | cut -c1-150
	goes_on 100 90 "after the rebuild"
	fact rebuild_bytes "$bytes"
	fact rebuild_mb_per_s "$rate"
	fact raw_mb_per_s "$raw"
	text "$((bytes >> 20)) MiB rebuilt at $rate MB/s beside the guest"
}

out_of_sync() { ctl volume show $volume --json | jq -e '.out > 0' >/dev/null; }

cut_node() {
	local since before missed held bytes ms most
	[ "$replicas" -gt 1 ] || { skip "with one replica a cut-off node stops the volume: not shown"; return; }
	[ "$cut" != 1 ] || ctl_node=n2
	held=$(ctl volume show $volume --replicas --json | jq --arg n "n$cut" '[.[] | select(.node == $n)] | length')
	since=$(date +%s)
	before=$(acked)
	run "$testbed" link "n$cut" down
	say "the cable of n$cut is out; it holds $held segments of the volume"
	until_true 60 out_of_sync || die "nobody noticed that n$cut is gone"
	goes_on 300 90 "with n$cut cut off"
	run "$testbed" link "n$cut" up
	until_true 60 whole || die "n$cut is not in sync 60 s after it was joined again: hcictl volume show $volume --replicas"
	missed=$(($(acked) - before))
	until_true 30 resync_told "$since" || die "nothing was copied to n$cut"
	read -r bytes ms < <(resync_since "$since")
	# A record of 4 KiB marks at most two 64 KiB regions as missed; and so does what the file system writes.
	most=$(((missed + 500) * 2 * 65536))
	say "the guest reported $missed records meanwhile; $((bytes >> 10)) KiB were copied to n$cut in $ms ms,"
	say "of $((held * segment_mib)) MiB that it holds"
	[ "$bytes" -le $most ] || die "more was copied than was missed: $bytes bytes for $missed records"
	[ "$bytes" -lt $((held * segment_mib << 20)) ] || die "everything was copied: $bytes bytes"
	goes_on 100 90 "after n$cut returned"
	fact resync_bytes "$bytes"
	fact resync_records_missed "$missed"
	text "$missed records missed, $((bytes >> 10)) KiB copied"
}

resync_told() {
	local bytes _
	read -r bytes _ < <(resync_since "$1")
	[ "$bytes" -gt 0 ]
}

verify_all() {
	local i out files strict=--strict rc
	watch vm stop $vm --destroy
	until_true 30 detached || die "the volume is still attached by $(attached_by)"
	mapfile -t files < <(consoles)
	lost=0 stale=0 corrupt=0
	for ((i = 1; i <= replicas; i++)); do
		run ctl volume read $volume "$beddir/shared/copy" --replica "$i"
		rc=0
		out=$("$image/verify" $strict "$beddir/shared/copy" "${files[@]}") || rc=$?
		rm -f "$beddir/shared/copy"
		say "replica $i: $out"
		[ -n "$out" ] || die "replica $i could not be checked"
		acknowledged=$(jq .acknowledged <<<"$out")
		lost=$((lost + $(jq .lost <<<"$out")))
		stale=$((stale + $(jq .stale <<<"$out")))
		corrupt=$((corrupt + $(jq .corrupt <<<"$out")))
		[ $rc = 0 ] || die "replica $i: $lost lost, $stale stale, $corrupt corrupt, $(jq .guest_errors <<<"$out") errors seen by the guest"
	done
	if [ "$replicas" -gt 1 ]; then watch volume compare $volume; fi
	text "$acknowledged records, every copy equal"
}

detached() { [ -z "$(attached_by)" ]; }
