/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying: lists of the regions that a replica lacks, and regions from one replica to another. What is
 * zeroes is told as such instead of being sent.
 *
 * A copied region is marked so at its target, with the newest number given out (REPL_SEQ_COPIED): too large
 * a number can only make a later resync copy too much. The mark is what lets an interrupted copy go on, see
 * list_missed.
 */
#include "volume/volume_impl.h"

#include "base/crc32c.h"
#include "base/mem.h"

#include <stdlib.h>

uint32_t seg_best_source(struct vol *v, uint32_t segment, int not_pos)
{
	struct seg *s = &v->segs[segment];
	uint32_t best = UINT32_MAX, least = 0;

	for (unsigned k = 0; k < s->n; k++) {
		struct leg *l = seg_leg(v, s, k);
		uint32_t load;

		if ((int)k == not_pos || s->pos[k] != POS_IN || l->state != LEG_UP)
			continue;
		load = l->load->ops + l->load->copies;
		if (best == UINT32_MAX || load < least) {
			best = k;
			least = load;
		}
	}
	return best;
}

/* ---- lists of regions ---- */

static int region_cmp(const void *a, const void *b)
{
	const struct repl_region *x = a, *y = b;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->region < y->region ? -1 : x->region > y->region;
}

int region_union(struct repl_region *a, size_t na, struct repl_region *b, size_t nb, struct repl_region **out, size_t *n)
{
	struct repl_region *u = NULL;
	size_t k = 0;

	if (na + nb) {
		u = mem_calloc(na + nb, sizeof(*u));
		if (!u) {
			mem_free(a);
			mem_free(b);
			*out = NULL; /* often where a was */
			*n = 0;
			return HCI_E_NOMEM;
		}
		if (na)
			memcpy(u, a, na * sizeof(*u));
		if (nb)
			memcpy(u + na, b, nb * sizeof(*u));
		qsort(u, na + nb, sizeof(*u), region_cmp);
		for (size_t i = 0; i < na + nb; i++) {
			if (k && !region_cmp(&u[k - 1], &u[i])) {
				if ((u[i].seq & REPL_SEQ_MASK) > (u[k - 1].seq & REPL_SEQ_MASK))
					u[k - 1].seq = u[i].seq;
			} else {
				u[k++] = u[i];
			}
		}
	}
	mem_free(a);
	mem_free(b);
	*out = u;
	*n = k;
	return 0;
}

uint32_t region_len(const struct vol *v, uint32_t region)
{
	return (uint32_t)MIN((uint64_t)REPL_REGION, v->rec.segment_size - (uint64_t)region * REPL_REGION);
}

const struct repl_region *region_at(const struct repl_region *a, size_t n, const struct repl_region *key)
{
	return n ? bsearch(key, a, n, sizeof(*a), region_cmp) : NULL;
}

/*
 * Takes from the source's list (a) and the target's (b) what an earlier copy, of this writer or one before it,
 * has brought over. Such a region is marked at the target, which holds that nothing but the copy was written to
 * it since: what it has is what the set had when the copy got its number, the newest given out. If the source's
 * number is no larger, the set has had no write there since, and both are equal. An ordinary write takes the mark
 * away, be it complete or not, as nobody knows whether the set has it too. Numbers are never given out twice
 * (volume_impl.h: vol_seq_floor), so those of different writers compare.
 *
 * Equal numbers alone would prove nothing: two writes to different blocks of a region may be under way at a time.
 */
static void skip_copied(const struct vol *v, struct repl_region *a, size_t *na, struct repl_region *b, size_t *nb)
{
	size_t n = 0;
	bool blind = vol_mutated(v->x, VOL_MUTATE_RESUME_BLIND);

	for (size_t i = 0; i < *nb; i++) {
		const struct repl_region *x = region_at(a, *na, &b[i]);
		uint64_t at_source = x ? x->seq & REPL_SEQ_MASK : 0;

		if ((b[i].seq & REPL_SEQ_COPIED || blind) && at_source <= (b[i].seq & REPL_SEQ_MASK))
			b[i].seq = 0; /* of no further interest */
	}
	for (size_t i = 0; i < *na; i++) {
		const struct repl_region *x = region_at(b, *nb, &a[i]);

		if (!x || x->seq)
			a[n++] = a[i];
	}
	*na = n;
	n = 0;
	for (size_t i = 0; i < *nb; i++)
		if (b[i].seq)
			b[n++] = b[i];
	*nb = n;
}

