/* SPDX-License-Identifier: Apache-2.0 */
/* Two sockets of one machine joined (rpc/join.h): every byte, the ends, and who is slow. */
#include "rpc/join.h"
#include "unit/harness.h"
#include "unit/rpc/raw.h"

/* program a -- door, join -- program b */
struct way {
	struct world *w;
	struct env_listener *door;
	struct raw *a, *b;
	struct rpc_join *j;
	const char *to;
	struct fiber_cond cond;
	bool over, keep;
	struct hci_error err;
	unsigned before_to, before_from;
};

static void before(void *arg, bool to_socket)
{
	struct way *y = arg;

	*(to_socket ? &y->before_to : &y->before_from) += 1;
}

static void on_over(void *arg, struct rpc_join *j, const struct hci_error *err)
{
	struct way *y = arg;

	y->over = true;
	y->err = *err;
	if (!y->keep) {
		rpc_join_free(j);
		y->j = NULL;
	}
	fiber_cond_signal(y->w->e, &y->cond);
}

static void on_accept(void *arg, struct env_conn *c)
{
	struct way *y = arg;
	struct hci_error err;

	y->j = rpc_join_new(y->w->e, c, y->to, &(struct rpc_join_opts){ .before = before, .on_over = on_over, .arg = y, .keep = y->keep }, &err);
	ck_assert_msg(y->j || err.code == HCI_E_INVAL, "%s", err.message);
	y->over |= !y->j;
	fiber_cond_signal(y->w->e, &y->cond);
}

static void way_open(struct world *w, struct way *y, const char *to)
{
	struct hci_error err;

	*y = (struct way){ .w = w, .keep = y->keep };
	fiber_cond_init(&y->cond);
	y->b = to ? NULL : raw_listen(w);
	y->to = to ? to : env_listener_addr(y->b->listener);
	y->door = env_listen(w->e, w->kind == WORLD_SIM ? "tcp:n1:0" : "tcp:127.0.0.1:0", NULL, on_accept, y, &err);
	ck_assert_ptr_nonnull(y->door);
	if (to)
		return;
	y->a = raw_connect(w, env_listener_addr(y->door));
	raw_accept(y->b);
}

static void wait_over(struct way *y)
{
	while (!y->over)
		fiber_cond_wait(y->w->e, &y->cond);
}

static void way_close(struct way *y)
{
	rpc_join_free(y->j);
	if (y->a)
		raw_free(y->a);
	if (y->b)
		raw_free(y->b);
	env_listener_close(y->door);
}

BOTH(every_byte_arrives_both_ways)
{
	struct way y = { 0 };
	struct raw_pump pa, pb;
	uint8_t c;

	way_open(w, &y, NULL);
	pa = (struct raw_pump){ .r = y.a, .n = 200, .seed = 1 };
	pb = (struct raw_pump){ .r = y.b, .n = 100, .seed = 5000 };
	ck_assert_int_eq(fiber_spawn(w->e, raw_pump, &pa, "a"), 0);
	ck_assert(raw_arrives(y.b, 200, 1));
	ck_assert_int_eq(fiber_spawn(w->e, raw_pump, &pb, "b"), 0);
	ck_assert(raw_arrives(y.a, 100, 5000));
	ck_assert(pa.done && pa.ok && pb.done && pb.ok);
	ck_assert(y.before_to && y.before_from);
	raw_close(y.a, false);
	ck_assert(!raw_read(y.b, &c, 1));
	wait_over(&y);
	ck_assert_int_eq(y.err.code, 0);
	way_close(&y);
}

BOTH(what_was_sent_before_the_end_arrives)
{
	for (unsigned from = 0; from < 2; from++) {
		struct way y = { 0 };
		struct raw_pump p = { .n = 50 };
		struct raw *other;
		uint8_t c;

		way_open(w, &y, NULL);
		p.r = from ? y.b : y.a;
		other = from ? y.a : y.b;
		raw_pump(&p);
		ck_assert(p.ok);
		raw_close(p.r, false);
		ck_assert(raw_arrives(other, 50, 0));
		ck_assert(!raw_read(other, &c, 1));
		wait_over(&y);
		ck_assert_int_eq(y.err.code, 0);
		way_close(&y);
	}
}

