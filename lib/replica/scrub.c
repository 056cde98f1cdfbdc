/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scrub: reads all that the segments hold, a piece at a time, and compares it with its checksums, so that
 * rot is found while another replica still has what it ate. A pass is spread over half the period, or goes at
 * the full rate when somebody asked for it; it makes way for the requests of users and for copies (pause_for(): this, and not lane.c, is what
 * keeps it back, as it is no request of anybody's); where it is survives a
 * restart. What it finds is kept in a list, from which the volume's writer takes it (repl_rotten) and repairs it:
 * a disk alone has nothing to repair it with.
 *
 * It does not look at the log, which is gone through by the write-back within seconds to minutes.
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "replica/replica_impl.h"

#define PERIOD (7 * 24 * 3600 * NS_PER_S)
#define RATE (32 * MiB)  /* at most */
#define RATE_MIN MiB     /* even if the period would do with less */
#define STEP 16u         /* regions of one read */
#define STEP_BUSY 2u     /* the same beside others */
#define BUSY (20 * NS_PER_MS)  /* so short a time ago somebody else had a request */
#define YIELD (100 * NS_PER_MS) /* how long it makes way for them, for each read */
#define SAVE_EVERY (30 * NS_PER_S)
#define LOOK_EVERY (60 * NS_PER_S)
#define ROT_MAX 4096u

struct scrub_page {
	struct page_hdr h;
	struct uuid volume; /* the next one */
	uint32_t segment, region;
	uint64_t started, finished; /* ns since 1970; a pass is under way if started is later */
	uint64_t done, corrupt;
	uint32_t rotten, zero; /* in the list, which is not kept */
};
_Static_assert(sizeof(struct scrub_page) <= HCI_BLOCK, "a page");

struct rot {
	struct list link;
	struct uuid volume;
	uint32_t segment, region;
};

/* ---- the list ---- */

static void rot_add(struct scrub *s, const struct uuid *volume, uint32_t segment, uint32_t region)
{
	struct rot *r;

	list_for_each(r, &s->rotten, link) {
		if (r->segment == segment && r->region == region && uuid_eq(&r->volume, volume))
			return;
	}
	r = s->nrotten < ROT_MAX ? MEM_NEW(struct rot) : NULL;
	if (!r)
		return; /* found again by the next pass, which comes soon: see wanted() */
	r->volume = *volume;
	r->segment = segment;
	r->region = region;
	list_push(&s->rotten, &r->link);
	s->nrotten++;
}

static void rot_del(struct scrub *s, struct rot *r)
{
	list_del(&r->link);
	mem_free(r);
	s->nrotten--;
}

uint32_t repl_rotten(struct repl_slot *slot, struct repl_region *out, uint32_t max)
{
	struct scrub *s = &slot->d->scrub;
	struct rot *r, *tmp;
	uint32_t n = 0;

	list_for_each_safe(r, tmp, &s->rotten, link) {
		if (n == max || !uuid_eq(&r->volume, &slot->vol->uuid))
			continue;
		out[n++] = (struct repl_region){ .segment = r->segment, .region = r->region };
		rot_del(s, r);
	}
	return n;
}

void scrub_forget(struct repl_disk *d, const struct uuid *volume, uint32_t segment)
{
	struct rot *r, *tmp;

	list_for_each_safe(r, tmp, &d->scrub.rotten, link) {
		if (uuid_eq(&r->volume, volume) && (segment == LOGF_ALL || r->segment == segment))
			rot_del(&d->scrub, r);
	}
}

bool repl_has_rotten(struct repl_disk *d, const struct uuid *volume)
{
	const struct rot *r;

	list_for_each(r, &d->scrub.rotten, link) {
		if (uuid_eq(&r->volume, volume))
			return true;
	}
	return false;
}

/* ---- where it is, on disk ---- */

static struct env_file *state_file(struct repl_disk *d, bool create)
{
	char *path = disk_path(d, "scrub");
	struct env_file *f = NULL;

	if (path && env_open(d->e, path, ENV_O_DIRECT | (create ? ENV_O_CREATE : 0), &f))
		f = NULL;
	mem_free(path);
	return f;
}

/* Nothing hangs on it but work done twice: an error is not the disk's end, and is met with again by others. */
static void save(struct repl_disk *d)
{
	struct scrub *s = &d->scrub;
	struct scrub_page *p = mem_alloc_aligned(HCI_BLOCK);
	struct env_file *f = p && !d->failed ? state_file(d, true) : NULL;

	s->saved_at = env_now(d->e);
	if (f) {
		memset(p, 0, HCI_BLOCK);
		p->volume = s->at_volume;
		p->segment = s->at_segment;
		p->region = s->at_region;
		p->started = s->started;
		p->finished = s->finished;
		p->done = s->done;
		p->corrupt = s->corrupt;
		p->rotten = s->nrotten;
		page_seal(p, SCRUB_MAGIC, SCRUB_VERSION, ++s->serial, &d->uuid);
		(void)fiber_write(d->e, f, p, HCI_BLOCK, (s->serial & 1) * HCI_BLOCK, ENV_IO_DSYNC);
		env_close(d->e, f);
	}
	mem_free_aligned(p);
}

static void load(struct repl_disk *d)
{
	struct scrub *s = &d->scrub;
	struct env_file *f = state_file(d, false);
	uint8_t *pair = f ? mem_alloc_aligned(PAGE_PAIR) : NULL;
	const struct scrub_page *p;
	unsigned which;
	int64_t n = pair ? fiber_read(d->e, f, pair, PAGE_PAIR, 0) : -1;

	if (f)
		env_close(d->e, f);
	s->started = s->finished = d->super->created;
	if (n >= HCI_BLOCK)
		memset(pair + n, 0, PAGE_PAIR - (size_t)n);
	if (n >= HCI_BLOCK && page_pick(pair, SCRUB_MAGIC, SCRUB_VERSION, &d->uuid, &which, NULL) == PAGE_VALID) {
		p = (const void *)(pair + which * HCI_BLOCK);
		s->serial = p->h.serial;
		s->started = p->started;
		s->finished = p->finished;
		s->at_volume = p->volume;
		s->at_segment = p->segment;
		s->at_region = p->region;
		s->done = p->done;
		s->corrupt = p->corrupt;
		/* What it had found is forgotten: once more, from the start. */
		s->asked = p->rotten > 0;
	}
	mem_free_aligned(pair);
}

/* ---- what comes next ---- */

static struct vol *next_vol(struct repl_disk *d, const struct uuid *from)
{
	struct vol *v, *best = NULL;

	for (unsigned i = 0; i < VOL_BUCKETS; i++) {
		list_for_each(v, &d->vols[i], link) {
			if (!vol_real(v) || memcmp(&v->uuid, from, sizeof(*from)) < 0)
				continue;
			if (!best || memcmp(&v->uuid, &best->uuid, sizeof(*from)) < 0)
				best = v;
		}
	}
	return best;
}

/* The next run of regions with something in the file; false: the segment is over. */
static bool next_run(const struct seg *g, uint32_t *region, uint32_t *n, uint32_t max)
{
	uint32_t total = seg_blocks(g) / REGION_BLOCKS, r = *region;

	while (r < total && !seg_valid(g, r))
		r += g->pages[r / MAP_REGIONS] ? 1 : MAP_REGIONS - r % MAP_REGIONS;
	if (r >= total)
		return false;
	*region = r;
	for (*n = 1; *n < max && r + *n < total && seg_valid(g, r + *n); ++*n)
		;
	return true;
}

/* Moves on to what is to be read next. False: the pass is over. */
static bool advance(struct repl_disk *d, struct vol **out, uint32_t *n, uint32_t max)
{
	struct scrub *s = &d->scrub;
	struct vol *v;

	while ((v = next_vol(d, &s->at_volume))) {
		if (!uuid_eq(&v->uuid, &s->at_volume)) {
			s->at_volume = v->uuid;
			s->at_segment = s->at_region = 0;
		}
		for (uint32_t i = 0; i < v->nsegs; i++) {
			const struct seg *g = v->segs[i];

			if (g->no < s->at_segment)
				continue;
			if (g->no > s->at_segment) {
				s->at_segment = g->no;
				s->at_region = 0;
			}
			if (next_run(g, &s->at_region, n, max)) {
				*out = v;
				return true;
			}
		}
		/* The smallest number above this volume's. */
		for (int i = 15; i >= 0 && ++s->at_volume.b[i] == 0; i--)
			;
		s->at_segment = s->at_region = 0;
		if (uuid_is_null(&s->at_volume))
			return false;
	}
	return false;
}

/* ---- reading ---- */

struct step {
	struct repl_op op;
	struct repl_disk *d;
	struct fiber *fiber;
	bool done;
	uint32_t sums[STEP * REGION_BLOCKS];
};

static void step_done(struct repl_op *op)
{
	struct step *x = container_of(op, struct step, op);

	x->done = true;
	fiber_wake(x->d->e, x->fiber);
}

static void note_bad(struct repl_disk *d, const struct step *x)
{
	struct scrub *s = &d->scrub;
	uint32_t first = s->at_region;

	for (uint32_t i = 0; i < x->op.len / HCI_BLOCK; i++) {
		if (block_sum((const uint8_t *)x->op.buf + (size_t)i * HCI_BLOCK) == x->sums[i])
			continue;
		s->corrupt++;
		rot_add(s, &x->op.slot->vol->uuid, x->op.segment, first + i / REGION_BLOCKS);
	}
	log_warn(env_log(d->e), "disk %s: the scrub found damaged blocks in segment %u: their volume's writer repairs them",
		 d->path, x->op.segment);
}

static void read_step(struct repl_disk *d, struct vol *v, uint32_t n, void *buf)
{
	struct scrub *s = &d->scrub;
	struct repl_slot slot = { .d = d, .vol = v, .ro = true };
	struct step *x = MEM_NEW(struct step);

	if (!x)
		return;
	x->d = d;
	x->fiber = fiber_self(d->e);
	x->op = (struct repl_op){
		.kind = REPL_READ, .flags = REPL_F_VERIFY | REPL_F_BACKGROUND, .slot = &slot, .segment = s->at_segment,
		.off = (uint64_t)s->at_region * REPL_REGION, .len = (uint64_t)n * REPL_REGION, .buf = buf,
		.sums = x->sums, .done = step_done,
	};
	v->refs++;
	repl_submit(&x->op);
	while (!x->done)
		fiber_park(d->e);
	if (x->op.status == HCI_E_CORRUPT)
		note_bad(d, x);
	s->done += x->op.len;
	s->at_region += n;
	vol_put(v);
	mem_free(x);
}

/* ---- when ---- */

static uint64_t bytes_held(struct repl_disk *d)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < VOL_BUCKETS; i++) {
		struct vol *v;

		list_for_each(v, &d->vols[i], link) {
			for (uint32_t k = 0; k < v->nsegs; k++)
				bytes += seg_bytes(v->segs[k]);
		}
	}
	return bytes;
}

