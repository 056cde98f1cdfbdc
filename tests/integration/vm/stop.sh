#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A VM is stopped amid a migration; a second migration is refused; its node dies, and it is started on another one.
#
# usage: stop.sh VMCTL HCI-NODE PLUGIN-DIR
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

slow=20000 # bytes/s

cluster_up
check "the VM starts" ctl start v1
check "the guest writes" writes

echo "# stopped amid a migration"
ctl migrate v1 n2 $slow 0 >/dev/null 2>&1 &
wait_for 60 domain_on n2
sleep 1
refused() { ! why=$(ctl migrate v1 n2 0 0 2>&1) && [[ $why == *"migrates it already"* ]]; }
check "a second migration is refused" refused || echo "$why"
check "is stopped" ctl stop v1 destroy
stopped() { ctl vms | grep -q '^v1 node=n1 wanted=0 state=0'; }
check "and it is when the job says so" eval 'stopped && no_domain_on n1'
wait $!
check "the migration was cancelled" [ $? != 0 ]
check "nothing is left on n2" wait_for 60 no_domain_on n2
check "nothing of the migration's path is left" wait_for 30 no_path
check "stays so" stopped
check "its volume is free" volume_is_on ""

echo "# its node dies"
check "starts on the other node" ctl start v1 n2
check "runs on n2" vm_is_on n2
check "the guest writes" writes
tb kill n2
elsewhere() { ctl start v1 n1 2>/dev/null; }
check "starts on the one that is left" wait_for 60 elsewhere
check "runs on n1" vm_is_on n1
check "the guest writes" writes
echo "# and comes back"
tb restart n2 >/dev/null
node_start n2
check "the service is there" wait_for 60 service_up n2
sleep 5
check "still on n1" vm_is_on n1
check "nothing runs on n2" no_domain_on n2
check "shuts down" ctl stop v1 shutdown
check "no record is lost or stale" verify
finish
