/* SPDX-License-Identifier: Apache-2.0 */
/* policy add, list, remove, explain */
#include "cli.h"

static int add(struct cli *cli)
{
	if (hci_policy_add(cli->cluster, cli->args[0], cli->args[1], opt_text(cli, "config"),
			   &cli->err))
		return failed(cli);
	return done(cli, "policy %s added", cli->args[0]);
}

static const char *kind_name(int32_t kind)
{
	return kind == HCI_POLICY_PLACEMENT   ? "placement"
	       : kind == HCI_POLICY_SCHEDULER ? "scheduler"
					      : "?";
}

static int list(struct cli *cli)
{
	struct hci_policy_info *p;
	struct table *t;
	uint64_t n;

	if (hci_policy_list(cli->cluster, &p, &n, sizeof(*p), &cli->err))
		return failed(cli);
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		table_row(t);
		cell_text(t, "NAME", "%s", p[i].name);
		cell_text(t, "KIND", "%s", kind_name(p[i].kind));
		cell_text(t, "PLUGIN", "%s", p[i].plugin_name);
		cell_text(t, "VERSION", "%s", p[i].plugin_version);
		cell_text(t, "FILE", "%s", p[i].plugin);
		cell_text(t, "CONFIG", "%s", p[i].config);
		cell_text(t, "ERROR", "%s", p[i].error);
	}
	hci_list_free(p);
	return table_print(t);
}

static int remove_policy(struct cli *cli)
{
	if (hci_policy_remove(cli->cluster, cli->args[0], &cli->err))
		return failed(cli);
	return done(cli, "policy %s removed", cli->args[0]);
}

/* The chosen first, in their order; those turned down stay in libhci's. */
static void chosen_first(struct hci_policy_candidate *c, uint64_t n)
{
	for (uint64_t i = 1; i < n; i++) {
		struct hci_policy_candidate one = c[i];
		uint64_t at = i;

		while (one.rank > 0 && at && (c[at - 1].rank <= 0 || c[at - 1].rank > one.rank)) {
			c[at] = c[at - 1];
			at--;
		}
		c[at] = one;
	}
}

static int explain(struct cli *cli)
{
	const char *pool = opt_text(cli, "pool"), *vm = opt_text(cli, "vm");
	struct hci_policy_candidate *c;
	uint32_t replicas = opt_number32(cli, "replicas", 2), chosen = 0;
	struct table *t;
	uint64_t n;
	int rc;

	if (!pool == !vm)
		usage_error(
			"give --pool NAME for a placement policy, or --vm NAME for a scheduler");
	if (pool)
		rc = hci_policy_explain_placement(cli->cluster, cli->args[0], pool,
						  replicas, &c, &n, sizeof(*c), &cli->err);
	else
		rc = hci_policy_explain_vm(cli->cluster, cli->args[0], vm, &c, &n, sizeof(*c),
					   &cli->err);
	if (rc)
		return failed(cli);
	chosen_first(c, n);
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		chosen += c[i].rank > 0;
		table_row(t);
		if (cli->json)
			cell_number(t, "RANK", (uint64_t)(c[i].rank > 0 ? c[i].rank : 0));
		else
			cell_text(t, "RANK", c[i].rank > 0 ? "%d" : "-", c[i].rank);
		cell_text(t, pool ? "DISK" : "OBJECT", cli->json ? "%s" : "%.16s", c[i].object);
		cell_text(t, "NODE", "%s", c[i].node);
		cell_real(t, "SCORE", c[i].score);
		cell_text(t, "WHY", "%s", c[i].reason);
	}
	hci_list_free(c);
	rc = table_print(t);
	/* All copies of a segment are placed or none: what a reason says of "copy 1" is how far it came. */
	if (pool && chosen < replicas)
		rc = complain("policy %s: pool %s has no place for %u copies of a segment: add nodes or disks, or ask for fewer "
			      "replicas",
			      cli->args[0], pool, replicas);
	return rc;
}

static const struct verb verbs[] = {
	{ .name = "add",
	  .args = "NAME PLUGIN",
	  .summary = "Register a plugin under a name",
	  .run = add,
	  .min = 2,
	  .max = 2,
	  .more = "PLUGIN is the path of the shared object, the same on every node; it is loaded "
		  "and tried first. Example:\n"
		  "  hcictl policy add tight /usr/lib/hci/plugins/placement-pack.so\n"
		  "  hcictl policy add fast /usr/local/lib/hci/placement-teaching.so --config at-least=ssd",
	  .opts = { { "config", "TEXT", "handed to the plugin; not the --config of all verbs, which goes before `policy` here" } } },
	{ .name = "list", .args = "", .summary = "List the policies", .run = list },
	{ .name = "remove",
	  .args = "NAME",
	  .summary = "Remove a policy that nothing uses",
	  .run = remove_policy,
	  .min = 1,
	  .max = 1 },
	{ .name = "explain",
	  .args = "NAME",
	  .summary = "Ask what a policy would choose, and why",
	  .run = explain,
	  .min = 1,
	  .max = 1,
	  .more = "Nothing changes. Examples:\n"
		  "  hcictl policy explain spread --pool main --replicas 2\n"
		  "  hcictl policy explain balance --vm web1",
	  .opts = { { "pool", "NAME", "a new segment in this pool" },
		    { "replicas", "N", "with so many copies (default 2)" },
		    { "vm", "NAME", "this VM" } } },
	{ 0 },
};

const struct noun noun_policy = { "policy", "who decides where things go", verbs };
