/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery comes to a batch that is not whole. Either power was lost while it was written: nobody was told that it is
 * durable, and nothing behind it counts. Or it had been acknowledged, and is damaged: then what is behind it counts, too.
 *
 * How they are told apart: each header says up to which batch all were durable when it was made, and at most BATCHES - 1
 * may follow one that is not. So a whole header with a later number that says so proves the damage, and if there is one, it
 * lies at most BATCHES batches further on. Leftovers of an earlier epoch prove nothing: what recovery gave up then was never
 * durable, so none of them says that it was. Blocks of data cannot pass for headers, as they lack the disk's key.
 *
 * What is done about it: the header of the next batch has that of the damaged one along, so what it wrote, where, and with
 * which sums is known, and it takes effect like any other. If its data are damaged, their sums do not fit: whoever reads
 * such a block takes it from another replica and mends this one (lib/volume/mend.c). If the next header is damaged as well,
 * nobody knows what was written, and nothing here may be served as if it were the newest: the disk is refused.
 *
 * Nothing is written here, so recovery that is cut off comes to the same end when it is done again.
 *
 * Not noticed: damage to the last batches, which none that was begun later proves. It is the same as losing them. The
 * writer notices if it is still there, as it knows what was acknowledged (lib/volume/leg.c); the next one compares the replicas
 * from what each surely holds on (lib/volume/settle.c).
 */
#include <errno.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "replica/recover.h"

#define REACH ((BATCHES + 2) * (LOGF_HDR_MAX + LOGF_DATA_MAX)) /* blocks; one more batch, and room that was left at the end */
#define LINKS_MAX 64u

/* A whole header behind the gap. */
struct link {
	uint64_t lsn, epoch, durable;
	uint32_t pos, blocks, crc, prev_crc;
};

struct gap {
	struct rec *r;
	uint64_t lsn; /* of the batch that is not there */
	struct link links[LINKS_MAX];
	unsigned n;
	uint64_t proof; /* the lowest epoch of those that say that the missing one was durable; UINT64_MAX: none says so */
};

bool rec_header_at(struct rec *r, uint32_t pos, struct logf_view *v, int *rc)
{
	enum logf_result res = LOGF_SHORT;

	memset(v, 0, sizeof(*v));
	for (unsigned tries = 0; tries < 2 && res == LOGF_SHORT; tries++) {
		if (tries || pos < r->first || pos >= r->first + r->n) {
			*rc = rec_fill(r, pos, v->blocks);
			if (*rc)
				return false;
		}
		res = logf_parse_hdr(r->buf + (size_t)(pos - r->first) * HCI_BLOCK,
				     (size_t)(r->first + r->n - pos) * HCI_BLOCK, &r->d->uuid, v);
	}
	return res == LOGF_OK && v->hdr->key == r->d->super->log_key;
}

static bool may_follow(const struct rec *r, const struct logf_hdr *h)
{
	return h->epoch >= r->epoch && h->epoch <= r->d->log.epoch;
}

static void note(struct gap *g, const struct logf_view *v, uint32_t pos)
{
	const struct logf_hdr *h = v->hdr;
	struct logf_view prev;

	if (h->lsn <= g->lsn || !may_follow(g->r, h))
		return;
	if (h->durable >= g->lsn)
		g->proof = MIN(g->proof, h->epoch);
	if (h->lsn > g->lsn + BATCHES || g->n == LINKS_MAX)
		return;
	g->links[g->n++] = (struct link){ .lsn = h->lsn,
					  .epoch = h->epoch,
					  .durable = h->durable,
					  .pos = pos,
					  .blocks = v->blocks,
					  .crc = h->crc,
					  .prev_crc = logf_prev(v, &prev) ? prev.hdr->crc : 0 };
}

/* All that is not taken, as far as it may matter. */
static int look(struct gap *g)
{
	const struct ring *log = &g->r->d->log;
	uint32_t left = MIN(log->blocks - ring_used(log), (uint32_t)REACH), pos = log->head;
	struct logf_view v;
	int rc = 0;

	for (; left > 0 && !rc; left--) {
		if (rec_header_at(g->r, pos, &v, &rc))
			note(g, &v, pos);
		pos = pos + 1 == log->blocks ? 0 : pos + 1;
	}
	return rc;
}

