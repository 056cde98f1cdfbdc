/* SPDX-License-Identifier: Apache-2.0 */
/* The metrics of an open cluster as Prometheus wants them. hci-node serves the same text over HTTP.
 */
#include "../common/lab.h"

#include <string.h>

int main(void)
{
	struct hci_error err;
	uint64_t len;
	char *text;
	struct lab lab;
	int rc;

	lab_up(&lab);
	/* Of the first node: its loop, its connections, its disks. */
	must(hci_metrics_text(&text, &len, lab.cluster[0], &err));
	fwrite(text, 1, len, stdout);
	rc = strstr(text, "# TYPE ") == NULL;
	hci_metrics_free(text);
	lab_down(&lab);
	return rc;
}
