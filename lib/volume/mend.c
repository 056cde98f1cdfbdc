/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that a replica does not have right: their data do not have the sum that they should. A read
 * takes them from another replica of the set; the bad copy is then written anew in its place. A disk
 * that rots here and there stays in the set for all the rest it holds.
 *
 * Why writing it anew is safe: it is done under the lock on the region, so no write is under way there,
 * and every replica of the set has the same acknowledged content; what is written is that content, from
 * one whose sum fits. The region gets the newest sequence number given out, as when it is copied: too
 * large a number costs a later resync one region, and it never says less than the disk holds.
 *
 * A block that no replica of the set has right is lost. Its readers get HCI_E_CORRUPT; it is copied with
 * the sum that it should have, so that a new replica says the same; writing it heals it.
 */
#include "volume/volume_impl.h"

#include "base/crc32c.h"
#include "base/err.h"
#include "base/mem.h"

#define BLOCKS_MAX (REPL_IO_MAX / HCI_BLOCK)
#define QUEUE_MAX 4096u
#define RETRY (100 * NS_PER_MS)
#define LOST_RETRY (60 * NS_PER_S)

struct mend_region {
	struct list link;
	uint32_t segment, region;
	uint16_t leg;
};

static bool over(const struct vol *v)
{
	return v->closing || v->abandoned || v->fenced;
}

static bool fits(const void *buf, uint32_t i, const uint32_t *sums)
{
	return block_sum((const uint8_t *)buf + (size_t)i * HCI_BLOCK) == sums[i];
}

/* ---- what is to be mended ---- */

static void mend_fiber(void *arg);

static bool queued(const struct vol *v, uint32_t segment, uint32_t region, uint16_t leg)
{
	const struct mend_region *m;

	list_for_each(m, &v->mend, link) {
		if (m->segment == segment && m->region == region && m->leg == leg)
			return true;
	}
	return false;
}

/* Nobody has it right: without this the bad copies would send each other to be mended for ever. */
static bool lost_lately(const struct vol *v, uint32_t segment, uint32_t region)
{
	for (unsigned i = 0; i < MEND_LOST; i++) {
		const struct mend_lost *x = &v->lost[i];

		if (x->segment == segment && x->region == region && env_now(v->e) < x->until)
			return true;
	}
	return false;
}

static void remember_lost(struct vol *v, uint32_t segment, uint32_t region)
{
	v->lost[v->nlost++ % MEND_LOST] = (struct mend_lost){ segment, region, env_now(v->e) + LOST_RETRY };
}

bool mend_has_room(const struct vol *v, uint32_t n)
{
	return v->nmend + n <= QUEUE_MAX;
}

/* What is forgotten here for want of memory or room is found again by the next read or scrub. */
void mend_queue(struct vol *v, uint32_t segment, uint32_t region, const struct leg *l)
{
	struct mend_region *m;

	if (v->nmend >= QUEUE_MAX || lost_lately(v, segment, region) || queued(v, segment, region, l->idx))
		return;
	m = MEM_NEW(struct mend_region);
	if (!m)
		return;
	m->segment = segment;
	m->region = region;
	m->leg = l->idx;
	list_push(&v->mend, &m->link);
	v->nmend++;
	mend_kick(v);
}

void mend_kick(struct vol *v)
{
	if (v->mending || !v->ready || list_empty(&v->mend) || over(v))
		return;
	v->mending = true;
	v->fibers++;
	if (fiber_spawn(v->e, mend_fiber, v, "volume-mend")) {
		v->mending = false;
		v->fibers--;
	}
}

static void queue_bad(struct vol *v, const struct leg *l, uint32_t segment, uint64_t off, uint32_t len, const void *buf,
		      const uint32_t *sums)
{
	for (uint32_t i = 0; i < len / HCI_BLOCK; i++) {
		if (!fits(buf, i, sums))
			mend_queue(v, segment, (uint32_t)((off + (uint64_t)i * HCI_BLOCK) / REPL_REGION), l);
	}
}

/* ---- reading with a choice ---- */

/* Replaces blocks that do not fit by those of one more replica, which may have some. */
static int fill_from(struct vol *v, struct leg *l, uint32_t segment, uint64_t off, void *buf, uint32_t len,
		     uint32_t *sums)
{
	uint32_t *other_sums = mem_alloc(len / HCI_BLOCK * sizeof(*other_sums));
	void *other = mem_alloc_aligned(len);
	int rc = other && other_sums ? 0 : HCI_E_NOMEM;

	if (!rc)
		rc = leg_read(l, segment, off, other, len, REPL_F_VERIFY, other_sums);
	if (!rc) {
		queue_bad(v, l, segment, off, len, other, other_sums);
		for (uint32_t i = 0; i < len / HCI_BLOCK; i++) {
			if (fits(buf, i, sums) || !fits(other, i, other_sums))
				continue;
			memcpy((uint8_t *)buf + (size_t)i * HCI_BLOCK, (uint8_t *)other + (size_t)i * HCI_BLOCK,
			       HCI_BLOCK);
			sums[i] = other_sums[i];
		}
	}
	mem_free_aligned(other);
	mem_free(other_sums);
	return rc;
}

