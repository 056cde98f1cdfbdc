/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk: opening, closing, failing, and what people ask about it. Making one is format.c's.
 */
#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "replica/replica_impl.h"

#define CACHE_MAX (64 * MiB)
#define SUMS_CACHE (32 * MiB)
#define SUMS_CACHE_MIN MiB /* a pass and many reads at a time must get on */
#define FRAME_SLAB (256 * KiB)

char *disk_path(struct repl_disk *d, const char *name)
{
	return mem_printf("%s/%s", d->path, name);
}

int disk_sys_error(const struct repl_disk *d, int rc, const char *what, struct hci_error *err)
{
	return err_sys(err, rc == -ENOMEM ? HCI_E_NOMEM : err_from_errno(-rc), -rc, "disk %s: %s",
		       d->path, what);
}

void disk_enter(struct repl_disk *d)
{
	d->open_ops++;
}

void disk_leave(struct repl_disk *d)
{
	if (--d->open_ops == 0)
		fiber_cond_signal(d->e, &d->drained);
}

/* ---- failing ---- */

static void fail_task(struct env_task *t)
{
	struct repl_disk *d = container_of(t, struct repl_disk, fail_task);

	log_fail_all(d);
	fiber_cond_signal(d->e, &d->opener);
	fiber_cond_signal(d->e, &d->wb);
	fiber_cond_signal(d->e, &d->scrub.changed);
	fiber_cond_signal(d->e, &d->drained);
	if (d->on_failed && !d->closing)
		d->on_failed(d->arg, d, &d->fail_err);
}

int disk_fail(struct repl_disk *d, int os_errno, const char *what)
{
	if (d->failed)
		return HCI_E_IO;
	ENV_MARK(d->e, "disk fails");
	d->failed = true;
	if (os_errno)
		err_sys(&d->fail_err, HCI_E_IO, os_errno, "disk %s failed: %s; replace it", d->path,
			what);
	else
		err_set(&d->fail_err, HCI_E_IO, "disk %s failed: %s; replace it", d->path, what);
	env_defer(d->e, &d->fail_task);
	return HCI_E_IO;
}

/* ---- superblock ---- */

int super_write(struct repl_disk *d, uint32_t flags)
{
	char *path = disk_path(d, "superblock");
	struct env_file *f;
	int64_t n;
	int rc = path ? env_open(d->e, path, ENV_O_DIRECT, &f) : -ENOMEM;

	mem_free(path);
	if (rc)
		return rc;
	d->super->flags = flags | (d->super->flags & SUPER_EXT_LOG);
	d->super->lsn = flags & SUPER_CLEAN ? d->log.next_lsn : 0;
	page_seal(d->super, SUPER_MAGIC, SUPER_VERSION, d->super->h.serial + 1, &d->uuid);
	n = fiber_write(d->e, f, d->super, HCI_BLOCK, (d->super->h.serial & 1) * HCI_BLOCK,
			ENV_IO_DSYNC);
	env_close(d->e, f);
	return n < 0 ? (int)n : 0;
}

static int check_super(struct repl_disk *d, const struct repl_disk_opts *o, enum page_state st,
		       struct hci_error *err)
{
	const struct super_page *s = d->super;
	char a[HCI_UUID_STR], b[HCI_UUID_STR];

	if (st == PAGE_VERSION)
		return err_set(
			err, HCI_E_VERSION,
			"disk %s is of format version %u, this libhci knows %u only: %s", d->path, s->h.version,
			SUPER_VERSION,
			s->h.version > SUPER_VERSION ? "use a newer one"
						     : "remove it from its pool and format it anew");
	if (st != PAGE_VALID || s->log_size < LOG_SIZE_MIN || s->log_size > LOG_SIZE_MAX ||
	    s->log_size % HCI_BLOCK || s->block != HCI_BLOCK || s->region != REPL_REGION)
		return err_set(
			err, HCI_E_CORRUPT,
			"disk %s: both copies of the superblock are damaged: if it was a disk of "
			"this cluster, remove it from its pool and format it anew",
			d->path);
	uuid_print(&s->h.disk, a);
	if (!uuid_is_null(&o->cluster) && !uuid_eq(&o->cluster, &s->cluster)) {
		uuid_print(&s->cluster, b);
		return err_set(err, HCI_E_AUTH,
			       "disk %s belongs to cluster %s, not to this one: remove its "
			       "contents to use "
			       "it here",
			       d->path, b);
	}
	if (!uuid_is_null(&o->uuid) && !uuid_eq(&o->uuid, &s->h.disk)) {
		uuid_print(&o->uuid, b);
		return err_set(err, HCI_E_NOTFOUND,
			       "disk %s is %s, expected %s: look for a swapped mount", d->path, a,
			       b);
	}
	return 0;
}

