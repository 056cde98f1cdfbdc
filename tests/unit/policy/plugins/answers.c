/* SPDX-License-Identifier: Apache-2.0 */
/* A placement plugin that behaves as its configuration says, mostly badly. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <hci/plugin_placement.h>

struct instance {
	const struct hci_plugin_host *host;
	char how[32];
};

static int is(const struct instance *x, const char *how)
{
	return !strcmp(x->how, how);
}

static int32_t open_instance(const struct hci_plugin_host *host, const char *config, void **out)
{
	struct instance *x;

	if (!strcmp(config, "refuse")) {
		host->fail(host->ctx, "this\nwill not do");
		return -1;
	}
	if (!strcmp(config, "refuse-silently"))
		return -1;
	if (host->size < sizeof(*host) || host->abi != HCI_PLUGIN_ABI ||
	    strlen(config) >= sizeof(x->how))
		return -1;
	x = calloc(1, sizeof(*x));
	if (!x)
		return -1;
	x->host = host;
	strcpy(x->how, config);
	*out = x;
	return 0;
}

static void say_badly(const struct instance *x, const struct hci_placement_snapshot *s,
		      struct hci_placement_answer *a)
{
	if (!a->reasons || !a->scores)
		return;
	for (uint32_t i = 0; i < s->ndisks; i++) {
		char *text = a->reasons + (size_t)i * a->reason_stride;

		if (is(x, "unterminated"))
			memset(text, 'x', a->reason_stride);
		if (is(x, "control"))
			strcpy(text, "one\ntwo\033[31m");
		if (is(x, "utf8"))
			strcpy(text, "gr\xc3\xbc\xc3\x9f \xe2\x82 \xff \xed\xa0\x80 "
				     "\xf0\x9f\x98\x80 \xc3");
		a->scores[i] = is(x, "nan")        ? (double)NAN
			       : is(x, "infinite") ? (double)-INFINITY
						   : i;
	}
}

static int32_t fails(const struct instance *x, const struct hci_placement_snapshot *s,
		     struct hci_placement_answer *a)
{
	static char large[5000];

	if (is(x, "silent"))
		return -1;
	memset(large, 'y', sizeof(large) - 1);
	x->host->fail(x->host->ctx, is(x, "fail-null")    ? NULL
				    : is(x, "fail-large") ? large
							  : "not today\tat all");
	for (uint32_t i = 0; a->reasons && i < s->ndisks; i++)
		strcpy(a->reasons + (size_t)i * a->reason_stride, i % 3 ? "too small" : "too far");
	return -7;
}

static int32_t place(void *instance, const struct hci_placement_snapshot *s,
		     const struct hci_placement_request *r, struct hci_placement_answer *a)
{
	const struct instance *x = instance;

	if (is(x, "silent") || !strncmp(x->how, "fail", 4))
		return fails(x, s, a);
	if (is(x, "log")) {
		x->host->log(x->host->ctx, 99, "first\nsecond");
		x->host->log(x->host->ctx, -5, NULL);
	}
	say_badly(x, s, a);
	if (is(x, "nothing"))
		return 0;
	/* The pool of the test has one usable disk a domain, but for the last two, which share
	 * theirs. */
	for (uint32_t i = 0; i < r->want; i++)
		a->chosen[i] = i;
	if (is(x, "range"))
		a->chosen[r->want - 1] = s->ndisks;
	if (is(x, "twice"))
		a->chosen[1] = a->chosen[0];
	if (is(x, "domain")) {
		a->chosen[0] = s->ndisks - 1;
		a->chosen[1] = s->ndisks - 2;
	}
	if (is(x, "unusable"))
		a->chosen[0] = 3;
	if (is(x, "kept"))
		a->chosen[0] = r->keep[0];
	if (is(x, "more"))
		a->chosen[r->want] = r->want;
	return is(x, "positive") ? 7 : 0;
}

static const struct hci_placement_ops ops = {
	.size = sizeof(ops),
	.open = open_instance,
	.close = free,
	.place = place,
};

static const struct hci_plugin plugin = {
	.abi = HCI_PLUGIN_ABI,
	.size = sizeof(plugin),
	.kind = HCI_PLUGIN_PLACEMENT,
	.name = "answers",
	.version = "0.9-rc1",
	.ops = &ops,
};

const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin;
}
