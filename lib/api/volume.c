/* SPDX-License-Identifier: Apache-2.0 */
/* hci/volume.h: volumes as objects of the cluster: create, delete, grow, list, where they are. */
#include "api/api_impl.h"

#include "api/tune.h"

#include "volume/volume.h"

/* ---- create ---- */

static int create_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const struct hci_volume_opts *o = arg;
	struct vol_create v = {
		.name = o->name,
		.pool = o->pool,
		.policy = o->policy,
		.size = o->bytes,
		.segment_size = o->segment_bytes,
		.replicas = o->replicas ? o->replicas : 2,
		.on_full = o->on_full == HCI_VOLUME_FULL_FAIL ? REC_FULL_FAIL : REC_FULL_WAIT,
		.write_timeout_ns = o->write_timeout_ms * NS_PER_MS,
		.read_timeout_ns = o->read_timeout_ms * NS_PER_MS,
		.rebuild_delay_ns = o->rebuild_delay_ms * NS_PER_MS,
		.rebuild_impact = o->rebuild_impact,
		.lease_ns = o->lease_ms * NS_PER_MS,
		.place = core_place,
		.arg = c->core,
	};
	struct uuid id;

	if (!core_pool(c->core, o->pool))
		return err_set(err, HCI_E_NOTFOUND, "pool %s: there is none of this name: make it with hcictl pool create", o->pool);
	return vol_create(core_vol_ctx(c->core), &v, &id, err);
}

int hci_volume_create(hci_cluster *c, const struct hci_volume_opts *opts, struct hci_error *err)
{
	static const struct hci_volume_opts defaults = HCI_VOLUME_OPTS_INIT;
	struct hci_volume_opts o;
	int rc;

	if (!c)
		return api_null("c", err);
	rc = opts_take(&o, &defaults, sizeof(o), opts, OPTS_UP_TO(struct hci_volume_opts, rebuild_delay_ms),
		       "hci_volume_opts", err);
	if (!rc)
		rc = opts_reserved(o.reserved, "hci_volume_opts", err);
	if (!rc && (!o.name || !o.pool))
		rc = err_set(err, HCI_E_INVAL, "volume: %s is missing", o.name ? "pool" : "name");
	if (!rc)
		rc = name_check(o.name, "volume", err);
	if (!rc)
		rc = name_check(o.pool, "pool", err);
	if (!rc && o.policy)
		rc = name_check(o.policy, "policy", err);
	/* -1 is "as it is", of hci_volume_tune() only. */
	if (!rc && o.on_full > HCI_VOLUME_FULL_FAIL)
		rc = err_set(err, HCI_E_INVAL, "volume %s: on_full %u is not known: HCI_VOLUME_FULL_*", o.name, o.on_full);
	if (!rc)
		rc = tune_check(o.name, (int32_t)o.on_full, o.write_timeout_ms, o.read_timeout_ms, o.rebuild_impact, o.lease_ms, err);
	return rc ? rc : api_call_fresh(c, create_on_loop, &o, err);
}

/* ---- delete, grow ---- */

struct name_args {
	const char *name;
	uint64_t bytes;
};

static int delete_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const struct name_args *a = arg;
	struct uuid id;
	int rc = api_volume_find(c, a->name, &id, NULL, err);

	return rc ? rc : vol_delete(core_vol_ctx(c->core), &id, err);
}

int hci_volume_delete(hci_cluster *c, const char *name, struct hci_error *err)
{
	struct name_args a = { name, 0 };

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	return api_call_fresh(c, delete_on_loop, &a, err);
}

static int resize_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const struct name_args *a = arg;
	struct vol_create v = { .place = core_place, .arg = c->core };
	struct uuid id;
	int rc = api_volume_find(c, a->name, &id, NULL, err);

	return rc ? rc : vol_resize(core_vol_ctx(c->core), &id, a->bytes, &v, err);
}

int hci_volume_resize(hci_cluster *c, const char *name, uint64_t bytes, struct hci_error *err)
{
	struct name_args a = { name, bytes };

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	return api_call_fresh(c, resize_on_loop, &a, err);
}

/* ---- list ---- */

struct list_args {
	struct api_list l;
	const char *name;
};

/* Chunks of the map, one after the other; fn returns false to stop. */
static int each_chunk(hci_cluster *c, const struct rec_volume *v, int (*fn)(void *arg, uint32_t first, const struct rec_volmap *m),
		      void *arg, struct hci_error *err)
{
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	uint64_t nseg = (v->size + v->segment_size - 1) / v->segment_size;
	char key[REC_KEY];
	int rc = m ? 0 : err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->name);

	for (uint32_t k = 0; !rc && (uint64_t)k * REC_VOLMAP_CHUNK < nseg; k++) {
		key_volmap(key, &v->uuid, k);
		rc = rec_volmap_get(c->store, key, m, NULL, err);
		if (!rc)
			rc = fn(arg, k * REC_VOLMAP_CHUNK, m);
	}
	mem_free(m);
	return rc;
}

