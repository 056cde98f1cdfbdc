/* SPDX-License-Identifier: Apache-2.0 */
/* A RAM disk as an NBD backend: thin in 64 KiB runs, with faults to order. For tests and
 * measurements. */
#ifndef TESTS_EXPORT_RAM_H
#define TESTS_EXPORT_RAM_H

#include "export/nbd.h"

#define RAM_RUN (64u << 10)

struct ram {
	struct env *env;
	uint64_t size;
	uint8_t *mem;
	bool *data; /* by run */
	struct list ios, queries;
	struct env_task task;
	struct env_timer timer;
	/* Knobs; the loop's. */
	uint64_t delay_ns;
	bool stall; /* keep everything until ram_go() */
	int fail;   /* complete with this instead, the next fail_n */
	unsigned fail_n;
	/* What was seen. */
	unsigned in_flight, max_in_flight, reads, writes, zeroes, flushes;
};

bool ram_init(struct ram *r, struct env *e, uint64_t size);
void ram_fini(struct ram *r);
void ram_backend(struct ram *r, struct nbd_backend *out);
void ram_go(struct ram *r); /* ends a stall */

#endif
