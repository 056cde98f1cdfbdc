/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that lost its write log is given up, unless somebody counts on it, or nobody knows. */
#include "base/mem.h"
#include "base/uuid.h"
#include "store/store_sim.h"
#include "unit/replica/world.h"
#include "volume/disk_keep.h"
#include "volume/volume.h"

#define SEG MiB

enum who { NOBODY, SOMEBODY, NOT_ASKED };

struct t {
	struct simw w;
	struct simstore *ss;
	struct store *store;
	struct rec_disk rec;
	enum who who;
};

#define PUT(type, key, rec) ck_assert_int_eq(rec_##type##_put(t->store, key, rec, REC_REV_ANY, 0, NULL, NULL), 0)

/* One volume, with its only segment on the disk and on another one. */
static void put_records(struct t *t)
{
	struct rec_volume v = { .uuid = vol_uuid(1), .name = "v", .pool = "p", .size = SEG, .segment_size = SEG, .replicas = 2,
				.state = REC_VOLUME_READY };
	struct rec_volsync *s = MEM_NEW(struct rec_volsync);
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	char key[REC_KEY];

	t->rec = (struct rec_disk){ .uuid = disk_uuid, .node = "n", .path = "/d1", .pool = "p", .log = "/ssd", .log_size = 4 * MiB,
				    .log_wait_ns = NS_PER_S, .state = REC_DISK_ONLINE };
	key_disk(key, &t->rec.uuid);
	PUT(disk, key, &t->rec);
	key_volume(key, &v.uuid);
	PUT(volume, key, &v);
	m->n = 1;
	m->seg[0].n = 2;
	m->seg[0].r[0].disk = disk_uuid;
	m->seg[0].r[1].disk = vol_uuid(9);
	key_volmap(key, &v.uuid, 0);
	PUT(volmap, key, m);
	s->generation = 1;
	s->n = t->who == NOBODY;
	s->out[0].disk = disk_uuid;
	key_volsync(key, &v.uuid);
	PUT(volsync, key, s);
	mem_free(s);
	mem_free(m);
}

/* What the log held last is gone with it. */
static void lose_log(struct env *e)
{
	struct repl_disk_opts o = disk_opts();
	struct repl_disk *d;
	struct repl_slot *s;
	char **names, *path;

	o.log_path = "/ssd";
	d = must_format_open(e, "/d1", &o);
	s = must_slot(d, 1, 1, SEG);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 8192, 1, 1), 0);
	repl_slot_put(s);
	repl_disk_close(d, true);
	ck_assert_int_eq(env_listdir(e, "/ssd", &names), 0);
	ck_assert(names[0] && !names[1]);
	path = mem_printf("/ssd/%s", names[0]);
	ck_assert_int_eq(env_unlink(e, path), 0);
	mem_free(path);
	mem_free(names[0]);
	mem_free(names);
}

static void body(struct env *e, void *arg)
{
	struct t *t = arg;
	bool stopping = t->who == NOT_ASKED;
	struct disk_keep_how how = { .env = e, .rec = &t->rec, .stopping = &stopping };
	struct disk_keep k = { 0 };
	enum rec_disk_state then;
	struct repl_disk *d;
	struct hci_error err;
	struct rec_disk now;
	char key[REC_KEY];

	ck_assert_int_eq(simstore_open(t->ss, e, &t->store), 0);
	how.store = t->store;
	how.base.cluster = cluster_uuid;
	put_records(t);
	lose_log(e);
	ck_assert_int_eq(disk_keep_open(&k, &how, &d, &then, &err), HCI_E_UNAVAILABLE);
	ck_assert_int_eq(then, REC_DISK_OFFLINE);
	t->rec.state = then;
	t->rec.state_since = env_realtime(e);
	key_disk(key, &t->rec.uuid);
	PUT(disk, key, &t->rec);
	fiber_sleep(e, 2 * NS_PER_S);
	ck_assert_int_eq(disk_keep_open(&k, &how, &d, &then, &err), HCI_E_STATE);
	ck_assert_int_eq(then, t->who == NOBODY ? REC_DISK_REMOVED : REC_DISK_OFFLINE);
	ck_assert(!!strstr(err.message, "volume v still counts") == (t->who == SOMEBODY));
	ck_assert_int_eq(rec_disk_get(t->store, key, &now, NULL, NULL), 0);
	ck_assert_int_eq(now.state, then);
	store_close(t->store);
}

