/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What placement plugins that rank disks by a score have in common: the walk over the disks,
 * distinct failure domains, ties, reasons. Included by each plugin, which stays one shared object
 * of its own and says only what a disk is worth.
 */
#ifndef PLUGINS_COMMON_PLACE_H
#define PLUGINS_COMMON_PLACE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hci/disk.h>
#include <hci/plugin_placement.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

#define PLACE_MAX 16

struct policy {
	/* Larger is better. The disk is usable and has a size. */
	double (*score)(const struct hci_placement_disk *d, const struct hci_placement_request *r);
	/* 1: a disk with less room than a segment is turned down; 0: only a full one. */
	int must_fit;
};

struct instance {
	const struct hci_plugin_host *host;
};

struct candidate {
	const struct hci_placement_disk *disk;
	uint32_t index;
	double score;
	uint64_t tie;
};

static const struct hci_placement_disk *disk_at(const struct hci_placement_snapshot *s, uint32_t i)
{
	return (const struct hci_placement_disk *)((const char *)s->disks +
						   (size_t)i * s->disk_stride);
}

/* ---- what scores are made of ---- */

/* A rebuild goes to a spare if there is one. */
static double preferred(const struct hci_placement_disk *d, const struct hci_placement_request *r)
{
	return r->purpose == HCI_PLACE_REBUILD && d->role == HCI_DISK_SPARE ? 1000 : 0;
}

/* Whole percents in use: below that the number of segments decides, which thin volumes need. */
static double fill_percent(const struct hci_placement_disk *d)
{
	uint64_t used = d->capacity - MIN(d->free, d->capacity);

	return (double)(uint64_t)((double)used * 100.0 / (double)d->capacity);
}

/* Less than one for any number of segments, so that it decides only between equal percents. */
static double segments_part(const struct hci_placement_disk *d)
{
	return (double)MIN(d->segments, 999999) * 1e-6;
}

/* ---- one request ---- */

/*
 * Of two disks with the same score the request's seed decides, the same on every node: a hash of
 * seed and UUID, whose text with its NUL and the reserved bytes after it is five words.
 */
static uint64_t tie(const struct hci_placement_disk *d, uint64_t seed)
{
	uint64_t w[5] = { 0 };

	memcpy(w, d->uuid, sizeof(d->uuid));
	for (int i = 0; i < 5; i++) {
		seed = (seed ^ w[i]) * UINT64_C(0x9e3779b97f4a7c15);
		seed ^= seed >> 29;
	}
	return seed;
}

static int better(const struct candidate *a, const struct candidate *b)
{
	if (a->score != b->score)
		return a->score > b->score;
	if (a->tie != b->tie)
		return a->tie > b->tie;
	/* The same answer whatever order the snapshot has. */
	return strcmp(a->disk->uuid, b->disk->uuid) > 0;
}

static int kept(const struct hci_placement_snapshot *s, const struct hci_placement_request *r,
		const char *domain)
{
	for (uint32_t i = 0; i < r->nkeep; i++)
		if (!strcmp(disk_at(s, r->keep[i])->domain, domain))
			return 1;
	return 0;
}

/* NULL: may be chosen. */
static const char *turn_down(const struct policy *p, const struct hci_placement_snapshot *s,
			     const struct hci_placement_request *r,
			     const struct hci_placement_disk *d)
{
	if (!d->usable)
		return *d->why_not ? d->why_not : "not usable";
	if (kept(s, r, d->domain))
		return "its failure domain has a copy already";
	if (!d->capacity)
		return "its size is not known yet";
	if (!d->free)
		return "it is full";
	if (p->must_fit && d->free < r->segment_bytes)
		return "it has less room than a segment";
	return NULL;
}

/*
 * Keeps the best of each failure domain in best[], the best domain first: one pass over the disks
 * is enough, because a domain that was pushed out has want better ones before it, and these only
 * improve.
 */
