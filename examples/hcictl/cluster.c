/* SPDX-License-Identifier: Apache-2.0 */
/* cluster create, info */
#include "cli.h"

static int create(struct cli *cli)
{
	if (!cli->store)
		usage_error("where? Give --store URL, such as sqlite:/srv/hci/cluster.db");
	if (hci_cluster_create(cli->store, cli->args[0], &cli->err))
		return failed(cli);
	return done(cli, "cluster %s created in %s", cli->args[0], cli->store);
}

static int info(struct cli *cli)
{
	struct hci_cluster_info i;
	struct table *t;

	if (hci_cluster_info(cli->cluster, &i, sizeof(i), &cli->err))
		return failed(cli);
	t = table_new(cli, true);
	cell_text(t, "name", "%s", i.name);
	cell_text(t, "uuid", "%s", i.uuid);
	cell_number(t, "format", i.format);
	cell_number(t, "nodes", i.nodes);
	cell_number(t, "nodes alive", i.nodes_alive);
	cell_number(t, "disks", i.disks);
	cell_number(t, "disks online", i.disks_online);
	cell_number(t, "pools", i.pools);
	cell_number(t, "volumes", i.volumes);
	cell_number(t, "vms", i.vms);
	return table_print(t);
}

static const struct verb verbs[] = {
	{ .name = "create",
	  .args = "NAME",
	  .summary = "Make the metadata of a new cluster in an empty store",
	  .run = create,
	  .min = 1,
	  .max = 1,
	  .offline = true,
	  .more = "Example:\n  hcictl cluster create lab --store sqlite:/srv/hci/cluster.db" },
	{ .name = "info", .args = "", .summary = "Show what there is", .run = info },
	{ 0 },
};

const struct noun noun_cluster = { "cluster", "the cluster itself: create, info", verbs };
