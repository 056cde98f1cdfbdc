/* SPDX-License-Identifier: Apache-2.0 */
/* Copies that the target fetches by itself. One simulated node is source, target and the writer's peer: from volume 1 to
 * volume 2 on one disk, over rpc. */
#include "base/crc32c.h"
#include "replica/replica_proto.h"
#include "rpc/rpc.h"
#include "unit/replica/world.h"

#define SEG (4 * MiB)
#define LEN (1u << 20)
#define COPY (REPL_F_SETSEQ | REPL_F_COPY)
#define MANY 100u
#define PATIENCE 500u /* ms */

struct opened {
	uint64_t handle;
	uint8_t token[REPL_TOKEN];
};

static struct {
	struct env *e;
	struct rpc *srv, *cli;
	struct rpc_peers *peers;
	struct repl_service *svc;
	struct repl_disk *d;
	struct rpc_conn *c;
	struct opened from, to;
	uint8_t *buf;
	uint32_t sums[LEN / HCI_BLOCK];
} w;

static int nobody(void *arg, const char *node, char *addr, size_t cap)
{
	(void)arg, (void)node, (void)addr, (void)cap;
	return HCI_E_NOTFOUND;
}

static int open_slot(struct rpc_conn *c, unsigned vol, uint64_t gen, struct opened *o)
{
	struct rpc_call call = { .method = REPL_RPC_OPEN };
	struct uuid u = vol_uuid(vol);
	bool token = false;
	int rc;

	pk_map(&call.body, 5);
	pk_kv_uuid(&call.body, "disk", &disk_uuid);
	pk_kv_uuid(&call.body, "volume", &u);
	pk_kv_u64(&call.body, "gen", gen);
	pk_kv_u64(&call.body, "segsize", SEG);
	pk_kv_bool(&call.body, "ro", false);
	rc = rpc_call_wait(c, &call);
	if (!rc) {
		struct rd r = call.reply;
		uint32_t n = rd_map(&r), len;

		while (n--) {
			struct rd_key k = rd_key(&r);

			if (rd_is(k, "handle")) {
				o->handle = rd_u64(&r);
			} else if (rd_is(k, "token")) {
				const void *p = rd_bin(&r, &len);

				ck_assert_uint_eq(len, REPL_TOKEN);
				memcpy(o->token, p, len);
				token = true;
			} else {
				rd_skip(&r);
			}
		}
		ck_assert(!r.bad && token);
	}
	rpc_call_free(&call);
	return rc;
}

static struct rpc_conn *connect_to(void)
{
	struct hci_error err;
	struct rpc_conn *c = rpc_connect(w.cli, rpc_listen_addr(w.srv), "srv", &err);

	ck_assert_msg(c && rpc_conn_wait(c, &err) == 0, "%s", err.message);
	return c;
}

static void begin(struct env *e)
{
	struct rpc_opts so = { .node_name = "srv", .cluster = cluster_uuid }, co = { .node_name = "cli", .cluster = cluster_uuid };
	struct repl_disk_opts o = disk_opts();
	struct hci_error err;

	memset(&w, 0, sizeof(w));
	w.e = e;
	w.d = must_format_open(e, "/d1", &o);
	w.srv = rpc_new(e, &so);
	w.cli = rpc_new(e, &co);
	w.peers = rpc_peers_new(w.srv, nobody, NULL);
	ck_assert_int_eq(rpc_listen(w.srv, "tcp:n:0", &err), 0);
	w.svc = repl_service_new(e, w.srv);
	repl_service_peers(w.svc, w.peers);
	ck_assert_int_eq(repl_service_add(w.svc, w.d), 0);
	w.c = connect_to();
	ck_assert_int_eq(open_slot(w.c, 1, 4, &w.from), 0);
	ck_assert_int_eq(open_slot(w.c, 2, 4, &w.to), 0);
	w.buf = mem_alloc_aligned(LEN);
}

static void end(void)
{
	repl_service_remove(w.svc, w.d);
	repl_disk_close(w.d, false);
	rpc_conn_unref(w.c);
	repl_service_free(w.svc);
	rpc_peers_free(w.peers);
	rpc_free(w.cli);
	rpc_free(w.srv);
	mem_free_aligned(w.buf);
}

/* Of volume 1, the writer's way. */
static int put(uint64_t off, int c, uint64_t seq, uint32_t flags)
{
	struct rpc_call call = { .method = REPL_RPC_WRITE, .payload = w.buf, .payload_len = LEN };
	int rc;

	memset(w.buf, c, LEN);
	block_sums(w.buf, LEN / HCI_BLOCK, w.sums);
	if (flags & REPL_F_ASIS)
		w.buf[LEN / 2] ^= 1;
	pk_array(&call.body, 8);
	pk_u64(&call.body, w.from.handle);
	pk_u64(&call.body, 0);
	pk_u64(&call.body, off);
	pk_u64(&call.body, LEN);
	pk_u64(&call.body, seq);
	pk_u64(&call.body, 0);
	pk_u64(&call.body, flags);
	pk_bin(&call.body, w.sums, sizeof(w.sums));
	rc = rpc_call_wait(w.c, &call);
	rpc_call_free(&call);
	return rc;
}

