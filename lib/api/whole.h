/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which volumes are whole, as their records tell it, change by change: for events. A volume is whole when no disk is out
 * of its in-sync set, no segment has fewer copies in sync than the volume wants, and none is being made.
 *
 * Owns its table only; the records come in through whole_record(), in the store's order, and what became of a volume
 * goes out through `told` once all changes of one revision are in: map and in-sync set may change in one.
 */
#ifndef API_WHOLE_H
#define API_WHOLE_H

#include "env/env.h"
#include "store/records.h"
#include "store/store.h"

struct whole;

struct whole_news {
	const struct uuid *volume;
	const char *name;
	uint64_t revision; /* of the change that made it so */
	bool whole;
	uint32_t out;      /* disks out of the in-sync set */
	uint32_t short_of; /* segments with fewer copies in sync than wanted */
	uint32_t joining;  /* segments with a copy that is being made */
};

/* told is called on the loop, not in a fiber. NULL when out of memory. */
struct whole *whole_new(struct env *e, void (*told)(void *arg, const struct whole_news *n), void *arg);
void whole_free(struct whole *w); /* on the loop; NULL is fine */

/*
 * From a fiber: reads all volumes; how they are is where news start from, and is none itself. Changes that come in
 * meanwhile are not lost. Once more after the store's history was lost: then what became of them meanwhile is told.
 */
int whole_load(struct whole *w, struct store *s, struct hci_error *err);
/* A change of any record; value NULL: deleted. On the loop. */
void whole_record(struct whole *w, const char *key, const void *value, size_t len, uint64_t revision);

#endif
