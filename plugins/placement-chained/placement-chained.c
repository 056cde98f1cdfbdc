/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement policy "chained": chained declustering (Hsiao and DeWitt, ICDE 1990; Lee and Thekkath, Petal, ASPLOS 1996).
 * The failure domains stand in a ring; segment after segment the first copy goes one domain on, the next copies to the
 * domains behind it. When a domain dies its reads fall to its two neighbours, which hand part of their own to theirs,
 * and so on round the ring: each of n - 1 survivors serves n / (n - 1) of what it did, where mirrored pairs would leave all of
 * it to one. It wants domains of about equal size. Of a domain's disks the emptiest is taken.
 *
 * A domain that cannot take a copy is passed over for the next in the ring. What is rebuilt after a loss goes to spares,
 * then to the emptiest disk, so that all take part; placing the volume anew brings the chain back. Takes no configuration.
 */
#include "../common/ring.h"

struct chained {
	struct instance base;
	struct ring ring;
};

static const struct policy refill = { .score = NULL, .must_fit = 0 };

static double emptiest(const struct hci_placement_disk *d, const struct hci_placement_request *r)
{
	return preferred(d, r) - ring_fill(d);
}

static const struct policy rebuild = { .score = emptiest, .must_fit = 0 };

/* The emptiest disk of a domain that may take a copy; UINT32_MAX: none. */
static uint32_t pick_disk(const struct ring *g, uint32_t domain, const struct hci_placement_request *r)
{
	struct candidate best = { .index = UINT32_MAX };

	for (uint32_t i = g->start[domain]; i < g->start[domain + 1]; i++) {
		struct candidate c = { .disk = ring_disk(g, i), .index = g->disk[i] };

		if (turn_down(&refill, g->s, r, c.disk))
			continue;
		c.score = -ring_fill(c.disk);
		c.tie = tie(c.disk, r->seed);
		if (best.index == UINT32_MAX || better(&c, &best))
			best = c;
	}
	return best.index;
}

static void explain_chain(const struct ring *g, const struct hci_placement_request *r, struct hci_placement_answer *a,
			  uint32_t n)
{
	for (uint32_t i = 0; i < g->s->ndisks; i++) {
		const char *why = turn_down(&refill, g->s, r, disk_at(g->s, i));

		say(a, i, why ? why : "the segment's place in the ring is elsewhere");
	}
	for (uint32_t k = 0; k < n; k++) {
		char text[48];

		snprintf(text, sizeof(text), "chosen as copy %u of the chain", r->nkeep + k + 1);
		say(a, a->chosen[k], text);
	}
}

static int32_t place(void *instance, const struct hci_placement_snapshot *s, const struct hci_placement_request *r,
		     struct hci_placement_answer *a)
{
	struct chained *x = instance;
	struct ring *g = &x->ring;
	uint32_t n = 0, first;
	char text[160];

	if (s->disk_stride < END_OF(struct hci_placement_disk, volume_segments) ||
	    r->size < END_OF(struct hci_placement_request, volume) ||
	    a->size < END_OF(struct hci_placement_answer, reasons))
		return refuse(x->base.host, "this libhci is too old for the plugin");
	if (r->purpose == HCI_PLACE_REBUILD)
		return place_by_score(instance, &rebuild, s, r, a);
	if (!r->want || r->want > PLACE_MAX)
		return refuse(x->base.host, "from 1 to 16 copies can be placed");
	if (!ring_make(g, s))
		return refuse(x->base.host, "out of memory");
	/* Where the volume begins differs, so that small ones do not all lie on the first domains. */
	first = g->ndomains ? (uint32_t)((text_hash(r->volume, 0) + r->segment) % g->ndomains) : 0;
	for (uint32_t k = 0; k < g->ndomains && n < r->want; k++) {
		uint32_t i = pick_disk(g, (first + k) % g->ndomains, r);

		if (i != UINT32_MAX)
			a->chosen[n++] = i;
	}
	if (a->scores)
		for (uint32_t k = 0; k < n; k++)
			a->scores[a->chosen[k]] = r->want - k;
	if (a->reasons)
		explain_chain(g, r, a, n == r->want ? n : 0);
	if (n < r->want) {
		snprintf(text, sizeof(text), "usable disks are in %u failure domains, %u more are needed: add disks on other nodes", n,
			 r->want - n);
		return refuse(x->base.host, text);
	}
	return 0;
}

static int32_t chained_open(const struct hci_plugin_host *host, const char *config, void **out)
{
	struct chained *x;

	if (*config)
		return refuse(host, "it takes none");
	x = calloc(1, sizeof(*x));
	if (!x)
		return refuse(host, "out of memory");
	x->base.host = host;
	*out = x;
	return 0;
}

static void chained_close(void *instance)
{
	ring_free(&((struct chained *)instance)->ring);
	free(instance);
}

static const struct hci_placement_ops ops = {
	.size = sizeof(ops),
	.open = chained_open,
	.close = chained_close,
	.place = place,
};

static const struct hci_plugin plugin = {
	.abi = HCI_PLUGIN_ABI,
	.size = sizeof(plugin),
	.kind = HCI_PLUGIN_PLACEMENT,
	.name = "placement-chained",
	.version = "1.0",
	.ops = &ops,
};

const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin;
}
