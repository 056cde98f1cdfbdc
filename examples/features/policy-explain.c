/* SPDX-License-Identifier: Apache-2.0 */
/* Asks a placement policy what it would choose for a segment with two copies, and why not the
 * others. */
#include "../common/lab.h"

int main(void)
{
	struct hci_policy_candidate *c;
	struct hci_policy_info *p;
	struct hci_error err;
	unsigned chosen = 0;
	struct lab lab;
	uint64_t n;

	lab_up(&lab);

	must(hci_policy_list(lab.client, &p, &n, sizeof(*p), &err));
	for (uint64_t i = 0; i < n; i++)
		printf("policy %s: plugin %s\n", p[i].name, p[i].plugin);
	hci_list_free(p);

	/* "spread" comes with libhci; hci_policy_add() registers one of your own. Nothing is placed
	 * by asking. */
	must(hci_policy_explain_placement(lab.client, "spread", "p", 2, &c, &n, sizeof(*c), &err));
	for (uint64_t i = 0; i < n; i++) {
		printf("%d  disk %.8s of %s: %s\n", c[i].rank, c[i].object, c[i].node, c[i].reason);
		chosen += c[i].rank > 0;
	}
	hci_list_free(c);

	lab_down(&lab);
	return chosen != 2;
}