static void consider(struct candidate *best, uint32_t *n, uint32_t want, const struct candidate *c)
{
	uint32_t at = 0;

	if (*n == want && !better(c, &best[*n - 1]))
		return;
	while (at < *n && strcmp(best[at].disk->domain, c->disk->domain) != 0)
		at++;
	if (at < *n && !better(c, &best[at]))
		return;
	if (at == *n && *n < want)
		++*n;
	else if (at == *n)
		at--; /* the last one makes room */
	for (; at && better(c, &best[at - 1]); at--)
		best[at] = best[at - 1];
	best[at] = *c;
}

/* ---- answers ---- */

static void say(struct hci_placement_answer *a, uint32_t i, const char *text)
{
	if (a->reasons && a->reason_stride)
		snprintf(a->reasons + (size_t)i * a->reason_stride, a->reason_stride, "%s", text);
}

static void explain(const struct policy *p, const struct hci_placement_snapshot *s,
		    const struct hci_placement_request *r, struct hci_placement_answer *a,
		    const struct candidate *best, uint32_t n)
{
	for (uint32_t i = 0; i < s->ndisks; i++) {
		const char *why = turn_down(p, s, r, disk_at(s, i));

		for (uint32_t k = 0; !why && k < n; k++)
			if (!strcmp(best[k].disk->domain, disk_at(s, i)->domain))
				why = "a better disk of its failure domain was chosen";
		say(a, i, why ? why : "others have a better score");
	}
	for (uint32_t k = 0; k < n; k++) {
		char text[32];

		snprintf(text, sizeof(text), "chosen as copy %u", r->nkeep + k + 1);
		say(a, best[k].index, text);
	}
}

static int32_t refuse(const struct hci_plugin_host *host, const char *message)
{
	host->fail(host->ctx, message);
	return -1;
}

static int32_t place_by_score(void *instance, const struct policy *p,
			      const struct hci_placement_snapshot *s,
			      const struct hci_placement_request *r, struct hci_placement_answer *a)
{
	const struct hci_plugin_host *host = ((struct instance *)instance)->host;
	struct candidate best[PLACE_MAX] = { 0 };
	uint32_t n = 0;
	char text[160];

	/* A host that is older than these fields has not got them. */
	if (s->disk_stride < END_OF(struct hci_placement_disk, volume_segments) ||
	    r->size < END_OF(struct hci_placement_request, seed) ||
	    a->size < END_OF(struct hci_placement_answer, reasons))
		return refuse(host, "this libhci is too old for the plugin");
	if (!r->want || r->want > PLACE_MAX)
		return refuse(host, "from 1 to 16 copies can be placed");
	for (uint32_t i = 0; i < s->ndisks; i++) {
		struct candidate c = { .disk = disk_at(s, i), .index = i };

		if (turn_down(p, s, r, c.disk))
			continue;
		c.score = p->score(c.disk, r);
		if (a->scores)
			a->scores[i] = c.score;
		if (n == r->want && n && c.score < best[n - 1].score)
			continue;
		c.tie = tie(c.disk, r->seed);
		consider(best, &n, r->want, &c);
	}
	if (a->reasons)
		explain(p, s, r, a, best, n);
	if (n < r->want) {
		snprintf(text, sizeof(text),
			 "usable disks are in %u failure domains, %u more are needed: add disks on "
			 "other nodes",
			 n, r->want - n);
		return refuse(host, text);
	}
	for (uint32_t k = 0; k < n; k++)
		a->chosen[k] = best[k].index;
	return 0;
}

/* ---- instances ---- */

/* For policies that need no more than this; others have their own. */
__attribute__((unused)) static int32_t place_open(const struct hci_plugin_host *host, const char *config, void **out)
{
	struct instance *x;

	if (*config)
		return refuse(host, "it takes none");
	x = calloc(1, sizeof(*x));
	if (!x)
		return refuse(host, "out of memory");
	x->host = host;
	*out = x;
	return 0;
}

__attribute__((unused)) static void place_close(void *instance)
{
	free(instance);
}

#endif