START_TEST(a_disk_without_its_log_is_given_up_only_when_all_were_asked)
{
	struct t t = { .who = (enum who)_i };

	simw_begin(&t.w, 1, 64 * MiB);
	sim_disk_new(t.w.node, "/ssd", 32 * MiB);
	t.ss = simstore_new(t.w.sim);
	ck_assert(simw_run(&t.w, body, &t));
	simstore_free(t.ss);
	simw_end(&t.w);
}
END_TEST

/* ---- its directory is empty ---- */

static void exchange(struct simw *w, struct sim_disk *other)
{
	sim_disk_pull(w->disk);
	sim_disk_pull(other);
	sim_disk_swap(w->disk, other);
	sim_disk_fault(w->disk, SIM_DISK_OK);
}

static void unmounted_body(struct env *e, void *arg)
{
	struct t *t = arg;
	struct sim_disk *other = sim_disk_new(t->w.node, "/other", 64 * MiB);
	bool stopping = false;
	struct disk_keep_how how = { .env = e, .rec = &t->rec, .stopping = &stopping };
	struct disk_keep k = { 0 };
	enum rec_disk_state then;
	struct repl_slot *s;
	struct repl_disk *d;
	struct hci_error err;

	ck_assert_int_eq(simstore_open(t->ss, e, &t->store), 0);
	how.store = t->store;
	how.base.cluster = cluster_uuid;
	how.base.reserve = MiB;
	put_records(t);
	t->rec.state = REC_DISK_NEW;
	t->rec.replaces = vol_uuid(9);
	ck_assert_int_eq(disk_keep_open(&k, &how, &d, &then, &err), 0);
	s = must_slot(d, 1, 1, SEG);
	ck_assert_int_eq(write_fill(e, s, 0, 0, 8192, 7, 1), 0);
	repl_slot_put(s);
	repl_disk_close(d, true);
	exchange(&t->w, other);
	ck_assert_int_eq(disk_keep_open(&k, &how, &d, &then, &err), HCI_E_NOTFOUND);
	ck_assert_int_eq(then, REC_DISK_FAILED);
	exchange(&t->w, other);
	ck_assert_msg(disk_keep_open(&k, &how, &d, &then, &err) == 0, "%s", err.message);
	s = must_slot(d, 1, 2, SEG);
	read_expect(e, s, 0, 0, 8192, 7);
	repl_slot_put(s);
	repl_disk_close(d, true);
	store_close(t->store);
}

/* Nothing is mounted there any more; the record that this life of the node sees need not be the newest. */
START_TEST(a_disk_that_was_open_is_not_formatted_again)
{
	struct t t = { 0 };

	simw_begin(&t.w, 1, 64 * MiB);
	sim_disk_new(t.w.node, "/ssd", 32 * MiB);
	t.ss = simstore_new(t.w.sim);
	ck_assert(simw_run(&t.w, unmounted_body, &t));
	simstore_free(t.ss);
	simw_end(&t.w);
}
END_TEST

/* ---- what others left on the SSD ---- */

#define SSD (32 * MiB)

enum old { GIVEN_UP, COUNTED_ON, WAITS, ELSEWHERE, FOREIGN, OLDS };

static struct uuid old_uuid(enum old which)
{
	return vol_uuid(50 + (unsigned)which);
}

static char *old_log(enum old which)
{
	struct uuid u = old_uuid(which);
	char id[HCI_UUID_STR];

	uuid_print(&u, id);
	return mem_printf("/ssd/hci-%s.log", id);
}

