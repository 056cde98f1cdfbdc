# shellcheck shell=bash
# Owns: the disks of the nodes. A disk is an XFS on a loop device over a sparse file in
# nodes/nX/media, mounted at nodes/nX/disks/<disk>.
#
# nodes/nX/disks is a shared mount and the nodes' mount namespaces are its slaves, so what
# is mounted here appears in the running node, at the same path. Loop devices are freed by
# the kernel when their last user is gone (autoclear): nothing is left even if we die.
#
# Faults act on the file system below the running process:
#   fail    XFS shutdown: from then on every read, write and fsync of open files gives EIO
#   remove  the same, and the mount point is gone: an empty directory that takes no files
#   return  a new mount over a new loop device, with the old contents. Files that were open
#           stay dead, as after pulling and plugging in a real disk: open them again
#   slow    block cgroup throttle of the node's processes on this device
#   fill    a file takes all space

disk_media() { echo "$BED/nodes/$1/media/$2.img"; }
disk_path() { echo "$BED/nodes/$1/disks/$2"; }
disk_state() { cat "$BED/nodes/$1/dstate/$2" 2>/dev/null || echo ok; }

disk_names() {
	local i
	for ((i = 1; i <= DISKS; i++)); do echo "d$i"; done
	for ((i = 1; i <= SPARES; i++)); do echo "s$i"; done
}

disk_mounted() { mountpoint -q "$1"; }

disk_make() {
	local node=$1 disk=$2 media
	media=$(disk_media "$node" "$disk")
	truncate -s "$DISK_SIZE" "$media"
	mkfs.xfs -q -K "$media" >/dev/null ||
		die "disk $node $disk: mkfs.xfs refused $media of $DISK_SIZE: XFS needs 300M at least"
	mkdir -p "$(disk_path "$node" "$disk")"
	# Whoever writes here while the disk is away must get an error, not fill the host.
	chattr +i "$(disk_path "$node" "$disk")" 2>/dev/null || true
}

disk_mount() {
	local node=$1 disk=$2 dir media loop
	dir=$(disk_path "$node" "$disk") media=$(disk_media "$node" "$disk")
	# Direct: one page cache less, and the speed of the medium below.
	loop=$(losetup --find --show --direct-io=on "$media" 2>/dev/null) ||
		loop=$(losetup --find --show "$media") ||
		die "disk $node $disk: no loop device for $media: see losetup -a for who holds them"
	# nouuid: a dead mount of the same file system may live on while its files are open.
	if ! mount -t xfs -o nouuid,noatime "$loop" "$dir"; then
		losetup -d "$loop"
		die "disk $node $disk: cannot mount $loop at $dir: see dmesg"
	fi
	losetup -d "$loop" # busy now: this only marks it to go with its last user
}

# The node's disks tree, with the disks that are not failed or removed.
disks_mount_all() {
	local node=$1 dir disk
	dir=$BED/nodes/$node/disks
	if ! mountpoint -q "$dir"; then
		mount --bind "$dir" "$dir"
		mount --make-shared "$dir"
	fi
	for disk in $(disk_names); do
		[ "$(disk_state "$node" "$disk")" = ok ] || continue
		disk_mounted "$dir/$disk" || disk_mount "$node" "$disk"
	done
}

disk_dev() {
	local dir
	dir=$(realpath -m "$(disk_path "$1" "$2")")
	awk -v d="$dir" '$5 == d { dev = $3 } END { print dev }' /proc/self/mountinfo
}

disk_shutdown() { xfs_io -x -c shutdown "$1"; }

disk_detach() {
	local dir=$1
	while disk_mounted "$dir"; do
		umount "$dir" 2>/dev/null || umount -l "$dir"
	done
}

# What a power cut does to a disk: what was not synced is gone. The shutdown drops the
# page cache's unwritten data and the unwritten end of the log; the mount then recovers.
disk_power_cut() {
	local node=$1 disk=$2 dir
	dir=$(disk_path "$node" "$disk")
	[ "$(disk_state "$node" "$disk")" = ok ] && disk_mounted "$dir" || return 0
	disk_shutdown "$dir"
	disk_detach "$dir"
	disk_mount "$node" "$disk"
}