static bool under_way(const struct scrub *s)
{
	return s->started > s->finished;
}

static bool wanted(const struct repl_disk *d)
{
	const struct scrub *s = &d->scrub;
	uint64_t now = env_realtime(d->e);

	if (d->failed || d->stop || d->closing)
		return false;
	return s->asked || (s->period && (under_way(s) || now >= s->finished + s->period));
}

static void begin(struct repl_disk *d)
{
	struct scrub *s = &d->scrub;

	s->fast = s->asked;
	if (s->asked || !under_way(s)) {
		s->started = MAX(env_realtime(d->e), s->finished + 1);
		s->at_volume = (struct uuid){ { 0 } };
		s->at_segment = s->at_region = 0;
		s->done = s->corrupt = 0;
	}
	s->asked = false;
	s->total = s->done + bytes_held(d);
	log_info(env_log(d->e), "disk %s: scrub %s, %llu MiB", d->path, s->done ? "goes on" : "begins",
		 (unsigned long long)(bytes_held(d) / MiB));
}

/* After n bytes. Others' requests come first; after a while it is its turn all the same. */
static void pause_for(struct repl_disk *d, uint64_t bytes)
{
	struct scrub *s = &d->scrub;
	uint64_t rate = s->rate, now = env_now(d->e), until;

	if (!s->fast && s->period)
		rate = MIN(rate, MAX(s->total / MAX(s->period / (2 * NS_PER_S), 1u), RATE_MIN));
	until = now + bytes * NS_PER_S / MAX(rate, 1u);
	if (d->last_io + BUSY > now)
		until = MAX(until, now + YIELD);
	while (!d->stop && !d->failed && env_now(d->e) < until)
		fiber_cond_wait_until(d->e, &s->changed, until);
}

