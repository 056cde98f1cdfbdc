/* SPDX-License-Identifier: Apache-2.0 */
/* An attached volume: attach, plain calls, queued calls, its end. */
#include "api/volume_impl.h"

#include "cluster/report.h"

#define BOUNCE (1u << 20)
#define ONE_MAX (64 * MiB)

/* ---- attach and detach ---- */

struct attach_args {
	hci_volume *h;
	const char *name;
	struct hci_attach_opts o;
};

/* The volume's record changed: it may have grown. */
static void reload_fiber(void *arg)
{
	hci_volume *h = arg;
	struct hci_error err;

	do {
		h->reload_again = false;
		if (!h->closing && vol_reload(h->v, &err)) {
			log_warn(env_log(h->c->env), "volume %s: its new size and settings are not taken over yet: %s",
				 vol_record(h->v)->name, err.message);
			fiber_sleep(h->c->env, 200 * NS_PER_MS);
			h->reload_again = true;
		}
		atomic_store(&h->size, vol_size(h->v));
	} while (h->reload_again && !h->closing);
	h->reloads--;
	fiber_cond_signal(h->c->env, &h->reloaded);
}

static void on_record(struct core_watcher *w, const char *key, const void *value, size_t len, uint64_t revision)
{
	hci_volume *h = container_of(w, hci_volume, watcher);

	(void)len;
	(void)revision;
	if ((key && (strcmp(key, h->key) || !value)) || h->closing)
		return;
	h->reload_again = true;
	if (h->reloads)
		return;
	h->reloads++;
	if (fiber_spawn(h->c->env, reload_fiber, h, "volume-reload"))
		h->reloads--;
}

static void on_fenced(void *arg, struct vol *v)
{
	(void)v;
	atomic_store(&((hci_volume *)arg)->fenced, true);
}

static int attach_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct attach_args *a = arg;
	hci_volume *h = a->h;
	struct vol_attach_opts o = { .purpose = REC_ATT_USER, .steal_repair = true, .on_fenced = on_fenced, .arg = h };
	struct uuid id;
	int rc = api_volume_find(c, a->name, &id, NULL, err);

	if (rc)
		return rc;
	/* A repair goes within moments when a user wants the volume. */
	o.wait_ns = MAX((uint64_t)a->o.wait_ms * NS_PER_MS, 2 * NS_PER_S);
	if (!a->o.wait_ms) {
		struct rec_volatt att;

		key_volatt(h->key, &id);
		if (!rec_volatt_get(c->store, h->key, &att, NULL, NULL) && att.purpose != REC_ATT_REPAIR)
			o.wait_ns = 0;
	}
	o.lease_ttl_ns = (uint64_t)a->o.lease_ms * NS_PER_MS;
	rc = vol_attach(core_vol_ctx(c->core), &id, &o, &h->v, err);
	if (rc)
		return rc;
	atomic_store(&h->size, vol_size(h->v));
	fiber_cond_init(&h->reloaded);
	key_volume(h->key, &id);
	h->report = core_report_start(c->core, h->v);
	h->watcher.fn = on_record;
	core_watch(c->core, &h->watcher);
	return 0;
}

int hci_volume_attach(hci_volume **out, hci_cluster *c, const char *name, const struct hci_attach_opts *opts,
		      struct hci_error *err)
{
	static const struct hci_attach_opts defaults = HCI_ATTACH_OPTS_INIT;
	struct attach_args a = { .name = name };
	int rc;

	if (!out || !c || !name)
		return api_null(!out ? "out" : !c ? "c" : "name", err);
	*out = NULL;
	rc = opts_take(&a.o, &defaults, sizeof(a.o), opts, OPTS_UP_TO(struct hci_attach_opts, reserved),
		       "hci_attach_opts", err);
	if (!rc)
		rc = opts_reserved(a.o.reserved, "hci_attach_opts", err);
	if (rc)
		return rc;
	if (a.o.lease_ms && (a.o.lease_ms < 500 || a.o.lease_ms > 600000))
		return err_set(err, HCI_E_INVAL, "volume %s: lease of %u ms is not in 500..600000", name, a.o.lease_ms);
	a.h = MEM_NEW(hci_volume);
	if (!a.h)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", name);
	a.h->refs = 1;
	a.h->c = hci_cluster_ref(c);
	list_init(&a.h->watcher.link);
	rc = api_call_fresh(c, attach_on_loop, &a, err);
	if (rc) {
		hci_cluster_unref(c);
		mem_free(a.h);
		return rc;
	}
	*out = a.h;
	return 0;
}