disk_throttle() {
	local node=$1 disk=$2 limit=$3 dev bps iops f
	dev=$(disk_dev "$node" "$disk")
	[ -n "$dev" ] || return 0
	if [ "$limit" = off ]; then
		bps=0 iops=0
	else
		bps=$(numfmt --from=iec "${limit%%/*}") iops=${limit##*/}
	fi
	if [ "$(cgroup_kind)" = v1 ]; then
		for f in read write; do
			echo "$dev $bps" >"$(cgroup_dir "$node")/blkio.throttle.${f}_bps_device"
			echo "$dev $iops" >"$(cgroup_dir "$node")/blkio.throttle.${f}_iops_device"
		done
	else
		[ "$bps" != 0 ] || bps=max
		[ "$iops" != 0 ] || iops=max
		echo "$dev rbps=$bps wbps=$bps riops=$iops wiops=$iops" >"$(cgroup_dir "$node")/io.max"
	fi
}

disk_apply_slow() {
	local node=$1 disk f
	for disk in $(disk_names); do
		f=$BED/nodes/$node/dstate/$disk.slow
		[ ! -f "$f" ] || disk_throttle "$node" "$disk" "$(cat "$f")"
	done
}

disk_fill() {
	local dir=$1 file=$1/.testbed-fill i=0 free step
	# Extents, not data: the host's disk stays empty. Ever smaller until nothing fits.
	while ((i++ < 40)); do
		free=$(($(stat -f -c '%a * %S' "$dir")))
		step=$((free > 1048576 ? free - 524288 : free / 2 / 4096 * 4096))
		((step >= 4096)) || break
		fallocate -x -l "$step" "$file.$i" 2>/dev/null ||
			fallocate -l $((step / 2 / 4096 * 4096 + 4096)) "$file.$i" 2>/dev/null || break
	done
}

cmd_disk() {
	local node=${1:-} disk=${2:-} what=${3:-} arg=${4:-} dir state
	bed_need
	node_need "$node"
	disk_names | grep -qx -- "$disk" ||
		die "disk $node '$disk': the node has $(disk_names | xargs)"
	bed_lock
	dir=$(disk_path "$node" "$disk") state=$(disk_state "$node" "$disk")
	case $what in
	fail | remove)
		[ "$state" != removed ] || die "disk $node $disk is removed: 'return' it first"
		[ "$state" = failed ] || disk_shutdown "$dir" ||
			die "disk $node $disk: XFS at $dir cannot be shut down: is it mounted?"
		[ "$what" != remove ] || disk_detach "$dir"
		if [ "$what" = fail ]; then state=failed; else state=removed; fi
		echo "$state" >"$BED/nodes/$node/dstate/$disk"
		;;
	return)
		[ "$state" != ok ] || die "disk $node $disk has neither failed nor been removed"
		disk_detach "$dir"
		disk_mount "$node" "$disk"
		rm -f "$BED/nodes/$node/dstate/$disk"
		disk_apply_slow "$node"
		;;
	slow)
		[[ $arg =~ ^(off|[0-9]+[KMG]?/[0-9]+)$ ]] ||
			die "disk $node $disk slow: '$arg': give BYTES/IOPS per second such as 10M/200 (0: no limit), or off"
		disk_throttle "$node" "$disk" "$arg"
		echo "$arg" >"$BED/nodes/$node/dstate/$disk.slow"
		[ "$arg" != off ] || rm -f "$BED/nodes/$node/dstate/$disk.slow"
		;;
	fill)
		[ "$state" = ok ] || die "disk $node $disk has $state: only a disk in order can be filled"
		disk_fill "$dir"
		;;
	unfill)
		rm -f "$dir"/.testbed-fill.*
		;;
	*) die "disk $node $disk: '$what': say fail, return, remove, slow, fill or unfill" ;;
	esac
}