/*
 * From x on, one follows the other up to one that says that the missing one was durable. The chain may be broken by more damage;
 * x is as good if an opening not later than its own says so: what it was made behind is what was durable then, as no opening
 * gives up what was. Only of one that is older than all who say so it must be shown that it is no leftover.
 */
static bool leads_to_proof(const struct gap *g, const struct link *x)
{
	if (x->epoch >= g->proof)
		return true;
	for (unsigned i = 0; x->durable < g->lsn && i < g->n; i++) {
		const struct link *y = &g->links[i];

		if (y->lsn != x->lsn + 1 || y->prev_crc != x->crc || y->epoch < x->epoch)
			continue;
		x = y;
		i = (unsigned)-1;
	}
	return x->durable >= g->lsn;
}

static const struct link *successor(const struct gap *g)
{
	for (unsigned i = 0; i < g->n; i++) {
		if (g->links[i].lsn == g->lsn + 1 &&
		    (leads_to_proof(g, &g->links[i]) || g->r->d->mutate & REPL_MUTATE_ROT_UNPROVEN))
			return &g->links[i];
	}
	return NULL;
}

/* Takes what the header of the next batch says of the missing one. *done: it was there. */
static int take_from(struct gap *g, const struct link *next, bool *done)
{
	struct rec *r = g->r;
	struct ring *log = &r->d->log;
	struct logf_view v, prev;
	uint32_t pos, end;
	int rc = 0;

	*done = false;
	if (!rec_header_at(r, next->pos, &v, &rc) || !logf_prev(&v, &prev) || prev.hdr->lsn != g->lsn || !may_follow(r, prev.hdr))
		return rc;
	/* Where it was put follows from its length. */
	pos = log->blocks - log->head < prev.blocks ? 0 : log->head;
	end = pos + prev.blocks == log->blocks ? 0 : pos + prev.blocks;
	if ((next->pos != end && next->pos != 0) || r->taken + prev.blocks >= log->blocks)
		return 0;
	*done = true;
	log_warn(env_log(r->d->e),
		 "disk %s: batch %llu of its write log is damaged, %u blocks of data: those that do not fit their checksums are "
		 "taken from other replicas",
		 r->d->path, (unsigned long long)g->lsn, prev.hdr->data_blocks);
	return rec_take(r, &prev, pos);
}

static int refuse(const struct gap *g)
{
	const struct repl_disk *d = g->r->d;
	bool ext = d->super->flags & SUPER_EXT_LOG;

	return err_set(g->r->err, ext ? HCI_E_STATE : HCI_E_CORRUPT,
		       "disk %s: its write log %s is damaged at batch %llu, which had been acknowledged, and at what tells its "
		       "content: what the disk held last is lost, it has to be emptied and filled again from the other replicas",
		       d->path, d->log_path, (unsigned long long)g->lsn);
}

int rec_gap(struct rec *r, bool *over)
{
	struct gap *g;
	const struct link *next;
	bool done = false;
	int rc = 0;

	*over = true;
	if (r->clean || r->d->mutate & REPL_MUTATE_ROT_ENDS)
		return 0; /* clean: the log is not needed */
	g = MEM_NEW(struct gap);
	if (!g)
		return rec_nomem(r, " for recovery");
	g->r = r;
	g->proof = UINT64_MAX;
	g->lsn = r->d->log.next_lsn;
	rc = look(g);
	next = rc ? NULL : successor(g);
	if (next)
		rc = take_from(g, next, &done);
	*over = !done;
	if (!rc && g->proof != UINT64_MAX)
		ENV_MARK_STATE(r->d->e, "recovery finds damage:known,unknown", !done, 2);
	if (!rc && g->proof != UINT64_MAX && !done)
		rc = refuse(g);
	mem_free(g);
	return rc;
}
