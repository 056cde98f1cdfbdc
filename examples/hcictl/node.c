/* SPDX-License-Identifier: Apache-2.0 */
/* node list, evacuate, activate, limit, remove */
#include "cli.h"

#include <string.h>

/* 0 is no limit: a word for people, the number for programs. */
static void cell_bandwidth(const struct cli *cli, struct table *t, uint64_t v)
{
	if (v || cli->json)
		cell_size(t, "MIGRATE BANDWIDTH", v);
	else
		cell_text(t, "MIGRATE BANDWIDTH", "any");
}

static int list(struct cli *cli)
{
	static const char *const states[] = { "down", "alive", "maintenance" };
	struct hci_node_info *nodes;
	struct table *t;
	uint64_t n;

	if (hci_node_list(cli->cluster, &nodes, &n, sizeof(*nodes), &cli->err))
		return failed(cli);
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		table_row(t);
		cell_text(t, "NAME", "%s", nodes[i].name);
		cell_text(t, "STATE", "%s", nodes[i].state <= 2 ? states[nodes[i].state] : "?");
		cell_text(t, "ADDRESS", "%s", nodes[i].address);
		cell_number(t, "DISKS", nodes[i].disks);
		cell_number(t, "VMS", nodes[i].vms);
		cell_number(t, "MIGRATIONS", nodes[i].migrations);
		cell_bandwidth(cli, t, nodes[i].migrate_bandwidth);
		cell_text(t, "VERSION", "%s", nodes[i].version);
		cell_time(t, "SINCE", nodes[i].started_at);
	}
	hci_list_free(nodes);
	return table_print(t);
}

static int evacuate(struct cli *cli)
{
	hci_job *job;

	return hci_node_evacuate(cli->cluster, cli->args[0], &job, &cli->err) ? failed(cli) : follow_job(cli, job);
}

static int activate(struct cli *cli)
{
	if (hci_node_activate(cli->cluster, cli->args[0], &cli->err))
		return failed(cli);
	return done(cli, "node %s is for use", cli->args[0]);
}

/* As they are: hci_node_limit() sets all of them. A node that is not there is told by that. */
static int limits_now(struct cli *cli, struct hci_node_limits *l)
{
	struct hci_node_info *nodes;
	uint64_t n;

	if (hci_node_list(cli->cluster, &nodes, &n, sizeof(*nodes), &cli->err))
		return failed(cli);
	for (uint64_t i = 0; i < n; i++)
		if (!strcmp(nodes[i].name, cli->args[0])) {
			l->migrations = nodes[i].migrations;
			l->migrate_bandwidth = nodes[i].migrate_bandwidth;
		}
	hci_list_free(nodes);
	return EXIT_FINE;
}

static int limit(struct cli *cli)
{
	struct hci_node_limits l = HCI_NODE_LIMITS_INIT;
	char size[24];

	if (!opt_text(cli, "migrations") && !opt_text(cli, "migrate-bandwidth"))
		usage_error("node %s: give --migrations N, --migrate-bandwidth SIZE or both; 0 is the default", cli->args[0]);
	if (limits_now(cli, &l))
		return EXIT_FAILED;
	l.migrations = opt_number32(cli, "migrations", l.migrations);
	l.migrate_bandwidth = opt_size(cli, "migrate-bandwidth", l.migrate_bandwidth);
	if (hci_node_limit(cli->cluster, cli->args[0], &l, &cli->err))
		return failed(cli);
	return done(cli, "node %s: %u migrations at a time, %s%s", cli->args[0], l.migrations ? l.migrations : 4,
		    l.migrate_bandwidth ? size_text(l.migrate_bandwidth, size) : "any bandwidth", l.migrate_bandwidth ? " a second" : "");
}

static int remove_node(struct cli *cli)
{
	if (hci_node_remove(cli->cluster, cli->args[0], &cli->err))
		return failed(cli);
	return done(cli, "node %s removed", cli->args[0]);
}

static const struct verb verbs[] = {
	{ .name = "list",
	  .args = "",
	  .summary = "List the nodes",
	  .run = list,
	  .more = "A node joins by itself when hci-node starts on it." },
	{ .name = "evacuate",
	  .args = "NAME",
	  .summary = "Move what a node's disks hold to other nodes, while volumes are in use",
	  .run = evacuate,
	  .min = 1,
	  .max = 1,
	  .more = "Nothing new is placed on it from then on. VMs stay: hcictl vm migrate. hcictl job cancel ends it; hcictl node activate\n"
		  "uses the node again.",
	  .opts = { OPT_NO_WAIT } },
	{ .name = "activate",
	  .args = "NAME",
	  .summary = "Use an evacuated node again",
	  .run = activate,
	  .min = 1,
	  .max = 1 },
	{ .name = "limit",
	  .args = "NAME",
	  .summary = "Say how many VMs may leave a node, or come to it, at a time, and how fast they leave",
	  .run = limit,
	  .min = 1,
	  .max = 1,
	  .more = "What is not given stays as it is; hcictl node list shows it. It counts within a second, also for migrations\n"
		  "under way, but none of these is stopped. Example:\n  hcictl node limit n1 --migrate-bandwidth 50M",
	  .opts = { { "migrations", "N", "leave at a time, and as many others may arrive; more wait; 0: 4, the default" },
		    { "migrate-bandwidth", "SIZE", "a second, for all together that leave; 0: no limit, the default" } } },
	{ .name = "remove",
	  .args = "NAME",
	  .summary = "Forget a node that is down and has no disks",
	  .run = remove_node,
	  .min = 1,
	  .max = 1 },
	{ 0 },
};

const struct noun noun_node = { "node", "the servers", verbs };
