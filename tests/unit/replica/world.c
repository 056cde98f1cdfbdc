/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/replica/world.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "replica/log_format.h"

#define ALLOC_MAX (1 * MiB)

const struct uuid disk_uuid = { { 0xd1, 2, 3 } }, cluster_uuid = { { 0xc1, 2, 3 } };

struct uuid vol_uuid(unsigned n)
{
	return (struct uuid){ { (uint8_t)n, 0x77 } };
}

void in_flight_with(void *header, uint64_t lsn)
{
	struct logf_hdr *h = header;

	ck_assert(h->magic == LOGF_MAGIC && h->lsn > lsn);
	h->durable = lsn - 1;
	h->crc = logf_crc(h, h->hdr_bytes);
}

/* HCI_MUTATE: a bug to be planted, to see that a test notices. */
static uint32_t mutation(void)
{
	static const struct {
		const char *name;
		uint32_t bit;
	} known[] = {
		{ "log-unsynced", REPL_MUTATE_LOG_UNSYNCED },
		{ "torn-batch", REPL_MUTATE_TORN_BATCH },
		{ "files-unsynced", REPL_MUTATE_FILES_UNSYNCED },
		{ "old-epoch", REPL_MUTATE_OLD_EPOCH },
		{ "recovery-unsynced", REPL_MUTATE_RECOVERY_UNSYNCED },
		{ "seq-forgotten", REPL_MUTATE_SEQ_FORGOTTEN },
		{ "fence-unsynced", REPL_MUTATE_FENCE_UNSYNCED },
		{ "direct-unsynced", REPL_MUTATE_DIRECT_UNSYNCED },
		{ "direct-in-place", REPL_MUTATE_DIRECT_IN_PLACE },
		{ "direct-punched", REPL_MUTATE_DIRECT_PUNCHED },
		{ "direct-under-reads", REPL_MUTATE_DIRECT_UNDER_READS },
		{ "direct-after-drop", REPL_MUTATE_DIRECT_AFTER_DROP },
		{ "rot-ends", REPL_MUTATE_ROT_ENDS },
		{ "rot-unproven", REPL_MUTATE_ROT_UNPROVEN },
		{ "rot-hides", REPL_MUTATE_ROT_HIDES },
		{ "record-once", REPL_MUTATE_RECORD_ONCE },
		{ "checkpoint-older", REPL_MUTATE_CKPT_OLDER },
		{ "numbers-older", REPL_MUTATE_NUMBERS_OLDER },
	};
	const char *name = getenv("HCI_MUTATE");

	for (unsigned i = 0; name && i < ARRAY_SIZE(known); i++)
		if (!strcmp(name, known[i].name))
			return known[i].bit;
	return 0;
}

struct repl_disk_opts disk_opts(void)
{
	return (struct repl_disk_opts){
		.uuid = disk_uuid, .cluster = cluster_uuid, .log_size = 4 * MiB, .reserve = 1 * MiB,
		.mutate = mutation(),
	};
}

static void print_log(void *arg, int level, const char *subsystem, const char *line)
{
	(void)arg;
	fprintf(stderr, "%d %s: %s\n", level, subsystem, line);
}

static struct log test_log(void)
{
	return (struct log){ .level = LOG_TRACE,
			     .emit = getenv("HCI_TEST_LOG") ? print_log : NULL };
}

/* ---- real ---- */

struct real {
	void (*fn)(struct env *e, const char *path);
	struct env *e;
	char path[128];
};

static void real_fiber(void *arg)
{
	struct real *r = arg;

	r->fn(r->e, r->path);
	env_stop(r->e);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	(void)st;
	(void)flag;
	(void)f;
	return remove(path);
}