static int super_read(struct repl_disk *d, const struct repl_disk_opts *o, struct hci_error *err)
{
	char *path = disk_path(d, "superblock");
	struct env_file *f;
	uint8_t *pair;
	unsigned which = 0;
	enum page_state st = PAGE_BAD;
	bool damaged = false;
	int64_t n;
	int rc = path ? env_open(d->e, path, ENV_O_DIRECT, &f) : -ENOMEM;

	mem_free(path);
	if (rc == -ENOENT)
		return err_set(
			err, HCI_E_NOTFOUND,
			"disk %s has no superblock: is it mounted? If it is lost: hcictl disk remove, then disk add",
			d->path);
	if (rc)
		return disk_sys_error(d, rc, "cannot open the superblock", err);
	pair = mem_alloc_aligned(PAGE_PAIR);
	n = pair ? fiber_read(d->e, f, pair, PAGE_PAIR, 0) : -ENOMEM;
	env_close(d->e, f);
	if (n == PAGE_PAIR)
		st = page_pick(pair, SUPER_MAGIC, SUPER_VERSION, NULL, &which, &damaged);
	if (n >= 0)
		memcpy(d->super, pair + which * HCI_BLOCK, HCI_BLOCK);
	/* The damaged copy may be of an opening after the one that left it clean: then the log counts. */
	if (damaged)
		d->super->flags &= ~SUPER_CLEAN;
	mem_free_aligned(pair);
	if (n < 0)
		return disk_sys_error(d, (int)n, "cannot read the superblock", err);
	rc = check_super(d, o, st, err);
	if (rc)
		return rc;
	d->uuid = d->super->h.disk;
	d->cluster = d->super->cluster;
	d->log.blocks = (uint32_t)(d->super->log_size / HCI_BLOCK);
	d->log.epoch = d->super->epoch;
	d->frame_slabs_max = (uint32_t)(MIN(CACHE_MAX, d->super->log_size / 4) / FRAME_SLAB);
	return 0;
}

/* ---- making and taking apart the handle ---- */

static void init_lists(struct repl_disk *d)
{
	list_init(&d->dirty);
	list_init(&d->free_nodes);
	for (unsigned i = 0; i < VOL_BUCKETS; i++)
		list_init(&d->vols[i]);
	list_init(&d->dirty_segs);
	list_init(&d->open_segs);
	list_init(&d->to_open);
	list_init(&d->dying_segs);
	list_init(&d->dying_vols);
	list_init(&d->free_reads);
	list_init(&d->reading);
	list_init(&d->sums_lru);
	scrub_init(d);
	fiber_mutex_init(&d->open_lock);
	fiber_mutex_init(&d->wb_lock);
	fiber_cond_init(&d->opener);
	fiber_cond_init(&d->fibers_end);
	fiber_cond_init(&d->readers_gone);
	fiber_cond_init(&d->wb);
	env_task_init(&d->fail_task, fail_task);
}

static unsigned level_of(uint32_t log_level)
{
	return log_level ? MIN(log_level, 90u) : 50u;
}

static struct repl_disk *disk_new(struct env *e, const char *path, const struct repl_disk_opts *o,
				  struct hci_error *err)
{
	struct repl_disk *d = MEM_NEW(struct repl_disk);

	if (!d || strlen(path) >= sizeof(d->path)) {
		err_set(err, d ? HCI_E_RANGE : HCI_E_NOMEM,
			d ? "disk %s: the path is longer than 255 bytes" : "disk %s: out of memory",
			path);
		mem_free(d);
		return NULL;
	}
	d->e = e;
	snprintf(d->path, sizeof(d->path), "%s", path);
	d->on_failed = o->on_failed;
	d->arg = o->arg;
	d->mutate = o->mutate;
	d->level = level_of(o->log_level);
	d->reserve = o->reserve ? o->reserve : 64 * MiB;
	d->sums_max = (uint32_t)(MAX(o->sums_cache ? o->sums_cache : SUMS_CACHE, SUMS_CACHE_MIN) / sizeof(struct sums));
	init_lists(d);
	d->super = mem_alloc_aligned(HCI_BLOCK);
	d->pass = wb_new(d);
	if (log_init(d) || !d->super || !d->pass) {
		err_set(err, HCI_E_NOMEM, "disk %s: out of memory", path);
		return d; /* disk_end frees what there is; the caller sees no superblock */
	}
	return d;
}

static void free_vol(struct repl_disk *d, struct vol *v)
{
	for (uint32_t i = 0; i < v->nsegs; i++)
		seg_free(d, v->segs[i]);
	v->nsegs = 0;
	if (v->refs == 0)
		vol_free(v);
	else
		v->gone = true; /* an opening outlives the disk: its put frees it */
}

