/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A socket carried to another node: every byte, the ends, the pace, and what breaks on the way; as it is (rpc/relay.h) and through
 * the memory codec (compute/memory_path.h), which for the programs at the ends is the same.
 */
#include <time.h>

#include "base/mem.h"
#include "compute/memory_path.h"
#include "compute/memstream/wire.h"
#include "rpc/relay.h"
#include "unit/harness.h"
#include "unit/rpc/raw.h"

/* program a -- relay out -- (cli) ... (srv) -- relay in -- program b */
struct way {
	struct world *w;
	struct env_listener *door;
	struct raw *a, *b, *bl;
	struct rpc_relay *out, *in;
	struct memory_path *mout, *min;
	const char *to; /* where b listens */
	struct fiber_cond cond;
	bool out_over, in_over;
	struct hci_error out_err, in_err;
	unsigned before_to, before_from;
	bool keep; /* of the door's end */
};

static bool coded; /* of the test that runs; each has a process or at least a turn of its own */

static const char *any(struct world *w)
{
	return w->kind == WORLD_SIM ? "tcp:n1:0" : "tcp:127.0.0.1:0";
}

static void before(void *arg, bool to_socket)
{
	struct way *y = arg;

	*(to_socket ? &y->before_to : &y->before_from) += 1;
}

static void over(struct way *y, bool out, const struct hci_error *err)
{
	*(out ? &y->out_over : &y->in_over) = true;
	*(out ? &y->out_err : &y->in_err) = *err;
	fiber_cond_signal(y->w->e, &y->cond);
}

static void on_over(void *arg, struct rpc_relay *r, const struct hci_error *err)
{
	struct way *y = arg;

	over(y, r == y->out, err);
}

static void on_memory_over(void *arg, struct memory_path *p, const struct hci_error *err)
{
	struct way *y = arg;

	over(y, p == y->mout, err);
}

static struct memory_path_opts memory_opts(struct way *y)
{
	return (struct memory_path_opts){ .codec = { .workers = y->w->kind == WORLD_SIM ? 0 : 2, .window = 8 * MiB },
					  .on_over = on_memory_over,
					  .arg = y };
}

static void passed(const struct way *y, uint64_t *from, uint64_t *to)
{
	struct rpc_relay_stat st = { 0 };
	struct mst_stats m = { 0 };

	if (coded)
		memory_path_stats(y->mout, &m);
	else
		rpc_relay_stat(y->out, &st);
	*from = coded ? m.in : st.from_socket;
	*to = st.to_socket;
}

static void free_out(struct way *y, const struct hci_error *why)
{
	rpc_relay_free(y->out, why);
	memory_path_free(y->mout, why);
	y->out = NULL;
	y->mout = NULL;
}

static void free_in(struct way *y, const struct hci_error *why)
{
	rpc_relay_free(y->in, why);
	memory_path_free(y->min, why);
	y->in = NULL;
	y->min = NULL;
}

static const char service[] = "relay";

