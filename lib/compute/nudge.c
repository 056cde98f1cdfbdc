/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QEMU whose disk's NBD connection ended knows nothing of it until it sends the next request, which then fails; only the
 * one after that connects anew. (Unless libvirt knows <reconnect>: 9.0 does not.) If that first request is the guest's
 * it is paused, and a migration that is under way fails. So it is made here, past the guest's device: a read whose
 * result nobody wants. libvirt has no call that reads a disk over the network, but it hands a line to QEMU's monitor.
 */
#include <libvirt/libvirt-qemu.h>

#include "compute/compute_impl.h"

int compute_nudge(struct compute *c, const char *name, unsigned disk, struct hci_error *err)
{
	virDomainJobInfo job;
	virConnectPtr conn;
	virDomainPtr d;
	char line[128], *said = NULL;
	int rc = compute_domain(c, name, &conn, &d, err);

	if (rc)
		return rc;
	/* As libvirt names virtio disks and QEMU what is behind them. */
	snprintf(line, sizeof(line), "qemu-io -d /machine/peripheral/virtio-disk%u/virtio-backend \"read -q 0 4096\"", disk);
	/* libvirt would wait half a minute for another one's job. */
	if (!virDomainGetJobInfo(d, &job) && job.type != VIR_DOMAIN_JOB_NONE)
		rc = err_set(err, HCI_E_BUSY, "VM %s: libvirt is at work with it", name);
	else if (virDomainQemuMonitorCommand(d, line, &said, VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP))
		rc = compute_fail(err, "VM %s: QEMU is not asked to read disk %u", name, disk);
	free(said);
	compute_domain_put(c, conn, d);
	return rc;
}
