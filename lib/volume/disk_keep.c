/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a disk as its record says, and what follows when its write log, on another device, is not there: see disk_keep.h.
 * Which volumes count on a disk is read here from the records of volumes; nothing of a volume is changed.
 */
#include "volume/disk_keep.h"

#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "env/fiber.h"
#include "env/mark.h"
#include "volume/volume.h"

#define LOG_SUB "disk"

#define WAIT (600 * NS_PER_S)
#define CLOCK_GRACE (60 * NS_PER_S) /* a clock that was set while we were away gives up no log before that */
#define LOOK_AGAIN (10 * NS_PER_S)

/* ---- how long it has been away ---- */

static bool over(const struct disk_keep *k, const struct disk_keep_how *h)
{
	return h->rec->state == REC_DISK_OFFLINE && k->log_away &&
	       since_over(&k->away_for, env_now(h->env), h->rec->log_wait_ns ? h->rec->log_wait_ns : WAIT, CLOCK_GRACE);
}

/* The time since its log went away is counted over restarts, too: if the record said so before, from then on. */
static enum rec_disk_state refused(struct disk_keep *k, const struct disk_keep_how *h, int rc)
{
	bool was = h->rec->state == REC_DISK_OFFLINE;

	if (rc != HCI_E_UNAVAILABLE && !(rc == HCI_E_STATE && was)) {
		k->log_away = false;
		return REC_DISK_FAILED;
	}
	if (!k->log_away)
		since_seen(&k->away_for, env_now(h->env), env_realtime(h->env), was ? h->rec->state_since : 0);
	k->log_away = true;
	return REC_DISK_OFFLINE;
}

/* ---- who counts on it ---- */

static bool in_map(const struct rec_volmap *m, const struct uuid *disk)
{
	for (uint32_t i = 0; i < m->n; i++)
		for (uint32_t k = 0; k < m->seg[i].n; k++)
			if (uuid_eq(&m->seg[i].r[k].disk, disk) && !m->seg[i].r[k].joining)
				return true;
	return false;
}

struct look {
	struct store *store;
	const struct uuid *disk;
	struct rec_volmap *map;
	struct rec_volsync *sync;
};

/* 0, HCI_E_BUSY: v has it in its set (nothing is in err), or an error of the store. */
static int volume_needs(struct look *x, const struct rec_volume *v, struct hci_error *err)
{
	uint32_t nseg = (uint32_t)((v->size + v->segment_size - 1) / v->segment_size);
	char key[REC_KEY];
	bool there = false;
	int rc = 0;

	for (uint32_t c = 0; !rc && !there && c * REC_VOLMAP_CHUNK < nseg; c++) {
		key_volmap(key, &v->uuid, c);
		rc = rec_volmap_get(x->store, key, x->map, NULL, err);
		there = !rc && in_map(x->map, x->disk);
	}
	if (!rc && there) {
		key_volsync(key, &v->uuid);
		rc = rec_volsync_get(x->store, key, x->sync, NULL, err);
		if (!rc && !rec_volsync_out(x->sync, x->disk))
			return HCI_E_BUSY;
	}
	/* Of a volume that is being made or deleted just now. */
	return rc == HCI_E_NOTFOUND ? 0 : rc;
}

int disk_keep_needed(const struct disk_keep_how *h, const struct uuid *disk, char volume[HCI_NAME_MAX], struct hci_error *err)
{
	struct rec_list vols = { 0 };
	struct look x = { .store = h->store, .disk = disk, .map = MEM_NEW(struct rec_volmap), .sync = MEM_NEW(struct rec_volsync) };
	int rc = x.map && x.sync ? rec_volume_list(h->store, PREFIX_VOLUME, &vols, err)
				 : err_set(err, HCI_E_NOMEM, "disk %s: out of memory", h->rec->path);

	for (size_t i = 0; !rc && i < vols.n && !*h->stopping; i++) {
		const struct rec_volume *v = REC_AT(&vols, i, struct rec_volume);

		rc = volume_needs(&x, v, err);
		if (rc == HCI_E_BUSY)
			snprintf(volume, HCI_NAME_MAX, "%s", v->name);
	}
	if (!rc && *h->stopping)
		rc = HCI_E_CLOSED; /* not all of them were asked */
	rec_list_free(&vols);
	mem_free(x.map);
	mem_free(x.sync);
	return rc;
}

