/* SPDX-License-Identifier: Apache-2.0 */
/* A write log on another device: what happens to the disk when it is away, foreign, old, wiped, or fails. */
#include "unit/replica/world.h"

#define SEG MiB
#define LOG_MAX (5 * MiB)

struct t {
	struct simw w;
	struct sim_disk *ssd, *other;
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
	o.log_path = "/ssd";
	return o;
}

#define SIM(name)                                           \
	static void name##_body(struct env *e, void *arg);  \
	START_TEST(name)                                    \
	{                                                   \
		struct t t = { 0 };                         \
                                                            \
		simw_begin(&t.w, 1, 64 * MiB);              \
		t.ssd = sim_disk_new(t.w.node, "/ssd", 32 * MiB); \
		ck_assert(simw_run(&t.w, name##_body, &t)); \
		simw_end(&t.w);                             \
	}                                                   \
	END_TEST                                            \
	static void name##_body(struct env *e, void *arg)

static void refused(struct env *e, const struct repl_disk_opts *o, int code)
{
	struct repl_disk *d;
	struct hci_error err;

	ck_assert_msg(repl_disk_open(e, "/d1", o, &d, &err) == code, "%d: %s", err.code, err.message);
	ck_assert_ptr_null(d);
	ck_assert_ptr_nonnull(strstr(err.message, "/ssd"));
}

/* Closed as by a crash: what was written is in the log only. */
static void make_dirty(struct env *e, const struct repl_disk_opts *o)
{
	struct repl_disk *d = must_format_open(e, "/d1", o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG);

	ck_assert_int_eq(write_fill(e, s, 0, 0, 8192, 1, 1), 0);
	repl_slot_put(s);
	repl_disk_close(d, true);
}

static void expect(struct env *e, const struct repl_disk_opts *o, int c)
{
	struct repl_disk *d = must_open(e, "/d1", o);
	struct repl_slot *s = must_slot(d, 1, 9, SEG);

	read_expect(e, s, 0, 0, 8192, c);
	repl_slot_put(s);
	repl_disk_close(d, true);
}

static char *log_name(struct env *e)
{
	char **names;
	char *out;

	ck_assert_int_eq(env_listdir(e, "/ssd", &names), 0);
	ck_assert_ptr_nonnull(names[0]);
	out = mem_printf("/ssd/%s", names[0]);
	for (unsigned i = 0; names[i]; i++)
		mem_free(names[i]);
	mem_free(names);
	return out;
}

/* Copies the log out of its file, or back. */
static void copy_log(struct env *e, uint8_t *image, bool back)
{
	char *name = log_name(e);
	struct env_file *f;

	ck_assert_int_eq(env_open(e, name, ENV_O_DIRECT, &f), 0);
	for (uint64_t off = 0; off < 4 * MiB + 8192; off += 4096)
		ck_assert_int_eq(back ? fiber_write(e, f, image + off, 4096, off, ENV_IO_DSYNC)
				      : fiber_read(e, f, image + off, 4096, off),
				 4096);
	env_close(e, f);
	mem_free(name);
}

SIM(keeps_what_was_written)
{
	struct repl_disk_opts o = opts(arg);
	struct repl_disk_info i;
	struct repl_disk *d;
	char *name;

	make_dirty(e, &o);
	name = log_name(e);
	d = must_open(e, "/d1", &o);
	repl_disk_info(d, &i);
	ck_assert(i.log_external);
	ck_assert_str_eq(i.log_path, name);
	repl_disk_close(d, true);
	expect(e, &o, 1);
	o.log_path = NULL; /* it knows where it was */
	expect(e, &o, 1);
	mem_free(name);
}

SIM(waits_for_a_log_that_is_away)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t), elsewhere = o;

	make_dirty(e, &o);
	sim_disk_fault(t->ssd, SIM_DISK_EIO);
	refused(e, &o, HCI_E_UNAVAILABLE);
	sim_disk_fault(t->ssd, SIM_DISK_OK);
	elsewhere.log_path = "/ssd2";
	refused(e, &elsewhere, HCI_E_UNAVAILABLE);
	expect(e, &o, 1);
}