hci_volume *hci_volume_ref(hci_volume *h)
{
	__atomic_add_fetch(&h->refs, 1, __ATOMIC_RELAXED);
	return h;
}

/* Requests in a queue's ring: it has been posted for them, so the loop takes them in one of its next turns. */
static bool untaken(hci_volume *h)
{
	struct vol_status st;

	vol_status(h->v, &st);
	return atomic_load(&h->open) > st.inflight;
}

static int detach_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	hci_volume *h = arg;

	(void)err;
	h->closing = true;
	core_unwatch(c->core, &h->watcher);
	while (h->reloads)
		fiber_cond_wait(c->env, &h->reloaded);
	/* Queued requests that the loop has not taken yet belong to the volume as well: vol_detach() waits for the rest. */
	while (untaken(h))
		fiber_sleep(c->env, NS_PER_MS);
	core_report_stop(h->report);
	vol_detach(h->v);
	return 0;
}

static int abandon_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	(void)c;
	(void)err;
	vol_abandon(((hci_volume *)arg)->v);
	return 0;
}

int hci_volume_abandon(hci_volume *h, struct hci_error *err)
{
	return h ? api_call(h->c, abandon_on_loop, h, err) : api_null("vol", err);
}

void hci_volume_unref(hci_volume *h)
{
	hci_cluster *c;

	if (!h || __atomic_sub_fetch(&h->refs, 1, __ATOMIC_ACQ_REL))
		return;
	c = h->c;
	(void)api_call(c, detach_on_loop, h, NULL);
	/* Requests that detaching cut short are completed from the loop: after them nothing touches h. */
	while (atomic_load(&h->open))
		sched_yield();
	mem_free(h);
	hci_cluster_unref(c);
}

uint64_t hci_volume_size(const hci_volume *h)
{
	return atomic_load(&h->size);
}

uint32_t hci_volume_block_size(const hci_volume *h)
{
	(void)h;
	return HCI_BLOCK;
}

/* ---- checks ---- */

static int check_range(const hci_volume *h, uint64_t len, uint64_t offset, struct hci_error *err)
{
	uint64_t size = atomic_load(&h->size);

	if (len % HCI_BLOCK || offset % HCI_BLOCK)
		return err_set(err, HCI_E_ALIGN, "volume %s: %llu bytes at %llu are not multiples of the block size %u",
			       vol_record(h->v)->name, (unsigned long long)len, (unsigned long long)offset, HCI_BLOCK);
	if (offset > size || len > size - offset)
		return err_set(err, HCI_E_RANGE, "volume %s: %llu bytes at %llu are past its end at %llu",
			       vol_record(h->v)->name, (unsigned long long)len, (unsigned long long)offset,
			       (unsigned long long)size);
	return 0;
}

/* ---- plain calls ---- */

struct rw_args {
	struct vol *v;
	enum vol_io_op op;
	void *buf;
	uint64_t off, len;
};

struct fullest {
	hci_cluster *c;
	const char *pool;
	const struct rec_disk *disk;
	uint64_t free;
};

static bool fullest(void *arg, const struct rec_disk *d)
{
	struct fullest *f = arg;
	const struct rec_diskstat *st = core_diskstat(f->c->core, &d->uuid);
	uint64_t free_now = d->why == HCI_E_NOSPACE ? 0 : st ? st->free : d->capacity;

	if ((d->state == REC_DISK_ONLINE || d->state == REC_DISK_EVACUATING) && !strcmp(d->pool, f->pool) &&
	    (!f->disk || free_now < f->free)) {
		f->disk = d;
		f->free = free_now;
	}
	return true;
}

