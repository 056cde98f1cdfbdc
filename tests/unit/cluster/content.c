/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks that this node's read cache kept, for a migration that asks faster than they are read, or slower. */
#include "cluster/content.h"

#include "base/mem.h"
#include "cache/cache.h"
#include "unit/cluster/alone.h"

#define CHUNK (64u << 10)
#define CHUNKS 200u
#define PAGES (CHUNK / MST_PAGE)

struct world {
	struct alone a;
	struct node n;
};

static const struct uuid vol = { .b = { 1 } };

static void put_records(struct store *s)
{
	struct rec_cluster c = { .format = REC_VERSION, .name = "c" };
	struct rec_volume v = { .uuid = vol, .name = "v", .pool = "p", .size = 64 * MiB, .segment_size = 64 * MiB, .replicas = 1,
				.state = REC_VOLUME_READY };
	char key[REC_KEY];

	ck_assert_int_eq(rec_cluster_put(s, KEY_CLUSTER, &c, 0, 0, NULL, NULL), 0);
	key_volume(key, &vol);
	ck_assert_int_eq(rec_volume_put(s, key, &v, 0, 0, NULL, NULL), 0);
}

/* Of each chunk its number, in memory: no read of it takes any time. */
static struct cache_vol *keep(struct core *c)
{
	struct cache_opts o = { .ram = 64 * MiB };
	struct hci_error err;
	struct cache_vol *cv;
	uint8_t *buf = mem_alloc_aligned(CHUNK);

	ck_assert_msg(!core_cache_open(c, &o, &err), "%s", err.message);
	cv = cache_attach(core_vol_ctx(c)->cache, &vol, 1, UINT64_MAX);
	for (unsigned i = 0; i < CHUNKS; i++) {
		memset(buf, (int)i, CHUNK);
		cache_fill(cv, (uint64_t)i * CHUNK, CHUNK, buf, (uint64_t)i * CHUNK, CHUNK, NS_PER_MS);
	}
	mem_free_aligned(buf);
	return cv;
}

static void ask(struct world *w, struct content_blocks *b)
{
	struct mst_provider p;
	uint8_t page[MST_PAGE];

	content_blocks_provider(b, &p);
	for (unsigned i = 0; i < CHUNKS; i++) {
		uint64_t token = (uint64_t)i * PAGES;

		p.soon(p.ctx, &token, 1);
		fiber_sleep(w->n.e, sim_rand_below(w->a.sim, 3));
	}
	fiber_sleep(w->n.e, NS_PER_S);
	for (unsigned i = 0; i < CHUNKS; i++) { /* they are there: nobody waits */
		ck_assert_int_eq(p.read(p.ctx, (uint64_t)i * PAGES + 3, page), 0);
		ck_assert_uint_eq(page[5], i);
	}
}

static void test_fiber(void *arg)
{
	struct world *w = arg;
	struct core_opts o = { .env = w->a.e, .self = "a" };
	struct content_blocks *b;
	struct cache_vol *cv;
	struct hci_error err;

	w->n.e = w->a.e;
	ck_assert_int_eq(simstore_open(w->a.ss, w->a.e, &o.store), 0);
	put_records(o.store);
	ck_assert_msg(!core_open(&o, &w->n.core, &err), "%s", err.message);
	list_init(&w->n.disks);
	cv = keep(w->n.core);
	ck_assert_int_eq(content_blocks_open(&w->n, &vol, &b, &err), 0);
	ck_assert_ptr_nonnull(b);
	ask(w, b);
	content_blocks_close(b);
	cache_detach(cv);
	core_close(w->n.core);
	store_close(o.store);
}

START_TEST(who_asks_while_others_are_answered_is_answered_too)
{
	struct world w = { 0 };

	alone_run(&w.a, (uint64_t)_i + 1, test_fiber, &w);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("cluster_content");
	TCase *tc = tcase_create("blocks");

	tcase_add_loop_test(tc, who_asks_while_others_are_answered_is_answered_too, 0, 20);
	suite_add_tcase(s, tc);
	return s;
}
HARNESS_MAIN(make_suite)
