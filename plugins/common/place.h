/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What placement plugins that rank disks by a score have in common: the walk over the disks, distinct
 * failure domains, reasons. Included by each plugin, which stays one shared object of its own.
 */
#ifndef PLUGINS_COMMON_PLACE_H
#define PLUGINS_COMMON_PLACE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hci/disk.h>
#include <hci/plugin_placement.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))

typedef double score_fn(const struct hci_placement_disk *d, const struct hci_placement_request *r);

static const struct hci_placement_disk *disk_at(const struct hci_placement_snapshot *s, uint32_t i)
{
	return (const struct hci_placement_disk *)((const char *)s->disks + (size_t)i * s->disk_stride);
}

/* A rebuild goes to a spare if there is one. */
static inline int prefer(const struct hci_placement_disk *d, const struct hci_placement_request *r)
{
	return r->purpose == HCI_PLACE_REBUILD && d->role == HCI_DISK_SPARE;
}

/* Of two disks with the same score the request's seed decides, the same on every node. */
static uint64_t tie(const struct hci_placement_disk *d, uint64_t seed)
{
	uint64_t h = seed ^ UINT64_C(0xcbf29ce484222325);

	for (const char *c = d->uuid; *c; c++)
		h = (h ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
	return h;
}

static int taken(const struct hci_placement_snapshot *s, const char *domain, const uint32_t *idx, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (!strcmp(disk_at(s, idx[i])->domain, domain))
			return 1;
	return 0;
}

static void say(struct hci_placement_answer *a, uint32_t i, const char *text)
{
	if (a->reasons && a->reason_stride)
		snprintf(a->reasons + (size_t)i * a->reason_stride, a->reason_stride, "%s", text);
}

/* NULL: may be chosen. */
static const char *turn_down(const struct hci_placement_snapshot *s, const struct hci_placement_request *r, uint32_t i,
			     const uint32_t *chosen, uint32_t n)
{
	const struct hci_placement_disk *d = disk_at(s, i);

	if (!d->usable)
		return *d->why_not ? d->why_not : "not usable";
	if (taken(s, d->domain, r->keep, r->nkeep))
		return "its node has a copy already";
	if (taken(s, d->domain, chosen, n))
		return "a better disk of its node was chosen";
	if (!d->capacity)
		return "its size is not known yet";
	if (!d->free)
		return "it is full";
	return NULL;
}

struct instance {
	const struct hci_plugin_host *host;
};

static int32_t place_open(const struct hci_plugin_host *host, const char *config, void **out)
{
	struct instance *x;

	if (*config) {
		host->fail(host->ctx, "it takes none");
		return -1;
	}
	x = calloc(1, sizeof(*x));
	if (!x) {
		host->fail(host->ctx, "out of memory");
		return -1;
	}
	x->host = host;
	*out = x;
	return 0;
}

static void place_close(void *instance)
{
	free(instance);
}

static int32_t place_by_score(void *instance, const struct hci_placement_snapshot *s,
			      const struct hci_placement_request *r, struct hci_placement_answer *a, score_fn *score)
{
	const struct hci_plugin_host *host = ((struct instance *)instance)->host;
	char text[192];

	for (uint32_t n = 0; n < r->want; n++) {
		double best = 0;
		uint64_t best_tie = 0;
		int64_t at = -1;

		for (uint32_t i = 0; i < s->ndisks; i++) {
			const struct hci_placement_disk *d = disk_at(s, i);
			const char *no = turn_down(s, r, i, a->chosen, n);
			double sc;
			uint64_t t;

			if (no) {
				if (a->reasons && !a->reasons[(size_t)i * a->reason_stride])
					say(a, i, no);
				continue;
			}
			sc = score(d, r);
			t = tie(d, r->seed);
			if (a->scores)
				a->scores[i] = sc;
			if (at < 0 || sc > best || (sc == best && t > best_tie)) {
				at = i;
				best = sc;
				best_tie = t;
			}
		}
		if (at < 0) {
			snprintf(text, sizeof(text),
				 "%u of %u copies have a place; the others need a usable disk on another node", n, r->want);
			host->fail(host->ctx, text);
			return -1;
		}
		a->chosen[n] = (uint32_t)at;
		snprintf(text, sizeof(text), "chosen as copy %u", n + 1);
		say(a, (uint32_t)at, text);
	}
	for (uint32_t i = 0; a->reasons && i < s->ndisks; i++)
		if (!a->reasons[(size_t)i * a->reason_stride])
			say(a, i, turn_down(s, r, i, a->chosen, r->want) ? turn_down(s, r, i, a->chosen, r->want)
								       : "others have a better score");
	return 0;
}

#endif