/* One pass, or what is left of one. */
static void run(struct repl_disk *d)
{
	struct scrub *s = &d->scrub;
	uint8_t *buf = mem_alloc_aligned(STEP * REPL_REGION);
	struct vol *v;
	uint32_t n;

	while (buf && !d->failed && !d->stop && !d->closing && !s->asked && (s->fast || s->period)) {
		bool busy = d->last_io + BUSY > env_now(d->e);

		if (!advance(d, &v, &n, busy ? STEP_BUSY : STEP)) {
			s->finished = s->started;
			s->passes++;
			log_info(env_log(d->e), "disk %s: scrub is over: %llu MiB read, %llu blocks were damaged", d->path,
				 (unsigned long long)(s->done / MiB), (unsigned long long)s->corrupt);
			break;
		}
		read_step(d, v, n, buf);
		if (env_now(d->e) >= s->saved_at + SAVE_EVERY)
			save(d);
		pause_for(d, (uint64_t)n * REPL_REGION);
	}
	s->fast = s->fast && under_way(s);
	mem_free_aligned(buf);
	save(d);
}

/* The clock may jump: not too long without a look. */
static uint64_t next_look(const struct repl_disk *d)
{
	const struct scrub *s = &d->scrub;
	uint64_t now = env_realtime(d->e), due = s->period ? s->finished + s->period : UINT64_MAX;

	return env_now(d->e) + (due > now ? MIN(due - now, LOOK_EVERY) : 1);
}