/* Which disk refused the write is known to the node; the one of the pool with the least room is named. */
static int no_space(hci_cluster *c, const struct rw_args *a, struct hci_error *err)
{
	const struct rec_volume *v = vol_record(a->v);
	struct fullest f = { .c = c, .pool = v->pool };

	core_each_disk(c->core, fullest, &f);
	if (!f.disk)
		return err_set(err, HCI_E_NOSPACE, "volume %s: no room in pool %s: add disks to it, or delete something", v->name, v->pool);
	return err_set(err, HCI_E_NOSPACE,
		       "volume %s: no room for %llu bytes at %llu: the fullest disk of pool %s is %s of node %s: add disks to the pool and "
		       "balance it, or delete something",
		       v->name, (unsigned long long)a->len, (unsigned long long)a->off, v->pool, f.disk->path, f.disk->node);
}

static int rw_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct rw_args *a = arg;
	int rc = vol_rw(a->v, a->op, a->buf, a->off, a->len);

	if (!rc)
		return 0;
	if (rc == HCI_E_NOSPACE)
		return no_space(c, a, err);
	return err_set(err, rc, "volume %s: %s of %llu bytes at %llu: %s", vol_record(a->v)->name,
		       a->op == VOL_READ ? "read" : a->op == VOL_WRITE ? "write" : "zero", (unsigned long long)a->len,
		       (unsigned long long)a->off,
		       rc == HCI_E_FENCED   ? "another writer has taken the volume: attach it again"
					     : hci_strerror(rc));
}

static int rw(hci_volume *h, enum vol_io_op op, void *buf, uint64_t len, uint64_t off, struct hci_error *err)
{
	bool direct = (uintptr_t)buf % HCI_BLOCK == 0;
	uint64_t step = op == VOL_ZERO ? len : direct ? ONE_MAX : BOUNCE;
	uint8_t *p = buf, *bounce = NULL;
	int rc = check_range(h, len, off, err);

	if (rc || !len)
		return rc;
	if (!direct && op != VOL_ZERO) {
		bounce = mem_alloc_aligned(BOUNCE);
		if (!bounce)
			return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", vol_record(h->v)->name);
	}
	while (!rc && len) {
		struct rw_args a = { h->v, op, bounce ? bounce : p, off, MIN(len, step) };

		if (bounce && op == VOL_WRITE)
			memcpy(bounce, p, a.len);
		rc = api_call(h->c, rw_on_loop, &a, err);
		if (bounce && op == VOL_READ && !rc)
			memcpy(p, bounce, a.len);
		if (p)
			p += a.len;
		off += a.len;
		len -= a.len;
	}
	mem_free_aligned(bounce);
	return rc;
}

int hci_volume_pread(hci_volume *h, void *buf, uint64_t len, uint64_t offset, struct hci_error *err)
{
	if (!h || !buf)
		return api_null(h ? "buf" : "vol", err);
	return rw(h, VOL_READ, buf, len, offset, err);
}

int hci_volume_pwrite(hci_volume *h, const void *buf, uint64_t len, uint64_t offset, struct hci_error *err)
{
	if (!h || !buf)
		return api_null(h ? "buf" : "vol", err);
	return rw(h, VOL_WRITE, (void *)(uintptr_t)buf, len, offset, err);
}

int hci_volume_zero(hci_volume *h, uint64_t len, uint64_t offset, struct hci_error *err)
{
	if (!h)
		return api_null("vol", err);
	return rw(h, VOL_ZERO, NULL, len, offset, err);
}

/* ---- queued calls ---- */

