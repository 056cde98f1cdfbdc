/* SPDX-License-Identifier: Apache-2.0 */
/* pool create, set, list, balance, delete */
#include "cli.h"

static int create(struct cli *cli)
{
	struct hci_pool_opts o = HCI_POOL_OPTS_INIT;

	o.name = cli->args[0];
	o.policy = opt_text(cli, "policy");
	o.rebuild_delay_ms = opt_millis32(cli, "rebuild-delay", 0);
	o.rebuild_impact = opt_number32(cli, "rebuild-impact", 0);
	if (hci_pool_create(cli->cluster, &o, &cli->err))
		return failed(cli);
	return done(cli, "pool %s created", cli->args[0]);
}

static int set(struct cli *cli)
{
	struct hci_pool_set_opts o = HCI_POOL_SET_OPTS_INIT;

	o.rebuild_delay_ms = opt_millis(cli, "rebuild-delay", 0);
	o.rebuild_impact = opt_number32(cli, "rebuild-impact", 0);
	if (!o.rebuild_delay_ms && !o.rebuild_impact)
		usage_error("pool %s: give --rebuild-delay TIME, --rebuild-impact PERCENT, or both", cli->args[0]);
	if (hci_pool_set(cli->cluster, cli->args[0], &o, &cli->err))
		return failed(cli);
	return done(cli, "pool %s changed", cli->args[0]);
}

static int list(struct cli *cli)
{
	struct hci_pool_info *p;
	struct table *t;
	uint64_t n;

	if (hci_pool_list(cli->cluster, &p, &n, sizeof(*p), &cli->err))
		return failed(cli);
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		table_row(t);
		cell_text(t, "NAME", "%s", p[i].name);
		cell_text(t, "POLICY", "%s", p[i].policy);
		cell_number(t, "DISKS", p[i].disks);
		cell_number(t, "SPARES", p[i].spares);
		cell_number(t, "FAILED", p[i].disks_failed);
		cell_size(t, "CAPACITY", p[i].capacity);
		cell_size(t, "FREE", p[i].free);
		cell_number(t, "VOLUMES", p[i].volumes);
		cell_real(t, "REBUILD AFTER S", (double)p[i].rebuild_delay_ms / 1000);
		cell_number(t, "IMPACT %", p[i].rebuild_impact);
	}
	hci_list_free(p);
	return table_print(t);
}

static int balance_plan(struct cli *cli, const struct hci_pool_balance_opts *o)
{
	struct hci_pool_balance_info i;
	struct table *t;

	if (hci_pool_balance_plan(cli->cluster, cli->args[0], o, &i, sizeof(i), &cli->err))
		return failed(cli);
	t = table_new(cli, true);
	cell_number(t, "COPIES TO MOVE", i.copies);
	cell_size(t, "AT MOST", i.bytes);
	cell_real(t, "LARGEST SHARE %", i.most_before);
	cell_real(t, "SMALLEST SHARE %", i.least_before);
	cell_real(t, "LARGEST AFTER %", i.most_after);
	cell_real(t, "SMALLEST AFTER %", i.least_after);
	cell_number(t, "COPIES FOR LOAD", i.load_copies);
	cell_real(t, "LARGEST LOAD", i.load_most_before);
	cell_real(t, "SMALLEST LOAD", i.load_least_before);
	cell_real(t, "LARGEST LOAD AFTER", i.load_most_after);
	cell_real(t, "SMALLEST LOAD AFTER", i.load_least_after);
	return table_print(t);
}

static int balance(struct cli *cli)
{
	struct hci_pool_balance_opts o = HCI_POOL_BALANCE_OPTS_INIT;
	hci_job *job;

	o.fill_only = opt_flag(cli, "fill-only");
	if (opt_flag(cli, "dry-run"))
		return balance_plan(cli, &o);
	return hci_pool_balance(cli->cluster, cli->args[0], &o, &job, &cli->err) ? failed(cli) : follow_job(cli, job);
}

static int delete_pool(struct cli *cli)
{
	if (hci_pool_delete(cli->cluster, cli->args[0], &cli->err))
		return failed(cli);
	return done(cli, "pool %s deleted", cli->args[0]);
}

static const struct verb verbs[] = {
	{ .name = "create",
	  .args = "NAME",
	  .summary = "Make a pool",
	  .run = create,
	  .min = 1,
	  .max = 1,
	  .more = "Then give it disks: hcictl disk add. Example:\n  hcictl pool create main "
		  "--policy spread --rebuild-delay 10m",
	  .opts = { { "policy", "NAME",
		      "placement policy (default spread; see hcictl policy list)" },
		    { "rebuild-delay", "TIME",
		      "from a copy's loss to its rebuild elsewhere (default 10m)" },
		    { "rebuild-impact", "PERCENT",
		      "of its undisturbed latency that a request may take while copies are made (default 200)" } } },
	{ .name = "set",
	  .args = "NAME",
	  .summary = "Change what volumes go by that say nothing themselves, also while they are in use",
	  .run = set,
	  .min = 1,
	  .max = 1,
	  .more = "Example:\n  hcictl pool set main --rebuild-delay 30m --rebuild-impact 150",
	  .opts = { { "rebuild-delay", "TIME", "from a copy's loss to its rebuild elsewhere" },
		    { "rebuild-impact", "PERCENT",
		      "of its undisturbed latency that a request may take while copies are made" } } },
	{ .name = "list", .args = "", .summary = "List the pools", .run = list },
	{ .name = "balance",
	  .args = "NAME",
	  .summary = "Even out how full the disks are and how much they are used, moving as little as that takes",
	  .run = balance,
	  .min = 1,
	  .max = 1,
	  .more = "After disks were added, for example; volumes are in use meanwhile. What counts is which part of a disk's capacity\n"
		  "segments are placed on; and how much it is asked for by those who read and write, in the last minute or so: when that is\n"
		  "far above the average, much used copies leave it, or change places with hardly used ones. Ctrl-C ends the watching, hcictl job cancel the job: what has moved stays.",
	  .opts = { { "dry-run", NULL, "only say how much would move" },
		    { "fill-only", NULL, "how much disks are used does not count" },
		    OPT_NO_WAIT } },
	{ .name = "delete",
	  .args = "NAME",
	  .summary = "Remove a pool that has neither disks nor volumes",
	  .run = delete_pool,
	  .min = 1,
	  .max = 1 },
	{ 0 },
};

const struct noun noun_pool = { "pool", "disks that serve volumes together", verbs };