struct ask {
	uint64_t off, len, seq, flags, patience;
	const char *node;
	uint32_t token;
};
/* What differs from a request that is right. */
#define ASK(...) ask_with((struct ask){ __VA_ARGS__ })
#define NONE UINT64_MAX

static uint64_t or_else(uint64_t x, uint64_t usual)
{
	return x == NONE ? 0 : x ? x : usual;
}

static const struct ask *ask_with(struct ask a)
{
	static struct ask x;

	x = (struct ask){ a.off, or_else(a.len, LEN), or_else(a.seq, 9), or_else(a.flags, COPY), or_else(a.patience, PATIENCE),
			  a.node ? a.node : "srv", a.token ? a.token : REPL_TOKEN };
	return &x;
}

static void ask_body(struct rpc_call *call, const struct ask *a)
{
	call->method = REPL_RPC_PULL;
	pk_array(&call->body, 9);
	pk_u64(&call->body, w.to.handle);
	pk_u64(&call->body, 0);
	pk_u64(&call->body, a->off);
	pk_u64(&call->body, a->len);
	pk_u64(&call->body, a->seq);
	pk_u64(&call->body, a->flags);
	pk_u64(&call->body, a->patience);
	pk_str(&call->body, a->node);
	pk_bin(&call->body, w.from.token, a->token);
}

static int pull(const struct ask *a)
{
	struct rpc_call call = { 0 };
	int rc;

	ask_body(&call, a);
	rc = rpc_call_wait(w.c, &call);
	rpc_call_free(&call);
	return rc;
}

/* Regions of volume 2. */
static uint32_t regions(struct repl_region *r, uint32_t max)
{
	struct repl_region cursor = { 0 };
	struct repl_slot_state st;
	struct uuid u = vol_uuid(2);
	struct repl_slot *s;
	uint32_t n;

	ck_assert_int_eq(repl_slot_open_ro(w.d, &u, &s, &st, NULL), 0);
	n = repl_regions(s, 0, UINT32_MAX, &cursor, r, max);
	repl_slot_put(s);
	return n;
}

static void expect(uint64_t off, uint64_t len, int c)
{
	struct repl_slot_state st;
	struct uuid u = vol_uuid(2);
	struct repl_slot *s;

	ck_assert_int_eq(repl_slot_open_ro(w.d, &u, &s, &st, NULL), 0);
	read_expect(w.e, s, 0, off, len, c);
	repl_slot_put(s);
}

static void fetch_body(struct env *e, void *arg)
{
	struct repl_region r[64];

	(void)arg;
	begin(e);
	ck_assert_int_eq(put(0, 7, 3, 0), 0);
	ck_assert_int_eq(put(LEN, 0, 4, 0), 0);
	ck_assert_int_eq(pull(ASK(0)), 0);
	expect(0, LEN, 7);
	ck_assert_uint_eq(regions(r, 64), LEN / REPL_REGION);
	for (unsigned i = 0; i < LEN / REPL_REGION; i++)
		ck_assert_uint_eq(r[i].seq, 9 | REPL_SEQ_COPIED);
	/* Half of it zeroes: told as such. */
	ck_assert_int_eq(pull(ASK(.off = LEN / 2, .seq = 10)), 0);
	expect(LEN / 2, LEN / 2, 7);
	expect(LEN, LEN / 2, 0);
	ck_assert_uint_eq(regions(r, 64), LEN / REPL_REGION * 3 / 2);
	ck_assert_uint_eq(r[LEN / REPL_REGION - 1].seq, 10 | REPL_SEQ_COPIED);
	ck_assert_uint_eq(r[LEN / REPL_REGION].seq, 10 | REPL_SEQ_COPIED | REPL_SEQ_ZERO);
	end();
}

