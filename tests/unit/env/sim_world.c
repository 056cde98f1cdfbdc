/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <time.h>

#include "unit/env/sim_fixture.h"

/* ---- clocks and timers ---- */

static uint64_t fired_at[4], started;
static struct sim_node *node;
static struct sim *sim;

static void sleeper(struct env *e)
{
	started = env_now(e);
	fiber_sleep(e, 10 * NS_PER_S);
	fired_at[0] = env_now(e) - started;
}

START_TEST(time_is_virtual)
{
	uint64_t t0;

	sim = sim_of_seed(1);
	node = sim_node_new(sim, "a");
	t0 = sim_now(sim);
	sim_run_on(sim, node, sleeper);
	ck_assert_uint_ge(fired_at[0], 10 * NS_PER_S);
	ck_assert_uint_lt(fired_at[0], 10 * NS_PER_S + NS_PER_MS);
	sim_node_clock(node, 100000, 0); /* 10% fast: sleeps shorter in the world's time */
	t0 = sim_now(sim);
	sim_run_on(sim, node, sleeper);
	ck_assert_uint_ge(fired_at[0], 10 * NS_PER_S);
	t0 = sim_now(sim) - t0;
	ck_assert_uint_gt(t0, 9 * NS_PER_S);
	ck_assert_uint_lt(t0, 9200 * NS_PER_MS);
	sim_free(sim);
}
END_TEST

static void set_clock_back(void *arg)
{
	(void)arg;
	sim_node_clock(node, -50000, -3600 * (int64_t)NS_PER_S);
}

static void realtime_reader(struct env *e)
{
	uint64_t r0 = env_realtime(e);

	fiber_sleep(e, NS_PER_S);
	ck_assert_uint_lt(env_realtime(e), r0);
}

START_TEST(clock_jumps_while_sleeping)
{
	sim = sim_of_seed(2);
	node = sim_node_new(sim, "a");
	sim_at(sim, NS_PER_S / 2, set_clock_back, NULL);
	sim_run_on(sim, node, realtime_reader);
	sim_free(sim);
}
END_TEST

/* ---- crash: nothing runs on, all memory goes ---- */

static int alive;

static void hold(struct env *e)
{
	struct env_file *f;
	char *p = mem_alloc(1000000);

	ck_assert_ptr_nonnull(p);
	env_open(e, "/d/f", ENV_O_CREATE, &f);
	for (;;) {
		alive++;
		fiber_write(e, f, "x", 1, 0, 0);
		fiber_sleep(e, NS_PER_MS);
	}
}

static void crash_self(struct env *e)
{
	sim_node_crash(node);
	ck_assert(sim_node_up(node)); /* at the end of the turn */
	fiber_sleep(e, 1);
	ck_abort_msg("ran on after its crash");
}

START_TEST(crash_drops_all)
{
	struct sim_run r = { .fn = hold }, r2 = { .fn = crash_self };
	int then;

	sim = sim_of_seed((uint64_t)_i);
	node = sim_node_new(sim, "a");
	sim_disk_new(node, "/d", MiB);
	for (int k = 0; k < 20; k++) {
		sim_node_boot(node, sim_run_spawn_, &r);
		sim_run(sim, sim_rand_below(sim, 20 * NS_PER_MS));
		if (k % 3 == 0) {
			sim_node_call(node, sim_run_spawn_, &r2);
			sim_run(sim, NS_PER_MS);
		} else if (k % 3 == 1) {
			sim_node_crash(node);
		} else {
			sim_node_power_loss(node);
		}
		ck_assert(!sim_node_up(node));
		ck_assert_ptr_null(sim_node_env(node));
		then = alive;
		sim_run(sim, NS_PER_S);
		ck_assert_int_eq(alive, then);
	}
	ck_assert_int_gt(alive, 20);
	sim_free(sim);
}
END_TEST

static void work_run(void *arg)
{
	++*(int *)arg;
}

static void worker(struct env *e)
{
	int n = 0;

	fiber_work(e, work_run, &n);
	ck_assert_int_eq(n, 1);
}

START_TEST(work)
{
	sim = sim_of_seed(3);
	node = sim_node_new(sim, "a");
	sim_run_on(sim, node, worker);
	sim_free(sim);
}
END_TEST

/* ---- determinism: nodes that talk, write, die and come back ---- */

#define NODES 4

struct chat {
	struct env *env;
	struct env_conn *in[16];
	int nin;
	struct env_conn *out;
};

static uint64_t messages;

static void chat_readable(void *arg)
{
	struct env_conn **slot = arg;
	uint8_t buf[64];
	int64_t n = env_conn_recv(*slot, buf, sizeof(buf));

	if (n > 0) {
		struct iovec v = { buf, (size_t)n };

		messages++;
		(void)env_conn_send(*slot, &v, 1);
	}
}

static void chat_open(void *arg)
{
	struct env_conn **slot = arg;
	uint8_t b[16] = "ball";
	struct iovec v = { b, sizeof(b) };

	(void)env_conn_send(*slot, &v, 1);
}

static void chat_writable(void *arg)
{
	(void)arg;
}

