#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What becomes of a VM when the node service dies, freezes past its leases, or the whole node dies; and what is told of one that
# somebody else has paused or ended.
#
# usage: crash.sh VMCTL HCI-NODE PLUGIN-DIR
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up
check "the VM starts" ctl start v1
check "the guest writes" writes

echo "# the service is killed; the guest waits for it"
service_kill n1
sleep 1
node_start n1
check "runs again" wait_for 60 running_on n1
check "the guest writes" writes

echo "# the service hangs for longer than its leases last"
pid=$(service_pid n1)
kill -STOP "$pid"
sleep 9
kill -CONT "$pid"
check "has its volume again" wait_for 60 volume_is_on n1
check "runs again" wait_for 60 running_on n1
check "the guest writes" writes
check "one boot so far" [ "$(boots_in "$(console n1)")" = 1 ]

echo "# somebody suspends it"
told() { ctl vms | grep -q "^v1 node=n1 wanted=$1 state=$2 "; } # WANTED STATE
tb exec n1 virsh -q suspend v1 >/dev/null
check "is told to be paused" wait_for 10 told 1 2
sleep 3
check "and stays so" told 1 2
check "is not let go on" [ "$(tb exec n1 virsh -q domstate v1 | head -n 1)" = paused ]
tb exec n1 virsh -q resume v1 >/dev/null
check "is told to run" wait_for 10 told 1 1
check "the guest writes" writes

echo "# its QEMU is killed"
tb exec n1 pkill -KILL -f guest=v1
check "is told to have crashed" wait_for 20 told 0 3
check "its volume is free" wait_for 10 volume_is_on ""
check "starts again" ctl start v1
check "is told to run" told 1 1
check "the guest writes" writes

echo "# somebody ends it"
tb exec n1 virsh -q destroy v1 >/dev/null
check "is told to be stopped" wait_for 20 told 0 0
check "starts again" ctl start v1
check "the guest writes" writes

echo "# the guest is shut down from inside, as it were"
tb exec n1 virsh -q shutdown v1 >/dev/null
stopped() { ctl vms | grep -q '^v1 node=n1 wanted=0 state=0'; }
check "counts as stopped" wait_for 60 stopped
check "its volume is free" volume_is_on ""
check "no record is lost or stale" verify

echo "# the whole node is killed and comes back"
check "the VM starts" ctl start v1
check "the guest writes" writes
tb kill n1
tb restart n1 >/dev/null
node_start n1
check "the VM is started again" wait_for 60 running_on n1
five_boots() { [ "$(boots_in "$(console n1)")" = 5 ]; }
check "boots" wait_for 180 five_boots
check "the guest writes" writes
check "is stopped" ctl stop v1 destroy
check "the replicas are equal" ctl compare vol

echo "# no copy can be reached: the VM still ends"
check "the VM starts" ctl start v1
check "the guest writes" writes
tb disk n1 d1 fail
tb partition n1 n2
sleep 2
check "is stopped" ctl stop v1 destroy
check "nothing of it runs" no_domain_on n1
finish
