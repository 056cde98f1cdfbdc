/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The read cache through the public API, on a real disk: what is read again comes from it, also after the process
 * was started anew; what another wrote meanwhile does not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

#undef MiB
#define MiB (1024ull * 1024ull)
#define BLOCKS 256u
#define BLOCK 16384ull

static struct world w;
static uint8_t *buf, *got;
static char path[128];

static void fill(uint8_t *p, unsigned block, unsigned version)
{
	for (unsigned i = 0; i < BLOCK; i++)
		p[i] = (uint8_t)(i * 7 + (i >> 8) + block * 13 + version * 101 + 1);
}

static hci_cluster *open_cached(const char *name)
{
	struct hci_cluster_opts o = HCI_CLUSTER_OPTS_INIT;
	struct hci_cache_opts c = HCI_CACHE_OPTS_INIT;
	hci_cluster *out;

	o.store_url = w.store;
	o.client_name = name;
	ok(hci_cluster_open(&out, &o, &w.err));
	c.path = path;
	c.bytes = 16 * MiB;
	c.ram = MiB;
	ok(hci_cache_open(out, &c, &w.err));
	return out;
}

static hci_volume *attach(hci_cluster *c)
{
	hci_volume *v;

	ok(hci_volume_attach(&v, c, "v", NULL, &w.err));
	return v;
}

static void read_first(hci_volume *v, unsigned n, unsigned written)
{
	for (unsigned b = 0; b < n; b++) {
		ok(hci_volume_pread(v, got, BLOCK, b * BLOCK, &w.err));
		fill(buf, b, b < written);
		ck_assert_msg(!memcmp(buf, got, BLOCK), "block %u is not what was written", b);
	}
}

static void read_all(hci_volume *v, unsigned written)
{
	read_first(v, BLOCKS, written);
}

static void setup(void)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	hci_volume *v;

	world_up(&w, 0);
	world_pool(&w, 600000);
	snprintf(path, sizeof(path), "%s/cache", w.dir);
	ok(hci_buffer_alloc((void **)&buf, MiB, &w.err));
	ok(hci_buffer_alloc((void **)&got, MiB, &w.err));
	o.name = "v";
	o.pool = "p";
	o.bytes = 64 * MiB;
	ok(hci_volume_create(w.client, &o, &w.err));
	v = attach(w.client);
	for (unsigned b = 0; b < BLOCKS; b++) {
		fill(buf, b, 0);
		ok(hci_volume_pwrite(v, buf, BLOCK, b * BLOCK, &w.err));
	}
	hci_volume_unref(v);
}

static void teardown(void)
{
	hci_buffer_free(buf);
	hci_buffer_free(got);
	world_down(&w);
}

static struct hci_cache_info info(hci_cluster *c)
{
	struct hci_cache_info i;

	ok(hci_cache_info(c, &i, sizeof(i), &w.err));
	return i;
}

/* Hits of one more round. On a busy machine the cache takes less than all it is shown, or is late to write it. */
static unsigned hits_of_a_round(hci_cluster *c, hci_volume *v, unsigned changed, unsigned wanted)
{
	unsigned hits = 0;

	for (unsigned i = 0; i < 20 && hits < wanted; i++) {
		struct hci_cache_info before = info(c), after;

		usleep(300000);
		read_all(v, changed);
		after = info(c);
		hits = (unsigned)(after.hits_ram + after.hits_ssd - before.hits_ram - before.hits_ssd);
	}
	return hits;
}

/*
 * A hit in memory takes less than the misses did, and that adds up: in the info, and in the metrics. One on the SSD need not: the
 * replicas are as near here, and may have it all in their memory still.
 */
static void saves_time(hci_cluster *c, hci_volume *v)
{
	struct hci_cache_info i = info(c);
	const char *at;
	char *text;

	for (unsigned k = 0; k < 5000 && !i.saved_ms; k++) {
		read_first(v, 16, 0);
		i = info(c);
	}
	ck_assert_msg(i.saved_ms, "%llu hits have saved no time", (unsigned long long)(i.hits_ram + i.hits_ssd));
	ok(hci_metrics_text(&text, NULL, c, &w.err));
	at = strstr(text, "\nhci_cache_saved_milliseconds");
	ck_assert_ptr_nonnull(at);
	ck_assert_uint_ge(strtoull(strchr(at + 1, ' ') + 1, NULL, 10), i.saved_ms);
	hci_metrics_free(text);
}

