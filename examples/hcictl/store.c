/* SPDX-License-Identifier: Apache-2.0 */
/* store copy */
#include "cli.h"

static int copy(struct cli *cli)
{
	struct hci_store_copy_info i;
	char size[24];
	struct table *t;

	if (hci_store_copy(cli->args[0], cli->args[1], &i, sizeof(i), &cli->err))
		return failed(cli);
	if (!cli->json)
		return done(cli, "%llu keys with %s copied and compared; the cluster's store is now %s",
			    (unsigned long long)i.keys, size_text(i.bytes, size), cli->args[1]);
	t = table_new(cli, true);
	cell_text(t, "store", "%s", cli->args[1]);
	cell_number(t, "keys", i.keys);
	cell_size(t, "size", i.bytes);
	return table_print(t);
}

static const struct verb verbs[] = {
	{ .name = "copy",
	  .args = "FROM TO",
	  .summary = "Move the cluster's metadata to another, empty store",
	  .run = copy,
	  .min = 2,
	  .max = 2,
	  .offline = true,
	  .more = "For when nothing runs: stop all nodes and clients first; a node that was killed holds its lease\n"
		  "for some seconds. FROM keeps its content but is refused from then on. Interrupted, run it again.\n"
		  "Afterwards start the nodes with --store TO, and set HCI_STORE or store = TO in hcictl.conf.\n\n"
		  "Example:\n  hcictl store copy sqlite:/srv/hci/cluster.db 'etcd://n1,n2,n3/lab'" },
	{ 0 },
};

const struct noun noun_store = { "store", "move the metadata", verbs };
