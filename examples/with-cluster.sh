#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# with-cluster.sh BUILD COMMAND...: runs the command with a cluster of two nodes on 127.0.0.1, with TLS: a pool main with a volume v
# of 64 MiB. HCI_STORE, HCI_NAME and HCI_CERT_DIR say where, as for hcictl; the loader finds libhci, the compiler its pkg-config file.
build=$(cd "${1:?BUILD is missing}" && pwd)
shift
export BIN_NODE=$build/examples/hci-node/hci-node BIN_CTL=$build/examples/hcictl/hcictl HCI_PLUGIN_DIR=$build/plugins-out
# shellcheck source=tests/integration/cli/local.sh
. "$(dirname "$(readlink -f "$0")")/../tests/integration/cli/local.sh"
for n in n1 n2; do node_up $n; done
ctl pool create main >/dev/null
for n in n1 n2; do
	mkdir "$work/$n/disk"
	ctl disk add $n "$work/$n/disk" --pool main >/dev/null
done
ctl volume create v 64M --pool main >/dev/null
LD_LIBRARY_PATH=$build/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} WORK=$work BUILD=$build BASE_PORT=$base_port "$@"
