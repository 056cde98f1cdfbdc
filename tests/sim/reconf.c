/* SPDX-License-Identifier: Apache-2.0 */
/* See reconf.h. */
#include "sim/reconf.h"

#include <stdlib.h>

bool reconf_volume(struct trouble *t, unsigned volume, struct rec_volume *out)
{
	char key[REC_KEY];
	uint32_t len;
	const void *v;

	key_volume(key, &t->volume[volume].uuid);
	v = simstore_peek(t->c->store, key, &len);
	return v && !rec_volume_decode(v, len, out, NULL);
}

bool reconf_pending(struct trouble *t, unsigned volume)
{
	char key[REC_KEY];
	uint32_t len;

	key_volmove(key, &t->volume[volume].uuid);
	return simstore_peek(t->c->store, key, &len) != NULL;
}

static void put_moves(struct trouble *t, unsigned volume, const struct rec_volmove *m)
{
	struct buf b = BUF_INIT;
	char key[REC_KEY];

	key_volmove(key, &t->volume[volume].uuid);
	if (rec_volmove_encode(m, &b))
		abort();
	simstore_put(t->c->store, key, b.data, (uint32_t)b.len);
	buf_free(&b);
}

/* One copy more or less; never more than there are nodes. What may die at once follows. */
static void set_replicas(struct trouble *t, unsigned volume)
{
	struct rec_volmove none = { 0 };
	struct rec_volume v;
	struct buf b = BUF_INIT;
	char key[REC_KEY];

	if (t->healing || !reconf_volume(t, volume, &v))
		return;
	v.replicas = 1 + (uint32_t)tr_pick(t, 3);
	t->volume[volume].replicas = v.replicas;
	key_volume(key, &t->volume[volume].uuid);
	if (rec_volume_encode(&v, &b))
		abort();
	simstore_put(t->c->store, key, b.data, (uint32_t)b.len);
	buf_free(&b);
	put_moves(t, volume, &none);
}

static void evacuation_ends(void *arg)
{
	struct cl_disk *d = arg;

	if (d->rec.state == REC_DISK_EVACUATING)
		d->rec.state = REC_DISK_ONLINE;
}

static void evacuate(struct trouble *t)
{
	struct cl_disk *d = &t->c->disk[tr_pick(t, t->c->ndisks)];

	if (d->dead || d->rec.state != REC_DISK_ONLINE)
		return;
	d->rec.state = REC_DISK_EVACUATING;
	/* Sometimes called off half-way. */
	sim_at(t->c->sim, sim_now(t->c->sim) + tr_pick(t, 20 * NS_PER_S), evacuation_ends, d);
}

static void move(struct trouble *t, unsigned volume)
{
	struct rec_volmap *map = calloc(1, sizeof(*map));
	struct rec_volmove m = { 0 };
	char key[REC_KEY];
	const void *v;
	uint32_t len;

	key_volmap(key, &t->volume[volume].uuid, 0);
	v = simstore_peek(t->c->store, key, &len);
	if (!map || !v || rec_volmap_decode(v, len, map, NULL))
		abort();
	for (uint64_t n = 1 + tr_pick(t, 4); n; n--) {
		uint32_t s = (uint32_t)tr_pick(t, map->n);

		m.m[m.n++] = (struct rec_move){ s, map->seg[s].r[tr_pick(t, map->seg[s].n)].disk,
						t->c->disk[tr_pick(t, t->c->ndisks)].rec.uuid };
	}
	put_moves(t, volume, &m);
	free(map);
}

void reconf_trouble(struct trouble *t, enum trouble_kind kind)
{
	unsigned volume = (unsigned)tr_pick(t, t->nvolumes);

	if (kind == TR_REPLICAS)
		set_replicas(t, volume);
	else if (kind == TR_EVACUATE)
		evacuate(t);
	else
		move(t, volume);
}

void reconf_end(struct trouble *t)
{
	for (unsigned k = 0; k < t->c->ndisks; k++)
		evacuation_ends(&t->c->disk[k]);
}
