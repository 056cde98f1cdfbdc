/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk whose write log, on another device, is away. Until the time set for it is over the disk is offline and
 * waits: a log that comes back goes on from there. After that, or when what comes back is an old copy, what the disk
 * holds is not the newest and counts for nothing. It is given up like a disk that was pulled: the record says
 * "removed", and a new one, of another UUID, takes its place in the directory. The new UUID is what makes it
 * safe: nobody can ever take the emptied disk, or what is left of it, for a member of an in-sync set.
 *
 * One that is still counted on is not given up, though: where a volume has it in its in-sync set it may be the last
 * copy, and its log may yet be found.
 */
#include "cluster/node_impl.h"

#define WAIT (600 * NS_PER_S)
#define CLOCK_GRACE (60 * NS_PER_S) /* a clock that was set while we were away gives up no log before that */
#define LOOK_AGAIN (10 * NS_PER_S)

void node_disk_log_away(struct node_disk *d, bool known)
{
	struct env *e = d->node->e;
	const struct rec_disk *r = core_disk(d->node->core, &d->uuid);

	d->log_away = true;
	since_seen(&d->away_for, env_now(e), env_realtime(e), known && r ? r->state_since : 0);
}

bool node_disk_log_over(const struct node_disk *d, const struct rec_disk *r)
{
	return r->state == REC_DISK_OFFLINE && d->log_away &&
	       since_over(&d->away_for, env_now(d->node->e), r->log_wait_ns ? r->log_wait_ns : WAIT, CLOCK_GRACE);
}

/* ---- who counts on it ---- */

static bool is_out(const struct rec_volsync *s, const struct uuid *disk)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (uuid_eq(&s->out[i].disk, disk))
			return true;
	return false;
}

static bool in_map(const struct rec_volmap *m, const struct uuid *disk)
{
	for (uint32_t i = 0; i < m->n; i++)
		for (uint32_t k = 0; k < m->seg[i].n; k++)
			if (uuid_eq(&m->seg[i].r[k].disk, disk) && !m->seg[i].r[k].joining)
				return true;
	return false;
}

struct look {
	struct node *n;
	const struct uuid *disk;
	struct rec_volmap *map;
	struct rec_volsync *sync;
};

/* 0, HCI_E_BUSY: v has it in its set, or an error of the store. */
static int volume_needs(struct look *x, const struct rec_volume *v, struct hci_error *err)
{
	uint32_t nseg = (uint32_t)((v->size + v->segment_size - 1) / v->segment_size);
	struct store *st = core_store(x->n->core);
	char key[REC_KEY];
	bool there = false;
	int rc = 0;

	for (uint32_t c = 0; !rc && !there && c * REC_VOLMAP_CHUNK < nseg; c++) {
		key_volmap(key, &v->uuid, c);
		rc = rec_volmap_get(st, key, x->map, NULL, err);
		there = !rc && in_map(x->map, x->disk);
	}
	if (!rc && there) {
		key_volsync(key, &v->uuid);
		rc = rec_volsync_get(st, key, x->sync, NULL, err);
		if (!rc && !is_out(x->sync, x->disk))
			return err_set(err, HCI_E_BUSY,
				       "its write log is lost, but volume %s still counts on what it holds: bring back another "
				       "disk of that volume, or this one's log",
				       v->name);
	}
	/* Of a volume that is being made or deleted just now. */
	return rc == HCI_E_NOTFOUND ? 0 : rc;
}

static int anybody_needs(struct node_disk *d, struct hci_error *err)
{
	struct rec_list vols = { 0 };
	struct look x = { .n = d->node, .disk = &d->uuid, .map = MEM_NEW(struct rec_volmap),
			  .sync = MEM_NEW(struct rec_volsync) };
	int rc = x.map && x.sync ? rec_volume_list(core_store(d->node->core), PREFIX_VOLUME, &vols, err)
				 : err_set(err, HCI_E_NOMEM, "disk %s: out of memory", d->path);

	for (size_t i = 0; !rc && i < vols.n && !d->node->stopping; i++)
		rc = volume_needs(&x, REC_AT(&vols, i, struct rec_volume), err);
	rec_list_free(&vols);
	mem_free(x.map);
	mem_free(x.sync);
	return rc;
}

/* ---- giving it up ---- */

static void make_new(struct node *n, const struct rec_disk *old, struct rec_disk *new)
{
	uint8_t rnd[16];

	*new = *old;
	env_random(n->e, rnd, sizeof(rnd));
	uuid_from_random(&new->uuid, rnd);
	new->replaces = old->uuid;
	new->state = REC_DISK_NEW;
	new->state_since = env_realtime(n->e);
	snprintf(new->reason, sizeof(new->reason), "in place of one that lost its write log");
}

static int swap_records(struct node_disk *d, struct rec_disk *old, struct rec_disk *new, struct hci_error *err)
{
	struct node *n = d->node;
	char oldkey[REC_KEY], newkey[REC_KEY];
	struct buf a = BUF_INIT, b = BUF_INIT;
	uint64_t rev;
	int rc;

	key_disk(oldkey, &d->uuid);
	rc = rec_disk_get(core_store(n->core), oldkey, old, &rev, err);
	if (!rc && old->state == REC_DISK_REMOVED)
		return 0;
	if (rc)
		return rc;
	make_new(n, old, new);
	key_disk(newkey, &new->uuid);
	old->state = REC_DISK_REMOVED;
	old->state_since = new->state_since;
	snprintf(old->reason, sizeof(old->reason), "its write log was lost");
	rc = rec_disk_encode(old, &a);
	if (!rc)
		rc = rec_disk_encode(new, &b);
	if (!rc) {
		struct store_cmp cmps[] = { { STORE_CMP_MOD_REV, oldkey, rev }, { STORE_CMP_MOD_REV, newkey, 0 } };
		struct store_op ops[] = { { STORE_PUT, oldkey, a.data, (uint32_t)a.len, 0 },
					  { STORE_PUT, newkey, b.data, (uint32_t)b.len, 0 } };

		rc = store_txn(core_store(n->core), cmps, 2, ops, 2, NULL, err);
	}
	buf_free(&a);
	buf_free(&b);
	return rc;
}

/*
 * 0: done, the disk is no longer this node's. The check comes before and not with the transaction, and that is
 * enough: a disk that is out of a set returns to it only through its node's service, which has it closed.
 */
int node_disk_replace(struct node_disk *d, struct hci_error *err)
{
	struct node *n = d->node;
	struct rec_disk *r;
	struct hci_error why = { 0 };
	char id[HCI_UUID_STR];
	int rc;

	if (env_now(n->e) < d->replace_at)
		return HCI_E_BUSY;
	d->replace_at = env_now(n->e) + LOOK_AGAIN;
	rc = anybody_needs(d, &why);
	r = mem_calloc(2, sizeof(*r));
	if (!rc)
		rc = r ? swap_records(d, &r[0], &r[1], &why) : HCI_E_NOMEM;
	mem_free(r);
	if (rc == HCI_E_BUSY)
		err_copy(err, &why, rc);
	if (rc)
		return rc;
	uuid_print(&d->uuid, id);
	log_error(env_log(n->e),
		  "node %s: disk %s (%s) lost its write log and with it what was written last: it is given up, a new disk takes "
		  "its place, and its volumes are rebuilt from the other replicas",
		  n->name, d->path, id);
	return 0;
}
