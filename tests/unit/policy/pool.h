/* SPDX-License-Identifier: Apache-2.0 */
/* Pools to place on, as lib/cluster makes them: disks of equal size, so many on each node. */
#ifndef TESTS_UNIT_POLICY_POOL_H
#define TESTS_UNIT_POLICY_POOL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hci/disk.h>

#include "policy/policy_impl.h"
#include "unit/harness.h"

#define SEGMENT (256 * MiB)

struct pool {
	struct hci_placement_disk *disk;
	struct hci_placement_snapshot s;
	struct hci_placement_request r;
	struct hci_error err;
	uint32_t chosen[8];
};

static inline void pool_make(struct pool *p, uint32_t nodes, uint32_t disks_each, uint64_t capacity)
{
	uint32_t n = nodes * disks_each;

	memset(p, 0, sizeof(*p));
	p->disk = calloc(n, sizeof(*p->disk));
	ck_assert_ptr_nonnull(p->disk);
	for (uint32_t i = 0; i < n; i++) {
		struct hci_placement_disk *d = &p->disk[i];

		snprintf(d->uuid, sizeof(d->uuid), "%08x-0000-4000-8000-%012x", i * 2654435761u, i);
		snprintf(d->node, sizeof(d->node), "node%u", i / disks_each);
		snprintf(d->domain, sizeof(d->domain), "node%u", i / disks_each);
		d->role = HCI_DISK_DATA;
		d->usable = 1;
		d->capacity = d->free = capacity;
	}
	p->s = (struct hci_placement_snapshot){ sizeof(p->s), sizeof(*p->disk), n, 0, p->disk };
	p->r = (struct hci_placement_request){
		.size = sizeof(p->r), .want = 2, .replicas = 2, .segment_bytes = SEGMENT, .seed = 1
	};
}

static inline void pool_free(struct pool *p)
{
	free(p->disk);
}

static inline int pool_place(struct pool *p, struct policy *policy)
{
	return policy_place(policy, &p->s, &p->r, p->chosen, p->r.want, NULL, NULL, &p->err);
}

static inline void unusable(struct hci_placement_disk *d, const char *why)
{
	d->usable = 0;
	snprintf(d->why_not, sizeof(d->why_not), "%s", why);
}

static inline struct policy *load_or_fail(const char *path, const char *config)
{
	struct hci_error err;
	struct policy *p;

	ck_assert_msg(policy_load("p", path, config, NULL, &p, &err) == 0, "%s", err.message);
	return p;
}

#define ck_assert_has(text, part) \
	ck_assert_msg(strstr((text), (part)) != NULL, "\"%s\" does not say \"%s\"", (text), (part))

#endif
