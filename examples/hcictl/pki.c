/* SPDX-License-Identifier: Apache-2.0 */
/* pki ca, issue */
#include "cli.h"

static int ca(struct cli *cli)
{
	if (hci_pki_create_ca(cli->args[0], cli->args[1], &cli->err))
		return failed(cli);
	return done(cli, "CA of %s in %s: keep ca.key off the nodes", cli->args[1], cli->args[0]);
}

static int issue(struct cli *cli)
{
	uint64_t days = opt_number(cli, "days", 825);

	if (!days || days > 3650)
		usage_error("--days %llu: give 1 to 3650", (unsigned long long)days);
	if (hci_pki_issue(cli->args[0], cli->args[1], opt_text(cli, "address"), cli->args[2],
			  (uint32_t)days, &cli->err))
		return failed(cli);
	return done(cli, "certificate of %s in %s", cli->args[1], cli->args[2]);
}

static const struct verb verbs[] = {
	{ .name = "ca",
	  .args = "DIR CLUSTER",
	  .summary = "Make the cluster's certificate authority: DIR/ca.crt and DIR/ca.key",
	  .run = ca,
	  .min = 2,
	  .max = 2,
	  .offline = true,
	  .more = "Whoever has ca.key can make nodes. Example:\n  mkdir -m 700 ca && hcictl pki ca "
		  "ca lab" },
	{ .name = "issue",
	  .args = "CA-DIR NAME OUT-DIR",
	  .summary = "Issue a certificate for a node or a person",
	  .run = issue,
	  .min = 3,
	  .max = 3,
	  .offline = true,
	  .more = "OUT-DIR gets node.crt, node.key and ca.crt; what was there is replaced. "
		  "Examples:\n"
		  "  hcictl pki issue ca n1 /etc/hci --address n1,10.0.0.1\n"
		  "  hcictl pki issue ca alice ~/.hci --days 90     # for hcictl --cert-dir ~/.hci "
		  "--name alice",
	  .opts = { { "address", "LIST",
		      "DNS names and IP addresses it is reached at, separated by commas" },
		    { "days", "N", "validity, 1 to 3650 (default 825)" } } },
	{ 0 },
};

const struct noun noun_pki = { "pki", "certificates of nodes and people", verbs };
