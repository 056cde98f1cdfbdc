#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What becomes of a VM when the node service dies, freezes past its leases, or the whole node dies.
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
check "one boot so far" [ "$(grep -ac '^HCI-BOOT' "$(console n1)")" = 1 ]

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
two_boots() { [ "$(grep -ac '^HCI-BOOT' "$(console n1)")" = 3 ]; }
check "boots" wait_for 180 two_boots
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
