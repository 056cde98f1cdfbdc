# SPDX-License-Identifier: Apache-2.0
# Sourced by the tests of this folder: a cluster on the test bed with a volume that fio writes to over
# NBD, and what they ask it. Expects: build, top, and HCI_TESTBED_NAME.
testbed=$top/tests/testbed/testbed
ctl=$build/examples/hcictl/hcictl
export HCI_TESTBED_NAME HCI_PLUGIN_DIR=$build/plugins-out HCI_NAME=admin
bed=${HCI_TESTBED_DIR:-/var/tmp/hci-testbed}/$HCI_TESTBED_NAME
export HCI_STORE=sqlite:$bed/shared/cluster.db HCI_CERT_DIR=$bed/shared/admin
[ "$(id -u)" = 0 ] || { echo "needs root: skipped"; exit 77; }
fio --enghelp | grep -q nbd || { echo "fio has no nbd engine: skipped"; exit 77; }

die() {
	echo "FAILED: $*" >&2
	for n in $nodes; do
		echo "== $n"
		tail -n 15 "$bed/nodes/$n/log"/{hci-node,export}.log 2>/dev/null || true
	done >&2
	exit 1
}
cleanup() {
	local rc=$?
	trap '' INT TERM
	[ -z "${fio_pid:-}" ] || kill "$fio_pid" 2>/dev/null || true
	"$testbed" --quiet down >/dev/null 2>&1 || true
	exit $rc
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

at() { echo "$(awk -v t="$(($(date +%s%3N) - began))" 'BEGIN { printf "%6.1f s  ", t / 1000 }')$*"; }
# As the administrator, from a node's network.
on() { local n=$1; shift; "$testbed" exec "$n" "$ctl" "$@"; }
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}
fio_runs() { kill -0 "$fio_pid" 2>/dev/null; }

# start_node NODE: its hci-node, also after a restart of the node.
start_node() {
	"$testbed" start "$1" hci-node "$build/examples/hci-node/hci-node" --store "$HCI_STORE" --name "$1" \
		--listen "tcp:10.77.0.${1#n}:7400" --ca "$pki/$1/ca.crt" --cert "$pki/$1/node.crt" --key "$pki/$1/node.key" \
		--run-dir "$bed/nodes/$1/data/run" >/dev/null
}

# make_cluster "SERVERS" "CLIENTS" DISKS SPARES REBUILD_DELAY: all disks in pool p, their names d1.. s1..
# With use_etcd=1 the metadata are in an etcd of three members, else in a file that all nodes see.
make_cluster() {
	local n d spare all
	nodes="$1" client=${2:-n1}
	# shellcheck disable=SC2086
	all=$(set -- $1 $2; echo $#)
	"$testbed" sweep >/dev/null 2>&1 || true
	"$testbed" --quiet up --nodes "$all" --disks "$3" --spares "$4" --disk-size 1G ${use_etcd:+--etcd} --owner $$ >/dev/null
	[ -z "${use_etcd:-}" ] || HCI_STORE=$("$testbed" etcd url)
	pki=$bed/shared/pki
	mkdir -p "$pki/ca" "$bed/shared/admin"
	on "$client" cluster create faults >/dev/null
	"$ctl" pki ca "$pki/ca" faults >/dev/null
	"$ctl" pki issue "$pki/ca" admin "$bed/shared/admin" >/dev/null
	for n in $nodes; do
		mkdir -p "$pki/$n" "$bed/nodes/$n/data/run"
		"$ctl" pki issue "$pki/ca" "$n" "$pki/$n" --address "10.77.0.${n#n}" >/dev/null
		start_node "$n"
	done
	on "$client" pool create p --rebuild-delay "$5" >/dev/null
	for n in $nodes; do
		for d in $(seq -f 'd%g' "$3") $(seq -f 's%g' "$4"); do
			mkdir "$bed/nodes/$n/disks/$d/hci"
			spare=()
			[ "${d#s}" = "$d" ] || spare=(--spare)
			until_true 60 on "$client" disk add "$n" "$bed/nodes/$n/disks/$d/hci" --pool p "${spare[@]}" >/dev/null || die "disk $d of $n"
		done
	done
}

# make_volume SIZE REPLICAS: v, exported on the client.
make_volume() {
	on "$client" volume create v "$1" --pool p --replicas "$2" --segment 32M --write-timeout 1s >/dev/null
	"$testbed" start "$client" export "$ctl" volume export v --listen "unix:$bed/shared/v.sock" >/dev/null
	until_true 60 test -S "$bed/shared/v.sock" || die "the export does not start"
}

show() { on "$client" volume show v --json; }
out() { show | jq -e '.out > 0' >/dev/null; }
whole() { show | jq -e '.out == 0 and .rebuilding == 0' >/dev/null; }
off_disk() { on "$client" volume show v --replicas --json | jq -e --arg d "$1" 'all(.disk != $d and .state == "in sync")' >/dev/null; }

# start_fio SECONDS SIZE: random writes that it reads back and verifies, until end_fio, or for so long at most.
start_fio() {
	began=$(date +%s%3N)
	fio --name=f --ioengine=nbd --uri="nbd+unix:///v?socket=$bed/shared/v.sock" --rw=randwrite --bsrange=4k-256k --size="$2" \
		--iodepth=8 --fsync=64 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --verify_backlog=512 --time_based --runtime="$1" \
		--output-format=json --output="$bed/shared/fio.json" >"$bed/shared/fio.out" 2>&1 &
	fio_pid=$!
	at "fio writes and verifies for up to $1 s"
}

# end_fio [SECONDS]: when it has run for so long. All that happened, happened under load: it must run until now.
end_fio() {
	local left=$((${1:-0} - ($(date +%s%3N) - began) / 1000))
	[ $left -le 0 ] || sleep $left
	fio_runs || die "fio ended early: $(cat "$bed/shared/fio.out")"
	kill -INT "$fio_pid" # its report covers what it did
	wait "$fio_pid" || true
	fio_pid=''
	at "fio has ended"
	fio_result
}

# The load's own judgement, once it has ended.
fio_result() {
	# What fio says of a signal stands before its report.
	sed -i -n '/^{/,$p' "$bed/shared/fio.json"
	jq -r '.jobs[0] | "fio: wrote \(.write.io_bytes / 1048576 | floor) MiB, verified \(.read.io_bytes / 1048576 | floor) MiB, " +
		"slowest write \(.write.clat_ns.max / 1000000 | floor) ms, error \(.error)"' "$bed/shared/fio.json"
	jq -e '.jobs[0] | .error == 0 and .total_err != 1 and .write.io_bytes > 0 and .read.io_bytes > 0' "$bed/shared/fio.json" >/dev/null ||
		die "fio's report"
}

# compare_copies N: each replica of the volume, read by itself, is the same.
compare_copies() {
	local i
	"$testbed" stop "$client" export
	until_true 30 whole || die "the volume is not whole: $(show)"
	for i in $(seq "$1"); do on "$client" volume read v "$bed/shared/copy$i" --replica "$i"; done
	for i in $(seq 2 "$1"); do
		qemu-img compare -f raw -F raw "$bed/shared/copy1" "$bed/shared/copy$i" || die "replicas 1 and $i differ"
	done
	on "$client" volume compare v || die "the replicas differ"
}
