/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pass that is cut off, and the one that does it again cut off as well: by a power loss, which tears pages, or by the end of the
 * process, which leaves writes that are not durable and look as if they were. Nothing rots here, so nothing that was in its place
 * before may be lost (rot: pages.c).
 */
#include <stdlib.h>

#include "base/mem.h"
#include "env/mark.h"
#include "unit/replica/world.h"

#define SEG (4 * MiB)
#define SETTLED 32u /* blocks, from 0 on */
#define WITHIN (900 * NS_PER_US) /* of a marked point */
#define REGION(r) ((r) * (uint32_t)(REPL_REGION / HCI_BLOCK))

#define WRITTEN "write-back has written" /* the data; not synced */
#define SYNCED "write-back has synced"   /* the data; tables and checksums come now */

struct t {
	struct simw w;
	struct env *e;
	struct repl_disk *d;
	struct repl_slot *s;
	uint64_t seq, gen;
	const char *mark; /* strikes after it */
	bool power;
	unsigned lost; /* of the settled blocks */
	bool back;     /* a block that was zeroed */
};

static void strike(void *arg)
{
	struct t *t = arg;

	if (!sim_node_up(t->w.node))
		return;
	if (t->power)
		sim_node_power_loss(t->w.node);
	else
		sim_node_crash(t->w.node);
}

static void on_mark(void *arg, struct sim_node *n, const struct env_mark *m, unsigned state)
{
	struct t *t = arg;

	(void)n;
	(void)state;
	if (!t->mark || strcmp(m->name, t->mark))
		return;
	t->mark = NULL;
	sim_at(t->w.sim, sim_now(t->w.sim) + 1 + sim_rand_below(t->w.sim, WITHIN), strike, t);
}

static void run(struct t *t, void (*life)(struct env *e, void *arg), const char *mark, bool power)
{
	t->mark = mark;
	t->power = power;
	if (!simw_run(&t->w, life, t))
		ck_assert(mark);
}

static void begin(struct t *t, uint64_t seed)
{
	*t = (struct t){ 0 };
	simw_begin(&t->w, seed, 256 * MiB);
	sim_on_mark(t->w.sim, on_mark, t);
}

static void open_disk(struct t *t, struct env *e, bool format)
{
	struct repl_disk_opts o = disk_opts();

	if (format)
		ck_assert_int_eq(repl_disk_format(e, "/d1", &o, NULL), 0);
	t->e = e;
	t->d = must_open(e, "/d1", &o);
	t->s = must_slot(t->d, 1, ++t->gen, SEG);
}

static void close_disk(struct t *t, bool abandon)
{
	repl_slot_put(t->s);
	repl_disk_close(t->d, abandon);
}

static int content(unsigned k)
{
	return (int)(k % 250) + 1;
}

static void put(struct t *t, unsigned first, unsigned n)
{
	for (unsigned k = first; k < first + n; k++)
		ck_assert_int_eq(write_fill(t->e, t->s, 0, (uint64_t)k * HCI_BLOCK, HCI_BLOCK, content(k), ++t->seq), 0);
}

static void zero(struct t *t, unsigned k)
{
	ck_assert_int_eq(io(t->e, t->s, REPL_ZERO, 0, (uint64_t)k * HCI_BLOCK, HCI_BLOCK, NULL, ++t->seq, 0), 0);
}

/* HCI_E_CORRUPT, or what is there. */
static int get(struct t *t, unsigned k)
{
	uint8_t *p = mem_alloc_aligned(HCI_BLOCK);
	int rc = io(t->e, t->s, REPL_READ, 0, (uint64_t)k * HCI_BLOCK, HCI_BLOCK, p, 0, REPL_F_VERIFY);

	ck_assert(rc == 0 || rc == HCI_E_CORRUPT);
	rc = rc ? rc : p[0];
	mem_free_aligned(p);
	return rc;
}

static void count_lost(struct t *t, unsigned first, unsigned n)
{
	t->lost = 0;
	for (unsigned k = first; k < first + n; k++) {
		int c = get(t, k);

		t->lost += c == HCI_E_CORRUPT;
		ck_assert(c == HCI_E_CORRUPT || c == content(k));
	}
}

static unsigned seeds(void)
{
	const char *many = getenv("HCI_SEEDS");

	return many ? (unsigned)atoi(many) : 250;
}

/* ---- twice ---- */

static void two_settled(struct env *e, void *arg)
{
	struct t *t = arg;

	open_disk(t, e, true);
	for (unsigned k = 0; k < SETTLED; k += SETTLED / 2) {
		put(t, k, SETTLED / 2);
		disk_settle(t->e, t->d);
	}
	close_disk(t, false);
}

static void two_write(struct env *e, void *arg)
{
	struct t *t = arg;

	open_disk(t, e, false);
	put(t, 0, 3);
	put(t, REGION(40), 3);
	put(t, REGION(20), 3);
	fiber_sleep(e, 5 * NS_PER_S);
	close_disk(t, true);
}