int list_missed(struct vol *v, uint32_t segment, unsigned pos, struct repl_region **out, size_t *n)
{
	struct seg *s = &v->segs[segment];
	struct leg *l = seg_leg(v, s, pos);
	/* It may have lost the end of its log, and with it more than was written after it left: settle.c. */
	uint64_t held = vol_mutated(v->x, VOL_MUTATE_SETTLE_HIGH | VOL_MUTATE_LEFT_LATE) ? UINT64_MAX : l->at_open.stable_seq;
	uint64_t since = s->joining[pos] ? 0 : MIN(l->left_seq, held);
	/* A disk that came back without what it had acknowledged is believed nothing. */
	bool believe = s->joining[pos] || l->left_seq;
	struct repl_region *a = NULL, *b = NULL;
	size_t na = 0, nb = 0, all;
	uint32_t src = seg_best_source(v, segment, (int)pos);
	int rc;

	if (src == UINT32_MAX)
		return HCI_E_UNAVAILABLE;
	rc = leg_regions(seg_leg(v, s, src), since, segment, &a, &na);
	if (!rc && !vol_mutated(v->x, VOL_MUTATE_SOURCE_ONLY))
		rc = leg_regions(l, since, segment, &b, &nb);
	if (rc) {
		mem_free(a);
		return rc;
	}
	all = MAX(na, nb);
	if (believe)
		skip_copied(v, a, &na, b, &nb);
	rc = region_union(a, na, b, nb, out, n);
	if (!rc && *n < all)
		v->st.resync_skipped += (all - *n) * REPL_REGION;
	return rc;
}

/* ---- copying ---- */

/* To the target, those that are zeroes as zeroes. */
static int copy_out(struct leg *to, uint32_t segment, uint64_t off, const uint8_t *buf, uint32_t len, uint64_t seq,
		    uint32_t flags, const uint32_t *sums)
{
	uint32_t at = 0, n;
	int rc = 0;

	for (; !rc && at < len; at += n) {
		const uint32_t *s = sums + at / HCI_BLOCK;
		bool zero;

		n = repl_copy_part(buf + at, s, len - at, &zero);
		rc = leg_copy_in(to, segment, off + at, zero ? NULL : buf + at, n, seq, flags, s);
	}
	return rc;
}

/*
 * What the source has damaged comes from others of the set. What none of them has goes along as it is, with the sums
 * that it should have, so that the copy can end and its readers are told.
 *
 * Not marked as copied (no REPL_F_SETSEQ): this is for settling, where the content may be of a write that was never
 * acknowledged. If settling is not finished and the next writer begins from a replica that has the old content, whose
 * number is smaller, a mark would keep this one from being copied anew.
 */
int copy_regions(struct vol *v, unsigned from, struct leg *to, uint32_t segment, uint64_t off, uint32_t len, void *buf,
		 uint64_t seq)
{
	uint32_t sums[COPY_MAX / HCI_BLOCK];
	int rc = mend_read(v, segment, from, off, buf, len, 0, sums);

	if (rc && rc != HCI_E_CORRUPT)
		return rc;
	ENV_MARK(v->e, "region between two replicas");
	return copy_out(to, segment, off, buf, len, seq, rc ? REPL_F_ASIS : 0, sums);
}

/* From the best source there is; one that fails is done with, as if a user's read had met with it. */
static int copy_read(struct copy_job *j, uint64_t off, uint32_t len, void *buf, uint32_t *sums)
{
	struct vol *v = j->v;

	for (;;) {
		uint32_t src = seg_best_source(v, j->segment, (int)j->pos);
		struct leg *from;
		int rc;

		if (src == UINT32_MAX || v->segs[j->segment].pos[j->pos] != POS_SYNCING || j->to->state != LEG_UP)
			return HCI_E_UNAVAILABLE;
		from = seg_leg(v, &v->segs[j->segment], src);
		from->load->copies++;
		rc = mend_read(v, j->segment, src, off, buf, len, REPL_F_COPY, sums);
		from->load->copies--;
		if (!rc || rc == HCI_E_CORRUPT || rc == HCI_E_NOMEM || rc == HCI_E_UNAVAILABLE || v->closing || v->abandoned || v->fenced)
			return rc;
		ENV_MARK(v->e, "source of a copy fails");
		if (from->state == LEG_UP)
			leg_fail(from, rc, "a region could not be copied from it");
	}
}

