/* SPDX-License-Identifier: Apache-2.0 */
/* An SSD that fails, stalls, is full, rots or is not ours: what it cannot give is a miss, and nobody's error. */
#include "cache/cache_impl.h"
#include "unit/cache/world.h"

static struct simw w;

static void setup(void)
{
	simw_begin(&w, 1, 64 * MiB);
}

static void teardown(void)
{
	simw_end(&w);
}

#define SSD_TEST(name)                                           \
	static void name##_on_node(struct env *e, void *unused); \
	START_TEST(name)                                         \
	{                                                        \
		ck_assert(simw_run(&w, name##_on_node, NULL));   \
	}                                                        \
	END_TEST                                                 \
	static void name##_on_node(struct env *e, void *unused __attribute__((unused)))

/* n blocks on the SSD, none of them in memory: other blocks are there. */
static struct cache_vol *on_ssd(struct env *e, struct cache *c, uint64_t n)
{
	struct cache_vol *v = must_attach(c, 1, 1);

	for (uint64_t b = 0; b < n + 32; b++) {
		fill(v, b * BS, BS, (int)b);
		settle(e);
	}
	ck_assert_uint_ge(info_of(c).admitted, n);
	return v;
}

SSD_TEST(a_block_comes_from_the_ssd)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = on_ssd(e, c, 8);

	for (uint64_t b = 0; b < 8; b++)
		expect(e, v, b * BS, BS, (int)b);
	ck_assert_uint_eq(info_of(c).hits_ssd, 8);
	for (uint64_t b = 0; b < 8; b++) /* now in memory */
		expect(e, v, b * BS, BS, (int)b);
	ck_assert_uint_eq(info_of(c).hits_ssd, 8);
	ck_assert_uint_eq(info_of(c).hits_ram, 8);
	cache_detach(v);
	cache_close(c);
}

static void expect_peek(struct cache *c, unsigned vol, uint64_t block, int byte)
{
	uint8_t *p = mem_alloc_aligned(BS);
	struct uuid u = vol_uuid(vol);

	memset(p, 0xee, BS);
	ck_assert_int_eq(cache_peek(c, &u, block, p), byte < 0 ? HCI_E_NOTFOUND : 0);
	for (unsigned i = 0; byte >= 0 && i < BS; i++)
		ck_assert_uint_eq(p[i], (uint8_t)byte);
	mem_free_aligned(p);
}

/* What is kept, of whatever time, is found without an attachment, and nobody notices. */
SSD_TEST(what_is_kept_can_be_looked_at)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = on_ssd(e, c, 8);
	struct cache_info before = info_of(c), after;
	struct uuid one = vol_uuid(1), two = vol_uuid(2);
	uint64_t *list;
	size_t n;

	expect_peek(c, 1, 3, 3);  /* from the SSD */
	expect_peek(c, 1, 30, 30); /* from memory */
	write_ok(v, 3 * BS, BS, 77, 1001);
	cache_detach(v);
	expect_peek(c, 1, 3, 77);
	expect_peek(c, 1, 2, 2);
	expect_peek(c, 1, 4000, -1);
	expect_peek(c, 2, 3, -1);
	ck_assert_int_eq(cache_list(c, &one, 1000, &list, &n), 0);
	ck_assert_uint_eq(n, 40);
	for (size_t i = 0; i < n; i++)
		ck_assert_uint_eq(list[i], i);
	mem_free(list);
	ck_assert_int_eq(cache_list(c, &one, 7, &list, &n), 0);
	ck_assert_uint_eq(n, 7);
	for (size_t i = 1; i < n; i++)
		ck_assert_uint_lt(list[i - 1], list[i]);
	mem_free(list);
	ck_assert_int_eq(cache_list(c, &two, 1000, &list, &n), 0);
	ck_assert_uint_eq(n, 0);
	ck_assert_ptr_null(list);
	after = info_of(c);
	ck_assert_uint_eq(after.hits_ram + after.hits_ssd + after.misses, before.hits_ram + before.hits_ssd + before.misses);
	/* One that fails has nothing; one that does not answer is not waited for. */
	sim_disk_fault(w.disk, SIM_DISK_EIO);
	expect_peek(c, 1, 1, -1);
	sim_disk_fault(w.disk, SIM_DISK_STALL);
	expect_peek(c, 1, 2, -1);
	sim_disk_fault(w.disk, SIM_DISK_OK);
	settle(e);
	expect_peek(c, 1, 2, 2);
	cache_close(c);
}

START_TEST(numbers_of_blocks_are_sorted)
{
	size_t n = 100000;
	uint64_t *v = mem_calloc(n, sizeof(*v)), x = 88172645463325252u, sum = 0, is = 0;

	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		v[i] = x >> (i % 3 ? 24 : 50); /* some are there twice */
		sum += v[i];
	}
	ck_assert_int_eq(cache_sort(v, n), 0);
	for (size_t i = 0; i < n; i++) {
		ck_assert(!i || v[i - 1] <= v[i]);
		is += v[i];
	}
	ck_assert_uint_eq(is, sum);
	mem_free(v);
	ck_assert_int_eq(cache_sort(NULL, 0), 0);
}
END_TEST

