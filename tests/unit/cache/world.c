/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/cache/world.h"

#define ROOM (1 * MiB)

struct cache_opts small_opts(void)
{
	return (struct cache_opts){ .path = "/d1/cache", .size = 2 * MiB, .ram = 32 * BS, .block = BS, .cluster = cluster_uuid };
}

struct cache *must_open_cache(struct env *e, const struct cache_opts *o)
{
	struct hci_error err = { 0 };
	struct cache *c;

	ck_assert_msg(cache_open(e, o, &c, &err) == 0, "%s", err.message);
	return c;
}

struct cache_vol *must_attach(struct cache *c, unsigned vol, uint64_t gen)
{
	struct uuid u = vol_uuid(vol);
	struct cache_vol *cv = cache_attach(c, &u, gen * 1000, gen * 1000 + 999);

	ck_assert_ptr_nonnull(cv);
	return cv;
}

struct wait {
	struct cache_read r;
	struct env *e;
	struct fiber *f;
	bool done;
};

static void on_done(struct cache_read *r)
{
	struct wait *w = container_of(r, struct wait, r);

	ck_assert(!w->done);
	w->done = true;
	fiber_wake(w->e, w->f);
}

bool cached(struct env *e, struct cache_vol *cv, uint64_t off, uint64_t len, void *buf)
{
	struct wait w = { .r = { .done = on_done }, .e = e, .f = fiber_self(e) };

	if (!cache_read(cv, &w.r, buf, off, len))
		return false;
	ck_assert(!w.done);
	while (!w.done)
		fiber_park(e);
	return w.r.ok;
}

void expect(struct env *e, struct cache_vol *cv, uint64_t off, uint64_t len, int c)
{
	uint8_t *p = mem_alloc_aligned(ROOM);

	memset(p, 0xee, len);
	ck_assert_msg(cached(e, cv, off, len, p), "%llu is not cached", (unsigned long long)off);
	for (uint64_t i = 0; i < len; i++)
		if (p[i] != (uint8_t)c)
			ck_abort_msg("byte %llu is %u, not %u", (unsigned long long)(off + i), p[i], c);
	mem_free_aligned(p);
}

void expect_miss(struct env *e, struct cache_vol *cv, uint64_t off, uint64_t len)
{
	uint8_t *p = mem_alloc_aligned(ROOM);

	ck_assert_msg(!cached(e, cv, off, len, p), "%llu is cached", (unsigned long long)off);
	mem_free_aligned(p);
}

void fill(struct cache_vol *cv, uint64_t off, uint64_t len, int c)
{
	uint8_t *p = mem_alloc_aligned(ROOM);

	memset(p, c, len);
	cache_fill(cv, off, len, p, off, len, NS_PER_MS);
	mem_free_aligned(p);
}

void write_ok(struct cache_vol *cv, uint64_t off, uint64_t len, int c, uint64_t seq)
{
	uint8_t *p = mem_alloc_aligned(ROOM);
	struct cache_write w;

	memset(p, c, len);
	cache_write_begin(cv, &w, off, len, seq);
	cache_write_end(cv, &w, off, len, p);
	mem_free_aligned(p);
}

void settle(struct env *e)
{
	fiber_sleep(e, 50 * NS_PER_MS);
}

void prove_all(struct cache_vol *cv, uint64_t seq)
{
	struct cache_doubts d;

	ck_assert_int_eq(cache_doubts(cv, &d), 0);
	for (size_t i = 0; i < d.n; i++)
		cache_prove(cv, d.blocks[i], seq);
	mem_free(d.blocks);
}

struct cache_info info_of(const struct cache *c)
{
	struct cache_info i;

	cache_info(c, &i);
	return i;
}