void scrub_fiber(void *disk)
{
	struct repl_disk *d = disk;
	struct scrub *s = &d->scrub;

	load(d);
	s->loaded = true;
	while (!d->stop) {
		if (wanted(d)) {
			begin(d);
			run(d);
			if (s->asked)
				continue;
		}
		if (!d->stop)
			fiber_cond_wait_until(d->e, &s->changed, d->failed || d->closing ? env_now(d->e) + LOOK_EVERY
											 : next_look(d));
	}
	d->fibers--;
	fiber_cond_signal(d->e, &d->fibers_end);
}

void scrub_init(struct repl_disk *d)
{
	struct scrub *s = &d->scrub;

	list_init(&s->rotten);
	fiber_cond_init(&s->changed);
	s->period = PERIOD;
	s->rate = RATE;
}

void scrub_fini(struct repl_disk *d)
{
	while (!list_empty(&d->scrub.rotten))
		rot_del(&d->scrub, list_first(&d->scrub.rotten, struct rot, link));
}

void repl_scrub_set(struct repl_disk *d, uint64_t period_ns, uint64_t rate)
{
	d->scrub.period = period_ns == UINT64_MAX ? 0 : period_ns ? period_ns : PERIOD;
	d->scrub.rate = rate ? rate : RATE;
	fiber_cond_signal(d->e, &d->scrub.changed);
}

void repl_scrub_start(struct repl_disk *d)
{
	d->scrub.asked = true;
	fiber_cond_signal(d->e, &d->scrub.changed);
}

void repl_scrub_info(const struct repl_disk *d, struct repl_scrub_info *out)
{
	const struct scrub *s = &d->scrub;

	memset(out, 0, sizeof(*out));
	out->known = s->loaded;
	out->running = s->asked || (s->loaded && under_way(s));
	out->started = s->started;
	out->finished = s->finished;
	out->done = s->done;
	out->total = MAX(s->total, s->done);
	out->corrupt = s->corrupt;
	out->rotten = s->nrotten;
	out->passes = s->passes;
}
