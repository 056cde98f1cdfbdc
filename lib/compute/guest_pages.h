/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of the guests that run on this machine, as content that a migration which comes here need not send: which of them has
 * which content, found by a thread of low priority that reads a little at a time, again and again; and the provider for the codec, which tells
 * that to sources and reads single pages for it.
 *
 * The guests go on meanwhile, so all that is known here may be wrong by the time it is used: a page is copied first, and the
 * decoder compares the strong hash of the copy. No hash but the quick ones' high halves leaves this machine.
 */
#ifndef COMPUTE_GUEST_PAGES_H
#define COMPUTE_GUEST_PAGES_H

#include "base/log.h"
#include "compute/guest_ram.h"
#include "compute/memstream/store.h"

#define GUEST_PAGES_PREFIX "gsts" /* begins the ids of all of them, by which sources know them; the rest is random */

struct guest_pages;

struct guest_pages_opts {
	uint8_t id[16];       /* its first bytes are ours */
	uint64_t memory;      /* of the index, bytes, at most: 16 a page. It is no larger than the guests' memory needs */
	uint64_t pace;        /* bytes read a second; 0: 32 MiB */
	uint64_t rest_ns;     /* between a guest's passes; 0: a minute */
	const struct mst_hash *hash; /* NULL: the real ones */
	struct log log;
	/* For tests: another way to a guest's memory than that of guest_ram.h; NULL: that. */
	int (*open)(const struct uuid *vm, struct guest_ram **out, struct hci_error *err);
	int (*page)(struct guest_ram *r, uint64_t page, void *buf);
};

/* NULL: no memory, no thread. */
struct guest_pages *guest_pages_new(const struct guest_pages_opts *o);
/*
 * When no decoder uses it any more, but those that were freed while a worker hung in a read of it. Waits for the thread, moments as a rule. One
 * that hangs in a process's memory is left alone after two seconds: it uses nothing but this when it comes back, the log neither. Who of all of
 * these is the last frees it. NULL is fine.
 */
void guest_pages_free(struct guest_pages *g);

/* These run here now, no others: what is known of others is forgotten. At any time; does not block. */
void guest_pages_seen(struct guest_pages *g, const struct uuid *running, size_t n);
/* A migration comes: guests that were not read through yet are, as fast as it goes, and sources wait for that a moment. */
void guest_pages_hurry(struct guest_pages *g);
void guest_pages_provider(struct guest_pages *g, struct mst_provider *out);

struct guest_pages_stat {
	uint32_t guests;  /* that are read */
	uint64_t known;   /* pages */
	uint64_t read;    /* bytes so far */
	uint64_t passes;  /* over a guest's memory that came to their end */
	uint64_t served;  /* pages that migrations asked for, and got a copy of */
};
void guest_pages_stat(struct guest_pages *g, struct guest_pages_stat *out);

#endif
