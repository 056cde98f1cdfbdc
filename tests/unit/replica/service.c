/* SPDX-License-Identifier: Apache-2.0 */
/* The replica service over rpc: a simulated node that is server and client. */
#include "base/crc32c.h"
#include "replica/replica_proto.h"
#include "rpc/rpc.h"
#include "unit/replica/world.h"

#define SEG MiB

struct w {
	struct env *e;
	struct rpc *srv, *cli;
	struct repl_service *svc;
	struct repl_disk *d;
	struct rpc_conn *c;
	struct hci_error err;
};

static struct rpc_conn *connect_to(struct w *w)
{
	struct rpc_conn *c = rpc_connect(w->cli, rpc_listen_addr(w->srv), "srv", &w->err);

	ck_assert_msg(c && rpc_conn_wait(c, &w->err) == 0, "%s", w->err.message);
	return c;
}

static void begin(struct w *w, struct env *e)
{
	struct rpc_opts so = { .node_name = "srv", .cluster = cluster_uuid },
			co = { .node_name = "cli", .cluster = cluster_uuid };
	struct repl_disk_opts o = disk_opts();

	memset(w, 0, sizeof(*w));
	w->e = e;
	w->d = must_format_open(e, "/d1", &o);
	w->srv = rpc_new(e, &so);
	w->cli = rpc_new(e, &co);
	ck_assert_int_eq(rpc_listen(w->srv, "tcp:n:0", &w->err), 0);
	w->svc = repl_service_new(e, w->srv);
	ck_assert_ptr_nonnull(w->svc);
	ck_assert_int_eq(repl_service_add(w->svc, w->d), 0);
	ck_assert_int_eq(repl_service_add(w->svc, w->d), HCI_E_EXISTS);
	w->c = connect_to(w);
}

static void end(struct w *w)
{
	repl_service_remove(w->svc, w->d);
	repl_disk_close(w->d, false);
	rpc_conn_unref(w->c);
	repl_service_free(w->svc);
	rpc_free(w->cli);
	rpc_free(w->srv);
}

static int open_slot(struct w *w, struct rpc_conn *c, const struct uuid *disk, uint64_t gen,
		     bool ro, uint64_t *handle, uint64_t *last)
{
	struct rpc_call call = { .method = REPL_RPC_OPEN };
	struct uuid u = vol_uuid(1);
	int rc;

	pk_map(&call.body, 5);
	pk_kv_uuid(&call.body, "disk", disk);
	pk_kv_uuid(&call.body, "volume", &u);
	pk_kv_u64(&call.body, "gen", gen);
	pk_kv_u64(&call.body, "segsize", SEG);
	pk_kv_bool(&call.body, "ro", ro);
	rc = rpc_call_wait(c, &call);
	w->err = call.err;
	if (rc == 0) {
		struct rd r = call.reply;
		uint32_t n = rd_map(&r);

		while (n--) {
			struct rd_key k = rd_key(&r);

			if (rd_is(k, "handle"))
				*handle = rd_u64(&r);
			else if (rd_is(k, "last") && last)
				*last = rd_u64(&r);
			else
				rd_skip(&r);
		}
		ck_assert(!r.bad);
	}
	rpc_call_free(&call);
	return rc;
}

static uint32_t sums[REPL_IO_MAX / HCI_BLOCK], got[REPL_IO_MAX / HCI_BLOCK];

/* Sums that came with what a READ brought. */
static void take_sums(struct rpc_call *call)
{
	struct rd r = call->reply;
	const void *p;
	uint32_t n;

	ck_assert_uint_eq(rd_array(&r), 1);
	p = rd_bin(&r, &n);
	ck_assert_uint_eq(n, call->reply_payload_len / HCI_BLOCK * 4);
	memcpy(got, p, n);
}

/* A WRITE takes sums along, those of `sums`, and a READ its flags: the last number. */
static int call_ints(struct w *w, uint32_t method, const uint64_t *v, unsigned n,
		     const void *payload, uint32_t len, void *reply, uint32_t cap, uint64_t *first)
{
	bool write = method == REPL_RPC_WRITE && n >= 7;
	struct rpc_call call = { .method = method,
				 .payload = payload,
				 .payload_len = len,
				 .reply_buf = reply,
				 .reply_cap = cap };
	int rc;

	pk_array(&call.body, n + write);
	for (unsigned i = 0; i < n; i++)
		pk_u64(&call.body, v[i]);
	if (write)
		pk_bin(&call.body, sums, len / HCI_BLOCK * 4);
	rc = rpc_call_wait(w->c, &call);
	if (rc == 0 && method == REPL_RPC_READ)
		take_sums(&call);
	if (rc == 0 && first) {
		struct rd r = call.reply;

		ck_assert_uint_eq(rd_array(&r), 2);
		*first = rd_u64(&r);
	}
	rpc_call_free(&call);
	return rc;
}

