/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: those of this process's own view; a node's own come from hci-node --metrics */
#include "cli.h"

static int show(struct cli *cli)
{
	char *text;

	if (hci_metrics_text(&text, NULL, cli->cluster, &cli->err))
		return failed(cli);
	fputs(text, stdout);
	hci_metrics_free(text);
	return EXIT_FINE;
}

static const struct verb verbs[] = {
	{ .name = "show",
	  .args = "",
	  .summary = "Print this client's metrics in the Prometheus text format",
	  .run = show,
	  .more = "A node's own are served by hci-node --metrics ADDRESS:PORT." },
	{ 0 },
};

const struct noun noun_metrics = { "metrics", "numbers for Prometheus", verbs };