void real_run(void (*fn)(struct env *e, const char *path))
{
	struct env_real_opts o = { .log = test_log(), .workers = 2, .name = "repltest" };
	const char *tmp = getenv("TMPDIR");
	struct real r = { .fn = fn };
	struct hci_error err;

	snprintf(r.path, sizeof(r.path), "%s/hci-replica-XXXXXX", tmp ? tmp : "/var/tmp");
	ck_assert_ptr_nonnull(mkdtemp(r.path));
	r.e = env_real_new(&o, &err);
	ck_assert_msg(r.e, "%s", err.message);
	ck_assert_int_eq(fiber_spawn(r.e, real_fiber, &r, "test"), 0);
	env_run(r.e);
	env_free(r.e);
	nftw(r.path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- simulated ---- */

void simw_begin(struct simw *w, uint64_t seed, uint64_t capacity)
{
	struct sim_opts o = SIM_OPTS_INIT;

	o.seed = seed;
	o.log = test_log();
	w->sim = sim_new(&o);
	w->node = sim_node_new(w->sim, "n");
	w->disk = sim_disk_new(w->node, "/d1", capacity);
}

void simw_end(struct simw *w)
{
	sim_free(w->sim);
}

struct run {
	void (*fn)(struct env *e, void *arg);
	void *arg;
	struct env *e;
	struct simw *w;
	bool done;
};

static void run_fiber(void *arg)
{
	struct run *r = arg;

	r->fn(r->e, r->arg);
	r->done = true;
}

static void run_boot(struct env *e, void *arg)
{
	struct run *r = arg;

	r->e = e;
	ck_assert_int_eq(fiber_spawn(e, run_fiber, r, "test"), 0);
}

static bool run_over(void *arg)
{
	struct run *r = arg;

	return r->done || !sim_node_up(r->w->node);
}

bool simw_run(struct simw *w, void (*fn)(struct env *e, void *arg), void *arg)
{
	struct run r = { .fn = fn, .arg = arg, .w = w };

	sim_node_boot(w->node, run_boot, &r);
	ck_assert_msg(sim_run_until(w->sim, run_over, &r, 3600 * NS_PER_S), "it hangs");
	return r.done;
}

static void crash(void *arg)
{
	struct simw *w = arg;

	if (sim_node_up(w->node))
		sim_node_crash(w->node);
}

static void power_loss(void *arg)
{
	struct simw *w = arg;

	if (sim_node_up(w->node))
		sim_node_power_loss(w->node);
}

void simw_crash_at(struct simw *w, uint64_t in_ns, bool power)
{
	sim_at(w->sim, sim_now(w->sim) + in_ns, power ? power_loss : crash, w);
}

static void on_mark(void *arg, struct sim_node *n, const struct env_mark *m, unsigned state)
{
	struct simw *w = arg;

	(void)m;
	(void)state;
	if (w->marks_left == 0 || --w->marks_left > 0)
		return;
	sim_node_pause(n, sim_now(w->sim)); /* nothing more of this turn */
	sim_at(w->sim, sim_now(w->sim), w->mark_power ? power_loss : crash, w);
}

void simw_crash_at_mark(struct simw *w, uint64_t n, bool power)
{
	w->marks_left = n;
	w->mark_power = power;
	sim_on_mark(w->sim, on_mark, w);
}

/* ---- requests ---- */

struct wait {
	struct repl_op op;
	struct env *e;
	struct fiber *f;
	bool done;
};

static void on_done(struct repl_op *op)
{
	struct wait *w = container_of(op, struct wait, op);

	ck_assert(!w->done);
	w->done = true;
	fiber_wake(w->e, w->f);
}

void disk_settle(struct env *e, struct repl_disk *d)
{
	struct repl_disk_info i;

	do {
		fiber_sleep(e, 50 * NS_PER_MS);
		repl_disk_info(d, &i);
	} while (i.log_used);
}

int io(struct env *e, struct repl_slot *s, enum repl_op_kind kind, uint32_t segment, uint64_t off,
       uint64_t len, void *data, uint64_t seq, uint32_t flags)
{
	return io_sums(e, s, kind, segment, off, len, data, seq, flags, NULL);
}

int io_sums(struct env *e, struct repl_slot *s, enum repl_op_kind kind, uint32_t segment, uint64_t off, uint64_t len,
	    void *data, uint64_t seq, uint32_t flags, uint32_t *sums)
{
	struct wait w = { .e = e, .f = fiber_self(e) };

	w.op = (struct repl_op){ .kind = kind,
				 .flags = flags,
				 .slot = s,
				 .segment = segment,
				 .off = off,
				 .len = len,
				 .buf = data,
				 .sums = sums,
				 .seq = seq,
				 .done = on_done };
	repl_submit(&w.op);
	ck_assert(!w.done);
	while (!w.done)
		fiber_park(e);
	return w.op.status;
}

int write_fill(struct env *e, struct repl_slot *s, uint32_t segment, uint64_t off, uint64_t len,
	       int c, uint64_t seq)
{
	uint8_t *p = mem_alloc_aligned(ALLOC_MAX);
	int rc;

	memset(p, c, len);
	rc = io(e, s, REPL_WRITE, segment, off, len, p, seq, 0);
	mem_free_aligned(p);
	return rc;
}

void read_expect(struct env *e, struct repl_slot *s, uint32_t segment, uint64_t off, uint64_t len,
		 int c)
{
	uint8_t *p = mem_alloc_aligned(ALLOC_MAX);

	memset(p, 0xee, len);
	ck_assert_int_eq(io(e, s, REPL_READ, segment, off, len, p, 0, 0), 0);
	for (uint64_t i = 0; i < len; i++) {
		if (p[i] != (uint8_t)c)
			ck_abort_msg("byte %llu is %u, not %u", (unsigned long long)(off + i), p[i],
				     c);
	}
	mem_free_aligned(p);
}

struct repl_disk *must_open(struct env *e, const char *path, const struct repl_disk_opts *o)
{
	struct repl_disk *d;
	struct hci_error err;

	ck_assert_msg(repl_disk_open(e, path, o, &d, &err) == 0, "%s", err.message);
	return d;
}

struct repl_disk *must_format_open(struct env *e, const char *path, const struct repl_disk_opts *o)
{
	struct hci_error err;

	ck_assert_msg(repl_disk_format(e, path, o, &err) == 0, "%s", err.message);
	return must_open(e, path, o);
}

struct repl_slot *must_slot(struct repl_disk *d, unsigned vol, uint64_t gen, uint64_t segsize)
{
	struct uuid u = vol_uuid(vol);
	struct repl_slot_state st;
	struct repl_slot *s;
	struct hci_error err;

	ck_assert_msg(repl_slot_open(d, &u, gen, segsize, &s, &st, &err) == 0, "%s", err.message);
	ck_assert_uint_eq(st.generation, gen);
	return s;
}
