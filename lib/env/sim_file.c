/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in a simulated file: sparse pages of 4 KiB, and for each write that was not synced the page
 * as it was before, so that a power loss can choose. Names are in sim_ns.c, timing in sim_disk.c.
 *
 * The model of the medium: fdatasync makes durable what had completed when it was submitted; an
 * unsynced block is found with any of the contents it had since its last sync, or torn between two of
 * them at 512 bytes (the atomic unit of a sector); a file's size is that before or after. This is what
 * ext4 (data=ordered) and XFS give to O_DIRECT writers, with the disk's volatile cache on.
 */
#include "env/sim_impl.h"

#include <errno.h>
#include <stdlib.h>

#define SECTOR 512u
#define SECTORS (HCI_BLOCK / SECTOR)
#define L1_SLOTS 256u
#define SIZE_MAX_FILE ((uint64_t)1 << 40)

struct undo {
	struct list link; /* inode->undo, by seq */
	struct undo *older, *newer; /* of the same block */
	uint64_t block, seq;
	uint8_t *old;
	bool trunc; /* what followed was a truncation, which happens whole or not at all */
};

/* data: NULL a hole, zero_page allocated but never written, else a page of its own. */
struct slot {
	uint8_t *data;
	struct undo *newest;
	uint64_t seq; /* of the last write */
};

struct sim_l1 {
	struct slot slot[L1_SLOTS];
};

struct free_page {
	struct free_page *next;
};

struct sim_page_pool {
	struct free_page *pages;
	struct list undos;
};

static uint8_t zero_page[HCI_BLOCK];

struct sim_page_pool *sim_pages_new(void)
{
	struct sim_page_pool *p = sim_calloc(1, sizeof(*p));

	list_init(&p->undos);
	return p;
}

void sim_pages_free(struct sim_page_pool *p)
{
	struct list *l;

	while (p->pages) {
		struct free_page *f = p->pages;

		p->pages = f->next;
		free(f);
	}
	while ((l = list_pop(&p->undos)))
		free(list_entry(l, struct undo, link));
	free(p);
}

static uint8_t *page_new(struct sim_inode *i)
{
	struct sim_page_pool *p = i->disk->sim->pages;
	struct free_page *f = p->pages;

	if (!f)
		return sim_calloc(1, HCI_BLOCK);
	p->pages = f->next;
	return (uint8_t *)f;
}

static void page_free(struct sim_inode *i, uint8_t *data)
{
	struct sim_page_pool *p = i->disk->sim->pages;
	struct free_page *f = (struct free_page *)(void *)data;

	if (!data || data == zero_page)
		return;
	f->next = p->pages;
	p->pages = f;
}

static void count(struct sim_inode *i, const uint8_t *before, const uint8_t *after)
{
	if (i->dead)
		return;
	if (!before && after)
		i->disk->used += HCI_BLOCK;
	else if (before && !after)
		i->disk->used -= HCI_BLOCK;
}

static struct slot *slot_find(struct sim_inode *i, uint64_t block)
{
	uint64_t n = block / L1_SLOTS;

	if (n >= i->nl1 || !i->l1[n])
		return NULL;
	return &i->l1[n]->slot[block % L1_SLOTS];
}

static struct slot *slot_get(struct sim_inode *i, uint64_t block)
{
	uint64_t n = block / L1_SLOTS;

	if (n >= i->nl1) {
		uint64_t cap = MAX(n + 1, i->nl1 * 2);

		i->l1 = sim_realloc(i->l1, cap * sizeof(*i->l1));
		memset(i->l1 + i->nl1, 0, (cap - i->nl1) * sizeof(*i->l1));
		i->nl1 = cap;
	}
	if (!i->l1[n])
		i->l1[n] = sim_calloc(1, sizeof(*i->l1[n]));
	return &i->l1[n]->slot[block % L1_SLOTS];
}

static bool is_hole(struct sim_inode *i, uint64_t block)
{
	struct slot *s = slot_find(i, block);

	return !s || !s->data;
}

/* ---- undo records ---- */

static struct undo *undo_new(struct sim_inode *i, struct slot *s, uint64_t block, uint8_t *old)
{
	struct list *l = list_pop(&i->disk->sim->pages->undos);
	struct undo *u = l ? list_entry(l, struct undo, link) : sim_calloc(1, sizeof(*u));

	u->older = s->newest;
	u->newer = NULL;
	if (u->older)
		u->older->newer = u;
	s->newest = u;
	u->block = block;
	u->seq = i->write_seq;
	u->old = old;
	u->trunc = false;
	list_push(&i->undo, &u->link);
	return u;
}