static void hostile_body(struct env *e, void *arg)
{
	struct repl_region r[1];

	(void)arg;
	begin(e);
	ck_assert_int_eq(put(0, 7, 3, 0), 0);
	ck_assert_int_eq(pull(ASK(.flags = REPL_F_COPY)), HCI_E_PROTO);
	ck_assert_int_eq(pull(ASK(.flags = COPY | REPL_F_ASIS)), HCI_E_PROTO);
	ck_assert_int_eq(pull(ASK(.flags = REPL_F_SETSEQ | 0x700)), HCI_E_PROTO);
	ck_assert_int_eq(pull(ASK(.token = REPL_TOKEN - 1)), HCI_E_PROTO);
	ck_assert_int_eq(pull(ASK(.patience = NONE)), HCI_E_PROTO);
	ck_assert_int_eq(pull(ASK(.len = 2 * LEN)), HCI_E_PROTO);
	ck_assert_int_eq(pull(ASK(.len = NONE)), HCI_E_PROTO);
	ck_assert_int_eq(pull(ASK(.len = 512)), HCI_E_PROTO);
	ck_assert_int_eq(pull(ASK(.off = 512)), HCI_E_PROTO);
	ck_assert_int_eq(pull(ASK(.node = "a-name-that-is-longer-than-any-node-may-have-and-does-not-fit-anywhere-in-here-at-all")),
			 HCI_E_PROTO);
	ck_assert_int_eq(pull(ASK(.node = "stranger")), HCI_E_UNAVAILABLE);
	ck_assert_int_eq(pull(ASK(.off = SEG)), HCI_E_UNAVAILABLE); /* the source says so */
	ck_assert_int_eq(pull(ASK(.seq = NONE)), HCI_E_INVAL);
	w.from.token[REPL_TOKEN - 1] ^= 1;
	ck_assert_int_eq(pull(ASK(0)), HCI_E_UNAVAILABLE);
	memset(w.from.token, 0xff, REPL_TOKEN);
	ck_assert_int_eq(pull(ASK(0)), HCI_E_UNAVAILABLE);
	w.to.handle = 77;
	ck_assert_int_eq(pull(ASK(0)), HCI_E_NOTFOUND);
	repl_service_peers(w.svc, NULL);
	ck_assert_int_eq(pull(ASK(0)), HCI_E_UNSUPPORTED);
	ck_assert_uint_eq(regions(r, 1), 0);
	end();
}

static void fence_body(struct env *e, void *arg)
{
	struct repl_region r[1];
	struct opened o;
	struct rpc_conn *c2;

	(void)arg;
	begin(e);
	ck_assert_int_eq(put(0, 7, 3, 0), 0);
	/* A newer writer at the source: the older one's opening lends nothing more. */
	c2 = connect_to();
	ck_assert_int_eq(open_slot(c2, 1, 5, &o), 0);
	ck_assert_int_eq(pull(ASK(0)), HCI_E_UNAVAILABLE);
	/* The same opening again: the one before it is over. */
	w.from = o;
	ck_assert_int_eq(open_slot(c2, 1, 5, &o), 0);
	ck_assert_int_eq(pull(ASK(0)), HCI_E_UNAVAILABLE);
	w.from = o;
	/* At the target: nothing of an older writer is taken, nor of an opening that was replaced. */
	ck_assert_int_eq(open_slot(c2, 2, 4, &o), 0);
	ck_assert_int_eq(pull(ASK(0)), HCI_E_CLOSED);
	ck_assert_int_eq(open_slot(c2, 2, 5, &o), 0);
	ck_assert_int_eq(pull(ASK(0)), HCI_E_FENCED);
	ck_assert_uint_eq(regions(r, 1), 0);
	/* What the connection of the source's opening takes along. */
	ck_assert_int_eq(open_slot(w.c, 2, 6, &w.to), 0);
	ck_assert_int_eq(pull(ASK(0)), 0);
	rpc_conn_shutdown(c2);
	rpc_conn_unref(c2);
	fiber_sleep(e, NS_PER_S);
	ck_assert_int_eq(pull(ASK(0)), HCI_E_UNAVAILABLE);
	end();
}

/* By its handle: the whole of segment 0. */
static int drop(const struct opened *o)
{
	struct rpc_call call = { .method = REPL_RPC_DROP };
	int rc;

	pk_map(&call.body, 2);
	pk_kv_u64(&call.body, "handle", o->handle);
	pk_kv_u64(&call.body, "segment", 0);
	rc = rpc_call_wait(w.c, &call);
	rpc_call_free(&call);
	return rc;
}

/* A pull that its writer gave up may still ask when the source's copy has moved away: not zeroes instead of the data. */
static void dropped_body(struct env *e, void *arg)
{
	struct repl_region r[1];

	(void)arg;
	begin(e);
	ck_assert_int_eq(put(0, 7, 3, 0), 0);
	ck_assert_int_eq(drop(&w.from), 0);
	ck_assert_int_eq(pull(ASK(0)), HCI_E_UNAVAILABLE);
	/* Nor what is there of a copy that was made anew. */
	ck_assert_int_eq(put(LEN, 8, 4, 0), 0);
	ck_assert_int_eq(pull(ASK(0)), HCI_E_UNAVAILABLE);
	ck_assert_uint_eq(regions(r, 1), 0);
	/* The next opening knows of no drop. */
	ck_assert_int_eq(open_slot(w.c, 1, 4, &w.from), 0);
	ck_assert_int_eq(pull(ASK(.off = LEN)), 0);
	expect(LEN, LEN, 8);
	end();
}

