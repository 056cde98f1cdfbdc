/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checksums of what is in the segment files: pages of them, brought into memory when a read or a
 * pass needs them, and put out again, least recently used first. Blocks in the log have theirs in the
 * index. Who compares is read.c; when pages are written is writeback.c's.
 *
 * Why this survives a power loss: a block's new data, its sum and its valid bit come to the disk in
 * any order within a pass, but all three before the log's tail moves, and until then the block is
 * found in the log. So whatever mixture is found afterwards is not looked at.
 *
 * A sum is there if and only if the block is valid (but for blocks that the log covers). So a damaged
 * region table is made anew from the sums (rebuild.c), and damaged sums cost a comparison with another
 * replica: what has no sum that fits is not returned.
 */
#include <errno.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "replica/replica_impl.h"

static void sums_free(struct sums *x)
{
	struct seg *s = x->seg;

	list_del(&x->lru);
	s->sums[x->page] = NULL;
	s->d->nsums--;
	mem_free(x);
}

/* Not to be put out while somebody holds it, or while the disk has older ones. */
static void settle(struct sums *x)
{
	if (x->holds || x->dirty)
		list_del(&x->lru);
	else if (!x->ready)
		sums_free(x);
	else if (list_empty(&x->lru))
		list_push(&x->seg->d->sums_lru, &x->lru);
}

void sums_trim(struct repl_disk *d)
{
	while (d->nsums > d->sums_max && !list_empty(&d->sums_lru))
		sums_free(list_first(&d->sums_lru, struct sums, lru));
}

void sums_touch(struct sums *x)
{
	if (list_empty(&x->lru))
		return;
	list_del(&x->lru);
	list_push(&x->seg->d->sums_lru, &x->lru);
}

void sums_hold(struct sums *x)
{
	x->holds++;
	settle(x);
}

void sums_put(struct sums *x)
{
	x->holds--;
	settle(x);
}

void sums_free_seg(struct seg *s)
{
	for (uint32_t i = 0; s->sums && i < s->nsums; i++) {
		if (s->sums[i])
			sums_free(s->sums[i]);
	}
	mem_free(s->sums);
	mem_free(s->sums_serial);
}

/* ---- a page and what it says ---- */

static bool is_valid(const struct seg *s, uint32_t block)
{
	return block < seg_blocks(s) && seg_valid(s, block / REGION_BLOCKS) >> block % REGION_BLOCKS & 1;
}

void sums_fill_page(const struct sums *x, struct sum_page *out)
{
	const struct seg *s = x->seg;

	memset(out, 0, HCI_BLOCK);
	out->volume = s->vol->uuid;
	out->segment = s->no;
	out->first_region = x->page * SUM_REGIONS;
	out->regions = SUM_REGIONS;
	for (uint32_t i = 0; i < SUM_REGIONS && (out->first_region + i) * REGION_BLOCKS < seg_blocks(s); i++)
		out->side |= (uint64_t)seg_side(s, out->first_region + i) << i;
	/* Of others one may be there that a load would take out (adjust): on the disk it would make them valid (rebuild.c). */
	for (uint32_t i = 0; i < SUM_BLOCKS; i++)
		out->sum[i] = is_valid(s, x->page * SUM_BLOCKS + i) ? x->sum[i] : SUM_NONE;
}

enum page_damage sums_parse(const struct seg *s, uint32_t page, uint8_t *pair, uint32_t *out, uint64_t *serial, uint64_t *side,
			    bool *both)
{
	struct sum_page *m;
	unsigned which = 0;
	bool torn;
	enum page_state st = page_pick(pair, SUM_MAGIC, SUM_VERSION, &s->d->uuid, &which, &torn);
	enum page_damage damage = page_damage(pair, st, which, torn);

	m = (void *)(pair + which * HCI_BLOCK);
	if (st == PAGE_VALID && (!uuid_eq(&m->volume, &s->vol->uuid) || m->segment != s->no ||
				 m->first_region != page * SUM_REGIONS || m->regions != SUM_REGIONS))
		st = PAGE_BAD;
	*both = st != PAGE_VALID && st != PAGE_EMPTY;
	*serial = 0;
	*side = 0;
	memset(out, 0, SUM_BLOCKS * sizeof(out[0]));
	if (st != PAGE_VALID)
		return *both ? PAGE_ROTTEN : damage;
	page_unstamp(m);
	*serial = m->h.serial;
	*side = m->side;
	memcpy(out, m->sum, sizeof(m->sum));
	return damage;
}

/* Valid blocks without a sum have lost it; a sum without a valid block is of a write that the log had, and that was
 * zeroed before it was written back: it must not make a block valid when a region table is made anew. */
static void adjust(struct sums *x)
{
	const struct seg *s = x->seg;
	uint32_t blocks = seg_blocks(s), first = x->page * SUM_BLOCKS;

	for (uint32_t i = 0; i < SUM_BLOCKS && first + i < blocks; i++) {
		bool valid = is_valid(s, first + i);

		if (valid == (x->sum[i] != SUM_NONE))
			continue;
		x->sum[i] = valid ? SUM_LOST : SUM_NONE;
		x->dirty = true;
	}
	if (x->dirty)
		seg_dirty(x->seg);
}

/* ---- into memory ---- */

static void load_over(struct sums *x, int err)
{
	struct repl_disk *d = x->seg->d;
	struct list ops, *l;

	x->err = err;
	x->ready = !err;
	mem_free_aligned(x->pair);
	x->pair = NULL;
	list_init(&ops);
	list_splice(&ops, &x->waiting);
	fiber_cond_signal(d->e, &x->loaded);
	while ((l = list_pop(&ops))) {
		struct repl_op *op = list_entry(l, struct repl_op, link);

		op_priv(op)->seg = NULL;
		read_go(op);
		seg_unref(x->seg);
	}
}

