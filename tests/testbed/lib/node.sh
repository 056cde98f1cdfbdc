# shellcheck shell=bash
# Owns: the life of a node (boot, kill, restart) and of the processes in it.
# A node is a set of namespaces below one init; the end of the init is the end of all.

node_dir() { echo "$BED/nodes/$1"; }

node_alive() { mark_alive "$(node_dir "$1")/init"; }

node_pid() {
	local pid _
	read -r pid _ <"$(node_dir "$1")/init"
	echo "$pid"
}

node_need_alive() {
	node_need "$1"
	node_alive "$1" || die "node $1 is not running: 'testbed restart $1' brings it back"
}

node_prepare() {
	local dir disk
	dir=$(node_dir "$1")
	mkdir -p "$dir"/{disks,media,log,run,net,dstate,mnt,data}
	for disk in $(disk_names); do disk_make "$1" "$disk"; done
	[ "$LIBVIRT" = 0 ] || libvirt_prepare "$1"
}

node_boot() {
	local node=$1 dir
	dir=$(node_dir "$node")
	rm -f "$dir/ready" "$dir/init" "$dir"/run/*.pid
	disks_mount_all "$node"
	cgroup_make "$node"
	(
		cgroup_join "$node"
		exec 9>&-
		# The mark by which `down` and `sweep` find what belongs to a bed.
		export HCI_TESTBED_INSIDE=$BED HCI_NODE_NAME=$node HCI_NODE_DIR=$dir
		HCI_NODE_ADDR=$(node_addr "$node")
		export HCI_NODE_ADDR
		exec setsid unshare --mount --net --pid --uts --ipc --fork --propagation slave -- \
			"$TB_HOME/lib/node-init.sh" "$BED" "$node" "$HIDE_KVM" "$LIBVIRT"
	) </dev/null >>"$dir/log/init.log" 2>&1 &
	wait_for 10 test -e "$dir/ready" ||
		die "node $node did not start within 10 s: $(tail -n 3 "$dir/log/init.log")"
	port_plug "$node" "$(node_pid "$node")"
	disk_apply_slow "$node"
	[ "$LIBVIRT" = 0 ] || libvirt_start "$node"
	! etcd_here "$node" || etcd_start "$node"
}

# All nodes at once: boot takes as long as the slowest.
nodes_boot() {
	local node pids=() pid failed=0
	for node in "$@"; do
		(node_boot "$node") &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
	return $failed
}

# Cables first, then every process at one stroke, then (power) what was not synced.
nodes_kill() {
	local power=$1 node disk pids=()
	shift
	for node in "$@"; do port_unplug "$node"; done
	for node in "$@"; do
		! node_alive "$node" || pids+=("$(node_pid "$node")")
	done
	[ ${#pids[@]} = 0 ] || kill -KILL "${pids[@]}"
	for node in "$@"; do
		wait_for 10 node_dead "$node" ||
			die "node $node: its init (pid $(node_pid "$node")) outlives SIGKILL: a process in it hangs in the kernel, see dmesg"
		rm -f "$(node_dir "$node")"/{init,ready} "$(node_dir "$node")"/run/*.pid
		[ "$power" = 1 ] || continue
		for disk in $(disk_names); do disk_power_cut "$node" "$disk"; done
	done
}

node_dead() { ! node_alive "$1"; }

nodes_from_args() {
	local n
	[ $# -gt 0 ] || die "name a node, or more: $(node_list | xargs)"
	for n in "$@"; do node_need "$n"; done
}

cmd_kill() {
	local power=0 nodes=()
	while [ $# -gt 0 ]; do
		case $1 in --power) power=1 ;; *) nodes+=("$1") ;; esac
		shift
	done
	bed_need
	nodes_from_args "${nodes[@]}"
	bed_lock
	nodes_kill $power "${nodes[@]}"
}

cmd_restart() {
	local power=0 nodes=()
	while [ $# -gt 0 ]; do
		case $1 in --power) power=1 ;; *) nodes+=("$1") ;; esac
		shift
	done
	bed_need
	nodes_from_args "${nodes[@]}"
	bed_lock
	nodes_kill $power "${nodes[@]}"
	nodes_boot "${nodes[@]}" || die "restart: a node did not come back, see above"
}

cmd_power_cycle() { cmd_restart --power "$@"; }

# Replaces this shell by a command in the node.
node_enter() {
	local node=$1 pid wd=$PWD
	shift
	pid=$(node_pid "$node")
	[ -d "/proc/$pid/root$wd" ] || wd=/
	cgroup_join "$node"
	export HCI_TESTBED_INSIDE=$BED HCI_NODE_NAME=$node HCI_NODE_DIR=$BED/nodes/$node
	HCI_NODE_ADDR=$(node_addr "$node")
	export HCI_NODE_ADDR
	exec nsenter --target "$pid" --mount --net --pid --uts --ipc --wdns="$wd" -- "$@"
}

cmd_exec() {
	local node=${1:-}
	bed_need
	node_need_alive "$node"
	shift
	[ "${1:-}" != -- ] || shift
	[ $# -gt 0 ] || die "exec $node: name a command"
	node_enter "$node" "$@"
}

daemon_file() { echo "$BED/nodes/$1/run/$2.pid"; }
daemon_log() { echo "$BED/nodes/$1/log/$2.log"; }

daemon_name_ok() {
	[[ ${2:-} =~ ^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$ ]] ||
		die "node $1: daemon name '${2:-}': use 1 to 32 of letters, digits, _ . -"
}

# Host pid of a daemon, nothing if it is gone. The pid file holds the node's view
# (pid, start time); only the node's init's namespace has both in its NSpid.
daemon_pid() {
	local node=$1 name=$2 pid start ns p
	read -r pid start 2>/dev/null <"$(daemon_file "$node" "$name")" || return 1
	ns=$(readlink "/proc/$(node_pid "$node")/ns/pid") || return 1
	# shellcheck disable=SC2013 # words are what we want: these are numbers
	for p in $(grep -lsE "^NSpid:.*[[:space:]]$pid\$" /proc/[0-9]*/status | cut -d/ -f3); do
		if [ "$(readlink "/proc/$p/ns/pid")" = "$ns" ] && [ "$(proc_start "$p")" = "$start" ]; then
			echo "$p"
			return 0
		fi
	done
	return 1
}

