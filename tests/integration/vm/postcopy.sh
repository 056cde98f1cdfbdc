#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A migration that does not end by itself goes on as post-copy: the guest runs at the destination, with its disk, while its memory follows.
# When the link is lost meanwhile the guest ends, at both nodes, and is started anew at one.
#
# usage: postcopy.sh VMCTL HCI-NODE PLUGIN-DIR
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

slow=1000000 # bytes/s
boots() { boots_in "$(run_dir n1)/v1.console" "$(run_dir n2)/v1.console"; }
booted() { [ "$(boots)" = "$1" ]; }
one_runs() { [ "$(tb exec n1 pgrep -c qemu-system)$(tb exec n2 pgrep -c qemu-system)" = "$1" ]; }
split() { [[ $(tb exec "$1" virsh -q domstate --reason v1 2>/dev/null) == *post-copy* ]]; }

cluster_up
check "the VM starts" ctl start v1
check "the guest writes" writes

echo "# n1 -> n2"
ctl migrate v1 n2 $slow 0 postcopy=2000 >"$bed/shared/result" &
job=$!
check "post-copy begins" wait_for 60 split n2
check "it is at n2" wait_for 60 vm_is_on n2
check "and its memory not yet" split n2
check "the guest writes meanwhile" writes
wait $job
check "all has arrived" [ $? = 0 ]
check "says so" grep -q '"postcopy":1' "$bed/shared/result"
check "runs on n2" running_on n2
check "has its volume there" volume_is_on n2
check "is gone from n1" no_domain_on n1
check "the guest writes" writes
check "one boot so far" booted 1
check "nothing is left of the path" wait_for 30 no_path

echo "# with time enough: as ever"
check "migrates" ctl migrate v1 n1 0 0 postcopy=60000
check "runs on n1" vm_is_on n1
check "one boot so far" booted 1

echo "# the link is lost in post-copy"
ctl migrate v1 n2 200000 0 postcopy=1000 2>/dev/null &
job=$!
check "post-copy begins" wait_for 60 split n2
check "it is at n2" wait_for 60 vm_is_on n2
tb partition n1 n2
wait $job
check "fails" [ $? = 1 ]
tb heal
check "boots" wait_for 120 booted 2
check "one QEMU runs" wait_for 60 one_runs 01
check "at n2" vm_is_on n2
check "is gone from n1" no_domain_on n1
check "the guest writes" writes
check "nothing is left of the path" wait_for 30 no_path

echo "# the link is lost in post-copy, and QEMU and libvirt say nothing of it"
ctl migrate v1 n1 200000 0 postcopy=1000 2>/dev/null &
job=$!
check "post-copy begins" wait_for 60 split n1
check "it is at n1" wait_for 60 vm_is_on n1
tb exec n1 pkill -STOP -f guest=v1
tb partition n1 n2
wait $job
check "fails" [ $? = 1 ]
tb heal
check "boots" wait_for 120 booted 3
check "one QEMU runs" wait_for 60 one_runs 10
check "the guest writes" writes
check "nothing is left of the path" wait_for 30 no_path

check "shuts down" ctl stop v1 shutdown
check "no record is lost or stale" verify
whole() { ctl compare vol >/dev/null 2>&1; }
check "the replicas are equal" wait_for 60 whole
finish