/*
 * Replicas that are not in the set may be stale, but a block of theirs that has the very sum which one of the set knows
 * to be right is the block that was lost. The target of a copy is the one that matters: it may be all that is left.
 */
static void fill_from_stale(struct vol *v, uint32_t segment, unsigned from, uint64_t off, void *buf, uint32_t len,
			    const uint32_t *sums)
{
	uint32_t *other_sums = mem_alloc(len / HCI_BLOCK * sizeof(*other_sums));
	void *other = mem_alloc_aligned(len);

	for (unsigned k = 0; other && other_sums && k < v->segs[segment].n; k++) {
		struct leg *l = seg_leg(v, &v->segs[segment], k);

		if (k == from || v->segs[segment].pos[k] == POS_IN || l->state != LEG_UP ||
		    leg_read(l, segment, off, other, len, 0, other_sums))
			continue;
		for (uint32_t i = 0; i < len / HCI_BLOCK; i++) {
			if (!fits(buf, i, sums) && fits(other, i, sums))
				memcpy((uint8_t *)buf + (size_t)i * HCI_BLOCK,
				       (uint8_t *)other + (size_t)i * HCI_BLOCK, HCI_BLOCK);
		}
	}
	mem_free_aligned(other);
	mem_free(other_sums);
}

int mend_fill(struct vol *v, uint32_t segment, unsigned from, uint64_t off, void *buf, uint32_t len, uint32_t *sums)
{
	bool unheard = false;

	for (unsigned k = 0; k < v->segs[segment].n; k++) {
		struct seg *s = &v->segs[segment];
		struct leg *l = seg_leg(v, s, k);

		if (k == from || s->pos[k] != POS_IN)
			continue;
		if (!block_sums_wrong(buf, len / HCI_BLOCK, sums))
			return 0;
		if (l->state != LEG_UP || fill_from(v, l, segment, off, buf, len, sums))
			unheard = true;
	}
	if (block_sums_wrong(buf, len / HCI_BLOCK, sums))
		fill_from_stale(v, segment, from, off, buf, len, sums);
	if (!block_sums_wrong(buf, len / HCI_BLOCK, sums))
		return 0;
	return unheard ? HCI_E_UNAVAILABLE : HCI_E_CORRUPT;
}

int mend_read(struct vol *v, uint32_t segment, unsigned from, uint64_t off, void *buf, uint32_t len, uint32_t flags,
	      uint32_t *sums)
{
	struct leg *l = seg_leg(v, &v->segs[segment], from);
	int rc = leg_read(l, segment, off, buf, len, flags, sums);

	if (rc || !block_sums_wrong(buf, len / HCI_BLOCK, sums))
		return rc;
	/* Again, so that its disk knows and counts; what was damaged on the way only is right now. */
	rc = leg_read(l, segment, off, buf, len, flags | REPL_F_VERIFY, sums);
	if (rc || !block_sums_wrong(buf, len / HCI_BLOCK, sums))
		return rc;
	queue_bad(v, l, segment, off, len, buf, sums);
	return mend_fill(v, segment, from, off, buf, len, sums);
}

/* ---- reads that met with bad blocks ---- */

struct mend_piece {
	struct piece *p;
	uint8_t pos;
};

/* One attempt; HCI_E_AGAIN: later. */
static int piece_once(struct piece *p, unsigned pos, uint32_t *sums)
{
	struct vol *v = p->v;
	struct seg *s = &v->segs[p->segment];
	int rc;

	if (env_now(v->e) >= v->lease_deadline)
		return HCI_E_AGAIN;
	if (s->pos[pos] != POS_IN || seg_leg(v, s, pos)->state != LEG_UP) {
		uint32_t other = seg_best_source(v, p->segment, -1);

		if (other == UINT32_MAX)
			return HCI_E_AGAIN;
		pos = other;
	}
	rc = mend_read(v, p->segment, pos, p->off, p->buf, (uint32_t)p->len, 0, sums);
	if (!rc && env_now(v->e) >= v->lease_deadline)
		rc = HCI_E_AGAIN;
	return rc && rc != HCI_E_CORRUPT && rc != HCI_E_NOMEM ? HCI_E_AGAIN : rc;
}

static void piece_fiber(void *arg)
{
	struct mend_piece *m = arg;
	struct piece *p = m->p;
	struct vol *v = p->v;
	uint32_t *sums = mem_alloc(BLOCKS_MAX * sizeof(*sums));
	int rc = sums ? HCI_E_AGAIN : HCI_E_NOMEM;

	while (rc == HCI_E_AGAIN && !over(v)) {
		rc = piece_once(p, m->pos, sums);
		if (rc == HCI_E_AGAIN)
			fiber_cond_wait_until(v->e, &v->changed, env_now(v->e) + RETRY);
	}
	if (rc == HCI_E_CORRUPT) {
		uint32_t n = block_sums_wrong(p->buf, (uint32_t)p->len / HCI_BLOCK, sums);

		v->st.lost_blocks += n;
		metric_add(v->m_lost, n);
		log_error(env_log(v->e),
			  "volume %s: %u blocks of segment %u at %llu are damaged on every replica that is in sync: restore "
			  "them, or write them anew",
			  v->rec.name, n, p->segment, (unsigned long long)p->off);
	}
	mem_free(sums);
	mem_free(m);
	io_mended(p, rc == HCI_E_AGAIN ? HCI_E_CLOSED : rc);
	vol_fiber_end(v);
}