struct lacking {
	hci_cluster *c;
	const struct rec_volsync *sync;
	uint32_t replicas, n;
	uint32_t full; /* segments with a copy in the set on a full disk, */
	char disk[168]; /* such as this one */
};

/* A disk that is away keeps its writers waiting for itself, not for room. */
static bool is_full(struct lacking *l, const struct rec_replica *r)
{
	const struct rec_disk *d = r->joining ? NULL : core_disk(l->c->core, &r->disk);

	if (!d || d->why != HCI_E_NOSPACE || d->state != REC_DISK_ONLINE || !core_alive(l->c->core, d->node) || rec_volsync_out(l->sync, &r->disk))
		return false;
	if (!l->full)
		snprintf(l->disk, sizeof(l->disk), "%.90s of node %s", d->path, d->node);
	return true;
}

static int count_lacking(void *arg, uint32_t first, const struct rec_volmap *m)
{
	struct lacking *l = arg;

	(void)first;
	for (uint32_t i = 0; i < m->n; i++) {
		uint32_t joining = 0;
		bool full = false;

		for (uint32_t k = 0; k < m->seg[i].n; k++) {
			joining += m->seg[i].r[k].joining;
			full |= is_full(l, &m->seg[i].r[k]);
		}
		l->n += joining || m->seg[i].n < l->replicas;
		l->full += full;
	}
	return 0;
}

static int describe(hci_cluster *c, const struct rec_volume *v, struct hci_volume_info *i, struct hci_error *err)
{
	struct rec_volsync *s = MEM_NEW(struct rec_volsync);
	struct vol_settings t;
	struct rec_volatt a;
	char key[REC_KEY];
	int rc;

	if (!s)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->name);
	memset(i, 0, sizeof(*i));
	vol_settings(v, core_pool(c->core, v->pool), &t);
	i->rebuild_delay_ms = t.rebuild_delay_ns / NS_PER_MS;
	i->rebuild_impact = t.rebuild_impact;
	i->read_timeout_ms = (uint32_t)(t.read_timeout_ns / NS_PER_MS);
	i->write_timeout_ms = (uint32_t)(t.write_timeout_ns / NS_PER_MS);
	i->lease_ms = (uint32_t)(t.lease_ns / NS_PER_MS);
	i->on_full = v->on_full == REC_FULL_FAIL ? HCI_VOLUME_FULL_FAIL : HCI_VOLUME_FULL_WAIT;
	i->of_pool = (v->rebuild_delay_ns ? 0 : HCI_VOLUME_OF_POOL_DELAY) | (v->rebuild_impact ? 0 : HCI_VOLUME_OF_POOL_IMPACT);
	API_TEXT(i->name, v->name);
	uuid_print(&v->uuid, i->uuid);
	API_TEXT(i->pool, v->pool);
	API_TEXT(i->policy, v->policy);
	i->bytes = v->size;
	i->segment_bytes = v->segment_size;
	i->replicas = v->replicas;
	i->state = (uint32_t)v->state;
	key_volatt(key, &v->uuid);
	if (!rec_volatt_get(c->store, key, &a, NULL, NULL))
		API_TEXT(i->attached_by, a.holder);
	key_volsync(key, &v->uuid);
	rc = rec_volsync_get(c->store, key, s, NULL, err);
	if (!rc) {
		i->generation = s->generation;
		i->replicas_out = s->n;
	} else if (rc == HCI_E_NOTFOUND) {
		rc = 0; /* deleted since it was listed */
	}
	if (!rc && v->state == REC_VOLUME_READY) {
		struct lacking l = { .c = c, .sync = s, .replicas = v->replicas };

		rc = each_chunk(c, v, count_lacking, &l, err);
		rc = rc == HCI_E_NOTFOUND ? 0 : rc;
		i->rebuilding = l.n;
		if (l.full)
			snprintf(i->reason, sizeof(i->reason), "full: new data %s in %u of its segments: disk %s is full",
				 v->on_full == REC_FULL_FAIL ? "fails" : "waits", l.full, l.disk);
	}
	mem_free(s);
	return rc;
}

static int by_name(const void *x, const void *y)
{
	return strcmp(((const struct rec_volume *)x)->name, ((const struct rec_volume *)y)->name);
}

static int list_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct list_args *a = arg;
	struct hci_volume_info i;
	struct rec_list vols;
	int rc = rec_volume_list(c->store, PREFIX_VOLUME, &vols, err);

	if (rc)
		return rc;
	if (vols.n)
		qsort(vols.recs, vols.n, sizeof(struct rec_volume), by_name);
	for (size_t k = 0; !rc && k < vols.n; k++) {
		rc = describe(c, REC_AT(&vols, k, struct rec_volume), &i, err);
		if (!rc)
			rc = api_list_add(&a->l, &i, sizeof(i), err);
	}
	rec_list_free(&vols);
	return rc;
}