/* Takes the record out; what to do with its page is the caller's. */
static uint8_t *undo_unlink(struct sim_inode *i, struct slot *s, struct undo *u)
{
	uint8_t *old = u->old;

	if (u->older)
		u->older->newer = u->newer;
	if (u->newer)
		u->newer->older = u->older;
	else
		s->newest = u->older;
	list_del(&u->link);
	list_push_front(&i->disk->sim->pages->undos, &u->link);
	return old;
}

static void settle(struct sim_inode *i, struct slot *s)
{
	while (s->newest)
		page_free(i, undo_unlink(i, s, s->newest));
}

/* ---- inodes ---- */

struct sim_inode *sim_inode_new(struct sim_disk *d)
{
	struct sim_inode *i = sim_calloc(1, sizeof(*i));

	i->disk = d;
	i->refs = 1;
	i->ino = ++d->next_ino;
	list_init(&i->undo);
	list_push(&d->inodes, &i->all);
	return i;
}

void sim_inode_ref(struct sim_inode *i)
{
	i->refs++;
}

static void drop_block(struct sim_inode *i, struct slot *s)
{
	settle(i, s);
	count(i, s->data, NULL);
	page_free(i, s->data);
	s->data = NULL;
}

void sim_inode_unref(struct sim_inode *i)
{
	if (--i->refs > 0)
		return;
	for (uint64_t n = 0; n < i->nl1; n++) {
		for (unsigned k = 0; i->l1[n] && k < L1_SLOTS; k++)
			drop_block(i, &i->l1[n]->slot[k]);
		free(i->l1[n]);
	}
	free(i->l1);
	list_del(&i->all);
	free(i);
}

/* ---- reading ---- */

struct cursor {
	const struct iovec *iov;
	int niov;
	size_t pos;
};

/* The next piece of the buffers, at most max bytes. */
static uint8_t *cursor_next(struct cursor *c, size_t max, size_t *len)
{
	uint8_t *p;

	while (c->niov > 0 && c->pos == c->iov->iov_len) {
		c->iov++;
		c->niov--;
		c->pos = 0;
	}
	p = (uint8_t *)c->iov->iov_base + c->pos;
	*len = MIN(max, c->iov->iov_len - c->pos);
	c->pos += *len;
	return p;
}

static uint64_t iov_bytes(const struct iovec *iov, int niov)
{
	uint64_t n = 0;

	for (int k = 0; k < niov; k++)
		n += iov[k].iov_len;
	return n;
}

uint64_t sim_inode_read(struct sim_inode *i, const struct iovec *iov, int niov, uint64_t off)
{
	struct cursor c = { iov, niov, 0 };
	uint64_t end = MIN(off + iov_bytes(iov, niov), i->size), at = off;

	while (at < end) {
		struct slot *s = slot_find(i, at / HCI_BLOCK);
		uint64_t in = at % HCI_BLOCK;
		size_t len;
		uint8_t *to = cursor_next(&c, (size_t)MIN(HCI_BLOCK - in, end - at), &len);

		memcpy(to, (s && s->data ? s->data : zero_page) + in, len);
		at += len;
	}
	return at > off ? at - off : 0;
}

/* ---- writing ---- */

static void grow(struct sim_inode *i, uint64_t end)
{
	if (end <= i->size)
		return;
	i->size = end;
	i->size_seq = i->write_seq;
}

static void durable_upto(struct sim_inode *i, uint64_t end)
{
	if (end <= i->durable_size)
		return;
	i->durable_size = end;
	i->durable_seq = i->write_seq;
}

static int room(struct sim_inode *i, uint64_t off, uint64_t len)
{
	uint64_t need = 0;

	if (len == 0)
		return 0;
	if (off > SIZE_MAX_FILE || len > SIZE_MAX_FILE - off)
		return -EFBIG;
	for (uint64_t b = off / HCI_BLOCK; b <= (off + len - 1) / HCI_BLOCK; b++)
		need += is_hole(i, b);
	if (need > 0 && i->disk->used + need * HCI_BLOCK > i->disk->capacity)
		return -ENOSPC;
	return 0;
}

/* A page that may be written to, with the block's present contents. */
static uint8_t *writable(struct sim_inode *i, uint64_t block, bool whole, bool durable)
{
	struct slot *s = slot_get(i, block);
	uint8_t *old = s->data, *p;

	s->seq = i->write_seq;
	if (durable && s->newest)
		settle(i, s);
	if (durable && old && old != zero_page)
		return old;
	p = page_new(i);
	if (!whole)
		memcpy(p, old ? old : zero_page, HCI_BLOCK);
	if (!durable)
		undo_new(i, s, block, old);
	count(i, old, p);
	s->data = p;
	return p;
}