static void free_vols(struct repl_disk *d)
{
	struct list *l;

	while ((l = list_pop(&d->dying_segs))) {
		struct seg *s = list_entry(l, struct seg, dying);
		struct vol *v = s->vol;

		seg_free(d, s);
		vol_put(v);
	}
	while ((l = list_pop(&d->dying_vols)))
		vol_put(list_entry(l, struct vol, dying));
	for (unsigned i = 0; i < VOL_BUCKETS; i++) {
		while ((l = list_pop(&d->vols[i])))
			free_vol(d, list_entry(l, struct vol, link));
	}
}

/* What is not open is not measured; its counters begin anew when it is. */
static void unregister_metrics(struct repl_disk *d)
{
	struct metric *all[] = { d->m_writes,  d->m_reads, d->m_batches, d->m_wb,   d->m_corrupt,
				 d->m_sums_read, d->m_paced, d->m_log,     d->m_level };

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		metrics_remove(env_metrics(d->e), all[i]);
}

static void disk_end(struct repl_disk *d)
{
	unregister_metrics(d);
	free_vols(d);
	wb_free(d->pass);
	scrub_fini(d);
	read_fini(d);
	index_fini(d);
	log_fini(d);
	env_undefer(d->e, &d->fail_task);
	if (d->logf)
		env_close(d->e, d->logf);
	if (d->lock)
		env_close(d->e, d->lock);
	mem_free_aligned(d->super);
	mem_free(d->log_path);
	mem_free(d);
}

static void register_metrics(struct repl_disk *d)
{
	struct metrics *m = env_metrics(d->e);
	char label[64], u[HCI_UUID_STR];

	if (!m)
		return;
	uuid_print(&d->uuid, u);
	snprintf(label, sizeof(label), "disk=\"%s\"", u);
	d->m_writes = metrics_counter(m, "hci_replica_writes_total",
				      "Writes and zeroings acknowledged by a disk.", label);
	d->m_reads = metrics_counter(m, "hci_replica_reads_total", "Reads asked of a disk.", label);
	d->m_batches = metrics_counter(m, "hci_replica_batches_total",
				       "Group commits to a disk's log.", label);
	d->m_wb = metrics_counter(m, "hci_replica_writeback_bytes_total",
				  "Bytes moved from the log to segments.", label);
	d->m_corrupt = metrics_counter(m, "hci_replica_corrupt_blocks_total",
				       "Blocks of a disk that did not have the checksum they should.", label);
	d->m_sums_read = metrics_counter(m, "hci_replica_sums_reads_total",
					 "Pages of checksums read because they were not in memory.", label);
	d->m_paced = metrics_counter(m, "hci_replica_paced_total",
				     "Times that writes were held back because the log fills faster than it is moved.", label);
	d->m_log = metrics_gauge(m, "hci_replica_log_used_bytes", "Bytes of the write log in use.", label);
	d->m_level = metrics_gauge(m, "hci_replica_log_level_percent",
				   "Fill of the write log from which on it is moved to its place under load too.", label);
	metric_set(d->m_level, d->level);
}

/* ---- open ---- */

static int open_file(struct repl_disk *d, const char *name, unsigned flags, struct env_file **out,
		     struct hci_error *err)
{
	char *path = disk_path(d, name);
	int rc = path ? env_open(d->e, path, flags, out) : -ENOMEM;

	mem_free(path);
	if (rc == -EBUSY)
		return err_set(
			err, HCI_E_BUSY,
			"disk %s is open already, here or in another process: end that one first",
			d->path);
	if (rc == -ENOENT)
		return err_set(
			err, HCI_E_NOTFOUND,
			"disk %s has no file %s: is it mounted? If it is lost: hcictl disk remove, then disk add",
			d->path, name);
	return rc ? disk_sys_error(d, rc, name, err) : 0;
}

/* Batches written from here on are told from leftovers of before by the epoch. */
static int begin_epoch(struct repl_disk *d, struct hci_error *err)
{
	int rc;

	ENV_MARK(d->e, "epoch begins");
	d->super->epoch++;
	d->log.epoch = d->super->epoch;
	/*
	 * The log first: then one that is behind the superblock is an old copy, see logfile.c. Both copies, or rot of one would
	 * make it look like that.
	 */
	rc = wb_checkpoint(d, d->log.tail_lsn);
	if (!rc)
		rc = wb_checkpoint(d, d->log.tail_lsn);
	if (rc)
		return disk_sys_error(d, rc, "cannot write the log's checkpoint", err);
	rc = super_write(d, 0);
	if (rc)
		return disk_sys_error(d, rc, "cannot write the superblock", err);
	rc = space_refresh(d);
	return rc ? disk_sys_error(d, rc, "cannot tell its free space", err) : 0;
}

