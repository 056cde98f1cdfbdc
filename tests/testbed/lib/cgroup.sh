# shellcheck shell=bash
# Owns: one block-I/O cgroup a node. It carries the throttles of `disk slow`.
# Version 1 (blkio) where it is mounted, else version 2 (io.max).

cgroup_kind() {
	if [ -d /sys/fs/cgroup/blkio ]; then echo v1
	elif grep -qw io /sys/fs/cgroup/cgroup.controllers 2>/dev/null; then echo v2
	else echo none; fi
}

cgroup_root() {
	case $(cgroup_kind) in
	v1) echo "/sys/fs/cgroup/blkio/hci-testbed/$TAG" ;;
	v2) echo "/sys/fs/cgroup/hci-testbed/$TAG" ;;
	esac
}

cgroup_dir() { echo "$(cgroup_root)/$1"; }

cgroup_make() {
	[ "$(cgroup_kind)" != none ] || return 0
	mkdir -p "$(cgroup_dir "$1")"
	[ "$(cgroup_kind)" = v2 ] || return 0
	local d
	for d in /sys/fs/cgroup /sys/fs/cgroup/hci-testbed "$(cgroup_root)"; do
		echo +io >"$d/cgroup.subtree_control" 2>/dev/null || true
	done
}

# Puts the calling shell, and so all it starts, into the node's group.
cgroup_join() {
	[ "$(cgroup_kind)" = none ] || echo "$BASHPID" >"$(cgroup_dir "$1")/cgroup.procs"
}

cgroup_drop() {
	local root d
	root=$(cgroup_root)
	[ -n "$root" ] && [ -d "$root" ] || return 0
	for d in "$root"/*/ "$root"; do
		rmdir "$d" 2>/dev/null || true
	done
	rmdir "$(dirname "$root")" 2>/dev/null || true # only when the last bed goes
}