SIM(without_its_log_it_is_not_what_it_was)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t), new = o;
	struct repl_disk *d;
	struct repl_slot *s;
	struct hci_error err;

	make_dirty(e, &o);
	sim_disk_wipe(t->ssd);
	refused(e, &o, HCI_E_UNAVAILABLE);
	o.log_renew = true;
	refused(e, &o, HCI_E_STATE);
	new.uuid.b[0]++;
	ck_assert_int_eq(repl_disk_format(e, "/d1", &new, &err), HCI_E_EXISTS);
	new.replaces = vol_uuid(77); /* of another disk: hands off */
	ck_assert_int_eq(repl_disk_format(e, "/d1", &new, &err), HCI_E_EXISTS);
	new.replaces = o.uuid;
	d = must_format_open(e, "/d1", &new);
	s = must_slot(d, 1, 1, SEG);
	read_expect(e, s, 0, 0, 8192, 0);
	repl_slot_put(s);
	repl_disk_close(d, false);
	ck_assert_int_eq(repl_disk_open(e, "/d1", &o, &d, &err), HCI_E_NOTFOUND);
}

SIM(a_log_that_is_not_needed_is_made_anew)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d;
	struct repl_slot *s;

	make_dirty(e, &o);
	d = must_open(e, "/d1", &o);
	repl_disk_close(d, false); /* clean */
	sim_disk_wipe(t->ssd);
	refused(e, &o, HCI_E_UNAVAILABLE); /* it may be back in a moment */
	o.log_renew = true;
	d = must_open(e, "/d1", &o);
	s = must_slot(d, 1, 2, SEG);
	read_expect(e, s, 0, 0, 8192, 1);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 8192, 2, 2), 0);
	repl_slot_put(s);
	repl_disk_close(d, true);
	o.log_renew = false;
	expect(e, &o, 2);
}

SIM(an_old_copy_of_the_log_is_found_out)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	uint8_t *image = mem_alloc_aligned(LOG_MAX);

	make_dirty(e, &o);
	copy_log(e, image, false);
	expect(e, &o, 1); /* another opening */
	copy_log(e, image, true);
	refused(e, &o, HCI_E_STATE);
	mem_free_aligned(image);
}

/* It says that data of a segment, which has gone since, passed the log: not that the disk has lost them. */
SIM(nor_is_it_taken_for_a_disk_that_lost_a_segment)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG);
	uint8_t *image = mem_alloc_aligned(LOG_MAX);

	ck_assert_int_eq(write_fill(e, s, 0, 0, 2 * REPL_REGION, 1, 1), 0);
	disk_settle(e, d);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 2 * REPL_REGION, 2, 2), 0);
	copy_log(e, image, false);
	ck_assert_int_eq(repl_slot_drop(s, 0, NULL), 0);
	disk_settle(e, d);
	ck_assert_int_eq(write_fill(e, s, 1, 0, HCI_BLOCK, 3, 3), 0);
	disk_settle(e, d);
	repl_slot_put(s);
	repl_disk_close(d, true);
	copy_log(e, image, true);
	refused(e, &o, HCI_E_STATE);
	mem_free_aligned(image);
}

/* Power is lost while a disk that takes the place of another makes its log where that one's was, on a device: it can be done again. */
static void device_old(struct env *e, void *arg)
{
	struct repl_disk_opts o = opts(arg);

	o.log_path = "/ssd/p0";
	make_dirty(e, &o);
}

static void device_new(struct env *e, void *arg)
{
	struct repl_disk_opts o = opts(arg);
	struct repl_disk *d;
	struct hci_error err;
	int rc;

	o.log_path = "/ssd/p0";
	o.replaces = o.uuid;
	o.uuid.b[0]++;
	rc = repl_disk_format(e, "/d1", &o, &err);
	ck_assert_msg(!rc || rc == HCI_E_EXISTS, "%s", err.message);
	ck_assert_msg(!repl_disk_open(e, "/d1", &o, &d, &err), "%s", err.message);
	repl_disk_close(d, false);
}

