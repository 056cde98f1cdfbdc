/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lives of a cache that end at any moment, by kill -9 or power loss, with another writer in between now and then,
 * against a model of two volumes with the last number of each region: what is handed out is what the volume has.
 * HCI_SEEDS=1000 for more, HCI_SEED=n for one.
 */
#include "unit/cache/world.h"

#define BLOCKS 192u /* of 4 KiB, each volume: more than the cache holds */
#define REGION 65536u
#define VOLS 2u
#define LIVES 6

struct model {
	uint64_t seed;
	struct simw w;
	uint8_t content[VOLS][BLOCKS];          /* a 4 KiB block is this byte all over */
	uint64_t last[VOLS][BLOCKS * 4096 / REGION + 1];
	uint64_t gen;
	uint32_t block;
	uint64_t hits, proven;
};

static uint64_t pick(struct model *m, uint64_t n)
{
	return sim_rand_below(m->w.sim, n);
}

static void model_write(struct model *m, unsigned v, uint64_t b, uint64_t n, int c, uint64_t seq)
{
	for (uint64_t i = b; i < b + n; i++) {
		m->content[v][i] = (uint8_t)c;
		m->last[v][i * 4096 / REGION] = seq;
	}
}

static void check(struct model *m, unsigned v, uint64_t b, uint64_t n, const uint8_t *p)
{
	for (uint64_t i = 0; i < n * 4096; i++)
		if (p[i] != m->content[v][b + i / 4096])
			ck_abort_msg("seed %llu: volume %u block %llu is %u, not %u", (unsigned long long)m->seed, v,
				     (unsigned long long)(b + i / 4096), p[i], m->content[v][b + i / 4096]);
	m->hits++;
}

static void one_read(struct model *m, struct env *e, struct cache_vol *cv, unsigned v, uint8_t *p)
{
	uint64_t per = m->block / 4096, n = 1 + pick(m, 2 * per), b = pick(m, BLOCKS - n), from = b / per * per;
	uint64_t to = MIN((b + n + per - 1) / per * per, (uint64_t)BLOCKS);

	if (cached(e, cv, b * 4096, n * 4096, p)) {
		check(m, v, b, n, p);
		return;
	}
	for (uint64_t i = from; i < to; i++)
		memset(p + (i - from) * 4096, m->content[v][i], 4096);
	cache_fill(cv, from * 4096, (to - from) * 4096, p, b * 4096, n * 4096, NS_PER_MS);
}

static void one_write(struct model *m, struct env *e, struct cache_vol *cv, unsigned v, uint8_t *p, uint64_t seq)
{
	uint64_t n = 1 + pick(m, 2 * m->block / 4096), b = pick(m, BLOCKS - n);
	int c = (int)pick(m, 8); /* few, so that some are equal */
	struct cache_write x;
	bool fails = !pick(m, 8);

	memset(p, c, n * 4096);
	cache_write_begin(cv, &x, b * 4096, n * 4096, seq);
	if (!fails || pick(m, 2)) /* one that fails may be there or not */
		model_write(m, v, b, n, c, seq);
	if (pick(m, 2))
		fiber_sleep(e, pick(m, 2 * NS_PER_MS));
	cache_write_end(cv, &x, b * 4096, n * 4096, fails ? NULL : p);
}

static void life(struct env *e, void *arg)
{
	struct model *m = arg;
	struct cache_opts o = { .path = "/d1/cache", .size = MiB + 256 * KiB, .ram = 16 * (uint64_t)m->block, .block = m->block,
				.cluster = cluster_uuid };
	struct cache *c = must_open_cache(e, &o);
	uint8_t *p = mem_alloc_aligned(MiB);
	uint64_t rounds = 1 + pick(m, 3);

	while (rounds--) {
		struct cache_vol *cv[VOLS];
		uint64_t seq, steps = pick(m, 400);

		for (unsigned v = 0; v < VOLS; v++) {
			struct cache_doubts d;

			cv[v] = must_attach(c, v + 1, ++m->gen);
			ck_assert_int_eq(cache_doubts(cv[v], &d), 0);
			for (size_t i = 0; i < d.n; i++)
				cache_prove(cv[v], d.blocks[i], m->last[v][d.blocks[i] * m->block / REGION]);
			mem_free(d.blocks);
		}
		seq = m->gen * 1000;
		for (uint64_t i = 0; i < steps; i++) {
			unsigned v = (unsigned)pick(m, VOLS);

			if (pick(m, 4))
				one_read(m, e, cv[v], v, p);
			else
				one_write(m, e, cv[v], v, p, ++seq - (v ? 0 : 1000));
			fiber_sleep(e, pick(m, 8) ? pick(m, NS_PER_MS) : pick(m, 300 * NS_PER_MS));
		}
		m->proven += info_of(c).proven;
		for (unsigned v = 0; v < VOLS; v++)
			cache_detach(cv[v]);
	}
	mem_free_aligned(p);
	cache_close(c);
}

static void play(uint64_t seed, uint64_t *hits, uint64_t *proven)
{
	struct model m = { .seed = seed, .block = 4096u << seed % 5 };

	simw_begin(&m.w, seed, 64 * MiB);
	for (int i = 0; i < LIVES; i++) {
		if (pick(&m, 4))
			simw_crash_at(&m.w, pick(&m, 20 * NS_PER_S), pick(&m, 2));
		if (!simw_run(&m.w, life, &m))
			m.gen += 2;
		else if (!pick(&m, 3)) /* somebody else had it */
			model_write(&m, (unsigned)pick(&m, VOLS), pick(&m, BLOCKS - 40), 1 + pick(&m, 39), (int)pick(&m, 8),
				    ++m.gen * 1000 + 1);
		if (!pick(&m, 4))
			sim_disk_rot(m.w.disk, "cache");
		sim_run(m.w.sim, 30 * NS_PER_S); /* no crash is left for the next life */
	}
	*hits += m.hits;
	*proven += m.proven;
	simw_end(&m.w);
}

START_TEST(no_crash_brings_old_content_back)
{
	const char *one = getenv("HCI_SEED"), *many = getenv("HCI_SEEDS");
	uint64_t n = many ? strtoull(many, NULL, 10) : 60, hits = 0, proven = 0;

	if (one) {
		play(strtoull(one, NULL, 10), &hits, &proven);
		return;
	}
	for (uint64_t seed = 1; seed <= n; seed++)
		play(seed, &hits, &proven);
	/* Or nothing was tried at all. */
	ck_assert_uint_gt(hits, n * 20);
	ck_assert_uint_gt(proven, n);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cache_crash");
	TCase *t = tcase_create("crash");

	tcase_set_timeout(t, 0);
	tcase_add_test(t, no_crash_brings_old_content_back);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
