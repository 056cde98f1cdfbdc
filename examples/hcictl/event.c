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

#define TYPES_MAX 32

/* What --type may be: all names that there are. */
static void type_words(const char *words[TYPES_MAX + 1])
{
	int n = 0;

	while (n < TYPES_MAX && strcmp(hci_event_name(n + 1), "?")) {
		words[n] = hci_event_name(n + 1);
		n++;
	}
	words[n] = NULL;
}

/* What the events of a volume that is called so have as their object. */
static int object_of(struct cli *cli, const char *volume, char uuid[HCI_UUID_STR])
{
	struct hci_volume_info *v;
	uint64_t n;
	int rc = EXIT_FINE;

	if (hci_volume_list(cli->cluster, &v, &n, sizeof(*v), &cli->err))
		return failed(cli);
	*uuid = '\0';
	for (uint64_t i = 0; i < n; i++)
		if (!strcmp(v[i].name, volume) || !strcmp(v[i].uuid, volume))
			memcpy(uuid, v[i].uuid, HCI_UUID_STR);
	hci_list_free(v);
	if (!*uuid)
		rc = complain("volume %s: there is none of this name: see hcictl volume list", volume);
	return rc;
}

static int follow(struct cli *cli)
{
	uint64_t limit = opt_millis(cli, "for", UINT64_MAX / 2000000),
		 count = opt_number(cli, "count", UINT64_MAX);
	uint64_t end = now_ns() + limit * 1000000u;
	const char *type = opt_text(cli, "type"), *volume = opt_text(cli, "volume");
	const char *words[TYPES_MAX + 1];
	char uuid[HCI_UUID_STR];
	struct hci_event e;

	type_words(words);
	(void)opt_word(cli, "type", words, 0);
	if (volume && object_of(cli, volume, uuid))
		return EXIT_FAILED;
	catch_interrupt();
	if (hci_event_subscribe(cli->cluster, 0, &cli->err))
		return failed(cli);
	while (!interrupted && count && now_ns() < end) {
		uint64_t left = (end - now_ns()) / 1000000u;
		int rc = hci_event_next(cli->cluster, &e, sizeof(e),
					left < 200 ? (int32_t)left : 200, &cli->err);

		if (rc < 0)
			return failed(cli);
		if (!rc || (type && strcmp(type, hci_event_name(e.type))) ||
		    (volume && strcmp(uuid, e.object)))
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
		  "  hcictl event follow --volume v1 --type volume-healthy --count 1 --for 5m   # wait "
		  "until a degraded volume is whole again",
	  .opts = { { "volume", "NAME", "only what happens to this volume" },
		    { "type", "TYPE",
		      "only these: node-up, node-down, disk-state, volume-degraded, "
		      "volume-healthy, "
		      "volume-attached, volume-detached, vm-state, job, overflow, disk-full" },
		    { "count", "N", "end after so many" },
		    { "for", "TIME", "end after this time, such as 30s" } } },
	{ 0 },
};

const struct noun noun_event = { "event", "what happens in the cluster", verbs };