static int anybody_needs(const struct disk_keep_how *h, struct hci_error *err)
{
	char volume[HCI_NAME_MAX];
	int rc = disk_keep_needed(h, &h->rec->uuid, volume, err);

	if (rc == HCI_E_BUSY)
		err_set(err, rc,
			"its write log is lost, but volume %s still counts on what it holds: bring back another disk of that volume, or "
			"this one's log",
			volume);
	return rc;
}

/* ---- giving it up ---- */

static void make_new(const struct disk_keep_how *h, const struct rec_disk *old, struct rec_disk *new)
{
	uint8_t rnd[16];

	*new = *old;
	env_random(h->env, rnd, sizeof(rnd));
	uuid_from_random(&new->uuid, rnd);
	new->replaces = old->uuid;
	new->state = REC_DISK_NEW;
	new->state_since = env_realtime(h->env);
	snprintf(new->reason, sizeof(new->reason), "in place of one that lost its write log");
}

static int swap_records(const struct disk_keep_how *h, struct rec_disk *old, struct rec_disk *new, struct hci_error *err)
{
	char oldkey[REC_KEY], newkey[REC_KEY];
	struct buf a = BUF_INIT, b = BUF_INIT;
	uint64_t rev;
	int rc;

	key_disk(oldkey, &h->rec->uuid);
	rc = rec_disk_get(h->store, oldkey, old, &rev, err);
	if (!rc && old->state == REC_DISK_REMOVED)
		return 0;
	if (rc)
		return rc;
	make_new(h, old, new);
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

		rc = store_txn(h->store, cmps, 2, ops, 2, NULL, err);
	}
	buf_free(&a);
	buf_free(&b);
	return rc;
}

/*
 * 0: done, the disk is no longer this node's. The check comes before and not with the transaction, and that is
 * enough: a disk that is out of a set returns to it only through its node's service, which has it closed.
 * Otherwise err says why not, if there is more to say than it does.
 */
static int give_up(struct disk_keep *k, const struct disk_keep_how *h, struct hci_error *err)
{
	struct rec_disk *r;
	struct hci_error why = { 0 };
	char id[HCI_UUID_STR];
	int rc;

	if (env_now(h->env) < k->look_at) {
		if (k->needed.code)
			err_copy(err, &k->needed, 0);
		return HCI_E_BUSY;
	}
	k->look_at = env_now(h->env) + LOOK_AGAIN;
	rc = h->mutate & VOL_MUTATE_GIVE_UP_NEEDED ? 0 : anybody_needs(h, &why);
	ENV_MARK_STATE(h->env, "log is lost, who counts on it:nobody,somebody,unknown", rc == HCI_E_BUSY ? 1 : rc ? 2 : 0, 3);
	k->needed = rc == HCI_E_BUSY ? why : (struct hci_error){ 0 };
	r = mem_calloc(2, sizeof(*r));
	if (!rc)
		rc = r ? swap_records(h, &r[0], &r[1], &why) : HCI_E_NOMEM;
	mem_free(r);
	if (k->needed.code)
		err_copy(err, &k->needed, 0);
	if (rc)
		return rc;
	ENV_MARK(h->env, "disk is given up");
	uuid_print(&h->rec->uuid, id);
	log_error(env_log(h->env),
		  "disk %s (%s) lost its write log and with it what was written last: it is given up, a new disk takes its place, and "
		  "its volumes are rebuilt from the other replicas",
		  h->rec->path, id);
	return 0;
}

/* ---- opening ---- */

bool disk_keep_fresh(const struct rec_disk *r)
{
	return r->state == REC_DISK_NEW || !uuid_is_null(&r->replaces);
}

static void as_recorded(const struct disk_keep *k, const struct disk_keep_how *h, struct repl_disk_opts *o)
{
	const struct rec_disk *r = h->rec;

	*o = h->base;
	o->uuid = r->uuid;
	o->log_path = r->log[0] ? r->log : NULL;
	if (r->log_size)
		o->log_size = r->log_size;
	o->log_level = r->log_level;
	o->log_renew = over(k, h);
	o->replaces = r->replaces;
}

