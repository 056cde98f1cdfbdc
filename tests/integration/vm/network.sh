#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A guest with network interfaces: ports of a bridge that each of two nodes has, both with an uplink into one switch. It is pinged
# from behind that switch before, during and after it moves, and must answer through its new port. A node without the bridge, or with a
# smaller MTU, is refused beforehand.
#
# usage: network.sh VMCTL HCI-NODE PLUGIN-DIR HCICTL
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

hcictl=$4
address=10.88.0.10
mac=52:54:00:00:00:0a
unreachable=5000 # ms that a guest may not answer while it moves: some hundreds on a machine that has nothing else to do
result=$bed/shared/result pings=$bed/shared/pings

hci() { tb exec n1 env HCI_PLUGIN_DIR="$plugins" "$hcictl" --store "$store" "$@"; }
in_switch() { nsenter --net="$bed/switch" -- "$@"; }
init_pid() { tb status --json | python3 -c 'import json, sys; print([n["init_pid"] for n in json.load(sys.stdin)["nodes"] if n["name"] == sys.argv[1]][0])' "$1"; }
no_filter() { for f in iptables ip6tables arptables; do [ ! -e /proc/sys/net/bridge/bridge-nf-call-$f ] || echo 0 >/proc/sys/net/bridge/bridge-nf-call-$f; done; }

# The guests' switch, and who pings, in the namespace of the bed's own switch; a cable from there to each node.
switch_up() {
	in_switch ip link add guests type bridge stp_state 0 forward_delay 0 mcast_snooping 0
	in_switch ip addr add 10.88.0.1/24 dev guests
	in_switch ip link set guests up
	local n
	for n in n1 n2; do
		in_switch ip link add "g-$n" type veth peer name up0 netns "$(init_pid $n)"
		in_switch ip link set "g-$n" master guests up
		tb exec $n ip link set up0 up
	done
}
# NODE [MTU]
bridge_up() {
	tb exec "$1" bash -euc "$(declare -f no_filter)
		ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
		no_filter
		ip link set up0 mtu ${2:-1500} master br0
		ip link set br0 mtu ${2:-1500} up"
}
bridge_down() { tb exec "$1" ip link del br0; }

answers() { in_switch busybox ping -q -c 1 -W 1 $address >/dev/null; }
# Behind which port the switch takes the guest to be.
learnt() { in_switch bridge fdb show br guests | grep -i "^$mac dev $1 " >/dev/null; }
says() { grep -qE "$1" "$result"; }

pinging() {
	nsenter --net="$bed/switch" -- "$here/ping.py" $address guests $mac 20 >"$pings" & # its PID, not that of a shell
	pinger=$!
}
figure() { sed -n "s/.*\"$1\": \([-0-9]*\).*/\1/p" "$pings"; }
pinged() {
	sleep 1
	kill "$pinger"
	wait "$pinger"
	cat "$pings"
}
# Asked each 20 ms: that a few are lost is the gap that is looked at; announcements: one an interface at least.
was_reachable() { [ "$(figure answered)" -gt 20 ] && [ "$(figure longest_ms)" -ge 0 ] && [ "$(figure longest_ms)" -lt $unreachable ]; }
moves() { # FROM TO
	pinging
	sleep 1
	check "migrates to $2" ctl migrate v1 "$2" 0 0
	pinged
	check "was reachable all the time" was_reachable
	check "QEMU announced it" [ "$(figure rarp)" -ge 1 ]
	check "the switch knows where it is" learnt "g-$2"
	check "runs on $2" vm_is_on "$2"
	check "answers" answers
	check "no port is left on $1" eval "! tb exec $1 ip -o link | grep -q ' hci'"
}

bed_up
switch_up
bridge_up n1
hci vm define v1 --node n1 --kernel "$image/vmlinuz" --initrd "$image/initrd" --volume vol --nic bridge=br0,mac=$mac,mtu=1400 \
	--nic bridge=br0,model=e1000e,link=down --cmdline "console=ttyS0 quiet panic=-1 hci.rate=200 hci.ip=$address/24" || exit 1
check "a second VM with its address is refused" eval '! hci vm define v2 --nic bridge=br0,mac='$mac' 2>/dev/null'
check "the VM starts" ctl start v1
check "the guest writes" writes
check "was told address and MTU" grep -aq "^HCI-NET $address/24 mtu=1400 mac=$mac" "$(console n1)"
check "answers" wait_for 60 answers
check "its port is named after it" eval "tb exec n1 ip -o link show master br0 | grep -q $(hci --json vm nics v1 | sed -n 's/.*"port": "\([^"]*-0\)".*/\1/p')"

echo "# n2 has no such bridge"
ctl check v1 n2 >"$result"
check "is in the list" says '^interface 0: node n2 has no bridge br0: make it'
check "for each interface" says '^interface 1: '
check "a migration fails" eval '! ctl migrate v1 n2 0 0 >"$result" 2>&1'
check "and says so" says 'interface 0: node n2 has no bridge br0'
bridge_up n2 1300
ctl check v1 n2 >"$result"
check "a smaller MTU is in the list" says '^interface 0: bridge br0 of node n2 has an MTU of 1300, the interface needs 1400'
bridge_down n2
bridge_up n2
tb exec n2 ip link set br0 down
ctl check v1 n2 >"$result"
check "a bridge that is down is in the list" says '^interface 0: bridge br0 of node n2 is down'
tb exec n2 ip link set br0 up
check "runs on n1" vm_is_on n1
check "answers" answers
check "nothing would stop it" ctl check v1 n2

echo "# n1 -> n2 -> n1"
moves n1 n2
moves n2 n1

echo "# without the bridge"
check "shuts down" ctl stop v1 shutdown
check "no record is lost or stale" verify
bridge_down n1
check "does not start" eval '! ctl start v1 >"$result" 2>&1'
check "and says why" says 'VM v1: interface 0 .*: node n1 has no bridge br0: make it there'
check "nothing is left of it" nothing_on n1
hci vm define v2 --kernel "$image/vmlinuz" --volume vol --nic bridge=br0 >/dev/null
placed_elsewhere() { hci policy explain balance --vm v2 >"$result" && says 'n1 .*it has no bridge br0' && ! says 'n2 .*it has no'; }
check "the scheduler knows" wait_for 60 placed_elsewhere
bridge_up n1
check "starts with it" ctl start v1
check "answers" wait_for 60 answers
check "is stopped" ctl stop v1 destroy
finish
