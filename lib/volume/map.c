/* SPDX-License-Identifier: Apache-2.0 */
/* Where the segments are: from the store's records into memory. */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"

uint32_t map_segments(const struct rec_volume *r)
{
	return (uint32_t)((r->size + r->segment_size - 1) / r->segment_size);
}

static int leg_of(struct vol *v, const struct uuid *disk, struct leg **out, struct hci_error *err)
{
	int rc = leg_add(v, disk, out);

	if (rc)
		return err_set(err, rc, "volume %s: too many disks, or out of memory", v->rec.name);
	(*out)->used = true;
	return 0;
}

static int seg_fill(struct vol *v, struct seg *s, const struct rec_segment *r, struct hci_error *err)
{
	for (unsigned k = 0; k < r->n; k++) {
		struct leg *l;
		int rc = leg_of(v, &r->r[k].disk, &l, err);

		if (rc)
			return rc;
		s->leg[k] = l->idx;
		s->joining[k] = r->r[k].joining;
	}
	s->n = (uint8_t)r->n;
	return 0;
}

/* Puts segs, whose entries from v->nsegs on are filled in, in place of v->segs. Must not park. */
static void segs_install(struct vol *v, struct seg *segs, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct seg *s = &segs[i];

		if (i < v->nsegs)
			*s = v->segs[i];
		list_init(&s->pieces);
		if (i < v->nsegs)
			list_splice(&s->pieces, &v->segs[i].pieces);
		for (unsigned k = 0; i >= v->nsegs && k < s->n; k++) {
			s->missed[k] = seg_leg(v, s, k)->out || s->joining[k];
			s->pos[k] = s->missed[k] ? POS_OUT : POS_IN;
		}
	}
	mem_free(v->segs);
	v->segs = segs;
	v->nsegs = n;
}

int map_load(struct vol *v, uint32_t n, struct hci_error *err)
{
	uint32_t had = v->nsegs;
	struct rec_volmap *m;
	struct seg *segs;
	char key[REC_KEY];
	int rc = 0;

	if (n <= had)
		return 0;
	m = MEM_NEW(struct rec_volmap);
	segs = mem_calloc(n, sizeof(*segs));
	if (!m || !segs)
		rc = err_set(err, HCI_E_NOMEM, "volume %s: out of memory for %u segments", v->rec.name, n);
	for (uint32_t c = had / REC_VOLMAP_CHUNK; !rc && c * REC_VOLMAP_CHUNK < n; c++) {
		uint32_t first = c * REC_VOLMAP_CHUNK;

		key_volmap(key, &v->rec.uuid, c);
		rc = rec_volmap_get(v->x->store, key, m, NULL, err);
		for (uint32_t i = 0; !rc && i < REC_VOLMAP_CHUNK && first + i < n; i++) {
			if (first + i < had)
				continue;
			if (i >= m->n || !m->seg[i].n)
				rc = err_set(err, HCI_E_CORRUPT, "volume %s: segment %u has no place in the store",
					     v->rec.name, first + i);
			else
				rc = seg_fill(v, &segs[first + i], &m->seg[i], err);
		}
	}
	if (!rc)
		segs_install(v, segs, n);
	else
		mem_free(segs);
	mem_free(m);
	return rc;
}

int map_pos(struct vol *v, const struct seg *s, const struct uuid *disk)
{
	for (unsigned k = 0; k < s->n; k++)
		if (s->leg[k] != LEG_NONE && uuid_eq(&seg_leg(v, s, k)->disk, disk))
			return (int)k;
	return -1;
}

bool map_takes(struct vol *v, const struct rec_segment *r, const struct uuid *disk, const struct uuid *except)
{
	const struct rec_disk *d = v->x->disk(v->x->arg, disk), *o;
	char node[HCI_NAME_MAX];

	if (!d)
		return false;
	snprintf(node, sizeof(node), "%s", d->node);
	for (unsigned i = 0; i < r->n; i++) {
		if (uuid_eq(&r->r[i].disk, disk))
			return false;
		o = v->x->disk(v->x->arg, &r->r[i].disk);
		if (o && !strcmp(o->node, node) && !(except && uuid_eq(&r->r[i].disk, except)))
			return false;
	}
	return true;
}