SSD_TEST(a_failing_ssd_is_a_miss_and_is_left_alone_in_the_end)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = on_ssd(e, c, 40);

	sim_disk_fault(w.disk, SIM_DISK_EIO);
	expect_miss(e, v, 0, BS);
	expect_miss(e, v, BS, BS);
	ck_assert_uint_eq(info_of(c).errors, 2);
	ck_assert_uint_eq(info_of(c).ssd_failed, 0);
	for (uint64_t b = 2; b < 40; b++)
		expect_miss(e, v, b * BS, BS);
	ck_assert_uint_eq(info_of(c).ssd_failed, 1);
	fill(v, 100 * BS, BS, 5);
	expect(e, v, 100 * BS, BS, 5); /* memory goes on */
	cache_detach(v);
	cache_close(c);
}

SSD_TEST(one_bad_place_harms_no_other)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = on_ssd(e, c, 8);

	sim_disk_fault(w.disk, SIM_DISK_EIO);
	expect_miss(e, v, 0, BS);
	sim_disk_fault(w.disk, SIM_DISK_OK);
	expect_miss(e, v, 0, BS);
	expect(e, v, BS, BS, 1);
	fill(v, 0, BS, 9);
	expect(e, v, 0, BS, 9);
	cache_detach(v);
	cache_close(c);
}

SSD_TEST(an_ssd_that_does_not_answer_is_passed_by_until_it_does)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = on_ssd(e, c, 8);
	uint64_t t0;

	sim_disk_fault(w.disk, SIM_DISK_STALL);
	t0 = env_now(e);
	expect_miss(e, v, 0, BS);
	ck_assert_uint_le(env_now(e) - t0, 400 * NS_PER_MS);
	t0 = env_now(e);
	expect_miss(e, v, BS, BS); /* at once */
	ck_assert_uint_le(env_now(e) - t0, NS_PER_MS);
	write_ok(v, 0, BS, 77, 1001); /* while the read of its old content is still to come */
	sim_disk_fault(w.disk, SIM_DISK_OK);
	settle(e);
	expect(e, v, 0, BS, 77);
	expect(e, v, BS, BS, 1);
	cache_detach(v);
	cache_close(c);
}

SSD_TEST(rotten_content_is_never_handed_out)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = on_ssd(e, c, 64);
	uint8_t *p = mem_alloc_aligned(BS);
	uint64_t bad = 0;

	for (int i = 0; i < 40; i++)
		ck_assert(sim_disk_rot(w.disk, "cache"));
	for (uint64_t b = 0; b < 64; b++) {
		if (!cached(e, v, b * BS, BS, p)) {
			bad++;
			continue;
		}
		ck_assert(p[0] == (uint8_t)b && !memcmp(p, p + 1, BS - 1));
	}
	ck_assert_uint_gt(bad, 0);
	ck_assert_uint_eq(info_of(c).corrupt, bad);
	ck_assert_uint_eq(info_of(c).errors, 0);
	mem_free_aligned(p);
	cache_detach(v);
	cache_close(c);
}

SSD_TEST(a_full_file_system_leaves_memory)
{
	struct cache_opts o = small_opts();
	struct cache_vol *v;
	struct cache *c;

	sim_disk_set_capacity(w.disk, MiB);
	c = must_open_cache(e, &o);
	ck_assert_uint_eq(info_of(c).ssd_failed, 1);
	v = must_attach(c, 1, 1);
	fill(v, 0, BS, 5);
	expect(e, v, 0, BS, 5);
	cache_detach(v);
	cache_close(c);
}

SSD_TEST(a_missing_or_failed_ssd_does_not_hinder_the_opening)
{
	struct cache_opts o = small_opts();
	struct cache *c;

	sim_disk_fault(w.disk, SIM_DISK_EIO);
	c = must_open_cache(e, &o);
	ck_assert_uint_eq(info_of(c).ssd_failed, 1);
	cache_close(c);
	sim_disk_fault(w.disk, SIM_DISK_OK);
	o.path = "/nowhere/cache";
	c = must_open_cache(e, &o);
	ck_assert_uint_eq(info_of(c).ssd_failed, 1);
	cache_close(c);
}

static void put_bytes(struct env *e, const char *path, uint64_t off, int byte, size_t n)
{
	struct env_file *f;
	uint8_t *p = mem_alloc_aligned(HCI_BLOCK);

	memset(p, byte, n);
	ck_assert_int_eq(env_open(e, path, ENV_O_CREATE, &f), 0);
	ck_assert_int_eq(fiber_write(e, f, p, n, off, 0), (int64_t)n);
	env_close(e, f);
	mem_free_aligned(p);
}

