# shellcheck shell=bash
# Owns: the virtual network of a bed. All nodes hang on one bridge that lives in a
# network namespace of its own, so neither the host's interfaces, its addresses nor its
# forwarding are involved, and every bed may use the same addresses.
# Port names in the switch are the node names; the node's end is eth0.

in_switch() { nsenter --net="$BED/switch" -- "$@"; }

in_node_net() {
	local node=$1
	shift
	nsenter --net="/proc/$(node_pid "$node")/ns/net" -- "$@"
}

node_addr() { echo "$HCI_TB_SUBNET.${1#n}"; }

switch_up() {
	: >"$BED/switch"
	unshare --net="$BED/switch" true
	# bridge-nf-call-iptables is on in new namespaces of some kernels and would send
	# bridged frames through the IP firewall and its connection tracking.
	# shellcheck disable=SC2016 # expands in there
	in_switch bash -euc '
		ip link set lo up
		ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
		ip link set br0 up
		for f in iptables ip6tables arptables; do
			f=/proc/sys/net/bridge/bridge-nf-call-$f
			[ ! -e $f ] || echo 0 >$f
		done
		nft -f - <<-END
			table bridge hci {
				set cut { type ifname . ifname; }
				chain forward {
					type filter hook forward priority 0; policy accept;
					iifname . oifname @cut counter drop
				}
			}
		END
	'
}

# Plugs a node in: $2 is a process in its network namespace.
port_plug() {
	local node=$1 pid=$2 state mac
	# A server that reboots keeps its address: else its peers' ARP caches would be wrong.
	mac=$(printf '02:68:63:69:00:%02x' "${node#n}")
	in_switch ip link add "$node" type veth peer name eth0 address "$mac" netns "$pid"
	in_switch ip link set "$node" master br0 up
	nsenter --net="/proc/$pid/ns/net" -- bash -euc "
		ip link set lo up
		ip addr add $(node_addr "$node")/24 dev eth0
		ip link set eth0 up"
	# Link state and rate belong to the cable: they outlast the node's restart.
	for state in link rate; do
		[ ! -f "$BED/nodes/$node/net/$state" ] ||
			"net_apply_$state" "$node" "$(cat "$BED/nodes/$node/net/$state")"
	done
}

# Before the processes die: a power cut sends no FIN and no RST.
port_unplug() { in_switch ip link del "$1" 2>/dev/null || true; }

port_there() { in_switch ip link show dev "$1" >/dev/null 2>&1; }

net_apply_link() { in_switch ip link set "$1" "$2"; }

net_apply_rate() {
	local node=$1 rate=$2
	if [ "$rate" = off ]; then
		in_switch tc qdisc del dev "$node" root 2>/dev/null || true
		in_node_net "$node" tc qdisc del dev eth0 root 2>/dev/null || true
		return 0
	fi
	# The burst must hold a full 64 KiB segmentation-offload packet; 50 ms of queue
	# keeps TCP near the rate without filling memory.
	in_switch tc qdisc replace dev "$node" root tbf rate "$rate" burst 512k latency 50ms &&
		in_node_net "$node" tc qdisc replace dev eth0 root tbf rate "$rate" burst 512k latency 50ms
}

cmd_link() {
	local node=${1:-} state=${2:-}
	bed_need
	node_need "$node"
	[[ $state =~ ^(up|down)$ ]] || die "link $node: say 'up' or 'down', not '$state'"
	echo "$state" >"$BED/nodes/$node/net/link"
	! port_there "$node" || net_apply_link "$node" "$state"
}

cmd_rate() {
	local node=${1:-} rate=${2:-}
	bed_need
	node_need "$node"
	[[ $rate =~ ^(off|[0-9]+(k|m|g)?bit)$ ]] ||
		die "rate $node: '$rate' is no rate: give for example 200mbit, or off"
	if port_there "$node"; then
		net_apply_rate "$node" "$rate" || die "rate $node: tc refused '$rate'"
	fi
	echo "$rate" >"$BED/nodes/$node/net/rate"
}

# partition A,B C [D...] : every group is cut off from every other. Cuts add up until `heal`.
cmd_partition() {
	local oneway='' groups=() g a b i j pairs=()
	bed_need
	for g in "$@"; do
		case $g in
		--one-way) oneway=1 ;;
		'|' | /) ;;
		*)
			for a in ${g//,/ }; do node_need "$a"; done
			groups+=("${g//,/ }")
			;;
		esac
	done
	[ ${#groups[@]} -ge 2 ] || die "partition: name two groups or more, for example: partition n1,n2 n3"
	for ((i = 0; i < ${#groups[@]}; i++)); do
		for ((j = 0; j < ${#groups[@]}; j++)); do
			[ "$i" != "$j" ] || continue
			[ -z "$oneway" ] || [ "$i" -lt "$j" ] || continue
			for a in ${groups[i]}; do
				for b in ${groups[j]}; do
					[ "$a" != "$b" ] || die "partition: $a is in two groups"
					pairs+=("\"$a\" . \"$b\"")
				done
			done
		done
	done
	local IFS=,
	in_switch nft add element bridge hci cut "{ ${pairs[*]} }"
}

cmd_heal() {
	bed_need
	in_switch nft flush set bridge hci cut
}

# One line per cut direction: "n1 n3".
net_cuts() {
	in_switch nft -j list set bridge hci cut |
		jq -r '.nftables[].set? // empty | .elem[]? | .concat | join(" ")'
}
