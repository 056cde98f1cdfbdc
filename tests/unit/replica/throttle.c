/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writers that are faster than the medium: as long as the log has room they are as fast as it is, then they come down
 * to the medium's pace without ever standing still. The medium below is 100 times slower than the log's.
 */
#include <stdio.h>
#include <stdlib.h>

#include "replica/replica_impl.h"
#include "unit/replica/world.h"

#define SEG (64 * MiB)
#define DEPTH 32u
#define SECONDS 60u

struct load;

struct req {
	struct repl_op op;
	struct env_io io;
	struct load *l;
	uint64_t start;
	uint8_t *buf;
};

struct load {
	struct env *e;
	struct fiber *f;
	struct sim *sim;
	struct repl_slot *slot; /* NULL: raw */
	struct env_file *raw;
	struct req req[DEPTH];
	uint64_t size; /* of what is written all over */
	uint64_t seq, start, end, worst, last, gap;
	uint32_t open, done[SECONDS + 2];
};

static void send(struct req *r);

static void one_done(struct load *l, struct req *r)
{
	uint64_t now = env_now(l->e), s = (now - l->start) / NS_PER_S;

	l->done[MIN(s, SECONDS + 1)]++;
	l->worst = MAX(l->worst, now - r->start);
	l->gap = MAX(l->gap, now - l->last);
	l->last = now;
	if (now < l->end)
		send(r);
	else if (--l->open == 0)
		fiber_wake(l->e, l->f);
}

static void op_done(struct repl_op *op)
{
	struct req *r = container_of(op, struct req, op);

	ck_assert_int_eq(op->status, 0);
	one_done(r->l, r);
}

static void io_done(struct env_io *io)
{
	struct req *r = container_of(io, struct req, io);

	ck_assert_int_eq(io->result, 4096);
	one_done(r->l, r);
}

static void send(struct req *r)
{
	struct load *l = r->l;
	uint64_t at = sim_rand_below(l->sim, l->size / HCI_BLOCK) * HCI_BLOCK;

	r->start = env_now(l->e);
	if (!l->slot) {
		env_io_prep(&r->io, ENV_WRITE, l->raw, r->buf, HCI_BLOCK, at, io_done);
		env_submit(l->e, &r->io);
		return;
	}
	r->op = (struct repl_op){ .kind = REPL_WRITE, .slot = l->slot, .segment = (uint32_t)(at / SEG), .off = at % SEG,
				  .len = HCI_BLOCK, .buf = r->buf, .seq = ++l->seq, .done = op_done };
	repl_submit(&r->op);
}

static void run(struct load *l, uint64_t seconds)
{
	l->f = fiber_self(l->e);
	l->start = l->last = env_now(l->e);
	l->end = l->start + seconds * NS_PER_S;
	l->worst = l->gap = 0;
	memset(l->done, 0, sizeof(l->done));
	l->open = DEPTH;
	for (unsigned i = 0; i < DEPTH; i++)
		send(&l->req[i]);
	while (l->open)
		fiber_park(l->e);
}

static uint32_t raw_pace(struct load *l)
{
	ck_assert_int_eq(env_open(l->e, "/d1/raw", ENV_O_CREATE | ENV_O_DIRECT, &l->raw), 0);
	run(l, 10);
	env_close(l->e, l->raw);
	ck_assert_int_eq(env_unlink(l->e, "/d1/raw"), 0);
	return (l->done[3] + l->done[4] + l->done[5] + l->done[6]) / 4;
}

/* As fast as the medium is in sequence: what follows is a hundred times slower. */
static void fill(struct load *l)
{
	uint8_t *p = mem_alloc_aligned(MiB);

	memset(p, 1, MiB);
	for (uint64_t at = 0; at < l->size; at += MiB)
		ck_assert_int_eq(io(l->e, l->slot, REPL_WRITE, (uint32_t)(at / SEG), at % SEG, MiB, p, ++l->seq, 0), 0);
	fiber_sleep(l->e, 3 * NS_PER_S);
	mem_free_aligned(p);
}

struct t {
	struct simw w;
	uint32_t level;
	uint64_t size;
};

