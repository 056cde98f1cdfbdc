/* SPDX-License-Identifier: Apache-2.0 */
/* cache list */
#include "cli.h"

static double ratio(uint64_t part, uint64_t all)
{
	return all ? (double)(part * 1000 / all) / 1000 : 0;
}

static int list(struct cli *cli)
{
	struct hci_cache_info *c;
	struct table *t;
	uint64_t n;

	if (hci_cache_list(cli->cluster, &c, &n, sizeof(*c), &cli->err))
		return failed(cli);
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		table_row(t);
		cell_text(t, "HOLDER", "%s", c[i].holder);
		cell_text(t, "PATH", "%s", c[i].path);
		cell_text(t, "STATE", "%s", c[i].ssd_failed ? "SSD passed by" : "fine");
		cell_size(t, "SIZE", c[i].ssd_size);
		cell_size(t, "USED", c[i].ssd_used);
		cell_size(t, "RAM", c[i].ram_used);
		cell_size(t, "BLOCK", c[i].block);
		cell_number(t, "HITS RAM", c[i].hits_ram);
		cell_number(t, "HITS SSD", c[i].hits_ssd);
		cell_number(t, "MISSES", c[i].misses);
		cell_real(t, "RATIO", ratio(c[i].hits_ram + c[i].hits_ssd, c[i].hits_ram + c[i].hits_ssd + c[i].misses));
		cell_number(t, "SHARED", c[i].shared);
		cell_number(t, "ERRORS", c[i].errors + c[i].corrupt);
		cell_number(t, "SAVED MS", c[i].saved_ms);
	}
	hci_list_free(c);
	return table_print(t);
}

static const struct verb verbs[] = {
	{ .name = "list",
	  .args = "",
	  .summary = "List the read caches of nodes and clients, with their hit ratios",
	  .run = list,
	  .more = "A node has one when hci-node is started with --cache. Counts are of the last ten seconds and\n"
		  "since it was opened. STATE \"SSD passed by\": it failed; memory alone is used until hci-node is started again." },
	{ 0 },
};

const struct noun noun_cache = { "cache", "read caches", verbs };
