/* SPDX-License-Identifier: Apache-2.0 */
/* A disk whose medium fails, stalls, fills up or rots, under the simulator. */
#include "unit/replica/world.h"

#define SEG MiB

struct t {
	struct simw w;
	unsigned failures;
	struct hci_error err;
};

static void on_failed(void *arg, struct repl_disk *d, const struct hci_error *err)
{
	struct t *t = arg;

	(void)d;
	t->failures++;
	t->err = *err;
}

static struct repl_disk_opts opts(struct t *t)
{
	struct repl_disk_opts o = disk_opts();

	o.on_failed = on_failed;
	o.arg = t;
	return o;
}

#define SIM(name)                                           \
	static void name##_body(struct env *e, void *arg);  \
	START_TEST(name)                                    \
	{                                                   \
		struct t t = { 0 };                         \
                                                            \
		simw_begin(&t.w, 1, 64 * MiB);              \
		ck_assert(simw_run(&t.w, name##_body, &t)); \
		simw_end(&t.w);                             \
	}                                                   \
	END_TEST                                            \
	static void name##_body(struct env *e, void *arg)

SIM(fails_once_and_for_all)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG), *no;
	struct uuid u = vol_uuid(1);
	struct repl_disk_info i;
	struct hci_error err;
	uint8_t *p = mem_alloc_aligned(4096);

	ck_assert_int_eq(write_fill(e, s, 0, 0, 8192, 1, 1), 0);
	sim_disk_fault(t->w.disk, SIM_DISK_EIO);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 4096, 2, 2), HCI_E_IO);
	fiber_sleep(e, NS_PER_S);
	ck_assert_uint_eq(t->failures, 1);
	ck_assert_int_eq(t->err.code, HCI_E_IO);
	ck_assert_ptr_nonnull(strstr(t->err.message, "/d1"));
	ck_assert_int_eq(io(e, s, REPL_READ, 0, 0, 4096, p, 0, 0), HCI_E_IO);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 4096, 2, 3), HCI_E_IO);
	ck_assert_int_eq(repl_slot_open(d, &u, 9, SEG, &no, NULL, &err), HCI_E_IO);
	ck_assert_int_eq(repl_drop(d, &u, 0, 9, &err), HCI_E_IO);
	repl_disk_info(d, &i);
	ck_assert(i.failed);
	repl_slot_put(s);
	repl_disk_close(d, true);
	sim_disk_fault(t->w.disk, SIM_DISK_OK);
	d = must_open(e, "/d1", &o);
	s = must_slot(d, 1, 1, SEG);
	read_expect(e, s, 0, 4096, 4096, 1);
	repl_slot_put(s);
	repl_disk_close(d, false);
	ck_assert_uint_eq(t->failures, 1);
	mem_free_aligned(p);
}

SIM(read_error_fails_the_disk)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG);
	uint8_t *p = mem_alloc_aligned(4096);

	ck_assert_int_eq(write_fill(e, s, 0, 0, 8192, 1, 1), 0);
	disk_settle(e, d);
	sim_disk_fault(t->w.disk, SIM_DISK_EIO);
	ck_assert_int_eq(io(e, s, REPL_READ, 0, 0, 4096, p, 0, 0), HCI_E_IO);
	fiber_sleep(e, NS_PER_MS);
	ck_assert_uint_eq(t->failures, 1);
	repl_slot_put(s);
	repl_disk_close(d, true);
	mem_free_aligned(p);
}

static void unstall(void *arg)
{
	struct t *t = arg;

	sim_disk_fault(t->w.disk, SIM_DISK_OK);
}

SIM(waits_out_a_stall)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG);
	uint64_t start = env_now(e);

	sim_at(t->w.sim, sim_now(t->w.sim) + 5 * NS_PER_S, unstall, t);
	sim_disk_fault(t->w.disk, SIM_DISK_STALL);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 8192, 1, 1), 0);
	ck_assert_uint_ge(env_now(e) - start, 5 * NS_PER_S);
	repl_slot_put(s);
	repl_disk_close(d, false);
	ck_assert_uint_eq(t->failures, 0);
}

