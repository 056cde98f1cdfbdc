/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of recovery share: recover.c (the log), recover_gap.c (damage in it), recover_tables.c (records and
 * region tables), recover_tail.c (damage in its checkpoint).
 */
#ifndef REPLICA_RECOVER_H
#define REPLICA_RECOVER_H

#include "replica/replica_impl.h"

#define REC_WINDOW (4 * MiB)

struct rec {
	struct repl_disk *d;
	struct hci_error *err;
	uint8_t *buf;      /* a piece of the ring */
	uint32_t first, n; /* blocks that it holds */
	uint32_t taken;    /* blocks of batches so far */
	uint64_t epoch;    /* of the last batch */
	bool clean;
	bool ckpt_damaged; /* a copy of the checkpoint */
};

/* recover_tables.c: errors of recovery; from a fiber: all that is in the disk's directory but the log. */
int rec_corrupt(struct rec *r, const char *path, const char *what);
int rec_page_error(struct rec *r, const char *path, enum page_state st);
int rec_nomem(struct rec *r, const char *what);
int rec_load_vols(struct rec *r);

/* recover.c */
/* Reads on from block pos of the ring, `need` blocks at least. */
int rec_fill(struct rec *r, uint32_t pos, uint32_t need);
/* The next batch is b, at block pos of the ring: it takes effect. */
int rec_take(struct rec *r, const struct logf_view *b, uint32_t pos);

/*
 * recover_gap.c: no whole batch is where the next one should be. Is that the end of the log, or damage? *over: the end.
 * Otherwise what was damaged took effect, as far as it is known, or it is an error.
 */
int rec_gap(struct rec *r, bool *over);

/* Parses the header at pos, reading on if need be; false: there is none. *rc: reading failed. */
bool rec_header_at(struct rec *r, uint32_t pos, struct logf_view *v, int *rc);

/* recover_tail.c: a copy of the checkpoint is damaged. Where does the log begin? */
int rec_find_tail(struct rec *r);

#endif
