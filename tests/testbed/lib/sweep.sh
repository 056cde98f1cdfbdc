# shellcheck shell=bash
# Owns: the end of a bed: down, sweep and the search for leftovers.
#
# What belongs to a bed is found by marks, never by general names:
#   processes   HCI_TESTBED_INSIDE=<bed directory> in their environment, and the nodes' inits
#   mounts      mount points below the bed directory (the switch's namespace is one, too)
#   loops       backing files below the bed directory
#   cgroups     .../hci-testbed/<tag>
# and the beds themselves by their entries in /run/hci-testbed.

bed_procs() {
	local p f
	for f in "$BED"/nodes/*/init; do
		! mark_alive "$f" || sed 's/ .*//' "$f"
	done
	grep -lszxF "HCI_TESTBED_INSIDE=$BED" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 |
		while read -r p; do
			# Not ourselves: `up` that clears away after its own failure carries the mark.
			[[ " $$ $BASHPID ${TB_SHELL:-} " != *" $p "* ]] || continue
			! proc_start "$p" >/dev/null || echo "$p"
		done || true # grep fails over processes that end while it looks
}

bed_procs_gone() { [ -z "$(TB_SHELL=$BASHPID bed_procs)" ]; }

bed_kill_procs() {
	local procs
	procs=$(TB_SHELL=$BASHPID bed_procs)
	# shellcheck disable=SC2086
	[ -z "$procs" ] || kill -KILL $procs 2>/dev/null || true
	wait_for 10 bed_procs_gone
}