/* Much more than the log holds: writers wait for it, nobody fails. */
SIM(full_log_slows_writers)
{
	struct repl_disk_opts o = opts(arg);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, 4 * SEG);

	for (unsigned k = 0; k < 40; k++)
		ck_assert_int_eq(write_fill(e, s, 0, k % 4 * SEG, SEG, (int)k + 1, k + 1), 0);
	for (unsigned k = 36; k < 40; k++)
		read_expect(e, s, 0, k % 4 * SEG, SEG, (int)k + 1);
	repl_slot_put(s);
	repl_disk_close(d, false);
}

SIM(full_disk_refuses_new_blocks_only)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG);
	struct uuid u = vol_uuid(1);
	struct repl_disk_info i;
	struct hci_error err;
	uint64_t seq = 0;
	uint32_t seg = 0;
	int rc;

	/* Every acknowledged write has its place: all are written back to the last one. */
	while (!(rc = write_fill(e, s, seg, 0, SEG, (int)seg % 100 + 1, ++seq)))
		seg++;
	ck_assert_int_eq(rc, HCI_E_NOSPACE);
	ck_assert_uint_gt(seg, 40);
	repl_disk_info(d, &i);
	ck_assert(i.full);
	disk_settle(e, d);
	ck_assert_int_eq(write_fill(e, s, 1, 0, SEG, 77, ++seq), 0); /* it has its blocks */
	disk_settle(e, d);
	for (uint32_t k = 2; k < seg; k++)
		read_expect(e, s, k, 0, SEG, (int)k % 100 + 1);
	read_expect(e, s, 1, 0, SEG, 77);
	ck_assert_int_eq(io(e, s, REPL_ZERO, 2, 0, SEG, NULL, ++seq, 0), 0);
	ck_assert_int_eq(repl_drop(d, &u, 3, 1, &err), 0);
	disk_settle(e, d);
	fiber_sleep(e, 2 * NS_PER_S);
	repl_disk_info(d, &i);
	ck_assert(!i.full);
	ck_assert_int_eq(write_fill(e, s, seg, 0, SEG, 78, ++seq), 0);
	disk_settle(e, d);
	read_expect(e, s, seg, 0, SEG, 78);
	repl_slot_put(s);
	repl_disk_close(d, false);
	ck_assert_uint_eq(t->failures, 0);
}

/* Somebody else took the space that was counted on: the data stay in the log, readable. */
SIM(stolen_space_keeps_data_in_the_log)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG);
	struct repl_disk_info i;
	unsigned k, refused = 0;
	int rc;

	ck_assert_int_eq(write_fill(e, s, 0, 0, SEG, 1, 1), 0);
	disk_settle(e, d);
	sim_disk_set_capacity(t->w.disk, sim_disk_used(t->w.disk));
	for (k = 0; k < 12; k++) {
		rc = write_fill(e, s, 1, k % 12 * REPL_REGION, 4096, 5, k + 2);
		ck_assert(rc == 0 || rc == HCI_E_NOSPACE);
		refused += rc != 0;
		fiber_sleep(e, 300 * NS_PER_MS);
	}
	ck_assert_uint_gt(refused, 0);
	repl_disk_info(d, &i);
	ck_assert(i.full);
	ck_assert(!i.failed);
	read_expect(e, s, 0, 0, SEG, 1);
	read_expect(e, s, 1, 0, 4096, 5);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 4096, 2, 50), 0); /* in place, through the log */
	repl_slot_put(s);
	repl_disk_close(d, false); /* cannot be drained: stays in the log */
	sim_disk_set_capacity(t->w.disk, 64 * MiB);
	d = must_open(e, "/d1", &o);
	s = must_slot(d, 1, 1, SEG);
	read_expect(e, s, 1, 0, 4096, 5);
	read_expect(e, s, 0, 0, 4096, 2);
	disk_settle(e, d);
	read_expect(e, s, 1, 0, 4096, 5);
	repl_slot_put(s);
	repl_disk_close(d, false);
	ck_assert_uint_eq(t->failures, 0);
}