static void damaged_body(struct env *e, void *arg)
{
	struct repl_region r[1];

	(void)arg;
	begin(e);
	ck_assert_int_eq(put(0, 7, 3, REPL_F_ASIS), 0);
	ck_assert_int_eq(pull(ASK(0)), HCI_E_CORRUPT);
	ck_assert_uint_eq(regions(r, 1), 0);
	end();
}

static unsigned ended, went_well;

static void one_done(struct rpc_call *call)
{
	ended++;
	went_well += !call->status;
	rpc_call_free(call);
}

static void submit_many(struct rpc_call *call)
{
	ended = went_well = 0;
	for (unsigned i = 0; i < MANY; i++) {
		memset(&call[i], 0, sizeof(call[i]));
		ask_body(&call[i], ASK(.off = i % 3 * LEN, .seq = 9 + i));
		call[i].done = one_done;
		rpc_submit(w.c, &call[i]);
	}
}

static void many_body(struct env *e, void *arg)
{
	struct rpc_call *call = mem_calloc(MANY, sizeof(*call));

	(void)arg;
	begin(e);
	for (uint64_t off = 0; off < 3 * LEN; off += LEN)
		ck_assert_int_eq(put(off, 7, 3 + off / LEN, 0), 0);
	submit_many(call);
	while (ended < MANY)
		fiber_sleep(e, NS_PER_MS);
	ck_assert_uint_eq(went_well, MANY);
	expect(0, LEN, 7);
	/* The service ends in the middle: each is answered, none is left behind. */
	submit_many(call);
	fiber_sleep(e, (uint64_t)(uintptr_t)arg);
	end();
	while (ended < MANY)
		fiber_sleep(e, NS_PER_MS);
	mem_free(call);
}

static struct sim_disk *medium;

/* More than are let in, and those do not come to an end: who waits is told so in time, before his writer gives the disk up. */
static void patience_body(struct env *e, void *arg)
{
	struct rpc_call *call = mem_calloc(MANY, sizeof(*call));

	(void)arg;
	begin(e);
	for (uint64_t off = 0; off < 3 * LEN; off += LEN)
		ck_assert_int_eq(put(off, 7, 3 + off / LEN, 0), 0);
	fiber_sleep(e, NS_PER_S);
	sim_disk_fault(medium, SIM_DISK_STALL);
	submit_many(call);
	fiber_sleep(e, PATIENCE * NS_PER_MS + 50 * NS_PER_MS);
	ck_assert_uint_eq(ended, MANY);
	ck_assert_uint_eq(went_well, 0);
	sim_disk_fault(medium, SIM_DISK_OK);
	submit_many(call);
	while (ended < MANY)
		fiber_sleep(e, NS_PER_MS);
	ck_assert_uint_eq(went_well, MANY);
	end();
	mem_free(call);
}

static void run(void (*fn)(struct env *e, void *arg), uint64_t arg)
{
	struct simw s;

	simw_begin(&s, 1, 64 * MiB);
	medium = s.disk;
	ck_assert(simw_run(&s, fn, (void *)(uintptr_t)arg));
	simw_end(&s);
}

START_TEST(the_target_fetches_what_the_source_has)
{
	run(fetch_body, 0);
}
END_TEST

START_TEST(bodies_that_are_not_right_change_nothing)
{
	run(hostile_body, 0);
}
END_TEST

START_TEST(openings_that_are_over_neither_lend_nor_take)
{
	run(fence_body, 0);
}
END_TEST

START_TEST(a_segment_that_the_opening_dropped_is_not_lent)
{
	run(dropped_body, 0);
}
END_TEST

START_TEST(what_is_damaged_at_the_source_is_not_taken)
{
	run(damaged_body, 0);
}
END_TEST

START_TEST(many_at_a_time_and_an_end_in_the_middle)
{
	run(many_body, (uint64_t)_i * 200000);
}
END_TEST

START_TEST(who_waits_for_too_long_is_told)
{
	run(patience_body, 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("replica pull");
	TCase *t = tcase_create("pull");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, the_target_fetches_what_the_source_has);
	tcase_add_test(t, bodies_that_are_not_right_change_nothing);
	tcase_add_test(t, openings_that_are_over_neither_lend_nor_take);
	tcase_add_test(t, a_segment_that_the_opening_dropped_is_not_lent);
	tcase_add_test(t, what_is_damaged_at_the_source_is_not_taken);
	tcase_add_loop_test(t, many_at_a_time_and_an_end_in_the_middle, 0, 20);
	tcase_add_test(t, who_waits_for_too_long_is_told);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