static void body(struct env *e, void *arg)
{
	struct t *t = arg;
	struct repl_disk_opts o = disk_opts();
	struct load *l = calloc(1, sizeof(*l));
	struct repl_disk *d;
	uint32_t pace, slowest = UINT32_MAX, sum = 0;

	l->e = e;
	l->sim = t->w.sim;
	l->size = t->size;
	for (unsigned i = 0; i < DEPTH; i++) {
		l->req[i].l = l;
		l->req[i].buf = aligned_alloc(HCI_BLOCK, HCI_BLOCK);
		memset(l->req[i].buf, (int)i + 1, HCI_BLOCK);
	}
	sim_disk_fault(t->w.disk, SIM_DISK_SLOW);
	pace = raw_pace(l);
	sim_disk_fault(t->w.disk, SIM_DISK_OK);
	o.log_path = "/ssd";
	o.log_size = 64 * MiB;
	o.log_level = t->level;
	d = must_format_open(e, "/d1", &o);
	l->slot = must_slot(d, 1, 1, SEG);
	fill(l);
	sim_disk_fault(t->w.disk, SIM_DISK_SLOW);
	run(l, SECONDS);
	for (unsigned s = SECONDS / 2; s < SECONDS; s++) {
		slowest = MIN(slowest, l->done[s]);
		sum += l->done[s];
	}
	if (getenv("HCI_TEST_LOG"))
		for (unsigned s = 0; s < SECONDS; s++)
			fprintf(stderr, "second %u: %u, medium %u\n", s, l->done[s], pace);
	/* While the log fills up as well: with the highest of the levels little is left then. */
	for (unsigned s = 1; s < SECONDS / 2; s++)
		ck_assert_msg(l->done[s] >= pace * (t->level > 50 ? 35 : 65) / 100, "second %u after a burst: %u, the medium does %u", s,
			      l->done[s], pace);
	ck_assert_msg(l->done[0] > 2 * pace, "burst %u, the medium does %u", l->done[0], pace);
	ck_assert_msg(slowest >= pace * 6 / 10, "slowest second %u, the medium does %u", slowest, pace);
	ck_assert_msg(sum / (SECONDS / 2) >= pace * 7 / 10, "%u a second, the medium does %u", sum / (SECONDS / 2), pace);
	ck_assert_msg(l->gap < NS_PER_S * 9 / 10, "nothing was done for %llu ms", (unsigned long long)l->gap / NS_PER_MS);
	ck_assert_msg(l->worst < NS_PER_S, "a write took %llu ms", (unsigned long long)l->worst / NS_PER_MS);
	repl_slot_put(l->slot);
	repl_disk_close(d, true);
	for (unsigned i = 0; i < DEPTH; i++)
		free(l->req[i].buf);
	free(l);
}

START_TEST(writers_come_down_to_the_mediums_pace)
{
	static const uint32_t levels[] = { 0, 10, 70 };
	static const uint64_t sizes[] = { 48 * MiB, 320 * MiB };
	struct t t = { .level = levels[_i % 3], .size = sizes[_i / 3] };

	simw_begin(&t.w, 1, 2 * GiB);
	sim_disk_new(t.w.node, "/ssd", 128 * MiB);
	ck_assert(simw_run(&t.w, body, &t));
	simw_end(&t.w);
}
END_TEST

/*
 * With the log on the disk itself each read from it costs the disk as much as a write: a pass takes what lies side by
 * side there. The log is several times what is kept in memory of it, and each block is written anew before long.
 */
static void count_body(struct env *e, void *arg)
{
	struct t *t = arg;
	struct repl_disk_opts o = disk_opts();
	struct load *l = calloc(1, sizeof(*l));
	uint64_t ios, writes;
	struct repl_disk *d;

	l->e = e;
	l->sim = t->w.sim;
	l->size = 64 * MiB;
	for (unsigned i = 0; i < DEPTH; i++) {
		l->req[i].l = l;
		l->req[i].buf = aligned_alloc(HCI_BLOCK, HCI_BLOCK);
		memset(l->req[i].buf, (int)i + 1, HCI_BLOCK);
	}
	o.log_size = 64 * MiB;
	d = must_format_open(e, "/d1", &o);
	d->frame_slabs_max = 4; /* 1 MiB: so little of a large log is in memory */
	l->slot = must_slot(d, 1, 1, SEG);
	fill(l);
	run(l, 2); /* until the log is full */
	sim_fail_nth(l->sim, SIM_FAIL_IO, 0);
	writes = l->seq;
	run(l, 2);
	ios = sim_fail_count(l->sim, SIM_FAIL_IO);
	writes = l->seq - writes;
	if (getenv("HCI_TEST_LOG"))
		fprintf(stderr, "%llu writes, %.2f operations of the disk for each\n", (unsigned long long)writes, (double)ios / (double)writes);
	ck_assert_uint_gt(writes, 10000);
	ck_assert_msg(ios * 10 <= writes * 9, "%llu operations of the disk for %llu writes", (unsigned long long)ios, (unsigned long long)writes);
	repl_slot_put(l->slot);
	repl_disk_close(d, true);
	for (unsigned i = 0; i < DEPTH; i++)
		free(l->req[i].buf);
	free(l);
}

START_TEST(write_back_reads_its_own_log_with_long_strokes)
{
	struct t t = { 0 };

	simw_begin(&t.w, 1, 2 * GiB);
	ck_assert(simw_run(&t.w, count_body, &t));
	simw_end(&t.w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("replica throttle");
	TCase *t = tcase_create("sim");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, writers_come_down_to_the_mediums_pace, 0, 6);
	tcase_add_test(t, write_back_reads_its_own_log_with_long_strokes);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