static int start_fibers(struct repl_disk *d, struct hci_error *err)
{
	if (fiber_spawn(d->e, wb_fiber, d, "replica-writeback") == 0)
		d->fibers++;
	if (fiber_spawn(d->e, seg_opener, d, "replica-opener") == 0)
		d->fibers++;
	if (fiber_spawn(d->e, scrub_fiber, d, "replica-scrub") == 0)
		d->fibers++;
	return d->fibers == 3
		       ? 0
		       : err_set(err, HCI_E_NOMEM, "disk %s: out of memory for fibers", d->path);
}

static void stop_fibers(struct repl_disk *d)
{
	d->stop = true;
	while (d->fibers) {
		fiber_cond_signal(d->e, &d->wb);
		fiber_cond_signal(d->e, &d->opener);
		fiber_cond_signal(d->e, &d->scrub.changed);
		fiber_cond_wait(d->e, &d->fibers_end);
	}
}

static int disk_start(struct repl_disk *d, const struct repl_disk_opts *o, struct hci_error *err)
{
	int rc = open_file(d, "lock", ENV_O_LOCK, &d->lock, err);

	if (!rc)
		rc = super_read(d, o, err);
	if (!rc)
		rc = logfile_open(d, o, err);
	if (!rc)
		rc = recover(d, err);
	if (!rc)
		rc = begin_epoch(d, err);
	if (!rc)
		rc = start_fibers(d, err);
	return rc;
}

int repl_disk_open(struct env *e, const char *path, const struct repl_disk_opts *o,
		   struct repl_disk **out, struct hci_error *err)
{
	struct repl_disk *d = disk_new(e, path, o, err);
	int rc = HCI_E_NOMEM;

	*out = NULL;
	if (!d)
		return strlen(path) >= sizeof(d->path) ? HCI_E_RANGE : HCI_E_NOMEM;
	if (d->super && d->pass && d->batches[BATCHES - 1] && d->batches[BATCHES - 1]->hdr)
		rc = disk_start(d, o, err);
	if (rc) {
		stop_fibers(d);
		disk_end(d);
		return rc;
	}
	ENV_MARK_STATE(e, "disk open:empty log,log to be moved", d->log.tail_lsn != d->log.next_lsn, 2);
	register_metrics(d);
	d->last_io = d->load_at = env_now(e);
	log_info(env_log(e), "disk %s is open: %llu segments, %u of %u log blocks to be moved",
		 path, (unsigned long long)d->nsegs, ring_used(&d->log), d->log.blocks);
	*out = d;
	return 0;
}

/* ---- close ---- */

static bool log_empty(const struct repl_disk *d)
{
	return d->log.tail_lsn == d->log.next_lsn;
}

static void drain(struct repl_disk *d)
{
	while (d->open_ops && !d->failed)
		fiber_cond_wait(d->e, &d->drained);
	d->drain = true;
	while ((!log_empty(d) || wb_records_lag(d)) && !d->failed && !d->full) {
		fiber_cond_signal(d->e, &d->wb);
		fiber_cond_wait(d->e, &d->drained);
	}
}

void repl_disk_close(struct repl_disk *d, bool abandon)
{
	bool clean;

	if (!d)
		return;
	d->closing = true;
	if (!abandon)
		drain(d);
	clean = !abandon && !d->failed && log_empty(d);
	if (abandon)
		disk_fail(d, 0, "it was abandoned");
	while (d->open_ops)
		fiber_cond_wait(d->e, &d->drained);
	stop_fibers(d);
	if (clean && super_write(d, SUPER_CLEAN))
		log_warn(env_log(d->e),
			 "disk %s: cannot mark it clean, the next opening replays its log",
			 d->path);
	disk_end(d);
}

void repl_disk_set_level(struct repl_disk *d, uint32_t log_level)
{
	d->level = level_of(log_level);
	metric_set(d->m_level, d->level);
	log_kick(d); /* who was held back may go on; what is above the level now is moved */
}

void repl_disk_info(const struct repl_disk *d, struct repl_disk_info *out)
{
	memset(out, 0, sizeof(*out));
	out->uuid = d->uuid;
	snprintf(out->path, sizeof(out->path), "%s", d->path);
	out->failed = d->failed;
	out->log_external = d->super->flags & SUPER_EXT_LOG;
	snprintf(out->log_path, sizeof(out->log_path), "%s", d->log_path);
	out->full = d->full || d->short_of_space;
	out->capacity = d->fs_total;
	out->free = d->fs_free > d->reserve ? d->fs_free - d->reserve : 0;
	out->free -= MIN(out->free, (d->resv + d->resv_pending) * HCI_BLOCK);
	out->log_size = (uint64_t)d->log.blocks * HCI_BLOCK;
	out->log_level = d->level;
	out->log_used = (uint64_t)ring_used(&d->log) * HCI_BLOCK;
	out->segments = d->nsegs;
}