/* With the disk stuck at full the log fills with overwrites: then they are refused, not stuck. */
SIM(full_disk_and_full_log)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, 4 * SEG), *x;
	struct uuid u = vol_uuid(1);
	struct hci_error err;
	unsigned ok = 0, k;
	int rc = 0;

	for (k = 0; k < 4; k++)
		ck_assert_int_eq(write_fill(e, s, 0, k * SEG, SEG, 1, k + 1), 0);
	disk_settle(e, d);
	ck_assert_int_eq(write_fill(e, s, 1, 0, 4096, 1, 10), 0);
	sim_disk_set_capacity(t->w.disk, sim_disk_used(t->w.disk));
	for (k = 0; k < 20 && !rc; k++) {
		rc = write_fill(e, s, 0, k % 4 * SEG, SEG, (int)k + 2, k + 11);
		ok += rc == 0;
	}
	ck_assert_int_eq(rc, HCI_E_NOSPACE);
	ck_assert_uint_ge(ok, 2);
	x = must_slot(d, 1, 2, 4 * SEG); /* the fence gets through */
	ck_assert_int_eq(repl_drop(d, &u, 1, 2, &err), 0);
	disk_settle(e, d);
	read_expect(e, x, 0, (ok - 1) % 4 * SEG, SEG, (int)ok + 1);
	repl_slot_put(s);
	repl_slot_put(x);
	repl_disk_close(d, false);
	ck_assert_uint_eq(t->failures, 0);
}

/* A damaged table costs no data and no zeroes in their place: what is in doubt says so. */
SIM(rot_in_tables_is_survived)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG);
	struct repl_region r[4], cur = { 0 };
	uint8_t *p = mem_alloc_aligned(16384);

	for (unsigned k = 0; k < 2; k++) {
		ck_assert_int_eq(write_fill(e, s, 0, 0, 8192, 1, k + 1), 0);
		disk_settle(e, d);
	}
	for (unsigned k = 0; k < 4; k++) {
		int rc;

		repl_slot_put(s);
		repl_disk_close(d, false);
		ck_assert(sim_disk_rot(t->w.disk, ".map"));
		d = must_open(e, "/d1", &o);
		s = must_slot(d, 1, 1, SEG);
		rc = io(e, s, REPL_READ, 0, 0, 16384, p, 0, 0);
		ck_assert(rc == 0 || rc == HCI_E_CORRUPT);
		ck_assert(p[0] == 1 && p[8191] == 1 && p[8192] == 0 && p[16383] == 0);
		ck_assert_uint_ge(repl_regions(s, 1, 0, &cur, r, 4), 1);
		ck_assert_uint_eq(r[0].seq & REPL_SEQ_MASK, 2);
		cur = (struct repl_region){ 0 };
	}
	mem_free_aligned(p);
	repl_slot_put(s);
	repl_disk_close(d, false);
	ck_assert_uint_eq(t->failures, 0);
}

/* A format that was cut off at any moment can be done again. */
static void format_only(struct env *e, void *arg)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d;
	struct hci_error err;
	int rc = repl_disk_format(e, "/d1", &o, &err);

	(void)arg;
	ck_assert_msg(rc == 0 || rc == HCI_E_EXISTS, "%s", err.message);
	d = must_open(e, "/d1", &o);
	repl_disk_close(d, false);
}

/* A pass is under way when the first write of a volume arrives: it finds a segment whose volume has no folder yet. */
SIM(new_volumes_may_come_during_write_back)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 0, 1, SEG);
	uint64_t seq = 0;

	for (unsigned n = 1; n < 60; n++) {
		struct repl_slot *new;

		for (unsigned i = 0; i < 8; i++)
			ck_assert_int_eq(write_fill(e, s, i % 4, (n % 4) * 256 * KiB, 256 * KiB, 1, ++seq), 0);
		new = must_slot(d, n, 1, SEG);
		ck_assert_int_eq(write_fill(e, new, 0, 0, 4096, 2, 1), 0);
		repl_slot_put(new);
		ck_assert_msg(!t->failures, "volume %u: %s", n, t->err.message);
	}
	disk_settle(e, d);
	repl_slot_put(s);
	repl_disk_close(d, false);
	ck_assert_uint_eq(t->failures, 0);
}