#define INTS(...) (const uint64_t[]){ __VA_ARGS__ }, sizeof((const uint64_t[]){ __VA_ARGS__ }) / 8

static void io_body(struct env *e, void *arg)
{
	struct w w;
	uint64_t h, last = 0, n;
	uint8_t *p = mem_alloc_aligned(SEG), *q = mem_alloc_aligned(SEG);
	struct repl_region *r = (void *)q;

	(void)arg;
	begin(&w, e);
	ck_assert_int_eq(open_slot(&w, w.c, &cluster_uuid, 1, false, &h, NULL), HCI_E_UNAVAILABLE);
	ck_assert_int_eq(open_slot(&w, w.c, &disk_uuid, 1, true, &h, NULL), HCI_E_NOTFOUND);
	ck_assert_int_eq(open_slot(&w, w.c, &disk_uuid, 4, false, &h, &last), 0);
	memset(p, 3, SEG);
	block_sums(p, SEG / HCI_BLOCK, sums);
	ck_assert_int_eq(
		call_ints(&w, REPL_RPC_WRITE, INTS(h, 0, 0, SEG, 1, 0, 0), p, SEG, NULL, 0, NULL),
		0);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_WRITE, INTS(h, 2, 4096, 4096, 2, 1, 0), p, 4096,
				   NULL, 0, NULL),
			 0);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_ZERO, INTS(h, 0, 0, REPL_REGION, 3, 2, 0), NULL, 0,
				   NULL, 0, NULL),
			 0);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_STABLE, INTS(h, 3), NULL, 0, NULL, 0, NULL), 0);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_READ, INTS(h, 0, 0, SEG, 0), NULL, 0, q, SEG, NULL),
			 0);
	ck_assert_uint_eq(block_sums_wrong(q, SEG / HCI_BLOCK, got), 0);
	ck_assert_int_eq(q[0], 0);
	ck_assert_int_eq(q[REPL_REGION], 3);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_REGIONS, INTS(h, 2, UINT32_MAX, 0, 0, 0, 100), NULL,
				   0, q, SEG, &n),
			 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_uint_eq(r[0].seq, 3 | REPL_SEQ_ZERO);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_REGIONS, INTS(h, 0, UINT32_MAX, 0, 0, 0, 10), NULL,
				   0, q, SEG, &n),
			 0);
	ck_assert_uint_eq(n, 10);
	/* What is wrong harms nobody. */
	ck_assert_int_eq(
		call_ints(&w, REPL_RPC_WRITE, INTS(h, 0, 0, 8192, 4, 0, 0), p, 4096, NULL, 0, NULL),
		HCI_E_PROTO);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_WRITE, INTS(h, 0, 0, 4096), p, 4096, NULL, 0, NULL),
			 HCI_E_PROTO);
	ck_assert_int_eq(
		call_ints(&w, REPL_RPC_WRITE, INTS(h, 0, 1, 4096, 4, 0, 0), p, 4096, NULL, 0, NULL),
		HCI_E_ALIGN);
	ck_assert_int_eq(
		call_ints(&w, REPL_RPC_WRITE, INTS(h, 0, 0, 4096, 4, 0, 8), p, 4096, NULL, 0, NULL),
		HCI_E_PROTO);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_READ, INTS(h, 0, SEG, 4096, 0), NULL, 0, q, SEG, NULL),
			 HCI_E_RANGE);
	ck_assert_int_eq(
		call_ints(&w, REPL_RPC_READ, INTS(h, 0, 0, 2 * SEG, 0), NULL, 0, q, SEG, NULL),
		HCI_E_RANGE);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_READ, INTS(77, 0, 0, 4096, 0), NULL, 0, q, SEG, NULL),
			 HCI_E_NOTFOUND);
	ck_assert_int_eq(
		call_ints(&w, REPL_RPC_REGIONS, INTS(h, 0, 0, 0, 0, 0, 0), NULL, 0, q, SEG, &n),
		HCI_E_PROTO);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_CLOSE, INTS(h), NULL, 0, NULL, 0, NULL), 0);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_CLOSE, INTS(h), NULL, 0, NULL, 0, NULL),
			 HCI_E_NOTFOUND);
	end(&w);
	mem_free_aligned(p);
	mem_free_aligned(q);
}

