/* SPDX-License-Identifier: Apache-2.0 */
/* Which volumes that nobody has attached are in need of repair, and which node is to do it: read from the store. */
#include "cluster/node_repair.h"

/* Of the nodes that are alive, the one with the highest hash of (volume, name): so that not all rush at once. */
struct elect {
	struct node *n;
	const struct uuid *volume;
	uint64_t best, mine;
};

static uint64_t mix(const struct uuid *u, const char *name)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (unsigned i = 0; i < 16; i++)
		h = (h ^ u->b[i]) * UINT64_C(0x100000001b3);
	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
	return h;
}

static bool elect_one(void *arg, const struct rec_node *r)
{
	struct elect *x = arg;
	uint64_t h = mix(x->volume, r->name);

	if (!strcmp(r->name, x->n->name))
		x->mine = h;
	if (core_alive(x->n->core, r->name))
		x->best = MAX(x->best, h);
	return true;
}

bool repair_elected(struct node *n, const struct uuid *volume)
{
	struct elect x = { .n = n, .volume = volume };

	core_each_node(n->core, elect_one, &x);
	return x.mine == x.best;
}

/* ---- who needs it ---- */

static bool disk_is_bad(struct node *n, const struct uuid *id)
{
	const struct rec_disk *d = core_disk(n->core, id);

	return !d || d->state == REC_DISK_FAILED || d->state == REC_DISK_OFFLINE || d->state == REC_DISK_REMOVED ||
	       d->state == REC_DISK_EVACUATING || !core_alive(n->core, d->node);
}

static bool any_bad_one(void *arg, const struct rec_disk *d)
{
	struct elect *x = arg;

	x->best |= disk_is_bad(x->n, &d->uuid);
	return !x->best;
}

bool repair_any_bad_disk(struct node *n)
{
	struct elect x = { .n = n };

	core_each_disk(n->core, any_bad_one, &x);
	return x.best;
}

/*
 * 1: a copy that is being made, or one on a disk that is not there; 0: none; HCI_E_*: not known. *left: good copies of the segment that
 * has the fewest, as far as the map was looked at.
 */
static int map_needs_repair(struct node *n, const struct rec_volume *v, const struct rec_volsync *out, bool look_for_bad,
			    unsigned *left)
{
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	uint32_t nseg = (uint32_t)((v->size + v->segment_size - 1) / v->segment_size);
	bool found = false;
	char key[REC_KEY];
	int rc = m ? 0 : HCI_E_NOMEM;

	*left = v->replicas;
	for (uint32_t c = 0; !rc && c * REC_VOLMAP_CHUNK < nseg; c++) {
		key_volmap(key, &v->uuid, c);
		rc = rec_volmap_get(core_store(n->core), key, m, NULL, NULL);
		for (uint32_t i = 0; !rc && i < m->n; i++) {
			unsigned good = 0;

			for (uint32_t k = 0; k < m->seg[i].n; k++) {
				const struct rec_replica *r = &m->seg[i].r[k];
				bool bad = look_for_bad && disk_is_bad(n, &r->disk);

				found |= r->joining || bad;
				good += !r->joining && !bad && !rec_volsync_out(out, &r->disk);
			}
			*left = MIN(*left, good);
		}
	}
	mem_free(m);
	return found ? 1 : rc;
}

/* Is it to have more or fewer copies, or some elsewhere? */
static int moves(struct node *n, const struct uuid *volume)
{
	struct store_result r;
	char key[REC_KEY];
	int rc;

	key_volmove(key, volume);
	rc = store_get(core_store(n->core), key, &r, NULL);
	if (rc)
		return rc;
	rc = r.n == 1;
	store_result_free(&r);
	return rc;
}

/* Is there a record PREFIX<volume>/<disk> of a disk that is up? */
static int disk_up_with(struct node *n, const char *what, const struct uuid *volume)
{
	struct store_result r;
	char prefix[REC_KEY], id[HCI_UUID_STR];
	struct uuid disk;
	bool yes = false;
	int rc;

	uuid_print(volume, id);
	snprintf(prefix, sizeof(prefix), "%s%s/", what, id);
	rc = store_range(core_store(n->core), prefix, NULL, 0, &r, NULL);
	if (rc)
		return rc;
	for (size_t i = 0; i < r.n && !yes; i++) {
		const struct rec_disk *d = key_parse_uuid(r.kvs[i].key, prefix, &disk) ? core_disk(n->core, &disk) : NULL;

		yes = d && (d->state == REC_DISK_ONLINE || d->state == REC_DISK_EVACUATING) && core_alive(n->core, d->node);
	}
	store_result_free(&r);
	return yes;
}

/* Does a disk that is back hold copies of it that nobody counts on any more? */
static int old_copies(struct node *n, const struct uuid *volume)
{
	return disk_up_with(n, "stray/", volume);
}

/* A scrub found damaged blocks, see node_scrub.c. */
static int rotten(struct node *n, const struct uuid *volume)
{
	return disk_up_with(n, PREFIX_VOLROT, volume);
}

static int copies_need(struct node *n, const struct rec_volume *v, bool bad_disks, unsigned *left)
{
	struct rec_volsync *s = MEM_NEW(struct rec_volsync);
	char key[REC_KEY];
	int rc = HCI_E_NOMEM, need = 0;

	key_volsync(key, &v->uuid);
	if (s)
		rc = rec_volsync_get(core_store(n->core), key, s, NULL, NULL);
	if (!rc) {
		need = s->n > 0;
		rc = map_needs_repair(n, v, s, bad_disks, left);
	}
	mem_free(s);
	return need ? 1 : rc;
}

int repair_needed(struct node *n, const struct rec_volume *v, bool bad_disks, unsigned *left)
{
	struct rec_volatt a;
	char key[REC_KEY];
	int rc;

	if (v->state != REC_VOLUME_READY)
		return 0;
	key_volatt(key, &v->uuid);
	rc = rec_volatt_get(core_store(n->core), key, &a, NULL, NULL);
	if (rc != HCI_E_NOTFOUND)
		return rc; /* 0: it has a writer, which does it */
	rc = copies_need(n, v, bad_disks, left);
	if (!rc)
		rc = moves(n, &v->uuid);
	if (!rc)
		rc = old_copies(n, &v->uuid);
	if (!rc)
		rc = rotten(n, &v->uuid);
	/* Deleted meanwhile. */
	return rc == HCI_E_NOTFOUND ? 0 : rc;
}

/* ---- whether to look at all of them ---- */

static bool health_of_node(void *arg, const struct rec_node *r)
{
	struct elect *x = arg;

	if (core_alive(x->n->core, r->name))
		x->best += mix(&(struct uuid){ { 0 } }, r->name);
	return true;
}

static bool health_of_disk(void *arg, const struct rec_disk *d)
{
	struct elect *x = arg;

	x->best += mix(&d->uuid, disk_is_bad(x->n, &d->uuid) ? "bad" : "good");
	return true;
}

uint64_t repair_health(struct node *n)
{
	struct elect x = { .n = n };

	core_each_node(n->core, health_of_node, &x);
	core_each_disk(n->core, health_of_disk, &x);
	return x.best;
}
