/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery with one copy of the checkpoint only: the other one is damaged. It may be torn, by the power loss that ended the last
 * opening: then the older copy is right. Or it is rot, and the tail had moved on: the space from the older tail on may have been
 * written again since. But who did so had moved the tail before, and each header says where it was then. So the highest tail that
 * a header tells is not past the true one, and all from there on is still there. A log that was closed in peace is empty.
 */
#include "replica/recover.h"

/* The highest tail of all headers; HCI_E_*. */
static int highest_tail(struct rec *r, uint64_t *tail)
{
	struct logf_view v;
	int rc = 0;

	for (uint32_t pos = 0; pos < r->d->log.blocks && !rc; pos++)
		if (rec_header_at(r, pos, &v, &rc) && v.hdr->epoch <= r->d->log.epoch && v.hdr->tail_lsn <= v.hdr->lsn)
			*tail = MAX(*tail, v.hdr->tail_lsn);
	return rc;
}

int rec_find_tail(struct rec *r)
{
	struct ring *g = &r->d->log;
	uint64_t tail = g->tail_lsn, epoch = 0;
	struct logf_view v;
	int rc;

	if (r->clean) {
		g->next_lsn = g->tail_lsn = MAX(r->d->super->lsn, 1);
		g->head = g->tail = 0;
		g->min_epoch = r->epoch = g->epoch;
		g->applied = g->tail_lsn - 1;
		return 0;
	}
	rc = highest_tail(r, &tail);
	for (uint32_t pos = 0; tail > g->tail_lsn && pos < g->blocks && !rc; pos++) {
		/* Leftovers may have the same number, of an epoch before. */
		if (!rec_header_at(r, pos, &v, &rc) || v.hdr->lsn != tail || v.hdr->epoch > g->epoch || v.hdr->epoch < epoch)
			continue;
		g->head = g->tail = pos;
		epoch = v.hdr->epoch;
	}
	if (epoch) {
		g->next_lsn = g->tail_lsn = tail;
		g->applied = tail - 1;
		g->min_epoch = r->epoch = epoch;
	}
	ENV_MARK_STATE(r->d->e, "recovery looks for the log's tail:found,as it was", !epoch, 2);
	return rc;
}
