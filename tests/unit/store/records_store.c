/* SPDX-License-Identifier: Apache-2.0 */
/* Records through a store: get, put with compare, delete, list over several pages. */
#include <check.h>

#include "record_samples.h"
#include "sqlite_world.h"
#include "store/records.h"
#include "unit/harness.h"

static struct world W;

static void setup(void)
{
	world_make(&W);
}

static void teardown(void)
{
	world_remove(&W);
}

static void get_put_body(struct world *w)
{
	struct store *s = world_open(w);
	struct rec_pool p = { 0 }, q;
	struct hci_error err;
	char key[REC_KEY];
	uint64_t rev = 0, got = 0;

	sample_fill(&rec_pool_type, &p, 0);
	key_pool(key, p.name);
	ck_assert_int_eq(rec_pool_get(s, key, &q, NULL, &err), HCI_E_NOTFOUND);
	ck_assert_ptr_nonnull(strstr(err.message, "pool/p"));
	ck_assert_int_eq(rec_pool_put(s, key, &p, 0, 0, &rev, NULL), 0);
	ck_assert_int_eq(rec_pool_put(s, key, &p, 0, 0, NULL, NULL), HCI_E_CONFLICT);
	ck_assert_int_eq(rec_pool_get(s, key, &q, &got, NULL), 0);
	ck_assert_uint_eq(got, rev);
	ck_assert_mem_eq(&p, &q, sizeof(p));
	p.created++;
	ck_assert_int_eq(rec_pool_put(s, key, &p, rev, 0, NULL, NULL), 0);
	ck_assert_int_eq(rec_delete(s, key, rev, NULL, NULL), HCI_E_CONFLICT);
	ck_assert_int_eq(rec_pool_put(s, key, &p, REC_REV_ANY, 0, &rev, NULL), 0);
	p.name[0] = '/';
	ck_assert_int_eq(rec_pool_put(s, key, &p, REC_REV_ANY, 0, &rev, &err), HCI_E_INVAL);
	ck_assert_ptr_nonnull(strstr(err.message, "pool/p"));
	ck_assert_int_eq(rec_delete(s, key, rev, NULL, NULL), 0);
	ck_assert_int_eq(rec_pool_get(s, key, &q, NULL, NULL), HCI_E_NOTFOUND);
	world_put(s, key, "not a record");
	ck_assert_int_eq(rec_pool_get(s, key, &q, NULL, &err), HCI_E_CORRUPT);
	ck_assert_ptr_nonnull(strstr(err.message, "pool/p"));
	store_close(s);
}

START_TEST(get_put_delete)
{
	world_run(&W, get_put_body);
}
END_TEST

#define MANY 2500

static void list_body(struct world *w)
{
	struct store *s = world_open(w);
	struct rec_diskstat d = { 0 };
	struct rec_list l;
	struct hci_error err;
	struct store_op ops[100];
	struct buf bufs[100];
	char keys[100][REC_KEY];

	for (unsigned i = 0; i < MANY; i += 100) {
		for (unsigned j = 0; j < 100; j++) {
			d.at = i + j;
			bufs[j] = BUF_INIT;
			ck_assert_int_eq(rec_diskstat_encode(&d, &bufs[j]), 0);
			snprintf(keys[j], REC_KEY, PREFIX_DISKSTAT "%08u", i + j);
			ops[j] = (struct store_op){ STORE_PUT, keys[j], bufs[j].data,
						    (uint32_t)bufs[j].len, 0 };
		}
		ck_assert_int_eq(store_txn(s, NULL, 0, ops, 100, NULL, NULL), 0);
		for (unsigned j = 0; j < 100; j++)
			buf_free(&bufs[j]);
	}
	ck_assert_int_eq(rec_diskstat_list(s, PREFIX_DISKSTAT, &l, NULL), 0);
	ck_assert_uint_eq(l.n, MANY);
	ck_assert_uint_eq(l.revision, MANY / 100);
	for (unsigned i = 0; i < MANY; i++) {
		ck_assert_uint_eq(REC_AT(&l, i, struct rec_diskstat)->at, i);
		ck_assert_uint_eq(l.mod_revs[i], i / 100 + 1);
		ck_assert_uint_eq(strtoul(key_tail(l.keys[i], PREFIX_DISKSTAT), NULL, 10), i);
	}
	rec_list_free(&l);
	ck_assert_int_eq(rec_pool_list(s, PREFIX_POOL, &l, NULL), 0);
	ck_assert_uint_eq(l.n, 0);
	rec_list_free(&l);
	world_put(s, PREFIX_DISKSTAT "00001500", "damaged");
	ck_assert_int_eq(rec_diskstat_list(s, PREFIX_DISKSTAT, &l, &err), HCI_E_CORRUPT);
	ck_assert_ptr_nonnull(strstr(err.message, "diskstat/00001500"));
	ck_assert_uint_eq(l.n, 0);
	store_close(s);
}

START_TEST(list_in_pages)
{
	world_run(&W, list_body);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("store/records in a store");
	TCase *tc = tcase_create("records");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, get_put_delete);
	tcase_add_test(tc, list_in_pages);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(make_suite)
