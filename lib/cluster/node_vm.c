/* SPDX-License-Identifier: Apache-2.0 */
/* VMs of this node. */
#include "cluster/node_impl.h"

int node_vm_start(struct node *n, struct hci_error *err)
{
	(void)n;
	(void)err;
	return 0;
}

void node_vm_stop(struct node *n)
{
	(void)n;
}

void node_vm_changed(struct node *n, const char *key)
{
	(void)n;
	(void)key;
}