static void load_end(struct sums *x, int err)
{
	struct seg *s = x->seg;

	mem_free_aligned(x->check);
	x->check = NULL;
	load_over(x, err);
	sums_put(x);
	sums_trim(s->d);
	seg_unref(s);
}

/*
 * Of a damaged page the older copy may be left. After a power loss that tore the newer one it is right but for what the log covers.
 * If the newer one rotted it has sums of content that was written over since, which a replica that is not in the set may still
 * have: nobody must take that for what was lost here. So a sum that does not fit its block is none. A pass may write blocks
 * meanwhile; it sets their sums when it has this page, and until then they are found in the log.
 */
static void check_on(struct sums *x);

static void checked(struct env_io *io)
{
	struct sums *x = container_of(io, struct sums, io);
	uint32_t *sum = x->sum + x->check_at * REGION_BLOCKS;

	if (io->result < 0) {
		disk_fail(x->seg->d, (int)-io->result, "cannot read a segment's file");
		load_end(x, -EIO);
		return;
	}
	memset(x->check + io->result, 0, REPL_REGION - (size_t)io->result);
	for (uint32_t i = 0; i < REGION_BLOCKS; i++)
		if (sum[i] != SUM_NONE && block_sum(x->check + (size_t)i * HCI_BLOCK) != sum[i])
			sum[i] = SUM_LOST;
	x->check_at++;
	check_on(x);
}

static void check_on(struct sums *x)
{
	struct seg *s = x->seg;
	uint32_t first = x->page * SUM_REGIONS, regions = seg_blocks(s) / REGION_BLOCKS;

	for (; x->check_at < SUM_REGIONS && first + x->check_at < regions; x->check_at++) {
		uint32_t region = first + x->check_at;

		if (!seg_valid(s, region))
			continue;
		env_io_prep(&x->io, ENV_READ, s->data, x->check, REPL_REGION, seg_off(s, region * REGION_BLOCKS), checked);
		env_submit(s->d->e, &x->io);
		return;
	}
	load_end(x, 0);
}

static void load_done(struct env_io *io)
{
	struct sums *x = container_of(io, struct sums, io);
	struct seg *s = x->seg;
	enum page_damage damage;
	uint64_t side;
	int err = 0;

	if (io->result < 0) {
		err = -EIO;
		disk_fail(s->d, (int)-io->result, "cannot read a segment's checksums");
	} else {
		/* Of a file that was cut short the rest is damaged like any other. */
		memset(x->pair + io->result, 0, PAGE_PAIR - (size_t)io->result);
		damage = sums_parse(s, x->page, x->pair, x->sum, &s->sums_serial[x->page], &side, &x->again);
		x->dirty = damage != PAGE_WHOLE;
		if (damage == PAGE_ROTTEN)
			log_warn(env_log(s->d->e),
				 "disk %s: a page of checksums is damaged: what it covers is checked against other "
				 "replicas",
				 s->d->path);
		adjust(x);
		if (damage == PAGE_ROTTEN && s->sums_serial[x->page]) {
			x->check = mem_alloc_aligned(REPL_REGION);
			x->check_at = 0;
			if (x->check) {
				check_on(x);
				return;
			}
			err = -ENOMEM;
		}
	}
	load_end(x, err);
}

static struct sums *sums_new(struct seg *s, uint32_t page)
{
	struct sums *x = MEM_NEW(struct sums);

	if (!x)
		return NULL;
	list_init(&x->lru);
	list_init(&x->waiting);
	fiber_cond_init(&x->loaded);
	x->seg = s;
	x->page = page;
	s->sums[page] = x;
	s->d->nsums++;
	return x;
}

int sums_lost(struct seg *s, uint32_t page, uint64_t serial, bool both)
{
	struct sums *x = s->sums[page] ? s->sums[page] : sums_new(s, page);
	uint32_t blocks = seg_blocks(s), first = page * SUM_BLOCKS;

	if (!x)
		return -ENOMEM;
	for (uint32_t i = 0; i < SUM_BLOCKS; i++)
		x->sum[i] = first + i < blocks ? SUM_LOST : SUM_NONE;
	s->sums_serial[page] = serial;
	x->ready = x->dirty = true;
	x->again = both;
	seg_dirty(s);
	return 0;
}

struct sums *sums_want(struct seg *s, uint32_t page)
{
	struct repl_disk *d = s->d;
	struct sums *x = s->sums[page];

	if (x && !x->err)
		return x;
	if (!x)
		x = sums_new(s, page);
	if (!x)
		return NULL;
	if (s->sums_serial[page] == 0) { /* never written: there are none */
		x->ready = true;
		settle(x);
		return x;
	}
	x->pair = mem_alloc_aligned(PAGE_PAIR);
	if (!x->pair) {
		settle(x);
		return NULL;
	}
	x->err = 0;
	x->holds++;
	s->refs++;
	metric_add(d->m_sums_read, 1);
	env_io_prep(&x->io, ENV_READ, s->map, x->pair, PAGE_PAIR, sums_off(s, page), load_done);
	env_submit(d->e, &x->io);
	return x;
}

void sums_wait_read(struct sums *x, struct repl_op *op)
{
	x->seg->refs++;
	op_priv(op)->seg = x->seg;
	list_push(&x->waiting, &op->link);
}

int sums_wait(struct sums *x)
{
	while (!x->ready && !x->err)
		fiber_cond_wait(x->seg->d->e, &x->loaded);
	return x->err;
}
