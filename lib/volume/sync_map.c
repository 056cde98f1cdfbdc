/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of the map: a copy that was filled joins, a segment of a disk that is gone gets another home; others by reconf.c.
 * Each holds only if chunk and generation are unchanged; memory follows the store.
 */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"

#define LEAVING_MAX 16u /* disks that one change takes out of segments */

/* Disks that a segment has before and not after a change: they may keep its copy for as long as they are away. */
static bool leaving(const struct rec_segment *before, const struct rec_segment *after, struct uuid *disks, uint32_t *n)
{
	for (uint32_t i = 0; i < before->n; i++) {
		bool found = false;

		for (uint32_t k = 0; k < after->n && !found; k++)
			found = uuid_eq(&before->r[i].disk, &after->r[k].disk);
		for (uint32_t k = 0; k < *n && !found; k++)
			found = uuid_eq(&before->r[i].disk, &disks[k]);
		if (found)
			continue;
		if (*n == LEAVING_MAX)
			return false;
		disks[(*n)++] = before->r[i].disk;
	}
	return true;
}

/* The map as it is to be, and that those disks hold old copies (stray.c). */
static int map_write(struct vol *v, const char *key, uint64_t rev, const struct buf *map, const struct uuid *disks, uint32_t n,
		     struct hci_error *err)
{
	char synckey[REC_KEY], (*keys)[REC_KEY] = mem_alloc((n + 1) * sizeof(*keys));
	struct store_cmp cmps[] = { { STORE_CMP_MOD_REV, key, rev }, { STORE_CMP_MOD_REV, synckey, v->sync_rev } };
	struct store_op ops[1 + LEAVING_MAX] = { { STORE_PUT, key, map->data, (uint32_t)map->len, 0 } };
	int rc;

	if (!keys)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	key_volsync(synckey, &v->rec.uuid);
	for (uint32_t i = 0; i < n; i++) {
		key_stray(keys[i], &v->rec.uuid, &disks[i]);
		ops[1 + i] = (struct store_op){ STORE_PUT, keys[i], v->rec.name, (uint32_t)strlen(v->rec.name), 0 };
	}
	rc = store_txn(v->x->store, cmps, 2, ops, 1 + n, NULL, err);
	/* Also when the outcome is unknown: looking is all that comes of it. */
	for (uint32_t i = 0; i < n; i++)
		stray_note(v, &disks[i]);
	mem_free(keys);
	return rc;
}

/*
 * Reads a chunk of the map, lets fn change it, writes it back if it and the generation are unchanged.
 * set_lock is held by the caller.
 */
static int map_change(struct vol *v, uint32_t chunk, map_change_fn *fn, void *arg, struct hci_error *err)
{
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	struct buf b = BUF_INIT;
	char key[REC_KEY];
	struct uuid disks[LEAVING_MAX];
	uint32_t n = 0;
	uint64_t rev;
	bool changed = false;
	int rc;

	if (!m)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	key_volmap(key, &v->rec.uuid, chunk);
	rc = rec_volmap_get(v->x->store, key, m, &rev, err);
	for (uint32_t i = 0; !rc && i < m->n; i++) {
		struct rec_segment before = m->seg[i];
		uint32_t had = n;

		if (!fn(v, chunk * REC_VOLMAP_CHUNK + i, &m->seg[i], arg))
			continue;
		/* More than fit in one transaction: the others with the next one. */
		if (leaving(&before, &m->seg[i], disks, &n)) {
			changed = true;
		} else {
			m->seg[i] = before;
			n = had;
		}
	}
	if (!rc && changed) {
		rc = rec_volmap_encode(m, &b);
		if (!rc)
			rc = map_write(v, key, rev, &b, disks, n, err);
	}
	buf_free(&b);
	mem_free(m);
	return rc;
}

static bool change_joined(struct vol *v, uint32_t segment, struct rec_segment *r, void *arg)
{
	struct seg *s = &v->segs[segment];
	bool changed = false;

	(void)arg;
	if (segment >= v->nsegs)
		return false;
	for (unsigned i = 0; i < r->n; i++) {
		int k = map_pos(v, s, &r->r[i].disk);
		struct leg *l = k < 0 ? NULL : seg_leg(v, s, (unsigned)k);

		if (l && s->joining[k] && s->pos[k] == POS_SYNCED && l->state == LEG_UP && !l->out && r->r[i].joining) {
			r->r[i].joining = false;
			s->pos[k] = POS_PENDING;
			changed = true;
		}
	}
	return changed;
}