static void two_again(struct env *e, void *arg)
{
	open_disk(arg, e, false);
	fiber_sleep(e, 5 * NS_PER_S);
	close_disk(arg, true);
}

static void two_look(struct env *e, void *arg)
{
	open_disk(arg, e, false);
	count_lost(arg, 0, SETTLED);
	close_disk(arg, true);
}

static const struct {
	const char *first, *second;
	bool power; /* the first time */
} cuts[] = {
	{ WRITTEN, WRITTEN, true }, { WRITTEN, SYNCED, true }, { SYNCED, WRITTEN, true }, { SYNCED, SYNCED, true },
	{ WRITTEN, WRITTEN, false }, { SYNCED, WRITTEN, false }, { SYNCED, SYNCED, false },
};

START_TEST(what_was_there_stays)
{
	for (unsigned seed = 1; seed <= seeds(); seed++) {
		struct t t;

		begin(&t, seed);
		run(&t, two_settled, NULL, false);
		run(&t, two_write, cuts[_i].first, cuts[_i].power);
		run(&t, two_again, cuts[_i].second, true);
		run(&t, two_look, NULL, false);
		ck_assert_msg(!t.lost, "seed %u: %u blocks are lost", seed, t.lost);
		simw_end(&t.w);
	}
}
END_TEST

/* ---- zeroed in between ---- */

static void zero_settled(struct env *e, void *arg)
{
	open_disk(arg, e, true);
	put(arg, 0, 4);
	disk_settle(e, ((struct t *)arg)->d);
	close_disk(arg, false);
}

static void zero_write(struct env *e, void *arg)
{
	open_disk(arg, e, false);
	put(arg, 5, 1);
	put(arg, REGION(30) + 5, 1);
	fiber_sleep(e, 5 * NS_PER_S);
	close_disk(arg, true);
}

static void zero_both(struct env *e, void *arg)
{
	open_disk(arg, e, false);
	zero(arg, 5);
	zero(arg, REGION(30) + 5);
	disk_settle(e, ((struct t *)arg)->d);
	close_disk(arg, false);
}

/* The same page of the region table, another one of checksums. */
static void zero_more(struct env *e, void *arg)
{
	open_disk(arg, e, false);
	put(arg, REGION(63), 2);
	put(arg, REGION(62), 2);
	fiber_sleep(e, 5 * NS_PER_S);
	close_disk(arg, true);
}

static void zero_look(struct env *e, void *arg)
{
	struct t *t = arg;

	open_disk(t, e, false);
	t->back = get(t, 5) > 0;
	count_lost(t, 0, 4);
	close_disk(t, true);
}

START_TEST(zeroes_stay_zeroes)
{
	for (unsigned seed = 1; seed <= seeds(); seed++) {
		struct t t;

		begin(&t, seed);
		run(&t, zero_settled, NULL, false);
		run(&t, zero_write, cuts[_i].first, cuts[_i].power);
		run(&t, zero_both, NULL, false);
		run(&t, zero_more, SYNCED, true);
		run(&t, zero_look, NULL, false);
		ck_assert_msg(!t.back && !t.lost, "seed %u: %u blocks are lost, the zeroed one is %s", seed, t.lost,
			      t.back ? "back" : "not back");
		simw_end(&t.w);
	}
}
END_TEST

/* ---- seen, then power is lost ---- */

static void seen_write(struct env *e, void *arg)
{
	struct t *t = arg;

	open_disk(t, e, t->gen == 0);
	put(t, 0, 1);
	sim_at(t->w.sim, sim_now(t->w.sim) + 1 + sim_rand_below(t->w.sim, 300 * NS_PER_US), strike, t);
	for (unsigned k = 1; k < 8; k++)
		(void)write_fill(e, t->s, 0, 0, HCI_BLOCK, content(k), ++t->seq);
	fiber_sleep(e, NS_PER_S);
}

static void seen_read(struct env *e, void *arg)
{
	struct t *t = arg;

	open_disk(t, e, false);
	t->lost = (unsigned)get(t, 0);
	simw_crash_at(&t->w, 0, true);
	fiber_sleep(e, NS_PER_S);
}

static void seen_again(struct env *e, void *arg)
{
	struct t *t = arg;

	open_disk(t, e, false);
	ck_assert_uint_eq((unsigned)get(t, 0), t->lost);
	close_disk(t, true);
}

/* The process ended while a batch was being written; the next one found it, and somebody read what is in it. */
START_TEST(what_was_read_stays)
{
	for (unsigned seed = 1; seed <= seeds(); seed++) {
		struct t t;

		begin(&t, seed);
		ck_assert(!simw_run(&t.w, seen_write, &t));
		ck_assert(!simw_run(&t.w, seen_read, &t));
		run(&t, seen_again, NULL, false);
		simw_end(&t.w);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("passes cut off twice");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 300);
	tcase_add_loop_test(t, what_was_there_stays, 0, (int)ARRAY_SIZE(cuts));
	tcase_add_loop_test(t, zeroes_stay_zeroes, 0, (int)ARRAY_SIZE(cuts));
	tcase_add_test(t, what_was_read_stays);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