/* What was given up, or removed, long ago may still have its log there: its file comes and goes with the SSD, not with the disk. */
static void make_room(struct disk_keep *k, const struct disk_keep_how *h)
{
	if (!h->rec->log[0] || env_now(h->env) < k->logs_at)
		return;
	k->logs_at = env_now(h->env) + LOOK_AGAIN;
	disk_logs_drop(h, &k->logs);
}

static int not_formatted(const struct disk_keep *k, const struct hci_error *why, struct hci_error *err)
{
	if (why->code != HCI_E_NOSPACE || !k->logs.n)
		return err_copy(err, why, why->code);
	return err_set(err, why->code, "%.240s; %u file%s there of disks that are no more%s: %s", why->message, k->logs.n,
		       k->logs.n == 1 ? " is" : "s are", k->logs.n == 1 ? "" : ", one of them", k->logs.first);
}

static int format_and_open(struct disk_keep *k, const struct disk_keep_how *h, const struct repl_disk_opts *o, struct repl_disk **out,
			   struct hci_error *err)
{
	struct hci_error taken = { 0 };
	int rc, formatted = 0;

	if (disk_keep_fresh(h->rec) && !k->opened) {
		make_room(k, h);
		formatted = repl_disk_format(h->env, h->rec->path, o, &taken);
		/* Formatted by us before a crash that kept the store from knowing: opening tells, by the UUID. */
		if (formatted && formatted != HCI_E_EXISTS)
			return not_formatted(k, &taken, err);
	}
	rc = repl_disk_open(h->env, h->rec->path, o, out, err);
	if (rc == HCI_E_NOTFOUND && formatted)
		rc = err_copy(err, &taken, formatted); /* what is in there is not a disk at all */
	return rc;
}

int disk_keep_open(struct disk_keep *k, const struct disk_keep_how *h, struct repl_disk **out, enum rec_disk_state *then,
		   struct hci_error *err)
{
	struct repl_disk_opts o;
	int rc;

	as_recorded(k, h, &o);
	*out = NULL;
	rc = format_and_open(k, h, &o, out, err);
	if (!rc) {
		k->opened = true;
		if (k->log_away)
			ENV_MARK_STATE(h->env, "log is back:in time,late", o.log_renew, 2);
		k->log_away = false;
		*then = REC_DISK_ONLINE;
		return 0;
	}
	*out = NULL;
	if (rc == HCI_E_UNAVAILABLE || rc == HCI_E_STATE)
		ENV_MARK_STATE(h->env, "disk without its log:waits,waited enough", rc == HCI_E_STATE, 2);
	if (rc == HCI_E_STATE && !give_up(k, h, err))
		*then = REC_DISK_REMOVED;
	else
		*then = refused(k, h, rc);
	return rc;
}

/* ---- is it still there? ---- */

static int probe_one(struct env *e, const char *path, void *buf)
{
	struct env_file *f;
	int64_t rc = env_open(e, path, ENV_O_RDONLY | ENV_O_DIRECT, &f);

	if (rc)
		return (int)rc;
	rc = fiber_read(e, f, buf, HCI_BLOCK, 0);
	env_close(e, f);
	return rc < 0 ? (int)rc : 0;
}

int disk_keep_probe(struct env *e, const char *disk, const char *log, struct hci_error *err)
{
	void *buf = mem_alloc_aligned(HCI_BLOCK);
	char *path = mem_printf("%s/superblock", disk);
	bool of_log = false;
	int rc = 0;

	if (buf && path) {
		rc = probe_one(e, path, buf);
		of_log = !rc && log[0];
		if (of_log)
			rc = probe_one(e, log, buf);
	}
	if (rc)
		rc = err_sys(err, HCI_E_IO, -rc, of_log ? "disk %s: its write log cannot be read any more"
							: "disk %s: cannot be read any more", disk);
	mem_free(path);
	mem_free_aligned(buf);
	return rc;
}