#define PULL_WAIT NS_PER_S
#define PULL_WAIT_MAX (60 * NS_PER_S)

/*
 * Without the data passing us: the target fetches them where we would have read them, on behalf of our openings at both.
 * Whatever is in the way there (they do not reach each other, the source has something damaged) is no failure of
 * either: the copy goes through us then, and that judges. HCI_E_AGAIN: so it should.
 */
static int copy_pull(struct copy_job *j, uint64_t off, uint32_t len, uint64_t seq)
{
	struct vol *v = j->v;
	struct leg *to = j->to, *from;
	uint32_t src = seg_best_source(v, j->segment, (int)j->pos);
	int rc;

	if (src == UINT32_MAX || v->segs[j->segment].pos[j->pos] != POS_SYNCING || to->state != LEG_UP)
		return HCI_E_UNAVAILABLE;
	from = seg_leg(v, &v->segs[j->segment], src);
	if (!from->lends || env_now(v->e) < to->pull_at)
		return HCI_E_AGAIN;
	from->load->copies++;
	rc = leg_pull(to, from, j->segment, off, len, seq, REPL_F_COPY | REPL_F_SETSEQ);
	from->load->copies--;
	ENV_MARK_STATE(v->e, "run is pulled:yes,not now,damaged,no",
		       !rc ? 0 : rc == HCI_E_UNAVAILABLE ? 1 : rc == HCI_E_CORRUPT ? 2 : 3, 4);
	if (!rc) {
		to->pull_wait = 0;
		v->st.resync_pulled += len;
	}
	if (rc == HCI_E_UNAVAILABLE || rc == HCI_E_UNSUPPORTED) {
		if (env_now(v->e) >= to->pull_at)
			to->pull_wait = MIN(MAX(2 * to->pull_wait, PULL_WAIT), PULL_WAIT_MAX);
		to->pull_at = env_now(v->e) + to->pull_wait;
	}
	if (rc == HCI_E_UNAVAILABLE || rc == HCI_E_UNSUPPORTED || rc == HCI_E_CORRUPT ||
	    (rc == HCI_E_TIMEOUT && vol_mutated(v->x, VOL_MUTATE_PULL_LATE)))
		return HCI_E_AGAIN;
	return rc;
}

static int copy_carry(struct copy_job *j, uint64_t off, uint32_t len, uint64_t seq)
{
	struct vol *v = j->v;
	uint32_t sums[COPY_MAX / HCI_BLOCK];
	void *buf = sched_buf(v->sched);
	int rc = buf ? copy_read(j, off, len, buf, sums) : HCI_E_NOMEM;

	ENV_MARK(v->e, "run between two replicas");
	if (!rc || rc == HCI_E_CORRUPT)
		rc = copy_out(j->to, j->segment, off, buf, len, seq,
			      REPL_F_COPY | REPL_F_SETSEQ | (rc ? REPL_F_ASIS : 0), sums);
	sched_buf_put(v->sched, buf);
	return rc;
}

/* Under the lock of its range: no write is between the replicas while it is copied. */
int copy_run(struct copy_job *j, const struct repl_region *r, uint32_t n)
{
	struct vol *v = j->v;
	uint64_t off = (uint64_t)r->region * REPL_REGION, seq;
	uint32_t len = (n - 1) * REPL_REGION + region_len(v, r[n - 1].region);
	struct piece *lock = io_lock(v, j->segment, off, len);
	int rc;

	if (!lock)
		return HCI_E_NOMEM;
	/* The region may have been written since it was listed: the newest number there is never understates what
	 * the target holds. */
	seq = v->seq;
	rc = copy_pull(j, off, len, seq);
	if (rc == HCI_E_AGAIN)
		rc = copy_carry(j, off, len, seq);
	ENV_MARK_STATE(v->e, "region copied:yes,no", rc != 0, 2);
	io_unlock(lock);
	if (!rc) {
		v->st.resync_done += len;
		v->st.resync_copied += len;
		metric_add(v->m_resync, len);
	}
	return rc;
}