/* In both kinds of world, and both ways. */
#define WAYS(name)                                    \
	static void name##_body(struct world *w);     \
	START_TEST(name)                              \
	{                                             \
		coded = _i >= WORLD_KINDS;            \
		world_run(_i % WORLD_KINDS, name##_body); \
	}                                             \
	END_TEST                                      \
	static void name##_body(struct world *w)

static struct rpc_relay_opts opts(struct way *y)
{
	return (struct rpc_relay_opts){ .before = before, .on_over = on_over, .arg = y, .pace_ns = 50 * NS_PER_MS, .keep = y->keep };
}

static void on_accept(void *arg, struct env_conn *c)
{
	struct way *y = arg;
	struct rpc_stream_opts so = { .service = service, .window = RPC_STREAM_WINDOW_MIN };
	struct rpc_relay_opts o = opts(y);
	struct memory_path_opts mo = memory_opts(y);
	struct hci_error err;
	struct rpc_conn *conn = rpc_connect(y->w->cli, y->w->addr, "srv", &err);

	if (coded)
		y->mout = memory_path_out(y->w->e, c, conn, &so, &mo, &err);
	else
		y->out = rpc_relay_out(y->w->e, c, conn, &so, &o, &err);
	ck_assert(y->out || y->mout);
}

static void on_offer(void *arg, struct rpc_stream *s, struct rd *args)
{
	struct way *y = arg;
	struct rpc_relay_opts o = opts(y);
	struct memory_path_opts mo = memory_opts(y);

	(void)args;
	o.keep = false;
	if (coded)
		y->min = memory_path_in(y->w->e, s, y->to, &mo);
	else
		y->in = rpc_relay_in(y->w->e, s, y->to, &o);
}

static void way_open(struct world *w, struct way *y)
{
	struct hci_error err;

	*y = (struct way){ .w = w, .keep = y->keep };
	fiber_cond_init(&y->cond);
	y->bl = raw_listen(w);
	y->to = env_listener_addr(y->bl->listener);
	ck_assert_int_eq(rpc_stream_serve(w->srv, service, on_offer, y), 0);
	y->door = env_listen(w->e, any(w), NULL, on_accept, y, &err);
	ck_assert_ptr_nonnull(y->door);
	y->a = raw_connect(w, env_listener_addr(y->door));
	y->b = y->bl;
	raw_accept(y->b);
}

static void way_close(struct way *y)
{
	free_out(y, NULL);
	free_in(y, NULL);
	raw_free(y->a);
	raw_free(y->b);
	env_listener_close(y->door);
	rpc_forget(y->w->srv, y);
}

static void wait_over(struct way *y)
{
	while (!y->out_over || !y->in_over)
		fiber_cond_wait(y->w->e, &y->cond);
}

WAYS(every_byte_arrives_both_ways)
{
	struct way y = { 0 };
	struct raw_pump pa, pb;
	uint64_t from, to;
	uint8_t c;

	way_open(w, &y);
	pa = (struct raw_pump){ .r = y.a, .n = 200, .seed = 1 };
	pb = (struct raw_pump){ .r = y.b, .n = 100, .seed = 5000 };
	ck_assert_int_eq(fiber_spawn(w->e, raw_pump, &pa, "a"), 0);
	ck_assert(raw_arrives(y.b, 200, 1));
	ck_assert_int_eq(fiber_spawn(w->e, raw_pump, &pb, "b"), 0);
	ck_assert(raw_arrives(y.a, 100, 5000));
	ck_assert(pa.done && pb.done);
	passed(&y, &from, &to);
	ck_assert_uint_gt(from, 200 * 10000);
	ck_assert(coded || to > 100 * 10000);
	ck_assert(coded || (y.before_to && y.before_from));
	raw_close(y.a, false);
	ck_assert(!raw_read(y.b, &c, 1));
	raw_close(y.b, false);
	wait_over(&y);
	ck_assert_int_eq(y.out_err.code, 0);
	ck_assert_int_eq(y.in_err.code, 0);
	way_close(&y);
}

WAYS(what_was_sent_before_the_end_arrives)
{
	struct way y = { 0 };
	struct raw_pump pa;
	uint8_t c;

	way_open(w, &y);
	pa = (struct raw_pump){ .r = y.a, .n = 50 };
	raw_pump(&pa);
	raw_close(y.a, false);
	ck_assert(raw_arrives(y.b, 50, 0));
	ck_assert(!raw_read(y.b, &c, 1));
	wait_over(&y);
	ck_assert_int_eq(y.out_err.code, 0);
	way_close(&y);
}

WAYS(a_reader_that_stands_still_stops_the_writer)
{
	struct way y = { 0 };
	struct raw_pump pa;
	uint64_t from, to;

	way_open(w, &y);
	raw_hold(y.b, true);
	pa = (struct raw_pump){ .r = y.a, .n = 1000 };
	ck_assert_int_eq(fiber_spawn(w->e, raw_pump, &pa, "a"), 0);
	fiber_sleep(w->e, 15 * NS_PER_S);
	ck_assert(!pa.done && !y.out_over);
	passed(&y, &from, &to);
	ck_assert_uint_lt(from, 16u << 20);
	raw_hold(y.b, false);
	ck_assert(raw_arrives(y.b, 1000, 0));
	raw_close(y.b, false);
	wait_over(&y);
	way_close(&y);
}

WAYS(nobody_listens_at_the_other_end)
{
	struct way y = { 0 };
	uint8_t c;
	struct hci_error err;

	memset(&y, 0, sizeof(y));
	y.w = w;
	fiber_cond_init(&y.cond);
	y.to = w->kind == WORLD_SIM ? "tcp:n1:9999" : "unix:/nonexistent/socket";
	ck_assert_int_eq(rpc_stream_serve(w->srv, service, on_offer, &y), 0);
	y.door = env_listen(w->e, any(w), NULL, on_accept, &y, &err);
	y.a = raw_connect(w, env_listener_addr(y.door));
	ck_assert(!raw_read(y.a, &c, 1));
	while (!y.out_over)
		fiber_cond_wait(w->e, &y.cond);
	ck_assert_int_eq(y.out_err.code, HCI_E_UNAVAILABLE);
	free_out(&y, NULL);
	free_in(&y, NULL);
	raw_free(y.a);
	env_listener_close(y.door);
}

/* The other program ends, or its node's link: this one sees nothing of it before the relay is freed. */
BOTH(kept_until_it_is_freed)
{
	coded = false;
	for (unsigned how = 0; how < 3; how++) {
		struct hci_error why = { .code = HCI_E_CANCELLED, .message = "enough" };
		struct way y = { .keep = true };
		uint8_t c = 1;

		way_open(w, &y);
		ck_assert(raw_send(y.b, &c, 1));
		ck_assert(raw_read(y.a, &c, 1));
		if (how == 2)
			free_in(&y, &why);
		else
			raw_close(y.b, how == 1);
		while (!y.out_over)
			fiber_cond_wait(w->e, &y.cond);
		fiber_sleep(w->e, 50 * NS_PER_MS);
		ck_assert(!y.a->over);
		free_out(&y, NULL);
		ck_assert(!raw_read(y.a, &c, 1));
		way_close(&y);
	}
}

WAYS(given_up_at_any_moment_both_programs_see_the_end)
{
	for (unsigned i = 0; i < 30; i++) {
		struct hci_error why = { .code = HCI_E_CANCELLED, .message = "enough" };
		struct way y = { 0 };
		struct raw_pump pa;
		uint8_t c[100];

		way_open(w, &y);
		pa = (struct raw_pump){ .r = y.a, .n = 4000 };
		ck_assert_int_eq(fiber_spawn(w->e, raw_pump, &pa, "a"), 0);
		fiber_sleep(w->e, i * NS_PER_MS / 4);
		if (i & 1) {
			free_in(&y, &why);
			while (!y.out_over)
				fiber_cond_wait(w->e, &y.cond);
		} else {
			free_out(&y, &why);
			while (!y.in_over)
				fiber_cond_wait(w->e, &y.cond);
		}
		while (raw_read(y.b, c, sizeof(c)))
			;
		while (!pa.done)
			fiber_sleep(w->e, NS_PER_MS);
		ck_assert(!pa.ok);
		way_close(&y);
	}
}

/* Whichever allocation fails: it ends, for both. */
WAYS(memory_that_runs_out_at_the_end_does_not_hang)
{
	for (unsigned k = 1; k <= 40; k++) {
		uint64_t until;
		struct raw_pump pa;
		struct way y = { 0 };

		way_open(w, &y);
		pa = (struct raw_pump){ .r = y.a, .n = 3 };
		raw_pump(&pa);
		ck_assert(raw_arrives(y.b, 3, 0));
		fiber_sleep(w->e, NS_PER_S);
		until = env_now(w->e) + 20 * NS_PER_S;
		raw_close(y.a, false);
		mem_fail_nth(k);
		while ((!y.out_over || !y.in_over) && env_now(w->e) < until)
			fiber_sleep(w->e, 10 * NS_PER_MS);
		mem_fail_nth(0);
		ck_assert_msg(y.out_over && y.in_over, "allocation %u", k);
		way_close(&y);
	}
}

WAYS(a_limit_holds_and_may_be_changed)
{
	uint64_t start = env_now(w->e), limited;
	struct way y = { 0 };
	struct raw_pump pa;
	struct mst_stats st;

	way_open(w, &y);
	memory_path_limit(y.mout, 20000);
	pa = (struct raw_pump){ .r = y.a, .n = 1000 };
	ck_assert_int_eq(fiber_spawn(w->e, raw_pump, &pa, "a"), 0);
	while (env_now(w->e) < start + 4 * NS_PER_S)
		fiber_sleep(w->e, 10 * NS_PER_MS);
	memory_path_stats(y.mout, &st);
	limited = st.wire;
	ck_assert_uint_le(limited, 4 * 20000 + 64 * 1024 + MST_BATCH_DEFAULT);
	memory_path_limit(y.mout, 0);
	ck_assert(raw_arrives(y.b, 1000, 0));
	ck_assert_uint_lt(env_now(w->e), start + 20 * NS_PER_S);
	memory_path_stats(y.mout, &st);
	ck_assert_uint_gt(st.wire, 2 * limited); /* else it said nothing */
	way_close(&y);
}

struct bystander {
	struct env_task task;
	unsigned ran;
};

static void bystander_runs(struct env_task *t)
{
	container_of(t, struct bystander, task)->ran++;
}

static void drain_fiber(void *arg)
{
	struct raw_pump *p = arg;
	uint8_t b[4096];

	while (raw_read(p->r, b, sizeof(b)))
		;
	p->done = true;
}

/* The codec's threads wake the loop while the loop itself wants another turn: what else is due must not get lost. */
WAYS(a_limit_that_changes_while_threads_work_loses_no_task)
{
	struct bystander s = { .ran = 0 };
	struct raw_pump pa, pb;
	struct way y = { 0 };

	way_open(w, &y);
	env_task_init(&s.task, bystander_runs);
	pa = (struct raw_pump){ .r = y.a, .n = 2000 };
	pb = (struct raw_pump){ .r = y.b };
	ck_assert_int_eq(fiber_spawn(w->e, raw_pump, &pa, "a"), 0);
	ck_assert_int_eq(fiber_spawn(w->e, drain_fiber, &pb, "b"), 0);
	for (unsigned i = 0; i < 1000 && y.mout; i++) {
		struct timespec t, now;

		memory_path_limit(y.mout, 1000000000u + i);
		env_defer(w->e, &s.task);
		clock_gettime(CLOCK_MONOTONIC, &t);
		do /* threads post meanwhile */
			clock_gettime(CLOCK_MONOTONIC, &now);
		while ((now.tv_sec - t.tv_sec) * 1000000000 + now.tv_nsec - t.tv_nsec < 300000);
		fiber_sleep(w->e, 100 * NS_PER_US);
		ck_assert_uint_eq(s.ran, i + 1);
	}
	free_out(&y, NULL);
	while (!pa.done || !pb.done)
		fiber_sleep(w->e, NS_PER_MS);
	way_close(&y);
}

static Suite *suite(void)
{
	Suite *s = suite_create("rpc_relay");
	TCase *tc = tcase_create("relay");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, every_byte_arrives_both_ways, 0, 2 * WORLD_KINDS);
	tcase_add_loop_test(tc, what_was_sent_before_the_end_arrives, 0, 2 * WORLD_KINDS);
	tcase_add_loop_test(tc, a_reader_that_stands_still_stops_the_writer, WORLD_SIM, WORLD_KINDS);
	add_both(tc, kept_until_it_is_freed);
	tcase_add_loop_test(tc, a_reader_that_stands_still_stops_the_writer, WORLD_KINDS + WORLD_SIM, 2 * WORLD_KINDS);
	tcase_add_loop_test(tc, a_limit_holds_and_may_be_changed, WORLD_KINDS + WORLD_SIM, 2 * WORLD_KINDS);
	tcase_add_loop_test(tc, a_limit_that_changes_while_threads_work_loses_no_task, WORLD_KINDS + WORLD_REAL,
			    WORLD_KINDS + WORLD_REAL + 1);
	tcase_add_loop_test(tc, memory_that_runs_out_at_the_end_does_not_hang, WORLD_SIM, WORLD_KINDS);
	tcase_add_loop_test(tc, memory_that_runs_out_at_the_end_does_not_hang, WORLD_KINDS + WORLD_SIM, 2 * WORLD_KINDS);
	tcase_add_loop_test(tc, nobody_listens_at_the_other_end, 0, 2 * WORLD_KINDS);
	tcase_add_loop_test(tc, given_up_at_any_moment_both_programs_see_the_end, 0, 2 * WORLD_KINDS);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