/* A copy that was there before, as the store has it now. */
static void pos_refresh(struct vol *v, struct seg *s, unsigned k, const struct rec_replica *r)
{
	struct leg *l = seg_leg(v, s, k);

	if (s->joining[k] && r->joining && s->pos[k] == POS_PENDING)
		s->pos[k] = l->state == LEG_UP ? POS_SYNCED : POS_OUT; /* it did not join */
	if (!s->joining[k] || r->joining)
		return;
	s->joining[k] = false;
	s->pos[k] = POS_IN;
	if (l->state != LEG_UP) /* the store counts on it: it has to leave like any other */
		l->suspect = true;
}

/*
 * Copies that are not in the store's map any more leave holes. From here on nothing waits for them: the store did not
 * count on them since its transaction, and those that stay have acknowledged everything too.
 */
static void pos_clear_gone(struct vol *v, struct seg *s, const struct rec_segment *r)
{
	for (unsigned k = 0; k < s->n; k++) {
		bool there = false;

		for (unsigned i = 0; i < r->n && !there; i++)
			there = uuid_eq(&seg_leg(v, s, k)->disk, &r->r[i].disk);
		if (there || s->leg[k] == LEG_NONE)
			continue;
		s->leg[k] = LEG_NONE;
		s->pos[k] = POS_OUT;
		s->joining[k] = s->missed[k] = false;
	}
}

/* A copy that is new: at the end if there is room, so that holes rest for a while. */
static int pos_add(struct vol *v, struct seg *s, const struct rec_replica *r, struct hci_error *err)
{
	unsigned k = s->n;
	struct leg *to;
	int rc;

	if (k == SEG_POS_MAX)
		for (k = 0; k < s->n && (s->leg[k] != LEG_NONE || s->busy >> k & 1);)
			k++;
	if (k == SEG_POS_MAX)
		return err_set(err, HCI_E_CORRUPT, "volume %s: a segment has more copies than may be", v->rec.name);
	rc = leg_of(v, &r->disk, &to, err);
	if (rc)
		return rc;
	since_seen(&to->out_for, env_now(v->e), 0, 0); /* it has just been chosen: not to be replaced at once for having left long ago */
	s->leg[k] = to->idx;
	s->joining[k] = r->joining;
	s->missed[k] = true;
	s->pos[k] = POS_OUT;
	s->n = (uint8_t)MAX(s->n, k + 1);
	return leg_start(to);
}

static int seg_refresh(struct vol *v, struct seg *s, const struct rec_segment *r, struct hci_error *err)
{
	int rc = 0;

	pos_clear_gone(v, s, r);
	for (unsigned i = 0; !rc && i < r->n; i++) {
		int k = map_pos(v, s, &r->r[i].disk);

		if (k >= 0)
			pos_refresh(v, s, (unsigned)k, &r->r[i]);
		else
			rc = pos_add(v, s, &r->r[i], err);
	}
	return rc;
}

/*
 * A newer writer raises the generation before it changes the map: a map that was read while the generation was ours is of
 * our own making. Without this look an older writer would take a copy for gone that its successor has removed, and
 * acknowledge writes without it.
 */
static int still_ours(struct vol *v, struct hci_error *err)
{
	struct rec_volsync *s = MEM_NEW(struct rec_volsync);
	char key[REC_KEY];
	int rc;

	if (!s)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	key_volsync(key, &v->rec.uuid);
	rc = rec_volsync_get(v->x->store, key, s, NULL, err);
	if (rc == HCI_E_NOTFOUND || (!rc && s->generation != v->gen)) {
		ENV_MARK(v->e, "map of a newer writer");
		sync_fenced(v, "a newer writer attached the volume, or it was deleted");
		rc = err_set(err, HCI_E_FENCED, "volume %s: a newer writer attached it", v->rec.name);
	}
	mem_free(s);
	return rc;
}

int map_refresh(struct vol *v, uint32_t chunk, struct hci_error *err)
{
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	uint32_t first = chunk * REC_VOLMAP_CHUNK;
	char key[REC_KEY];
	int rc;

	if (!m)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	key_volmap(key, &v->rec.uuid, chunk);
	rc = rec_volmap_get(v->x->store, key, m, NULL, err);
	if (!rc && !vol_mutated(v->x, VOL_MUTATE_FOREIGN_MAP))
		rc = still_ours(v, err);
	for (uint32_t i = 0; !rc && i < m->n && first + i < v->nsegs; i++)
		rc = seg_refresh(v, &v->segs[first + i], &m->seg[i], err);
	mem_free(m);
	return rc;
}