# Mount points at or below the bed, deepest first. The kernel writes odd bytes in octal.
bed_mounts() {
	awk -v b="$BED/" 'index($5 "/", b) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

bed_loops() {
	losetup --list --noheadings --output NAME,BACK-FILE |
		awk -v b="$BED/" 'index($2, b) == 1 { print $1 }'
}

bed_loops_gone() { [ -z "$(bed_loops)" ]; }

bed_unmount() {
	local m dev
	# All at once, and without writing back what is thrown away: on a busy machine each
	# flush takes its time.
	for m in $(bed_mounts); do
		[[ $m == */disks/* ]] || continue
		(
			xfs_io -x -c shutdown "$m" || true
			umount "$m" || umount -l "$m"
		) >/dev/null 2>&1 &
	done
	wait
	for m in $(bed_mounts); do
		umount "$m" 2>/dev/null || umount -l "$m" 2>/dev/null || true
	done
	for dev in $(bed_loops); do losetup -d "$dev" 2>/dev/null || true; done
	wait_for 30 bed_loops_gone
}

# Needs BED, TAG and the lock. Goes on after a failure: as much as can go shall go.
bed_teardown() {
	local ok=0 f
	bed_kill_procs || {
		warn "bed '$TB_NAME': still running after SIGKILL: $(bed_procs | xargs): hung in the kernel, see dmesg"
		ok=1
	}
	bed_unmount || {
		warn "bed '$TB_NAME': still in use: $(bed_loops | xargs): a program outside has files of the bed open (fuser -vm)"
		ok=1
	}
	cgroup_drop
	if [ -d "$BED" ]; then
		for f in "$BED"/nodes/*/disks/*/; do chattr -i "$f" 2>/dev/null || true; done
		# Only what is on this file system: never through a mount that would not go.
		rm -rf --one-file-system -- "$BED" || ok=1
		rmdir "$(dirname "$BED")" 2>/dev/null || true
	fi
	[ $ok = 0 ] || return 1
	rm -f "$HCI_TB_REGISTRY/$TAG" "$HCI_TB_REGISTRY/$TAG.lock"
	rmdir "$HCI_TB_REGISTRY" 2>/dev/null || true
}

cmd_down() {
	if ! bed_registered && [ ! -e "$BED/conf" ]; then
		say "bed '$TB_NAME' is not up: nothing to do"
		return 0
	fi
	# A verb that is still at work on the bed would build what we take down.
	bed_kill_procs || true
	bed_lock
	bed_teardown || die "bed '$TB_NAME': not all could be removed, see above; 'testbed --name $TB_NAME down' tries again"
}

# bed_unwanted [--all BASE]: stale, or one of all below BASE.
bed_unwanted() { [[ ${1:-} = --all && $BED = "$2"/* ]] || bed_stale; }

# sweep [--all]: every bed of this machine that is stale (with --all: every bed; where HCI_TESTBED_DIR says where ours are, of
# those that are not stale only ours).
cmd_sweep() {
	local all=${1:-} f failed=0 base=
	[ -z "${HCI_TESTBED_DIR:-}" ] || base=$(dirname "$BED")
	for f in "$HCI_TB_REGISTRY"/*; do
		[ -f "$f" ] && [[ $f != *.lock ]] || continue
		(
			BED=$(head -n 1 "$f")
			[[ $BED =~ ^/[A-Za-z0-9/._-]+$ ]] || die "$f does not name a bed: remove that file"
			TB_NAME=$(basename "$BED") TAG=$(basename "$f")
			[ "$TAG" = "$(bed_tag "$BED")" ] || die "$f does not name its bed: remove that file"
			bed_unwanted $all "$base" || exit 0
			bed_kill_procs || true
			bed_lock
			[ -f "$f" ] || exit 0
			bed_unwanted $all "$base" || exit 0
			say "sweeping the bed '$TB_NAME' ($BED)"
			bed_teardown
		) || failed=1
	done
	sweep_registry
	return $failed
}

# An `up` that died before it had entered its bed leaves an empty lock file.
sweep_registry() {
	local f
	for f in "$HCI_TB_REGISTRY"/*.lock; do
		[ -f "$f" ] && [ ! -e "${f%.lock}" ] || continue
		(
			exec 9<"$f"
			! flock -n 9 || [ -e "${f%.lock}" ] || rm -f "$f" "$HCI_TB_REGISTRY/.$(basename "$f" .lock)"
		)
	done
	rmdir "$HCI_TB_REGISTRY" 2>/dev/null || true
}

# paths_of_all BASE: entries of beds below BASE, and groups of none: a bed is entered before it has one.
paths_of_all() {
	local f
	for f in "$HCI_TB_REGISTRY"/*; do
		[ ! -f "$f" ] || [[ $f = *.lock || $(head -n 1 "$f") != "$1"/* ]] || echo "$f"
	done
	for f in "$(TAG='' cgroup_root)"*/; do
		[ -e "$HCI_TB_REGISTRY/$(basename "$f")" ] || [ ! -d "$f" ] || echo "$f"
	done
}

# Prints what exists of this bed (with --all: of any, where HCI_TESTBED_DIR says where ours are of any of ours); exit status 1
# if there is something.
cmd_leftovers() {
	local found=0 line
	if [ "${1:-}" = --all ]; then
		BED=$(dirname "$BED")
		TAG=
	fi
	while read -r line; do
		[ -n "$line" ] || continue
		found=1
		printf '%s\n' "$line"
	done < <(
		grep -lsz "^HCI_TESTBED_INSIDE=$BED\(/[^/]*\)\?$" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 |
			while read -r p; do
				! proc_start "$p" >/dev/null || echo "process $p $(tr '\0' ' ' <"/proc/$p/cmdline")"
			done || true
		bed_mounts | sed 's/^/mount /'
		bed_loops | sed 's/^/loop /'
		if [ -z "$TAG" ] && [ -n "${HCI_TESTBED_DIR:-}" ]; then
			[ ! -e "$BED" ] || echo "path $BED"
			paths_of_all "$BED" | sed 's/^/path /'
		else
			for line in "$BED" "$HCI_TB_REGISTRY/$TAG" "$(cgroup_root)"; do
				[ ! -e "$line" ] || echo "path $line"
			done
		fi
	)
	return $found
}