bool mend_piece(struct piece *p, uint8_t pos)
{
	struct mend_piece *m = MEM_NEW(struct mend_piece);

	if (!m)
		return false;
	m->p = p;
	m->pos = pos;
	p->v->fibers++;
	if (fiber_spawn(p->v->e, piece_fiber, m, "volume-mend-read")) {
		p->v->fibers--;
		mem_free(m);
		return false;
	}
	return true;
}

/* ---- repair in place ---- */

static bool all_zero(const uint8_t *p)
{
	return p[0] == 0 && !memcmp(p, p + 1, HCI_BLOCK - 1);
}

/* Writes the blocks that were bad, of those that are right now. */
static int put_blocks(struct vol *v, struct leg *l, const struct mend_region *m, const bool *bad, uint8_t *buf,
		      uint32_t n, const uint32_t *sums)
{
	uint64_t seq = MAX(v->seq, 1u);
	int rc = 0;

	for (uint32_t i = 0; i < n && !rc; i++) {
		uint8_t *b = buf + (size_t)i * HCI_BLOCK;

		if (!bad[i] || !fits(buf, i, sums))
			continue;
		rc = leg_copy_in(l, m->segment, (uint64_t)m->region * REPL_REGION + (uint64_t)i * HCI_BLOCK,
				 all_zero(b) ? NULL : b, HCI_BLOCK, seq, 0, sums + i);
		if (rc)
			break;
		v->st.mended_blocks++;
		metric_add(v->m_mended, 1);
	}
	return rc;
}

/* Under the region's lock. */
static int mend_locked(struct vol *v, const struct mend_region *m, uint8_t *buf)
{
	uint32_t sums[REPL_REGION / HCI_BLOCK], n = REPL_REGION / HCI_BLOCK, wrong = 0;
	uint64_t off = (uint64_t)m->region * REPL_REGION;
	struct leg *l = v->legs[m->leg];
	bool bad[REPL_REGION / HCI_BLOCK];
	unsigned pos;
	int rc;

	for (pos = 0; pos < v->segs[m->segment].n; pos++) {
		if (v->segs[m->segment].leg[pos] == m->leg)
			break;
	}
	/* Whatever is not in the set is copied to before it is; what is not up comes back. */
	if (pos == v->segs[m->segment].n || v->segs[m->segment].pos[pos] != POS_IN || l->state != LEG_UP)
		return 0;
	rc = leg_read(l, m->segment, off, buf, REPL_REGION, 0, sums);
	for (uint32_t i = 0; !rc && i < n; i++) {
		bad[i] = !fits(buf, i, sums);
		wrong += bad[i];
	}
	if (rc || !wrong)
		return rc;
	rc = mend_fill(v, m->segment, pos, off, buf, REPL_REGION, sums);
	if (rc && rc != HCI_E_CORRUPT)
		return rc;
	if (rc)
		remember_lost(v, m->segment, m->region);
	log_warn(env_log(v->e), "volume %s: disk on node %s: %u blocks of segment %u, region %u, were damaged: %s",
		 v->rec.name, l->node, wrong, m->segment, m->region,
		 rc ? "no other replica has all of them" : "repaired from another replica");
	return put_blocks(v, l, m, bad, buf, n, sums);
}

static int mend_one(struct vol *v, const struct mend_region *m)
{
	struct piece *lock;
	uint8_t *buf;
	int rc;

	buf = mem_alloc_aligned(REPL_REGION);
	lock = buf ? io_lock(v, m->segment, (uint64_t)m->region * REPL_REGION, REPL_REGION) : NULL;
	rc = lock ? mend_locked(v, m, buf) : HCI_E_NOMEM;
	if (lock)
		io_unlock(lock);
	mem_free_aligned(buf);
	return rc;
}

static void mend_fiber(void *arg)
{
	struct vol *v = arg;
	struct list *l;

	while (!over(v) && (l = list_pop(&v->mend))) {
		struct mend_region *m = list_entry(l, struct mend_region, link);
		int rc = mend_one(v, m);

		if (rc && !over(v) && v->legs[m->leg]->state == LEG_UP) {
			list_push(&v->mend, &m->link); /* the copy that has it may come back */
			fiber_cond_wait_until(v->e, &v->changed, env_now(v->e) + RETRY);
			continue;
		}
		v->nmend--;
		mem_free(m);
	}
	v->mending = false;
	vol_fiber_end(v);
}

void mend_fini(struct vol *v)
{
	struct list *l;

	while ((l = list_pop(&v->mend)))
		mem_free(list_entry(l, struct mend_region, link));
}