static int submit(hci_volume *h, hci_queue *q, enum vol_io_op op, void *buf, uint64_t len, uint64_t offset, uint64_t tag,
		  const struct hci_io_opts *opts, struct hci_error *err)
{
	static const struct hci_io_opts defaults = HCI_IO_OPTS_INIT;
	struct hci_io_opts o;
	struct api_req *r;
	int rc;

	if (!h || !q || (!buf && op != VOL_ZERO))
		return api_null(!h ? "vol" : !q ? "q" : "buf", err);
	if (opts) {
		rc = opts_take(&o, &defaults, sizeof(o), opts, OPTS_UP_TO(struct hci_io_opts, flags),
			       "hci_io_opts", err);
		if (rc)
			return rc;
		if (o.flags)
			return err_set(err, HCI_E_INVAL, "hci_io_opts: flags 0x%x are not known", o.flags);
	}
	rc = check_range(h, len, offset, err);
	if (rc)
		return rc;
	if (!len || (op != VOL_ZERO && len > ONE_MAX))
		return err_set(err, HCI_E_RANGE, "volume %s: a request of %llu bytes: 1 block to 64 MiB are possible",
			       vol_record(h->v)->name, (unsigned long long)len);
	if ((uintptr_t)buf % HCI_BLOCK)
		return err_set(err, HCI_E_ALIGN, "volume %s: the buffer is not aligned to %u: take one from hci_buffer_alloc()",
			       vol_record(h->v)->name, HCI_BLOCK);
	if (api_queue_cluster(q) != h->c)
		return err_set(err, HCI_E_INVAL, "volume %s: the queue belongs to another cluster handle",
			       vol_record(h->v)->name);
	r = api_req_get(q);
	if (!r)
		return err_set(err, HCI_E_BUSY, "queue: all its requests are open: reap, then retry");
	r->tag = tag;
	r->open = &h->open;
	r->io.op = op;
	r->io.flags = 0;
	r->io.vol = h->v;
	r->io.buf = buf;
	r->io.off = offset;
	r->io.len = len;
	api_req_submit(r);
	return 0;
}

int hci_volume_submit_read(hci_volume *h, hci_queue *q, void *buf, uint64_t len, uint64_t offset, uint64_t tag,
			   const struct hci_io_opts *opts, struct hci_error *err)
{
	return submit(h, q, VOL_READ, buf, len, offset, tag, opts, err);
}

int hci_volume_submit_write(hci_volume *h, hci_queue *q, const void *buf, uint64_t len, uint64_t offset, uint64_t tag,
			    const struct hci_io_opts *opts, struct hci_error *err)
{
	return submit(h, q, VOL_WRITE, (void *)(uintptr_t)buf, len, offset, tag, opts, err);
}

int hci_volume_submit_zero(hci_volume *h, hci_queue *q, uint64_t len, uint64_t offset, uint64_t tag,
			   const struct hci_io_opts *opts, struct hci_error *err)
{
	return submit(h, q, VOL_ZERO, NULL, len, offset, tag, opts, err);
}

/* ---- status ---- */

struct status_args {
	hci_volume *h;
	struct hci_volume_status s;
};

static int status_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct status_args *a = arg;
	struct vol_settings t;
	struct vol_status st;

	(void)c;
	(void)err;
	vol_status(a->h->v, &st);
	vol_settings_now(a->h->v, &t);
	a->s = (struct hci_volume_status){
		.generation = st.generation,
		.reads = st.reads,
		.writes = st.writes,
		.read_bytes = st.read_bytes,
		.write_bytes = st.write_bytes,
		.inflight = st.inflight,
		.resync_done = st.resync_done,
		.resync_total = st.resync_total,
		.resync_copied = st.resync_copied,
		.segments = st.segments,
		.segments_degraded = st.segments_degraded,
		.replicas_out = st.out,
		.reads_hedged = st.reads_hedged,
		.rebuild_delay_ms = t.rebuild_delay_ns / NS_PER_MS,
		.rebuild_impact = t.rebuild_impact,
		.read_timeout_ms = (uint32_t)(t.read_timeout_ns / NS_PER_MS),
		.write_timeout_ms = (uint32_t)(t.write_timeout_ns / NS_PER_MS),
		.lease_ms = (uint32_t)(t.lease_ns / NS_PER_MS),
		.on_full = vol_record(a->h->v)->on_full == REC_FULL_FAIL ? HCI_VOLUME_FULL_FAIL : HCI_VOLUME_FULL_WAIT,
	};
	return 0;
}

int hci_volume_status(hci_volume *h, struct hci_volume_status *out, uint64_t status_size, struct hci_error *err)
{
	struct status_args a = { .h = h };
	int rc;

	if (!h)
		return api_null("vol", err);
	rc = api_call(h->c, status_on_loop, &a, err);
	if (!rc && atomic_load(&h->fenced))
		rc = err_set(err, HCI_E_FENCED, "volume %s: another writer has taken it: attach it again",
			     vol_record(h->v)->name);
	return rc ? rc : api_info_out(out, status_size, &a.s, sizeof(a.s), "volume status", err);
}