START_TEST(a_log_on_a_device_that_was_half_made_is_made_again)
{
	bool cut = true;

	for (unsigned k = 0; cut; k++) {
		struct t t = { 0 };

		simw_begin(&t.w, 1 + k, 64 * MiB);
		t.ssd = sim_disk_new(t.w.node, "/ssd", 32 * MiB);
		sim_disk_partition(t.ssd, "p0", 8 * MiB);
		ck_assert(simw_run(&t.w, device_old, &t));
		simw_crash_at(&t.w, k * 200 * NS_PER_US, true);
		cut = !simw_run(&t.w, device_new, &t);
		ck_assert(!cut || simw_run(&t.w, device_new, &t));
		simw_end(&t.w);
	}
}
END_TEST

/* Of the same opening: the epoch does not tell, but the records do. */
SIM(a_log_that_lost_its_end_is_found_out)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	uint8_t *image = mem_alloc_aligned(LOG_MAX);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG);

	ck_assert_int_eq(write_fill(e, s, 0, 0, 8192, 1, 1), 0);
	copy_log(e, image, false);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 8192, 2, 2), 0);
	disk_settle(e, d);
	repl_slot_put(s);
	repl_disk_close(d, true);
	copy_log(e, image, true);
	refused(e, &o, HCI_E_STATE);
	mem_free_aligned(image);
}

SIM(a_foreign_log_is_left_alone)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	uint8_t *image = mem_alloc_aligned(LOG_MAX);
	char *mine, *u2;

	make_dirty(e, &o);
	mine = log_name(e);
	u2 = mem_printf("%s.away", mine);
	ck_assert_int_eq(env_rename(e, mine, u2), 0);
	refused(e, &o, HCI_E_UNAVAILABLE);
	ck_assert_int_eq(env_rename(e, u2, mine), 0);
	/* Something else of the same name. */
	copy_log(e, image, false);
	memset(image, 0x5a, 8192);
	copy_log(e, image, true);
	refused(e, &o, HCI_E_UNAVAILABLE);
	mem_free(mine);
	mem_free(u2);
	mem_free_aligned(image);
}

SIM(a_log_that_fails_fails_the_disk)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d = must_format_open(e, "/d1", &o);
	struct repl_slot *s = must_slot(d, 1, 1, SEG);

	ck_assert_int_eq(write_fill(e, s, 0, 0, 8192, 1, 1), 0);
	sim_disk_fault(t->ssd, SIM_DISK_EIO);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 4096, 2, 2), HCI_E_IO);
	fiber_sleep(e, NS_PER_S);
	ck_assert_uint_eq(t->failures, 1);
	repl_slot_put(s);
	repl_disk_close(d, true);
	refused(e, &o, HCI_E_UNAVAILABLE);
	sim_disk_fault(t->ssd, SIM_DISK_OK);
	expect(e, &o, 1);
}

/* Cut off at any moment it can be done again, with the log's file left behind or not. */
static void format_only(struct env *e, void *arg)
{
	struct repl_disk_opts o = opts(arg);
	struct repl_disk *d;
	struct hci_error err;
	int rc = repl_disk_format(e, "/d1", &o, &err);

	ck_assert_msg(rc == 0 || rc == HCI_E_EXISTS, "%s", err.message);
	d = must_open(e, "/d1", &o);
	repl_disk_close(d, false);
}

START_TEST(format_survives_power_loss)
{
	struct t t = { 0 };

	simw_begin(&t.w, (uint64_t)_i + 1, 64 * MiB);
	t.ssd = sim_disk_new(t.w.node, "/ssd", 32 * MiB);
	simw_crash_at(&t.w, sim_rand_below(t.w.sim, 15 * NS_PER_MS), true);
	if (!simw_run(&t.w, format_only, &t))
		ck_assert(simw_run(&t.w, format_only, &t));
	simw_end(&t.w);
}
END_TEST

static void exchange(void *arg)
{
	struct t *t = arg;

	sim_disk_pull(t->ssd);
	sim_disk_pull(t->other);
	sim_disk_swap(t->ssd, t->other);
	sim_disk_fault(t->ssd, SIM_DISK_OK);
	sim_disk_fault(t->other, SIM_DISK_OK);
}