static void what_is_read_again_comes_from_the_cache_also_in_the_next_process(void)
{
	hci_cluster *c = open_cached("reader");
	hci_volume *v = attach(c);
	struct hci_cache_info i;

	read_all(v, 0);
	i = info(c);
	ck_assert_uint_ge(i.misses, BLOCKS);
	ck_assert_uint_ge(hits_of_a_round(c, v, 0, BLOCKS * 9 / 10), BLOCKS * 9 / 10);
	i = info(c);
	ck_assert_uint_gt(i.hits_ssd, 0);
	saves_time(c, v);
	ck_assert_str_eq(i.path, path);
	hci_volume_unref(v);
	hci_cluster_unref(c);

	c = open_cached("reader");
	v = attach(c);
	sleep(1); /* what was kept is proven */
	read_all(v, 0);
	i = info(c);
	ck_assert_uint_ge(i.hits_ssd + i.hits_ram, BLOCKS * 8 / 10); /* nobody has filled it since */
	ck_assert_uint_eq(i.corrupt, 0);
	hci_volume_unref(v);
	hci_cluster_unref(c);
}

static void what_another_wrote_meanwhile_is_read_anew(void)
{
	hci_cluster *c = open_cached("reader");
	hci_volume *v = attach(c);

	read_all(v, 0);
	usleep(300000);
	hci_volume_unref(v);
	v = attach(w.client);
	for (unsigned b = 0; b < 16; b++) {
		fill(buf, b, 1);
		ok(hci_volume_pwrite(v, buf, BLOCK, b * BLOCK, &w.err));
	}
	hci_volume_unref(v);
	v = attach(c);
	read_all(v, 16);
	ck_assert_uint_gt(hits_of_a_round(c, v, 16, BLOCKS / 2 + 1), BLOCKS / 2);
	hci_volume_unref(v);
	hci_cluster_unref(c);
}

static void everybody_sees_whose_caches_there_are(void)
{
	hci_cluster *c = open_cached("reader");
	struct hci_cache_info *l, i;
	uint64_t n = 0;

	for (int k = 0; k < 50 && !n; k++) {
		ok(hci_cache_list(w.client, &l, &n, sizeof(*l), &w.err));
		if (!n)
			usleep(100000);
	}
	ck_assert_uint_eq(n, 1);
	ck_assert_str_eq(l[0].holder, "reader");
	ck_assert_str_eq(l[0].path, path);
	ck_assert_uint_eq(l[0].block, 16384);
	hci_list_free(l);
	ck_assert_int_eq(hci_cache_info(w.client, &i, sizeof(i), &w.err), HCI_E_NOTFOUND);
	hci_cluster_unref(c);
	ok(hci_cache_list(w.client, &l, &n, sizeof(*l), &w.err));
	ck_assert_uint_eq(n, 0);
	hci_list_free(l);
}

static void what_cannot_be_is_refused(void)
{
	struct hci_cache_opts o = HCI_CACHE_OPTS_INIT;
	hci_cluster *c = open_cached("reader"), *c2;
	struct hci_cluster_opts co = HCI_CLUSTER_OPTS_INIT;
	FILE *f;

	o.path = path;
	ck_assert_int_eq(hci_cache_open(c, &o, &w.err), HCI_E_STATE);
	co.store_url = w.store;
	co.client_name = "other";
	ok(hci_cluster_open(&c2, &co, &w.err));
	ck_assert_int_eq(hci_cache_open(c2, &o, &w.err), HCI_E_BUSY);
	o.path = "relative";
	ck_assert_int_eq(hci_cache_open(c2, &o, &w.err), HCI_E_INVAL);
	o.path = path;
	o.block = 12345;
	ck_assert_int_eq(hci_cache_open(c2, &o, &w.err), HCI_E_INVAL);
	o.block = 0;
	hci_cluster_unref(c);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fprintf(f, "something that somebody needs\n");
	fclose(f);
	ck_assert_int_eq(hci_cache_open(c2, &o, &w.err), HCI_E_INVAL); /* no size, and too small to be one */
	o.bytes = 16 * MiB;
	ck_assert_int_eq(hci_cache_open(c2, &o, &w.err), HCI_E_EXISTS);
	ck_assert_ptr_nonnull(strstr(w.err.message, path));
	o.path = "/nowhere/at/all";
	ok(hci_cache_open(c2, &o, &w.err)); /* passed by */
	ck_assert_uint_eq(info(c2).ssd_failed, 1);
	hci_cluster_unref(c2);
}

/* One world for all of them: to make one takes far longer than they do. */
START_TEST(the_read_cache_does_as_its_header_says)
{
	what_is_read_again_comes_from_the_cache_also_in_the_next_process();
	what_another_wrote_meanwhile_is_read_anew();
	everybody_sees_whose_caches_there_are();
	what_cannot_be_is_refused();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_cache");
	TCase *t = tcase_create("cache");

	tcase_set_timeout(t, 280);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_read_cache_does_as_its_header_says);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