int sim_inode_write(struct sim_inode *i, const struct iovec *iov, int niov, uint64_t off, bool durable)
{
	struct cursor c = { iov, niov, 0 };
	uint64_t len = iov_bytes(iov, niov), end = off + len, at = off;
	int rc = room(i, off, len);

	if (rc)
		return rc;
	i->write_seq++;
	while (at < end) {
		uint64_t in = at % HCI_BLOCK, want = MIN(HCI_BLOCK - in, end - at);
		uint8_t *p = writable(i, at / HCI_BLOCK, want == HCI_BLOCK, durable) + in;

		at += want;
		while (want > 0) {
			size_t n;
			const uint8_t *from = cursor_next(&c, (size_t)want, &n);

			memcpy(p, from, n);
			p += n;
			want -= n;
		}
	}
	grow(i, end);
	if (durable)
		durable_upto(i, end);
	return 0;
}

/* Sectors of b over a, each by the toss of a coin. */
static void tear(struct sim *s, uint8_t *a, const uint8_t *b)
{
	uint64_t coins = sim_rand(s);

	for (unsigned k = 0; k < SECTORS; k++) {
		if (coins >> k & 1)
			memcpy(a + k * SECTOR, b + k * SECTOR, SECTOR);
	}
}

void sim_inode_write_torn(struct sim_inode *i, const struct iovec *iov, int niov, uint64_t off)
{
	struct sim *s = i->disk->sim;
	struct cursor c = { iov, niov, 0 };
	uint64_t end = off + iov_bytes(iov, niov), at = off;
	uint8_t now[HCI_BLOCK];

	if (room(i, off, end - off))
		return;
	i->write_seq++;
	while (at < end) {
		uint64_t in = at % HCI_BLOCK, want = MIN(HCI_BLOCK - in, end - at), done = 0;
		struct slot *old = slot_find(i, at / HCI_BLOCK);
		uint64_t how = sim_rand_below(s, 4);

		memcpy(now, old && old->data ? old->data : zero_page, HCI_BLOCK);
		while (done < want) {
			size_t n;
			const uint8_t *from = cursor_next(&c, (size_t)(want - done), &n);

			memcpy(now + in + done, from, n);
			done += n;
		}
		at += want;
		if (how == 0)
			continue; /* lost */
		if (how == 1)     /* torn */
			tear(s, now, old && old->data ? old->data : zero_page);
		memcpy(writable(i, (at - 1) / HCI_BLOCK, true, true), now, HCI_BLOCK);
		grow(i, MIN(end, ROUND_UP(at, (uint64_t)HCI_BLOCK)));
	}
}

int sim_inode_alloc(struct sim_inode *i, uint64_t off, uint64_t len)
{
	int rc = room(i, off, len);

	if (rc || len == 0)
		return rc;
	i->write_seq++;
	for (uint64_t b = off / HCI_BLOCK; b <= (off + len - 1) / HCI_BLOCK; b++) {
		struct slot *s = slot_get(i, b);

		if (s->data)
			continue;
		undo_new(i, s, b, NULL);
		count(i, NULL, zero_page);
		s->data = zero_page;
	}
	grow(i, off + len);
	return 0;
}

static void make_hole(struct sim_inode *i, uint64_t block, bool trunc)
{
	struct slot *s = slot_find(i, block);

	if (!s || !s->data)
		return;
	undo_new(i, s, block, s->data)->trunc = trunc;
	count(i, s->data, NULL);
	s->data = NULL;
}

static void zero_part(struct sim_inode *i, uint64_t off, uint64_t len)
{
	if (len > 0 && !is_hole(i, off / HCI_BLOCK))
		memset(writable(i, off / HCI_BLOCK, false, false) + off % HCI_BLOCK, 0, (size_t)len);
}

void sim_inode_punch(struct sim_inode *i, uint64_t off, uint64_t len)
{
	uint64_t end = MIN(off + len, ROUND_UP(i->size, (uint64_t)HCI_BLOCK)), first, last;

	if (off >= end)
		return;
	i->write_seq++;
	first = ROUND_UP(off, (uint64_t)HCI_BLOCK);
	last = ROUND_DOWN(end, (uint64_t)HCI_BLOCK);
	if (first > last) { /* within one block */
		zero_part(i, off, end - off);
		return;
	}
	zero_part(i, off, first - off);
	for (uint64_t b = first / HCI_BLOCK; b < last / HCI_BLOCK; b++) {
		if (b / L1_SLOTS >= i->nl1)
			break;
		make_hole(i, b, false);
	}
	zero_part(i, last, end - last);
}