daemon_start() {
	local node=$1 name=$2
	shift 2
	(node_enter "$node" "$TB_HOME/lib/node-spawn.sh" \
		"$(daemon_file "$node" "$name")" "$(daemon_log "$node" "$name")" "$@") || return 1
}

cmd_start() {
	local node=${1:-} name=${2:-}
	bed_need
	node_need_alive "$node"
	daemon_name_ok "$node" "$name"
	shift 2
	[ "${1:-}" != -- ] || shift
	[ $# -gt 0 ] || die "start $node $name: name a command"
	! daemon_pid "$node" "$name" >/dev/null ||
		die "start $node $name: it runs already: 'testbed stop $node $name' first"
	daemon_start "$node" "$name" "$@" || exit 1
	# A daemon that cannot start says so at once: better told here than found later.
	sleep 0.05
	daemon_pid "$node" "$name" >/dev/null ||
		die "start $node $name: it ended at once: $(tail -n 3 "$(daemon_log "$node" "$name")")"
}

daemon_gone() { ! daemon_pid "$1" "$2" >/dev/null; }

cmd_stop() {
	local node=${1:-} name=${2:-} sig=${3:-TERM} pid
	bed_need
	node_need_alive "$node"
	daemon_name_ok "$node" "$name"
	sig=${sig#-}
	sig=${sig#SIG}
	kill -l "$sig" >/dev/null 2>&1 || die "stop $node $name: no signal '$sig'"
	pid=$(daemon_pid "$node" "$name") ||
		die "stop $node $name: it is not running: 'testbed status' shows what is"
	kill -"$sig" "$pid"
	case $sig in
	TERM | INT | QUIT | KILL | ABRT | SEGV | 2 | 3 | 6 | 9 | 11 | 15)
		wait_for "${TB_STOP_TIMEOUT:-15}" daemon_gone "$node" "$name" ||
			die "stop $node $name: pid $pid runs ${TB_STOP_TIMEOUT:-15} s after SIG$sig: try KILL"
		rm -f "$(daemon_file "$node" "$name")"
		;;
	esac
}

cmd_logs() {
	local node=${1:-} name=${2:-}
	bed_need
	node_need "$node"
	if [ -z "$name" ]; then
		find "$BED/nodes/$node/log" -name '*.log' -printf '%f\n' | sed 's/\.log$//' | sort
		return
	fi
	daemon_name_ok "$node" "$name"
	shift 2
	[ -f "$(daemon_log "$node" "$name")" ] ||
		die "logs $node $name: no such log: 'testbed logs $node' lists them"
	if [ $# -gt 0 ]; then exec tail "$@" "$(daemon_log "$node" "$name")"; fi
	cat "$(daemon_log "$node" "$name")"
}