SSD_TEST(what_is_not_ours_is_not_touched)
{
	struct cache_opts o = small_opts();
	struct hci_error err;
	struct cache *c;

	put_bytes(e, "/d1/cache", 0, 'x', 4096);
	ck_assert_int_eq(cache_open(e, &o, &c, &err), HCI_E_EXISTS);
	ck_assert_ptr_nonnull(strstr(err.message, "/d1/cache"));
	o.path = "/d1/late";
	put_bytes(e, o.path, 65536 + 64, 'x', 10); /* as the superblock of btrfs is */
	ck_assert_int_eq(cache_open(e, &o, &c, &err), HCI_E_EXISTS);
}

SSD_TEST(the_cache_of_another_cluster_is_refused)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct hci_error err;

	cache_close(c);
	o.cluster = disk_uuid;
	ck_assert_int_eq(cache_open(e, &o, &c, &err), HCI_E_STATE);
	ck_assert_ptr_null(c);
}

SSD_TEST(another_size_or_block_begins_empty)
{
	struct cache_opts o = small_opts();
	struct cache *c = must_open_cache(e, &o);
	struct cache_vol *v = on_ssd(e, c, 8);

	cache_detach(v);
	cache_close(c);
	c = must_open_cache(e, &o);
	ck_assert_uint_gt(info_of(c).ssd_used, 0);
	cache_close(c);
	o.block = 4096;
	c = must_open_cache(e, &o);
	ck_assert_uint_eq(info_of(c).ssd_used, 0);
	cache_close(c);
	o.block = BS;
	o.size = 0; /* of what is there */
	c = must_open_cache(e, &o);
	ck_assert_uint_eq(info_of(c).ssd_used, 0);
	ck_assert_uint_gt(info_of(c).ssd_size, MiB);
	cache_close(c);
}

SSD_TEST(options_that_make_no_sense_are_refused)
{
	struct cache_opts o = small_opts();
	struct hci_error err;
	struct cache *c;

	o.block = 5000;
	ck_assert_int_eq(cache_open(e, &o, &c, &err), HCI_E_INVAL);
	o = small_opts();
	o.ram = 1000;
	ck_assert_int_eq(cache_open(e, &o, &c, &err), HCI_E_INVAL);
	o = small_opts();
	o.size = 100000;
	ck_assert_int_eq(cache_open(e, &o, &c, &err), HCI_E_INVAL);
	o = small_opts();
	o.path = "relative";
	ck_assert_int_eq(cache_open(e, &o, &c, &err), HCI_E_INVAL);
	o.path = "/d1/new";
	o.size = 0;
	ck_assert_int_eq(cache_open(e, &o, &c, &err), HCI_E_INVAL);
}

SSD_TEST(without_memory_it_opens_not_or_caches_less)
{
	struct cache_opts o = small_opts();
	struct hci_error err;

	for (uint64_t n = 1, made = 1; made >= n - 1; n++) {
		struct cache *c = NULL;
		struct cache_vol *v = NULL;
		struct uuid u = vol_uuid(1);
		int rc;

		mem_fail_nth(n);
		rc = cache_open(e, &o, &c, &err);
		if (!rc)
			v = cache_attach(c, &u, 1000, 1999);
		made = mem_fail_nth(0);
		ck_assert(!rc || rc == HCI_E_NOMEM);
		if (v) {
			uint8_t *p = mem_alloc_aligned(BS);
			struct cache_write x;

			memset(p, 3, BS);
			for (uint64_t k = 1; k < 12; k++) {
				mem_fail_nth(k);
				cache_fill(v, k * BS, BS, p, k * BS, BS, 1);
				(void)cached(e, v, k * BS, BS, p);
				cache_write_begin(v, &x, k * BS, 4096, 1000 + k);
				cache_write_end(v, &x, k * BS, 4096, p);
				(void)mem_fail_nth(0);
			}
			settle(e);
			mem_free_aligned(p);
		}
		cache_detach(v);
		cache_close(c);
	}
}

static Suite *suite(void)
{
	Suite *s = suite_create("cache_ssd");
	TCase *t = tcase_create("ssd");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_block_comes_from_the_ssd);
	tcase_add_test(t, numbers_of_blocks_are_sorted);
	tcase_add_test(t, what_is_kept_can_be_looked_at);
	tcase_add_test(t, a_failing_ssd_is_a_miss_and_is_left_alone_in_the_end);
	tcase_add_test(t, one_bad_place_harms_no_other);
	tcase_add_test(t, an_ssd_that_does_not_answer_is_passed_by_until_it_does);
	tcase_add_test(t, rotten_content_is_never_handed_out);
	tcase_add_test(t, a_full_file_system_leaves_memory);
	tcase_add_test(t, a_missing_or_failed_ssd_does_not_hinder_the_opening);
	tcase_add_test(t, what_is_not_ours_is_not_touched);
	tcase_add_test(t, the_cache_of_another_cluster_is_refused);
	tcase_add_test(t, another_size_or_block_begins_empty);
	tcase_add_test(t, options_that_make_no_sense_are_refused);
	tcase_add_test(t, without_memory_it_opens_not_or_caches_less);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