void sim_inode_truncate(struct sim_inode *i, uint64_t size)
{
	uint64_t old = i->size;

	i->write_seq++;
	if (size < old) {
		if (size % HCI_BLOCK)
			zero_part(i, size, HCI_BLOCK - size % HCI_BLOCK);
		for (uint64_t b = ROUND_UP(size, (uint64_t)HCI_BLOCK) / HCI_BLOCK;
		     b <= old / HCI_BLOCK && b / L1_SLOTS < i->nl1; b++)
			make_hole(i, b, true);
	}
	if (size != old) {
		i->size = size;
		i->size_seq = i->write_seq;
	}
}

/* ---- durability ---- */

void sim_inode_sync(struct sim_inode *i, uint64_t seq, uint64_t size, uint64_t size_seq)
{
	while (!list_empty(&i->undo)) {
		struct undo *u = list_first(&i->undo, struct undo, link);

		if (u->seq > seq)
			break;
		page_free(i, undo_unlink(i, slot_find(i, u->block), u));
	}
	if (size_seq >= i->durable_seq) {
		i->durable_size = size;
		i->durable_seq = size_seq;
	}
}

static void replace(struct sim_inode *i, struct slot *s, uint8_t *with)
{
	count(i, s->data, with);
	if (s->data != with)
		page_free(i, s->data);
	s->data = with;
}

/* One of the block's contents since its last sync, or one torn with another. */
static void choose_version(struct sim_inode *i, struct slot *s)
{
	struct sim *sim = i->disk->sim;
	uint8_t *torn = NULL;

	/* From the present one back: stay, or step to the one before, or tear with it and stay. */
	while (s->newest) {
		uint64_t how = sim_rand_below(sim, 5);
		uint8_t *old = s->newest->old;

		if (how == 0) {
			if (s->data && s->data != zero_page) {
				tear(sim, s->data, old ? old : zero_page);
			} else if (old && old != zero_page) {
				torn = page_new(i);
				memcpy(torn, old, HCI_BLOCK);
				tear(sim, torn, zero_page);
				replace(i, s, torn);
			}
			break;
		}
		if (how <= 2)
			break;
		undo_unlink(i, s, s->newest);
		replace(i, s, old);
	}
	settle(i, s);
}

static void restore_truncated(struct sim_inode *i)
{
	struct list *l, *prev;

	for (l = i->undo.prev; l != &i->undo; l = prev) {
		struct undo *u = list_entry(l, struct undo, link);
		struct slot *s = slot_find(i, u->block);

		prev = l->prev;
		if (u->trunc && s->newest == u) {
			uint8_t *old = undo_unlink(i, s, u);

			replace(i, s, old);
		}
	}
}

void sim_inode_power_loss(struct sim_inode *i)
{
	struct sim *sim = i->disk->sim;
	uint64_t size = i->size;

	if (i->size != i->durable_size) {
		bool lost = sim_chance(sim, 500);

		if (lost)
			size = i->durable_size;
		else if (i->size > i->durable_size && sim_chance(sim, 300))
			size = MIN(i->size, ROUND_UP(sim_range(sim, i->durable_size, i->size), (uint64_t)HCI_BLOCK));
		if (lost && i->size < i->durable_size)
			restore_truncated(i);
	}
	while (!list_empty(&i->undo)) {
		struct undo *u = list_first(&i->undo, struct undo, link);

		choose_version(i, slot_find(i, u->block));
	}
	for (uint64_t b = ROUND_UP(size, (uint64_t)HCI_BLOCK) / HCI_BLOCK; b < i->nl1 * L1_SLOTS; b++) {
		struct slot *s = slot_find(i, b);

		if (s)
			drop_block(i, s);
		else
			b += L1_SLOTS - 1 - b % L1_SLOTS;
	}
	i->size = i->durable_size = size;
}

bool sim_inode_rot(struct sim_inode *i, uint64_t spare)
{
	struct sim *sim = i->disk->sim;
	uint64_t written = 0, pick;

	for (int pass = 0; pass < 2; pass++) {
		pick = pass && written ? sim_rand_below(sim, written) + 1 : 0;
		if (pass && !written)
			return false;
		for (uint64_t b = 0; b < i->nl1 * L1_SLOTS; b++) {
			struct slot *s = slot_find(i, b);

			if (!s || !s->data || s->data == zero_page || s->seq + spare > i->write_seq)
				continue;
			if (!pass) {
				written++;
			} else if (--pick == 0) {
				uint64_t bit = sim_rand_below(sim, HCI_BLOCK * 8);

				s->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
				return true;
			}
		}
	}
	return false;
}
