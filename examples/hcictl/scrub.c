/* SPDX-License-Identifier: Apache-2.0 */
/* scrub start, pace, status */
#include "cli.h"

static int change(struct cli *cli, uint32_t start)
{
	const char *disk = cli->nargs ? cli->args[0] : NULL;
	struct hci_scrub_opts o = HCI_SCRUB_OPTS_INIT;

	o.start = start;
	o.rate = opt_size(cli, "rate", 0);
	o.period_ms = opt_flag(cli, "only-when-asked") ? UINT64_MAX : opt_millis(cli, "period", 0);
	if (hci_disk_scrub(cli->cluster, disk, &o, &cli->err))
		return failed(cli);
	return done(cli, start ? "scrub of %s begins: hcictl scrub status" : "scrubs of %s have a new pace",
		    disk ? disk : "all disks");
}

static int start(struct cli *cli)
{
	return change(cli, 1);
}

static int pace(struct cli *cli)
{
	return change(cli, 0);
}

static int status(struct cli *cli)
{
	struct hci_disk_info *d;
	struct table *t;
	uint64_t n;

	if (hci_disk_list(cli->cluster, &d, &n, sizeof(*d), &cli->err))
		return failed(cli);
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		bool runs = d[i].scrub_started > d[i].scrub_finished;

		table_row(t);
		cell_text(t, "UUID", cli->json ? "%s" : "%.8s", d[i].uuid);
		cell_text(t, "NODE", "%s", d[i].node);
		cell_text(t, "PATH", "%s", d[i].path);
		cell_text(t, "SCRUB", "%s", runs ? "under way" : d[i].scrub_finished ? "done" : "never");
		cell_size(t, "READ", d[i].scrub_done);
		cell_size(t, "OF", d[i].scrub_total);
		cell_number(t, "DAMAGED", d[i].scrub_corrupt);
		cell_number(t, "UNREPAIRED", d[i].scrub_waiting);
	}
	hci_list_free(d);
	return table_print(t);
}

static const struct verb verbs[] = {
	{ .name = "start",
	  .args = "[UUID]",
	  .summary = "Compare all that a disk holds with its checksums, now",
	  .run = start,
	  .max = 1,
	  .more = "Without a UUID: all disks. A unique beginning of it is enough. Goes on beside other requests, which come\n"
		  "first. What is damaged is repaired from other replicas.",
	  .opts = { { "rate", "SIZE", "bytes a second at most, from now on (at first 32M)" } } },
	{ .name = "pace",
	  .args = "[UUID]",
	  .summary = "Change how often and how fast disks are scrubbed by themselves",
	  .run = pace,
	  .max = 1,
	  .opts = { { "rate", "SIZE", "bytes a second at most (at first 32M)" },
		    { "period", "TIME", "from one pass to the next (at first 7d)" },
		    { "only-when-asked", NULL, "never by themselves" } } },
	{ .name = "status", .args = "", .summary = "How far the scrubs are and what they found", .run = status },
	{ 0 },
};

const struct noun noun_scrub = { "scrub", "comparing what disks hold with its checksums", verbs };