BOTH(a_slow_reader_holds_the_writer_back)
{
	struct way y = { 0 };
	struct raw_pump p = { .n = 2000, .seed = 7 };

	way_open(w, &y, NULL);
	p.r = y.a;
	raw_hold(y.b, true);
	ck_assert_int_eq(fiber_spawn(w->e, raw_pump, &p, "pump"), 0);
	fiber_sleep(w->e, 300 * NS_PER_MS);
	ck_assert(!p.done); /* 100 MB are not in buffers */
	raw_hold(y.b, false);
	ck_assert(raw_arrives(y.b, 2000, 7));
	way_close(&y);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void closed(void *arg, const struct hci_error *err)
{
	bool *over = arg;

	(void)err;
	*over = true;
}

/* As program a, which may be hung up on before it knows that it is connected. */
static void knock(struct way *y)
{
	static const struct env_conn_ops ops = { nothing, nothing, nothing, closed };
	struct hci_error err;
	bool over = false;
	struct env_conn *c = env_connect(y->w->e, env_listener_addr(y->door), NULL, &ops, &over, &err);

	ck_assert_ptr_nonnull(c);
	wait_over(y);
	while (!over) {
		uint8_t b;

		over |= env_conn_recv(c, &b, 1) == 0;
		fiber_sleep(y->w->e, NS_PER_MS);
	}
	env_conn_close(c, true);
}

BOTH(nobody_there)
{
	struct raw *gone = raw_listen(w);
	char addr[160];
	struct way y = { 0 };

	snprintf(addr, sizeof(addr), "%s", env_listener_addr(gone->listener));
	raw_free(gone);
	way_open(w, &y, addr);
	knock(&y);
	ck_assert_int_ne(y.err.code, 0);
	way_close(&y);
	way_open(w, &y, "nonsense");
	knock(&y);
	ck_assert_ptr_null(y.j);
	way_close(&y);
}

BOTH(freed_amid_it)
{
	struct way y = { 0 };
	struct raw_pump p = { .n = 500 };
	uint8_t c;

	way_open(w, &y, NULL);
	p.r = y.a;
	ck_assert_int_eq(fiber_spawn(w->e, raw_pump, &p, "pump"), 0);
	ck_assert(raw_arrives(y.b, 20, 0));
	rpc_join_free(y.j);
	y.j = NULL;
	while (raw_read(y.b, &c, 1))
		;
	while (!p.done)
		fiber_sleep(w->e, NS_PER_MS);
	ck_assert(!y.over);
	way_close(&y);
}

BOTH(kept_until_it_is_freed)
{
	for (unsigned how = 0; how < 3; how++) {
		struct way y = { .keep = true };
		uint8_t c = 1;

		way_open(w, &y, NULL);
		ck_assert(raw_send(y.b, &c, 1));
		ck_assert(raw_read(y.a, &c, 1));
		raw_close(y.b, how == 1);
		wait_over(&y);
		fiber_sleep(w->e, 50 * NS_PER_MS);
		ck_assert(!y.a->over);
		if (how == 2) { /* its own end is its end */
			raw_close(y.a, true);
			fiber_sleep(w->e, 50 * NS_PER_MS);
		}
		rpc_join_free(y.j);
		y.j = NULL;
		if (how < 2)
			ck_assert(!raw_read(y.a, &c, 1));
		way_close(&y);
	}
}

static Suite *suite(void)
{
	Suite *s = suite_create("joined sockets");
	TCase *tc = tcase_create("join");

	tcase_set_timeout(tc, 60);
	add_both(tc, every_byte_arrives_both_ways);
	add_both(tc, what_was_sent_before_the_end_arrives);
	add_both(tc, a_slow_reader_holds_the_writer_back);
	add_both(tc, nobody_there);
	add_both(tc, freed_amid_it);
	add_both(tc, kept_until_it_is_freed);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
