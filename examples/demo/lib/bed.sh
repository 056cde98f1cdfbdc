# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables are shared with demo.sh and the other parts
# SPDX-License-Identifier: Apache-2.0
# Owns: what must be there before the first step (packages, build, guest image), and how a node starts.

vm=guest volume=disk1 pool=main
segment_mib=64 volume_mib=1024 image_mib=512
rebuild_delay=15
# hcictl runs on this node; never on the one that is cut off
ctl_node=n1
# The one that is cut off in step 7: node 3, but not the one the VM is on by then
cut=3
[ "$nodes" != 2 ] || cut=1

# Named after this process, so that what a killed run left is told from what another one uses, and goes.
make_scratch() {
	local old
	for old in /var/tmp/hci-demo-[0-9]*; do
		[ ! -d "$old" ] || [ -e "/proc/${old##*-}" ] || rm -rf "$old"
	done
	scratch=/var/tmp/hci-demo-$$
	rm -rf $scratch
	mkdir -m 700 $scratch
}

build_is_there() {
	local it
	it=$(cd "$build" 2>/dev/null && pwd) || die "--build $build: no such directory"
	build=$it
	[ -x "$build/examples/hcictl/hcictl" ] && [ -x "$build/examples/hci-node/hci-node" ] ||
		die "--build $build: no hcictl and hci-node there: build them first"
}

prepare() {
	[ -z "$build" ] || build_is_there
	"$top/tests/install-packages.sh" "$top/tests/packages.txt" "$top/tests/testbed/packages.txt"
	"$testbed" sweep >/dev/null 2>&1 || true
	# Of an earlier run with --keep, or of one that is still there.
	! "$testbed" status >/dev/null 2>&1 || die "an earlier demo's cluster is up: '$testbed --name $bed down' first"
	if [ -z "$build" ]; then
		build=$top/build/release
		echo "Building libhci in $build (the first time takes a few minutes)"
		(cd "$top" && run cmake --preset release && run cmake --build --preset release -j "$(nproc)" --target hci hci-node \
			hcictl plugin_placement-spread plugin_placement-pack plugin_scheduler-balance) || exit 1
	fi
	build_is_there
	bin=$build/examples
	echo "Guest image"
	image=$("$top/tests/testbed/image.sh" --quiet)
	make_scratch
	export HCI_STORE=sqlite:$beddir/shared/cluster.db HCI_CERT_DIR=$beddir/shared/admin HCI_NAME=admin
	export HCI_PLUGIN_DIR=$build/plugins-out
}

# hcictl in the node $ctl_node: output and errors are the caller's
ctl() { "$testbed" exec "$ctl_node" "$bin/hcictl/hcictl" "$@"; }

# The same, shown to the reader, quiet when it works
act() {
	echo "    \$ hcictl $*"
	run ctl "$@"
}

# With its progress bar or lines, and its result
watch() {
	echo "    \$ hcictl $*"
	ctl "$@" 2> >(sed -u 's/^/      /' >&2) | sed -u 's/^/      /'
}

# The CA is made outside of the nodes: its key is none of theirs.
certificates() {
	local i
	mkdir -p "$scratch/ca" "$scratch/admin" "$scratch/libvirt"
	run "$bin/hcictl/hcictl" pki ca "$scratch/ca" demo
	run "$bin/hcictl/hcictl" pki issue "$scratch/ca" admin "$scratch/admin"
	for ((i = 1; i <= nodes; i++)); do
		mkdir -p "$scratch/n$i" "$scratch/libvirt/n$i"
		run "$bin/hcictl/hcictl" pki issue "$scratch/ca" "n$i" "$scratch/n$i" --address "n$i,10.77.0.$i"
		# libvirt's names for the same things
		cp "$scratch/n$i/ca.crt" "$scratch/libvirt/n$i/cacert.pem"
		for side in server client; do
			cp "$scratch/n$i/node.crt" "$scratch/libvirt/n$i/${side}cert.pem"
			cp "$scratch/n$i/node.key" "$scratch/libvirt/n$i/${side}key.pem"
		done
	done
}

node_data() { echo "$beddir/nodes/$1/data"; }

start_node() {
	local n=$1 data
	data=$(node_data "$n")
	mkdir -p "$data/run" "$data/pki"
	cp "$scratch/$n"/* "$data/pki/"
	run "$testbed" start "$n" hci-node "$bin/hci-node/hci-node" --store "$HCI_STORE" --name "$n" \
		--listen "tcp:10.77.0.${n#n}:7400" --ca "$data/pki/ca.crt" --cert "$data/pki/node.crt" \
		--key "$data/pki/node.key" --run-dir "$data/run" --libvirt qemu:///system \
		--metrics "10.77.0.${n#n}:9400"
}
