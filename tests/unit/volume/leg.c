/* SPDX-License-Identifier: Apache-2.0 */
/* What a leg makes of answers that are not what the method gives: the other end may be broken, or hostile. */
#include "base/mem.h"
#include "replica/replica_proto.h"
#include "unit/replica/world.h"
#include "volume/volume_impl.h"

static struct {
	struct rpc *srv, *cli;
	struct vol v;
	struct seg segs[2];
	struct leg l;
	/* the answer to REGIONS */
	uint64_t count;
	bool more;
	uint32_t entries;
	/* the answer to ROTTEN */
	uint32_t says, holds; /* entries; the same ones each time unless `fresh` */
	bool fresh;
	uint32_t asked, told;
} w;

static void regions(void *arg, struct rpc_req *req)
{
	static const struct repl_region r[2] = { { 0, 1, 5 }, { 1, 2, 6 } };
	struct buf b = BUF_INIT;

	(void)arg;
	pk_array(&b, 2);
	pk_u64(&b, w.count);
	pk_bool(&b, w.more);
	rpc_reply(req, 0, NULL, &b, r, w.entries * (uint32_t)sizeof(r[0]), NULL, NULL);
	buf_free(&b);
}

static int ask(uint64_t count, uint32_t entries, bool more)
{
	struct repl_region *r = NULL;
	size_t n = 0;
	int rc;

	w.count = count;
	w.entries = entries;
	w.more = more;
	rc = leg_regions(&w.l, 0, UINT32_MAX, &r, &n);
	if (!rc)
		ck_assert_uint_eq(n, count);
	mem_free(r);
	return rc;
}

static void rotten(void *arg, struct rpc_req *req)
{
	struct buf b = BUF_INIT;

	(void)arg;
	w.asked++;
	pk_array(&b, w.says * 2);
	for (uint32_t i = 0; i < w.holds; i++, w.told++) {
		uint32_t at = w.fresh ? w.told : i;

		pk_u64(&b, at / 64000 % 2);
		pk_u64(&b, at % 64000);
	}
	rpc_reply(req, 0, NULL, &b, NULL, 0, NULL, NULL);
	buf_free(&b);
}

static int ask_rotten(uint32_t says, uint32_t holds, bool fresh)
{
	w.says = says;
	w.holds = holds;
	w.fresh = fresh;
	w.asked = w.told = 0;
	return leg_rotten(&w.l);
}

/* However much it has to tell, and however often the same: it ends, and nothing is asked for that cannot be remembered. */
static void rotten_lists(void)
{
	ck_assert_int_eq(ask_rotten(0, 0, false), 0);
	ck_assert_int_eq(ask_rotten(511, 511, false), 0);
	ck_assert_uint_eq(w.v.nmend, 511);
	ck_assert_int_eq(ask_rotten(UINT32_MAX / 2, 3, false), HCI_E_PROTO);
	ck_assert_int_eq(ask_rotten(513, 513, false), HCI_E_PROTO);
	ck_assert_int_eq(ask_rotten(4, 3, false), HCI_E_PROTO);
	ck_assert_int_eq(ask_rotten(512, 512, false), HCI_E_AGAIN);
	ck_assert_uint_le(w.asked, 16);
	ck_assert_int_eq(ask_rotten(512, 512, true), HCI_E_AGAIN);
	ck_assert_uint_eq(w.v.nmend, w.told);
	ck_assert_int_eq(ask_rotten(512, 512, true), HCI_E_AGAIN);
	ck_assert_uint_eq(w.asked, 0);
	mend_fini(&w.v);
}

static void body(struct env *e, void *arg)
{
	struct rpc_opts so = { .node_name = "srv", .cluster = cluster_uuid }, co = { .node_name = "cli", .cluster = cluster_uuid };
	struct hci_error err;

	(void)arg;
	memset(&w, 0, sizeof(w));
	w.srv = rpc_new(e, &so);
	w.cli = rpc_new(e, &co);
	ck_assert_int_eq(rpc_listen(w.srv, "tcp:n:0", &err), 0);
	ck_assert_int_eq(rpc_register(w.srv, REPL_RPC_REGIONS, regions, NULL), 0);
	ck_assert_int_eq(rpc_register(w.srv, REPL_RPC_ROTTEN, rotten, NULL), 0);
	w.v.e = e;
	list_init(&w.v.mend);
	w.v.segs = w.segs;
	w.v.nsegs = 2;
	w.v.rec.segment_size = 4096 * MiB;
	w.v.rec.write_timeout_ns = NS_PER_S;
	w.l.v = &w.v;
	w.l.state = LEG_UP;
	w.l.conn = rpc_connect(w.cli, rpc_listen_addr(w.srv), "srv", &err);
	ck_assert(w.l.conn && !rpc_conn_wait(w.l.conn, &err));
	ck_assert_int_eq(ask(0, 0, false), 0);
	ck_assert_int_eq(ask(2, 2, false), 0);
	ck_assert_int_eq(ask(1, 2, false), HCI_E_PROTO);
	ck_assert_int_eq(ask(0, 0, true), HCI_E_PROTO);
	/* The same again and again. */
	ck_assert_int_eq(ask(2, 2, true), HCI_E_PROTO);
	/* So many that their length is that of one, and of two, modulo 2^64. */
	ck_assert_int_eq(ask((UINT64_C(1) << 60) + 1, 1, false), HCI_E_PROTO);
	ck_assert_int_eq(ask((UINT64_C(1) << 60) + 2, 2, false), HCI_E_PROTO);
	rotten_lists();
	rpc_conn_unref(w.l.conn);
	rpc_free(w.cli);
	rpc_free(w.srv);
}

START_TEST(lists_are_as_long_as_they_say)
{
	struct simw s;

	simw_begin(&s, 1, 64 * MiB);
	ck_assert(simw_run(&s, body, NULL));
	simw_end(&s);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("leg");
	TCase *t = tcase_create("answers");

	tcase_add_test(t, lists_are_as_long_as_they_say);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