int hci_volume_list(hci_cluster *c, struct hci_volume_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err)
{
	struct list_args a = { 0 };

	return api_list_call(c, list_on_loop, &a, &a.l, out, n, info_size, sizeof(struct hci_volume_info), err);
}

/* ---- where it is ---- */

struct where {
	struct list_args *a;
	hci_cluster *c;
	const struct rec_volsync *sync;
	struct hci_error *err;
};

static int add_segments(void *arg, uint32_t first, const struct rec_volmap *m)
{
	struct where *w = arg;
	int rc = 0;

	for (uint32_t s = 0; s < m->n; s++) {
		for (uint32_t k = 0; !rc && k < m->seg[s].n; k++) {
			const struct rec_replica *r = &m->seg[s].r[k];
			const struct rec_disk *d = core_disk(w->c->core, &r->disk);
			struct hci_replica_info i = { .segment = first + s };

			if (r->joining)
				i.state = HCI_REPLICA_JOINING;
			for (uint32_t o = 0; !r->joining && o < w->sync->n; o++)
				if (uuid_eq(&w->sync->out[o].disk, &r->disk))
					i.state = HCI_REPLICA_OUT;
			uuid_print(&r->disk, i.disk);
			if (d) {
				API_TEXT(i.node, d->node);
				API_TEXT(i.path, d->path);
			}
			rc = api_list_add(&w->a->l, &i, sizeof(i), w->err);
		}
	}
	return rc;
}

static int replicas_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct where w = { .a = arg, .c = c, .err = err };
	struct rec_volume *v = MEM_NEW(struct rec_volume);
	struct rec_volsync *s = MEM_NEW(struct rec_volsync);
	char key[REC_KEY];
	struct uuid id;
	int rc;

	rc = v && s ? api_volume_find(c, w.a->name, &id, v, err)
		    : err_set(err, HCI_E_NOMEM, "volume %s: out of memory", w.a->name);
	if (!rc) {
		key_volsync(key, &id);
		rc = rec_volsync_get(c->store, key, s, NULL, err);
	}
	w.sync = s;
	if (!rc)
		rc = each_chunk(c, v, add_segments, &w, err);
	mem_free(v);
	mem_free(s);
	return rc;
}

int hci_volume_replicas(hci_cluster *c, const char *name, struct hci_replica_info **out, uint64_t *n, uint64_t info_size,
			struct hci_error *err)
{
	struct list_args a = { .name = name };

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	return api_list_call(c, replicas_on_loop, &a, &a.l, out, n, info_size, sizeof(struct hci_replica_info), err);
}

/* ---- one replica's bytes ---- */

#define PEEK_MAX (1u << 20)

struct peek_args {
	const char *name;
	struct uuid disk;
	uint32_t segment;
	void *buf;
	uint64_t len, off;
};

static int peek_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct peek_args *a = arg;
	struct rec_volume v;
	struct uuid id;
	int rc = api_volume_find(c, a->name, &id, &v, err);

	if (rc)
		return rc;
	if (a->off > v.segment_size || a->len > v.segment_size - a->off)
		return err_set(err, HCI_E_RANGE, "volume %s: %llu bytes at %llu are outside of a segment", a->name,
			       (unsigned long long)a->len, (unsigned long long)a->off);
	return vol_peek(core_vol_ctx(c->core), &id, &a->disk, a->segment, a->off, a->buf, (uint32_t)a->len, err);
}

int hci_volume_read_replica(hci_cluster *c, const char *name, const char *disk, uint32_t segment, void *buf, uint64_t len,
			    uint64_t offset, struct hci_error *err)
{
	struct peek_args a = { .name = name, .segment = segment, .len = len, .off = offset };
	void *bounce = NULL;
	int rc;

	if (!c || !name || !disk || !buf)
		return api_null(!c ? "c" : !name ? "name" : !disk ? "disk" : "buf", err);
	if (!uuid_parse(disk, &a.disk))
		return err_set(err, HCI_E_INVAL, "disk %.40s: not a UUID", disk);
	if (len % HCI_BLOCK || offset % HCI_BLOCK || !len || len > PEEK_MAX)
		return err_set(err, HCI_E_ALIGN, "volume %s: %llu bytes at %llu: use multiples of %u up to 1 MiB", name,
			       (unsigned long long)len, (unsigned long long)offset, HCI_BLOCK);
	if ((uintptr_t)buf % HCI_BLOCK) {
		bounce = mem_alloc_aligned(len);
		if (!bounce)
			return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", name);
	}
	a.buf = bounce ? bounce : buf;
	rc = api_call_fresh(c, peek_on_loop, &a, err);
	if (bounce && !rc)
		memcpy(buf, bounce, len);
	mem_free_aligned(bounce);
	return rc;
}
