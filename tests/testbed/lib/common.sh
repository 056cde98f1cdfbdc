# shellcheck shell=bash
# Owns: names and paths of a test bed, messages, locks, and the marks by which a
# bed that was left behind is told from one in use. Touches nothing but files.
#
# A bed is entered in /run/hci-testbed/<tag> before anything of it exists, and leaves there
# when nothing does any more: its directory, and the process its life hangs on.
#
# Layout of a bed, below $HCI_TESTBED_DIR/<name>:
#   conf        what `up` was asked for, as shell assignments
#   switch      namespace file of the switch (the bridge all nodes hang on)
#   hosts       /etc/hosts of the nodes
#   shared/     a directory all nodes see: the place for what is not a node's own
#   nodes/nX/   init, disks/, media/, log/, run/, libvirt/, net/, dstate/

# shellcheck disable=SC2034 # used by the other parts
readonly HCI_TB_SUBNET=10.77.0
readonly HCI_TB_REGISTRY=/run/hci-testbed

die() {
	printf 'testbed: %s\n' "$*" >&2
	exit 1
}

warn() { printf 'testbed: %s\n' "$*" >&2; }

say() { [ -n "${TB_QUIET:-}" ] || printf '%s\n' "$*"; }

need_root() {
	[ "$(id -u)" = 0 ] || die "namespaces, mounts and loop devices need root: run this as root"
}

need_commands() {
	local c missing=()
	for c in "$@"; do
		command -v "$c" >/dev/null || missing+=("$c")
	done
	[ ${#missing[@]} = 0 ] ||
		die "commands missing: ${missing[*]}: install the packages of $TB_HOME/packages.txt"
}

# Names end up in paths, unix socket addresses and JSON, hence short and plain.
bed_set() {
	local name=$1 base
	[[ $name =~ ^[a-z0-9][a-z0-9_-]{0,23}$ ]] ||
		die "bed name '$name': use 1 to 24 of a-z, 0-9, - and _"
	base=${HCI_TESTBED_DIR:-/var/tmp/hci-testbed}
	[[ $base =~ ^/[A-Za-z0-9/._-]+$ ]] ||
		die "HCI_TESTBED_DIR '$base': give an absolute path of letters, digits and / . _ -"
	TB_NAME=$name
	BED=$(realpath -m "$base/$name")
	TAG=$(bed_tag "$BED")
}

# Two beds of one name below different directories are different beds.
bed_tag() {
	local sum
	sum=$(printf '%s' "$1" | cksum)
	sum=${sum%% *}
	printf '%s-%04x' "$(basename "$1")" $((sum & 0xffff))
}

bed_need() {
	[ -f "$BED/conf" ] || die "bed '$TB_NAME' ($BED) is not up: run 'testbed --name $TB_NAME up'"
	# shellcheck source=/dev/null
	. "$BED/conf"
}

node_need() {
	[[ ${1:-} =~ ^n[0-9]+$ && -d $BED/nodes/$1 ]] ||
		die "node '${1:-}': the bed '$TB_NAME' has $(node_list | xargs)"
}

node_list() {
	local i
	for ((i = 1; i <= NODES; i++)); do echo "n$i"; done
}

# A pid alone can be reused; a pid with its start time within one boot cannot.
proc_start() {
	local stat pid=$1
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	stat=${stat##*) }
	# shellcheck disable=SC2086
	set -- $stat
	# A zombie whose other threads still end has its files and sockets open.
	[ "$1" != Z ] || [ "$(ls "/proc/$pid/task" 2>/dev/null | wc -l)" -gt 1 ] || return 1
	printf '%s' "${20}"
}

proc_mark() {
	local start
	start=$(proc_start "$1") || return 1
	printf '%s %s %s\n' "$1" "$start" "$(cat /proc/sys/kernel/random/boot_id)"
}

# mark_alive FILE [LINE]
mark_alive() {
	local pid start boot
	read -r pid start boot < <(sed -n "${2:-1}p" "$1" 2>/dev/null) || return 1
	[ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] &&
		[ "$(proc_start "$pid")" = "$start" ]
}

bed_registered() { [ -f "$HCI_TB_REGISTRY/$TAG" ]; }

# bed_register MARK: line 1 the directory, line 2 whose life the bed's hangs on: the `up`
# that builds it, then its owner; or "none".
bed_register() {
	printf '%s\n%s\n' "$BED" "$1" >"$HCI_TB_REGISTRY/.$TAG" &&
		mv "$HCI_TB_REGISTRY/.$TAG" "$HCI_TB_REGISTRY/$TAG"
}

bed_owner() { sed -n 2p "$HCI_TB_REGISTRY/$TAG"; }

bed_stale() { [ "$(bed_owner)" != none ] && ! mark_alive "$HCI_TB_REGISTRY/$TAG" 2; }

# The lock is held on fd 9; everything that outlives the verb must close it, or a
# daemon would hold the bed locked for its life (see node_boot and node-spawn.sh).
bed_lock() {
	local file=$HCI_TB_REGISTRY/$TAG.lock
	mkdir -p "$HCI_TB_REGISTRY"
	while :; do
		exec 9>"$file"
		flock -w "${1:-60}" 9 ||
			die "bed '$TB_NAME': another testbed command has held it for ${1:-60} s: wait, or end that one"
		# `down` removes the file under its lock: then ours is a lock on nothing.
		[ "$(stat -Lc %i /proc/self/fd/9)" != "$(stat -c %i "$file" 2>/dev/null)" ] || return 0
	done
}

# Wait until a command succeeds: wait_for SECONDS CMD...
wait_for() {
	local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
	shift
	until "$@" 2>/dev/null; do
		((${EPOCHREALTIME/./} < end)) || return 1
		sleep 0.02
	done
}
