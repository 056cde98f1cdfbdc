#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2034,SC2154 # variables are shared with lib/*.sh
# What libhci is for, on one machine: a cluster of nodes in namespaces, a replicated volume, a VM on it
# that moves, a disk that dies, a node that is cut off; and not one acknowledged record lost.
# lib/frame.sh: output, results, cleaning up. lib/bed.sh: packages, build, nodes. lib/steps.sh: the steps.
set -euo pipefail

usage() {
	cat <<'EOF'
usage: demo.sh [options]

Builds libhci, brings up a cluster of nodes on this machine (namespaces, loop-mounted disks, a libvirtd
and a hci-node each), and shows what it does in eight steps; about three minutes after the build.

  --nodes N        2 to 5 nodes (default 3)
  --replicas N     copies of the volume, 1 to 3 and at most one a node (default 2)
  --json FILE      write the results for a program as well
  --keep           leave the cluster up at the end and say how to go on
  --build DIR      use this build of libhci instead of building build/release
  --verbose        show the commands and what they print
  -h, --help       this text

Exit status: 0 only if all held, no record was lost and none was stale.
Needs root. Leaves nothing behind but build/ and the cached guest image (/var/cache/hci); a run that failed
also its logs and the guest's console, in /var/tmp/hci-demo-failed.*.
EOF
}

nodes=3 replicas=2 json='' keep='' build='' verbose=''
while [ $# -gt 0 ]; do
	case $1 in
	--nodes | --replicas | --json | --build)
		[ $# -ge 2 ] || { echo "demo.sh: $1 needs a value: see --help" >&2; exit 2; }
		declare "${1#--}=$2"
		shift
		;;
	--keep | --verbose) declare "${1#--}=1" ;;
	-h | --help) usage; exit 0 ;;
	*) echo "demo.sh: unknown option '$1': see --help" >&2; exit 2 ;;
	esac
	shift
done
[[ $nodes =~ ^[2-5]$ ]] || { echo "demo.sh: --nodes '$nodes': give 2 to 5" >&2; exit 2; }
[[ $replicas =~ ^[1-3]$ ]] || { echo "demo.sh: --replicas '$replicas': give 1 to 3" >&2; exit 2; }
[ "$replicas" -le "$nodes" ] || { echo "demo.sh: $replicas replicas need $replicas nodes: raise --nodes" >&2; exit 2; }
if [ "$(id -u)" != 0 ]; then
	echo "demo.sh must run as root: it makes namespaces and mounts loop devices. Nothing was done." >&2
	exit 1
fi

top=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
here=$top/examples/demo
for part in frame bed steps; do
	# shellcheck source=/dev/null
	. "$here/lib/$part.sh"
done

trap finish EXIT
trap 'interrupted=1; exit 130' INT
trap 'interrupted=1; exit 143' TERM HUP

prepare
begin=$SECONDS
step 1 "Cluster of $nodes nodes" bring_up
step 2 "Pool from their disks" make_pool
step 3 "Volume with $replicas replicas, filled" make_volume
step 4 "VM on node 1 writes records" start_vm
step 5 "VM moves live to node 2" move_vm
step 6 "A disk dies, spares take over" fail_disk
step 7 "Node $cut cut off and joined again" cut_node
step 8 "Every acknowledged record, every block" verify_all
