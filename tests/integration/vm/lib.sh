# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts here: a bed with two nodes, a node service on each, one guest, checks that count.
# shellcheck shell=bash
set -u
ctl_bin=$1 node_bin=$2 plugins=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=vm-$(basename "$0" .sh)
failed=0 checks=0
pki=             # with TLS: the directory of the nodes' certificates
declare -A cert_of # a node that takes another's than its own

if [ "$(id -u)" != 0 ]; then
	echo "skipped: the test bed needs root"
	exit 77
fi

tb() { "$here/../../testbed/testbed" --name "$name" "$@"; }
bed=${HCI_TESTBED_DIR:-/var/tmp/hci-testbed}/$name
store=sqlite:$bed/shared/cluster.db
# What hangs ends in time for cleanup() to show the logs.
ctl() { tb exec n1 timeout 150 env HCI_PLUGIN_DIR="$plugins" "$ctl_bin" "$store" "$@"; }
inside_run_dir() { echo "$bed/nodes/$1/data/run"; } # as the node sees it
run_dir() { inside_run_dir "$1"; }                  # from outside
console() { echo "$(run_dir "$1")/v1.console"; }

cleanup() {
	local rc=$?
	if [ "$rc" != 0 ] || [ "$failed" != 0 ]; then
		for n in n1 n2; do
			echo "--- $n:"
			tail -n 25 "$bed/nodes/$n/log/node.log"
		done
	fi
	tb down >/dev/null 2>&1
}

# check WHAT COMMAND... Its status, so that what explains a failure can follow.
check() {
	local what=$1
	shift
	checks=$((checks + 1))
	if "$@"; then
		echo "ok: $what"
	else
		echo "FAILED: $what"
		failed=$((failed + 1))
		return 1
	fi
}

# wait_for SECONDS COMMAND...
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.2
	done
}

node_start() {
	local c=${pki:+$pki/${cert_of[$1]:-$1}}
	mkdir -p "$(inside_run_dir "$1")" "$bed/nodes/$1/disks/d1/hci"
	tb start "$1" node env HCI_PLUGIN_DIR="$plugins" ${node_env:-} "$node_bin" --store "$store" --name "$1" \
		--listen "tcp:10.77.0.${1#n}:7400" --run-dir "$(inside_run_dir "$1")" --libvirt qemu:///system ${node_args:-} \
		${c:+--ca "$c/ca.crt" --cert "$c/node.crt" --key "$c/node.key"} >/dev/null
}
service_up() { grep -q 'listening on' "$bed/nodes/$1/log/node.log"; }
service_pid() {
	tb status --json | python3 -c '
import json, sys
for n in json.load(sys.stdin)["nodes"]:
    for d in n["daemons"]:
        if n["name"] == sys.argv[1] and d["name"] == "node" and d["running"]:
            print(d["host_pid"])' "$1"
}
# Returns when it is gone: a service that is started while the last one ends is refused.
service_kill() { tb stop "$1" node KILL; }

# Both nodes with their services, a pool of their disks, the guest's image on a volume with two replicas.
bed_up() {
	trap cleanup EXIT
	image=$("$here/../../testbed/image.sh" --quiet) || exit 1
	tb up --nodes "${nodes:-2}" --disks "${disks:-1}" --disk-size 2G --libvirt --owner $$ >/dev/null || exit 1
	ctl create || exit 1
	[ "$(type -t before_nodes)" != function ] || before_nodes
	node_start n1
	node_start n2
	wait_for 60 service_up n1 && wait_for 60 service_up n2 || exit 1
	ctl setup n1 "$bed/nodes/n1/disks/d1/hci" n2 "$bed/nodes/n2/disks/d1/hci" || exit 1
	ctl import vol "$image/disk.img" 2 || exit 1
}
# And the VM.
cluster_up() {
	bed_up
	ctl define v1 n1 "$image/vmlinuz" "$image/initrd" \
		"console=ttyS0 quiet panic=-1 hci.rate=200" vol || exit 1
}

# How often the guest has booted, by its consoles: anywhere in a line, as a guest that is killed leaves half of one.
boots_in() { cat "$@" 2>/dev/null | grep -ao 'HCI-BOOT' | wc -l; }

# Sockets that libvirt's and QEMU's bytes leave and arrive through.
no_path() { [ -z "$(ls "$(run_dir n1)" "$(run_dir n2)" "$bed"/nodes/n[12]/data/run | grep '^mig-')" ]; }
# Neither domain nor process nor socket of the VM, and nothing that a migration takes.
nothing_on() {
	no_path && no_domain_on "$1" && ! tb exec "$1" pgrep -f guest=v1 >/dev/null && [ ! -e "$(run_dir "$1")/v1-vol.sock" ]
}
vm_is_on() { ctl vms | grep -q "^v1 node=$1 wanted=1 state=1"; }
domain_on() { tb exec "$1" virsh -q list --all 2>/dev/null | grep -qw v1; }
no_domain_on() { ! domain_on "$1"; }
running_on() { [ "$(tb exec "$1" virsh -q domstate v1 2>/dev/null | head -n 1)" = running ]; }
volume_is_on() { ctl volumes | grep -q "^vol attached=$1 "; }

# The newest record that the guest reported, on whichever node.
newest() {
	cat "$(console n1)" "$(console n2)" 2>/dev/null | grep -a '^HCI-ACK' | awk '$2 > n { n = $2 } END { print n + 0 }'
}
grown() { [ "$(newest)" -gt "$1" ]; }
# The guest writes, now.
writes() {
	local now
	now=$(newest)
	wait_for 120 grown $((now + 50))
}

# All that was ever acknowledged, against the volume; the logs of the nodes take turns, so sort by number. A guest that moves
# in the middle of a report leaves its two halves to two logs, the first glued to the report with which it comes back.
verify() {
	local log=$bed/shared/console dump=$bed/shared/dump
	{
		grep -ahsE '^HCI-(BOOT|SCAN|RUN)' "$(console n1)" "$(console n2)"
		sed '$G; s/^HCI-.*HCI-ACK/HCI-ACK/' -s "$(console n1)" "$(console n2)" 2>/dev/null |
			grep -aE '^HCI-ACK [0-9]+ [0-9]+ [0-9a-f]{8}.?$' | sort -n -k 2,2
		grep -ahsvE '^HCI-(BOOT|SCAN|RUN|ACK)' "$(console n1)" "$(console n2)"
	} >"$log"
	ctl dump vol "$dump" && "$image/verify" --strict "$dump" "$log"
	local rc=$? n
	rm -f "$dump"
	[ "$rc" = 0 ] || for n in n1 n2; do
		echo "--- $n: what its console has but whole reports"
		grep -anvE '^HCI-ACK [0-9]+ [0-9]+ [0-9a-f]{8}.?$' "$(console $n)" | cut -c1-160 | tail -n 30
	done
	return $rc
}

finish() {
	echo "$checks checks, $failed failed"
	[ "$failed" = 0 ]
	exit
}