/* One of them has a volume that counts on it: the other copy of its segment is out. */
static void put_old(struct t *t, enum old which, bool waits)
{
	struct rec_disk r = t->rec;
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	struct uuid v = vol_uuid(1);
	char key[REC_KEY];

	r.uuid = old_uuid(which);
	r.state = waits ? REC_DISK_OFFLINE : REC_DISK_REMOVED;
	r.replaces = (struct uuid){ 0 };
	snprintf(r.node, sizeof(r.node), "%s", which == ELSEWHERE ? "m" : "n");
	key_disk(key, &r.uuid);
	if (which != FOREIGN)
		PUT(disk, key, &r);
	if (which == COUNTED_ON) {
		key_volmap(key, &v, 0);
		ck_assert_int_eq(rec_volmap_get(t->store, key, m, NULL, NULL), 0);
		m->seg[0].r[1].disk = r.uuid;
		PUT(volmap, key, m);
	}
	mem_free(m);
}

static void make_old_log(struct env *e, enum old which, uint64_t bytes)
{
	char *path = old_log(which);
	struct env_file *f;

	ck_assert_int_eq(env_open(e, path, ENV_O_DIRECT | ENV_O_CREATE, &f), 0);
	ck_assert_int_eq(fiber_falloc(e, f, 0, bytes), 0);
	env_close(e, f);
	mem_free(path);
}

static bool has_old_log(struct env *e, enum old which)
{
	char *path = old_log(which);
	struct env_file *f;
	int rc = env_open(e, path, 0, &f);

	if (!rc)
		env_close(e, f);
	mem_free(path);
	return !rc;
}

static void left_body(struct env *e, void *arg)
{
	struct t *t = arg;
	bool stopping = false;
	struct disk_keep_how how = { .env = e, .rec = &t->rec, .stopping = &stopping };
	struct disk_keep k = { 0 };
	enum rec_disk_state then;
	struct repl_disk *d;
	struct hci_error err;

	ck_assert_int_eq(simstore_open(t->ss, e, &t->store), 0);
	how.store = t->store;
	how.base.cluster = cluster_uuid;
	how.base.reserve = MiB;
	put_records(t);
	t->rec.state = REC_DISK_NEW;
	t->rec.log_size = 10 * MiB;
	for (enum old i = 0; i < OLDS; i++) {
		put_old(t, i, i == GIVEN_UP || i == WAITS);
		make_old_log(e, i, 5 * MiB);
	}
	/* The one that will be of no use is waited for yet. */
	ck_assert_int_eq(disk_keep_open(&k, &how, &d, &then, &err), HCI_E_NOSPACE);
	for (enum old i = 0; i < OLDS; i++)
		ck_assert_msg(has_old_log(e, i), "log %d is gone", (int)i);
	ck_assert_msg(strstr(err.message, "2 files") != NULL && strstr(err.message, "larger device") != NULL, "%s", err.message);
	/* Which is named depends on their order in the directory. */
	ck_assert_msg(strstr(err.message, "counted on by volume v") || strstr(err.message, "no disk of this cluster"), "%s", err.message);
	put_old(t, GIVEN_UP, false);
	fiber_sleep(e, 20 * NS_PER_S);
	ck_assert_msg(!disk_keep_open(&k, &how, &d, &then, &err), "%s", err.message);
	for (enum old i = 0; i < OLDS; i++)
		ck_assert_msg(has_old_log(e, i) == (i != GIVEN_UP), "log %d", (int)i);
	repl_disk_close(d, false);
	store_close(t->store);
}

START_TEST(logs_that_nobody_needs_make_room_for_a_new_one)
{
	struct t t = { .who = SOMEBODY };

	simw_begin(&t.w, 1, 64 * MiB);
	sim_disk_new(t.w.node, "/ssd", SSD);
	t.ss = simstore_new(t.w.sim);
	ck_assert(simw_run(&t.w, left_body, &t));
	simstore_free(t.ss);
	simw_end(&t.w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("volume keep");
	TCase *t = tcase_create("all");

	tcase_add_loop_test(t, a_disk_without_its_log_is_given_up_only_when_all_were_asked, 0, 3);
	tcase_add_test(t, a_disk_that_was_open_is_not_formatted_again);
	tcase_add_test(t, logs_that_nobody_needs_make_room_for_a_new_one);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