int sync_map_change(struct vol *v, uint32_t chunk, map_change_fn *fn, void *arg, struct hci_error *err)
{
	int rc;

	fiber_mutex_lock(v->e, &v->set_lock);
	ENV_MARK_STATE(v->e, "map changes:copies join,copies come or go", fn != change_joined, 2);
	rc = map_change(v, chunk, fn, arg, err);
	ENV_MARK_STATE(v->e, "map changed:yes,no", rc != 0, 2);
	/* Whatever the answer was, the store tells who joined. Until it does those stay pending: no write without them. */
	do {
		rc = map_refresh(v, chunk, err);
		if (rc)
			fiber_sleep(v->e, 200 * NS_PER_MS);
	} while (rc && !v->closing && !v->abandoned && !v->fenced);
	fiber_mutex_unlock(v->e, &v->set_lock);
	sync_check(v);
	io_recheck(v);
	return rc;
}

int sync_joined(struct vol *v, uint32_t chunk, struct hci_error *err)
{
	return sync_map_change(v, chunk, change_joined, NULL, err);
}

struct replace {
	struct leg *bad;
	struct leg **to; /* per segment of the chunk: the leg that takes over, NULL: unchanged */
};

static bool change_replace(struct vol *v, uint32_t segment, struct rec_segment *r, void *arg)
{
	struct replace *x = arg;
	struct leg *to = x->to[segment % REC_VOLMAP_CHUNK];
	bool changed = false;

	if (!to || !map_takes(v, r, &to->disk, &x->bad->disk))
		return false;
	for (unsigned k = 0; k < r->n; k++) {
		if (!uuid_eq(&r->r[k].disk, &x->bad->disk))
			continue;
		r->r[k].disk = to->disk;
		r->r[k].joining = true;
		changed = true;
	}
	return changed;
}

/* Asks the policy for a new home of one segment's copy; NULL when there is none now. */
static struct leg *choose_home(struct vol *v, uint32_t segment, struct leg *bad, struct hci_error *err)
{
	struct uuid keep[SEG_POS_MAX], home;
	struct seg *s = &v->segs[segment];
	struct leg *to = NULL;
	size_t nkeep = 0;

	for (unsigned k = 0; k < s->n; k++)
		if (s->leg[k] != bad->idx && s->leg[k] != LEG_NONE)
			keep[nkeep++] = seg_leg(v, s, k)->disk;
	if (v->x->choose_spare(v->x->arg, &v->rec, segment, keep, nkeep, &bad->disk, &home, err))
		return NULL;
	for (size_t i = 0; i < nkeep; i++)
		if (uuid_eq(&keep[i], &home))
			return NULL;
	if (uuid_eq(&home, &bad->disk) || leg_add(v, &home, &to))
		return NULL;
	return to;
}

int sync_replace(struct vol *v, uint32_t chunk, struct leg *bad, uint32_t *moved, struct hci_error *err)
{
	struct replace x = { .bad = bad };
	uint32_t first = chunk * REC_VOLMAP_CHUNK, n = MIN(REC_VOLMAP_CHUNK, v->nsegs - first);
	uint32_t n_moved = 0;
	int rc = 0;

	x.to = mem_calloc(REC_VOLMAP_CHUNK, sizeof(*x.to));
	if (!x.to)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	for (uint32_t i = 0; i < n; i++) {
		/* choose_home parks, and the array of segments may move meanwhile: index anew each time. */
		for (unsigned k = 0; k < v->segs[first + i].n; k++)
			if (v->segs[first + i].leg[k] == bad->idx && v->segs[first + i].pos[k] == POS_OUT &&
			    !v->closing && !x.to[i])
				x.to[i] = choose_home(v, first + i, bad, err);
		n_moved += x.to[i] != NULL;
	}
	if (n_moved) {
		fiber_mutex_lock(v->e, &v->set_lock);
		ENV_MARK(v->e, "replacing begins");
		rc = map_change(v, chunk, change_replace, &x, err);
		ENV_MARK_STATE(v->e, "replaced:yes,no", rc != 0, 2);
		if (!rc || rc == HCI_E_UNAVAILABLE || rc == HCI_E_TIMEOUT || rc == HCI_E_CONFLICT)
			rc = map_refresh(v, chunk, err);
		fiber_mutex_unlock(v->e, &v->set_lock);
		io_recheck(v);
	}
	*moved = n_moved;
	mem_free(x.to);
	return rc;
}
