/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A placement plugin to learn from: "fastest first". It puts copies on the disks of the fastest
 * class (NVMe before SSD before HDD), and among equals on the one with the most room.
 *
 * A plugin is one shared object. It includes libhci's plugin headers and links against nothing of
 * libhci: what it needs of the host comes with open(). Build it with `make` here, or with CMake;
 * README.md says how to try it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hci/disk.h> /* HCI_DISK_SPARE, HCI_DISK_SSD ... */
#include <hci/log.h>  /* HCI_LOG_INFO */
#include <hci/plugin_placement.h>

/*
 * 1. Configuration
 *
 * open() gets the text given to `hcictl policy add`. There is one instance for each policy that
 * uses the plugin, so what belongs to one goes here and nothing into globals. What place() decides
 * may depend on this and on its arguments, on nothing else: every node must come to the same
 * answer.
 */
struct teaching {
	const struct hci_plugin_host *host; /* lent as long as the instance lives */
	int32_t slowest;                    /* the slowest class that may be used */
};

static int32_t teaching_open(const struct hci_plugin_host *host, const char *config,
			     void **instance)
{
	struct teaching *t;
	int32_t slowest;

	if (!*config || !strcmp(config, "at-least=hdd")) {
		slowest = HCI_DISK_HDD;
	} else if (!strcmp(config, "at-least=ssd")) {
		slowest = HCI_DISK_SSD;
	} else {
		/* Says why, then fails: the message reaches whoever added the policy. */
		host->fail(host->ctx, "it takes at-least=hdd or at-least=ssd");
		return -1;
	}
	t = calloc(1, sizeof(*t));
	if (!t) {
		host->fail(host->ctx, "out of memory");
		return -1;
	}
	t->host = host;
	t->slowest = slowest;
	host->log(host->ctx, HCI_LOG_INFO, "placement-teaching is ready");
	*instance = t;
	return 0;
}

static void teaching_close(void *instance)
{
	free(instance);
}

/*
 * 2. Walking the snapshot
 *
 * Not snapshot->disks[i]: a newer libhci may have longer disks than the header this was built with.
 */
static const struct hci_placement_disk *disk_at(const struct hci_placement_snapshot *s, uint32_t i)
{
	return (const struct hci_placement_disk *)((const char *)s->disks +
						   (size_t)i * s->disk_stride);
}

static int domain_taken(const struct hci_placement_snapshot *s, const char *domain,
			const uint32_t *disks, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++)
		if (!strcmp(disk_at(s, disks[k])->domain, domain))
			return 1;
	return 0;
}

/* 3. Why not: NULL when the disk may be chosen. */
static const char *why_not(const struct teaching *t, const struct hci_placement_snapshot *s,
			   const struct hci_placement_request *r,
			   const struct hci_placement_disk *d, const uint32_t *chosen, uint32_t n)
{
	if (!d->usable)
		return d->why_not; /* the host has decided: down, failed, a spare ... */
	if (d->disk_class < t->slowest)
		return "it is too slow a disk for this policy";
	if (d->free < r->segment_bytes)
		return "it has no room for a segment";
	/* Two copies in one failure domain would be lost together: libhci refuses such an answer.
	 */
	if (domain_taken(s, d->domain, r->keep, r->nkeep))
		return "its failure domain has a copy already";
	if (domain_taken(s, d->domain, chosen, n))
		return "a better disk of its failure domain was chosen";
	return NULL;
}

/*
 * 4. What a disk is worth: larger is better. Class first; the spare that waits for a rebuild before
 * all.
 */
static double score(const struct hci_placement_disk *d, const struct hci_placement_request *r)
{
	double room = (double)d->free / ((double)d->capacity + 1); /* 0 to 1 */

	if (r->purpose == HCI_PLACE_REBUILD && d->role == HCI_DISK_SPARE)
		return 100 + room;
	return d->disk_class + room;
}

/*
 * 5. Reasons: one for each disk. They are asked for by `hcictl policy explain`, and when nothing
 * could be placed; otherwise the array is NULL.
 */
static void explain(const struct teaching *t, const struct hci_placement_snapshot *s,
		    const struct hci_placement_request *r, const struct hci_placement_answer *a,
		    uint32_t n)
{
	for (uint32_t i = 0; a->reasons && i < s->ndisks; i++) {
		const char *text = why_not(t, s, r, disk_at(s, i), a->chosen, n);

		if (!text)
			text = "others are faster or have more room";
		for (uint32_t k = 0; k < n; k++)
			if (a->chosen[k] == i)
				text = "chosen: the fastest, with the most room";
		snprintf(a->reasons + (size_t)i * a->reason_stride, a->reason_stride, "%s", text);
	}
}

/* 6. The decision, one copy after the other. */

/* Ties go to the smaller UUID, so that the order of the snapshot does not matter. (placement-spread
 * uses request->seed, to share ties out among the disks.) */
static int better(const struct hci_placement_disk *a, const struct hci_placement_disk *b,
		  const struct hci_placement_request *r)
{
	if (score(a, r) != score(b, r))
		return score(a, r) > score(b, r);
	return strcmp(a->uuid, b->uuid) < 0;
}

static int32_t teaching_place(void *instance, const struct hci_placement_snapshot *s,
			      const struct hci_placement_request *r, struct hci_placement_answer *a)
{
	const struct teaching *t = instance;
	uint32_t n;

	for (n = 0; n < r->want; n++) {
		uint32_t best = s->ndisks; /* none yet */

		for (uint32_t i = 0; i < s->ndisks; i++) {
			const struct hci_placement_disk *d = disk_at(s, i);

			if (why_not(t, s, r, d, a->chosen, n))
				continue;
			if (a->scores)
				a->scores[i] = score(d, r);
			if (best == s->ndisks || better(d, disk_at(s, best), r))
				best = i;
		}
		if (best == s->ndisks)
			break;
		a->chosen[n] = best;
	}
	explain(t, s, r, a, n);
	if (n == r->want)
		return 0;
	t->host->fail(t->host->ctx, "too few disks are fast enough, or too few failure domains");
	return -1;
}

/*
 * 7. The descriptor. The sizes tell libhci which fields and operations this build knows about, so
 * that a plugin and a libhci of different releases understand each other.
 */
static const struct hci_placement_ops ops = {
	.size = sizeof(ops),
	.open = teaching_open,
	.close = teaching_close,
	.place = teaching_place,
};

static const struct hci_plugin plugin = {
	.abi = HCI_PLUGIN_ABI,
	.size = sizeof(plugin),
	.kind = HCI_PLUGIN_PLACEMENT,
	.name = "placement-teaching",
	.version = "1.0",
	.ops = &ops,
};

/* The one symbol that libhci looks for; the header declares and exports it. */
const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin;
}