static void life_body(struct env *e, void *arg)
{
	struct w w;
	struct rpc_conn *c2;
	uint64_t h, h2, last = 0;
	uint8_t *p = mem_alloc_aligned(4096);

	(void)arg;
	begin(&w, e);
	memset(p, 1, 4096);
	block_sums(p, 1, sums);
	ck_assert_int_eq(open_slot(&w, w.c, &disk_uuid, 4, false, &h, NULL), 0);
	ck_assert_int_eq(
		call_ints(&w, REPL_RPC_WRITE, INTS(h, 0, 0, 4096, 9, 0, 0), p, 4096, NULL, 0, NULL),
		0);
	/* A new writer through another connection; the handle of the old one is worth nothing. */
	c2 = connect_to(&w);
	ck_assert_int_eq(open_slot(&w, c2, &disk_uuid, 5, false, &h2, &last), 0);
	ck_assert_uint_eq(last, 9);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_WRITE, INTS(h, 0, 0, 4096, 10, 0, 0), p, 4096, NULL,
				   0, NULL),
			 HCI_E_FENCED);
	ck_assert_int_eq(open_slot(&w, w.c, &disk_uuid, 4, false, &h, NULL), HCI_E_FENCED);
	/* A connection that ends takes its handles along. */
	rpc_conn_shutdown(c2);
	rpc_conn_unref(c2);
	fiber_sleep(e, NS_PER_S);
	ck_assert_int_eq(open_slot(&w, w.c, &disk_uuid, 5, false, &h, NULL), 0);
	/* So does a disk that is removed. */
	repl_service_remove(w.svc, w.d);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_WRITE, INTS(h, 0, 0, 4096, 10, 0, 0), p, 4096, NULL,
				   0, NULL),
			 HCI_E_NOTFOUND);
	ck_assert_int_eq(open_slot(&w, w.c, &disk_uuid, 5, false, &h, NULL), HCI_E_UNAVAILABLE);
	ck_assert_int_eq(repl_service_add(w.svc, w.d), 0);
	ck_assert_int_eq(open_slot(&w, w.c, &disk_uuid, 6, false, &h, NULL), 0);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_WRITE, INTS(h, 0, 0, 4096, 10, 0, 0), p, 4096, NULL,
				   0, NULL),
			 0);
	end(&w);
	mem_free_aligned(p);
}

/* What does not fit its sums is not taken, unless it is said to be so; then it goes out with the sums it should have. */
static void sums_body(struct env *e, void *arg)
{
	uint8_t *p = mem_alloc_aligned(8192), *q = mem_alloc_aligned(8192);
	uint64_t h;
	struct w w;

	(void)arg;
	begin(&w, e);
	ck_assert_int_eq(open_slot(&w, w.c, &disk_uuid, 4, false, &h, NULL), 0);
	memset(p, 1, 8192);
	block_sums(p, 2, sums);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_WRITE, INTS(h, 0, 0, 8192, 1, 0, 0), p, 8192, NULL, 0, NULL), 0);
	p[5000] = 2;
	ck_assert_int_eq(call_ints(&w, REPL_RPC_WRITE, INTS(h, 0, 0, 8192, 2, 0, 0), p, 8192, NULL, 0, NULL),
			 HCI_E_CORRUPT);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_READ, INTS(h, 0, 0, 8192, 0), NULL, 0, q, 8192, NULL), 0);
	ck_assert_int_eq(q[5000], 1);
	ck_assert_uint_eq(block_sums_wrong(q, 2, got), 0);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_WRITE, INTS(h, 0, 0, 8192, 2, 0, REPL_F_ASIS), p, 8192, NULL, 0, NULL),
			 0);
	for (unsigned round = 0; round < 2; round++) { /* from the log, then from the segment */
		ck_assert_int_eq(call_ints(&w, REPL_RPC_READ, INTS(h, 0, 0, 8192, REPL_F_VERIFY), NULL, 0, q, 8192, NULL),
				 0);
		ck_assert_int_eq(q[5000], 2);
		ck_assert_uint_eq(block_sums_wrong(q, 2, got), 1);
		ck_assert_uint_eq(got[1], sums[1]);
		fiber_sleep(e, 2 * NS_PER_S);
	}
	ck_assert_int_eq(call_ints(&w, REPL_RPC_READ, INTS(h, 0, 0, 8192), NULL, 0, q, 8192, NULL), HCI_E_PROTO);
	ck_assert_int_eq(call_ints(&w, REPL_RPC_READ, INTS(h, 0, 0, 8192, 1), NULL, 0, q, 8192, NULL), HCI_E_PROTO);
	end(&w);
	mem_free_aligned(p);
	mem_free_aligned(q);
}

static void run(void (*fn)(struct env *e, void *arg))
{
	struct simw w;

	simw_begin(&w, 1, 64 * MiB);
	ck_assert(simw_run(&w, fn, NULL));
	simw_end(&w);
}

START_TEST(serves_io)
{
	run(io_body);
}
END_TEST

START_TEST(sums_go_along)
{
	run(sums_body);
}
END_TEST

START_TEST(handles_end_with_what_they_are_of)
{
	run(life_body);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("replica service");
	TCase *t = tcase_create("rpc");

	tcase_add_test(t, serves_io);
	tcase_add_test(t, sums_go_along);
	tcase_add_test(t, handles_end_with_what_they_are_of);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