START_TEST(format_survives_power_loss)
{
	struct t t = { 0 };

	simw_begin(&t.w, (uint64_t)_i + 1, 64 * MiB);
	simw_crash_at(&t.w, sim_rand_below(t.w.sim, 10 * NS_PER_MS), true);
	simw_run(&t.w, format_only, &t);
	ck_assert(simw_run(&t.w, format_only, &t));
	simw_end(&t.w);
}
END_TEST

/* Memory that is short fails requests, never what was acknowledged. */
SIM(survives_lack_of_memory)
{
	struct repl_disk_opts o = opts(arg);
	struct hci_error err;
	uint8_t *p = mem_alloc_aligned(4096);

	memset(p, 3, 4096);
	ck_assert_int_eq(repl_disk_format(e, "/d1", &o, &err), 0);
	for (uint64_t n = 1; n < 300; n++) {
		struct repl_slot *s = NULL;
		struct repl_disk *d;
		struct uuid u = vol_uuid((unsigned)n);
		int rc;

		mem_fail_nth(n);
		rc = repl_disk_open(e, "/d1", &o, &d, &err);
		if (rc == 0)
			rc = repl_slot_open(d, &u, 1, SEG, &s, NULL, &err);
		if (rc == 0)
			rc = io(e, s, REPL_WRITE, 0, 0, 4096, p, 1, 0);
		if (rc == 0) {
			fiber_sleep(e, NS_PER_S);
			mem_fail_nth(0);
			fiber_sleep(e, 2 * NS_PER_S);
			read_expect(e, s, 0, 0, 4096, 3);
		}
		mem_fail_nth(0);
		repl_slot_put(s);
		if (d)
			repl_disk_close(d, false);
	}
	mem_free_aligned(p);
}

/*
 * Killed at one moment of write-back after another, then open again until the log is empty, then a power loss:
 * a name that the first life made and did not sync must have been made to last by the second.
 */
#define STEPS 120
#define STEP (50 * NS_PER_US)

static void first_life(struct env *e, void *arg)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG);
	unsigned step = (unsigned)t->failures;

	t->failures = 0;
	for (uint32_t k = 0; k < 3; k++)
		ck_assert_int_eq(write_fill(e, s, k, 0, 8192, (int)k + 1, k + 1), 0);
	simw_crash_at(&t->w, 195 * NS_PER_MS + step * STEP * 4, false);
	fiber_sleep(e, 10 * NS_PER_S);
}

static void second_life(struct env *e, void *arg)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_open(e, "/d1", &o);

	disk_settle(e, d);
	simw_crash_at(&t->w, NS_PER_MS, true);
	fiber_sleep(e, 10 * NS_PER_S);
}

static void third_life(struct env *e, void *arg)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG);

	for (uint32_t k = 0; k < 3; k++)
		read_expect(e, s, k, 0, 8192, (int)k + 1);
	repl_slot_put(s);
	repl_disk_close(d, false);
}

START_TEST(names_seen_after_a_kill_last)
{
	for (unsigned seed = 1; seed <= 6; seed++) {
		struct t t = { .failures = (unsigned)_i };

		simw_begin(&t.w, seed, 64 * MiB);
		ck_assert(!simw_run(&t.w, first_life, &t));
		ck_assert(!simw_run(&t.w, second_life, &t));
		ck_assert(simw_run(&t.w, third_life, &t));
		simw_end(&t.w);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("replica faults");
	TCase *t = tcase_create("sim");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, new_volumes_may_come_during_write_back);
	tcase_add_test(t, fails_once_and_for_all);
	tcase_add_test(t, read_error_fails_the_disk);
	tcase_add_test(t, waits_out_a_stall);
	tcase_add_test(t, full_log_slows_writers);
	tcase_add_test(t, full_disk_refuses_new_blocks_only);
	tcase_add_test(t, stolen_space_keeps_data_in_the_log);
	tcase_add_test(t, full_disk_and_full_log);
	tcase_add_test(t, rot_in_tables_is_survived);
	tcase_add_loop_test(t, format_survives_power_loss, 0, 20);
	tcase_add_test(t, survives_lack_of_memory);
	tcase_add_loop_test(t, names_seen_after_a_kill_last, 0, STEPS);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