/* Another one comes into the SSD's place, and stays or goes: a format that says it is done has made its log on one of them. */
static void format_meanwhile(struct env *e, void *arg)
{
	struct t *t = arg;
	struct repl_disk_opts o = opts(t);
	struct repl_disk *d;
	struct hci_error err;
	char **names;
	int rc;

	sim_at(t->w.sim, sim_now(t->w.sim) + sim_rand_below(t->w.sim, 15 * NS_PER_MS), exchange, t);
	rc = repl_disk_format(e, "/d1", &o, &err);
	fiber_sleep(e, 20 * NS_PER_MS);
	ck_assert_int_eq(env_listdir(e, "/ssd", &names), 0);
	if (!names[0])
		exchange(t);
	for (unsigned i = 0; names[i]; i++)
		mem_free(names[i]);
	mem_free(names);
	if (rc)
		return;
	d = must_open(e, "/d1", &o);
	repl_disk_close(d, false);
}

START_TEST(format_notices_that_the_ssd_was_another)
{
	struct t t = { 0 };

	simw_begin(&t.w, (uint64_t)_i + 1, 64 * MiB);
	t.ssd = sim_disk_new(t.w.node, "/ssd", 32 * MiB);
	t.other = sim_disk_new(t.w.node, "/other", 32 * MiB);
	ck_assert(simw_run(&t.w, format_meanwhile, &t));
	simw_end(&t.w);
}
END_TEST

/* Wiping and making anew is cut off, too. */
static void replace(struct env *e, void *arg)
{
	struct repl_disk_opts o = opts(arg);
	struct repl_disk *d;
	struct repl_slot *s;
	struct hci_error err;
	char **names;
	int rc;

	o.replaces = o.uuid;
	o.uuid.b[0]++;
	rc = repl_disk_format(e, "/d1", &o, &err);
	ck_assert_msg(rc == 0 || rc == HCI_E_EXISTS, "%s", err.message);
	d = must_open(e, "/d1", &o);
	s = must_slot(d, 1, 1, SEG);
	read_expect(e, s, 0, 0, 8192, 0);
	repl_slot_put(s);
	repl_disk_close(d, false);
	/* The old log, if it is there again, takes no room of the new one. */
	ck_assert_int_eq(env_listdir(e, "/ssd", &names), 0);
	ck_assert_ptr_nonnull(names[0]);
	ck_assert_ptr_null(names[1]);
	mem_free(names[0]);
	mem_free(names);
}

static void dirty(struct env *e, void *arg)
{
	struct repl_disk_opts o = opts(arg);

	make_dirty(e, &o);
}

START_TEST(replacing_survives_power_loss)
{
	struct t t = { 0 };

	simw_begin(&t.w, (uint64_t)_i + 1, 64 * MiB);
	t.ssd = sim_disk_new(t.w.node, "/ssd", 32 * MiB);
	ck_assert(simw_run(&t.w, dirty, &t));
	if (_i % 2)
		sim_disk_wipe(t.ssd);
	simw_crash_at(&t.w, sim_rand_below(t.w.sim, 20 * NS_PER_MS), _i % 4);
	if (!simw_run(&t.w, replace, &t))
		ck_assert(simw_run(&t.w, replace, &t));
	simw_end(&t.w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("replica log elsewhere");
	TCase *t = tcase_create("sim");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, keeps_what_was_written);
	tcase_add_test(t, waits_for_a_log_that_is_away);
	tcase_add_test(t, without_its_log_it_is_not_what_it_was);
	tcase_add_test(t, a_log_that_is_not_needed_is_made_anew);
	tcase_add_test(t, an_old_copy_of_the_log_is_found_out);
	tcase_add_test(t, nor_is_it_taken_for_a_disk_that_lost_a_segment);
	tcase_add_test(t, a_log_on_a_device_that_was_half_made_is_made_again);
	tcase_add_test(t, a_log_that_lost_its_end_is_found_out);
	tcase_add_test(t, a_foreign_log_is_left_alone);
	tcase_add_test(t, a_log_that_fails_fails_the_disk);
	tcase_add_loop_test(t, format_survives_power_loss, 0, 40);
	tcase_add_loop_test(t, format_notices_that_the_ssd_was_another, 0, 200);
	tcase_add_loop_test(t, replacing_survives_power_loss, 0, 40);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