static void chat_closed(void *arg, const struct hci_error *err)
{
	struct env_conn **slot = arg;

	(void)err;
	env_conn_close(*slot, false);
	*slot = NULL;
}

static const struct env_conn_ops chat_ops = { chat_open, chat_readable, chat_writable, chat_closed };

static void chat_accept(void *arg, struct env_conn *c)
{
	struct chat *ch = arg;
	int k = ch->nin++ % 16;

	if (ch->in[k])
		env_conn_close(ch->in[k], true);
	ch->in[k] = c;
	env_conn_set_ops(c, &chat_ops, &ch->in[k]);
}

static void chat_life(void *arg)
{
	struct chat *ch = arg;
	struct env *e = ch->env;
	struct env_file *f;
	uint8_t *page = mem_alloc_aligned(HCI_BLOCK);

	if (env_open(e, "/d/log", ENV_O_CREATE | ENV_O_DIRECT, &f))
		return;
	for (uint64_t k = 0;; k++) {
		uint8_t r[2];
		char addr[32];

		env_random(e, r, sizeof(r));
		memset(page, r[0], HCI_BLOCK);
		fiber_write(e, f, page, HCI_BLOCK, (uint64_t)(r[0] % 16) * HCI_BLOCK, r[1] & 1 ? ENV_IO_DSYNC : 0);
		if (r[1] % 8 == 0)
			fiber_fsync(e, f);
		if (!ch->out) {
			snprintf(addr, sizeof(addr), "tcp:n%d:1", r[0] % NODES);
			ch->out = env_connect(e, addr, NULL, &chat_ops, &ch->out, NULL);
		}
		fiber_sleep(e, r[1] * 10000u);
	}
}

static void chat_boot(struct env *e, void *arg)
{
	struct chat *ch = MEM_NEW(struct chat);

	(void)arg;
	ch->env = e;
	env_listen(e, "tcp:x:1", NULL, chat_accept, ch, NULL);
	fiber_spawn(e, chat_life, ch, "chat");
}

static void trouble(struct sim *s, struct sim_node **n, struct sim_disk **d)
{
	unsigned k = (unsigned)sim_rand_below(s, NODES), j = (unsigned)sim_rand_below(s, NODES);

	switch (sim_rand_below(s, 8)) {
	case 0:
		sim_node_crash(n[k]);
		break;
	case 1:
		sim_node_power_loss(n[k]);
		break;
	case 2:
		sim_net_cut(s, n[k], n[j], true);
		break;
	case 3:
		sim_net_heal(s);
		break;
	case 4:
		sim_disk_fault(d[k], (enum sim_disk_fault)sim_rand_below(s, 5));
		break;
	case 5:
		sim_disk_fault(d[k], SIM_DISK_OK);
		break;
	case 6:
		sim_net_reset_conns(s, n[k], n[j]);
		break;
	default:
		if (!sim_node_up(n[k]))
			sim_node_boot(n[k], chat_boot, NULL);
	}
}

static uint64_t messy(uint64_t seed, uint64_t *events)
{
	struct sim *s = sim_of_seed(seed);
	struct sim_node *n[NODES];
	struct sim_disk *d[NODES];
	uint64_t digest;

	for (int k = 0; k < NODES; k++) {
		char name[8];

		snprintf(name, sizeof(name), "n%d", k);
		n[k] = sim_node_new(s, name);
		d[k] = sim_disk_new(n[k], "/d", MiB);
		sim_node_boot(n[k], chat_boot, NULL);
	}
	for (int k = 0; k < 300; k++) {
		sim_run(s, sim_rand_below(s, 100 * NS_PER_MS));
		trouble(s, n, d);
	}
	digest = sim_digest(s);
	*events = sim_events(s);
	sim_free(s);
	return digest;
}

START_TEST(same_seed_same_run)
{
	uint64_t e1, e2, first = messy((uint64_t)_i, &e1);
	void *shift = malloc(12345); /* other addresses the second time */

	ck_assert_uint_eq(first, messy((uint64_t)_i, &e2));
	ck_assert_uint_eq(e1, e2);
	ck_assert_uint_gt(e1, 10000);
	ck_assert_uint_ne(first, messy((uint64_t)_i + 1000, &e2));
	free(shift);
}
END_TEST

/* Prints the rate; a floor well below what is usual catches an accidental O(n). */
START_TEST(events_per_second)
{
	struct timespec t0, t1;
	uint64_t total = 0, e;
	double secs;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (uint64_t k = 0; k < 10; k++) {
		messy(k, &e);
		total += e;
	}
	clock_gettime(CLOCK_MONOTONIC, &t1);
	secs = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;
	printf("simulator: %.0f events in %.2f s, %.0f a second\n", (double)total, secs, (double)total / secs);
	ck_assert(total / secs > 20000);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_world");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, time_is_virtual);
	tcase_add_test(t, clock_jumps_while_sleeping);
	tcase_add_loop_test(t, crash_drops_all, 0, 6);
	tcase_add_test(t, work);
	tcase_add_loop_test(t, same_seed_same_run, 0, 5);
	tcase_add_test(t, events_per_second);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
