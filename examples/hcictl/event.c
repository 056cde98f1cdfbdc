/* SPDX-License-Identifier: Apache-2.0 */
/* event follow */
#include "cli.h"

#include <string.h>
#include <time.h>

static void print(const struct cli *cli, const struct hci_event *e)
{
	time_t s = (time_t)(e->time / 1000000000u);
	struct tm tm;
	char when[32];

	if (cli->json) {
		printf("{\"type\": \"%s\", \"time\": %llu.%03llu, \"revision\": %llu, \"object\": ",
		       hci_event_name(e->type), (unsigned long long)s,
		       (unsigned long long)(e->time / 1000000 % 1000),
		       (unsigned long long)e->revision);
		json_string(stdout, e->object);
		fputs(", \"node\": ", stdout);
		json_string(stdout, e->node);
		fputs(", \"text\": ", stdout);
		json_string(stdout, e->text);
		puts("}");
	} else {
		strftime(when, sizeof(when), "%T", localtime_r(&s, &tm));
		printf("%s.%03llu  %-16s %-36s %-8s %s\n", when,
		       (unsigned long long)(e->time / 1000000 % 1000), hci_event_name(e->type),
		       e->object, e->node, e->text);
	}
	fflush(stdout);
}

static const char *const types[] = { "node-up", "node-down", "disk-state", "volume-degraded", "volume-healthy",
				     "volume-attached", "volume-detached", "vm-state", "job", NULL };

static int follow(struct cli *cli)
{
	uint64_t limit = opt_millis(cli, "for", UINT64_MAX / 2000000),
		 count = opt_number(cli, "count", UINT64_MAX);
	uint64_t end = now_ns() + limit * 1000000u;
	const char *type = opt_text(cli, "type");
	struct hci_event e;

	(void)opt_word(cli, "type", types, 0);
	catch_interrupt();
	if (hci_event_subscribe(cli->cluster, 0, &cli->err))
		return failed(cli);
	while (!interrupted && count && now_ns() < end) {
		uint64_t left = (end - now_ns()) / 1000000u;
		int rc = hci_event_next(cli->cluster, &e, sizeof(e),
					left < 200 ? (int32_t)left : 200, &cli->err);

		if (rc < 0)
			return failed(cli);
		if (!rc || (type && strcmp(type, hci_event_name(e.type))))
			continue;
		print(cli, &e);
		count--;
	}
	return EXIT_FINE;
}

static const struct verb verbs[] = {
	{ .name = "follow",
	  .args = "",
	  .summary = "Print what happens, a line an event, until Ctrl-C",
	  .run = follow,
	  .more = "With --json each line is an object. Examples:\n"
		  "  hcictl event follow\n"
		  "  hcictl event follow --type volume-healthy --count 1 --for 5m   # wait until a "
		  "volume is whole again",
	  .opts = { { "type", "TYPE",
		      "only these: node-up, node-down, disk-state, volume-degraded, "
		      "volume-healthy, "
		      "volume-attached, volume-detached, vm-state, job" },
		    { "count", "N", "end after so many" },
		    { "for", "TIME", "end after this time, such as 30s" } } },
	{ 0 },
};

const struct noun noun_event = { "event", "what happens in the cluster", verbs };
