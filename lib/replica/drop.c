/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forgetting segments and slots. A DROP entry in the log makes it durable; when it is applied, in
 * the order of the log, the segment is taken out of the tables, so that what is written to it
 * afterwards begins anew. Its files go later, but before the tail moves past the entry and before
 * new files of the same name are made: recovery does the same again, and nothing comes back.
 */
#include <errno.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "replica/replica_impl.h"

void seg_detach(struct seg *s)
{
	struct repl_disk *d = s->d;

	index_forget_seg(s);
	direct_forget(s);
	if (s->dirty) {
		s->dirty = false;
		list_del(&s->dirty_link);
	}
	s->dead = true;
	d->nsegs -= s->real;
	d->resv -= s->resv;
	s->resv = 0;
	s->vol->refs++;
	list_push(&d->dying_segs, &s->dying);
}

static void detach_at(struct vol *v, uint32_t i)
{
	struct seg *s = v->segs[i];

	v->nsegs--;
	memmove(v->segs + i, v->segs + i + 1, (v->nsegs - i) * sizeof(struct seg *));
	seg_detach(s);
}

void drop_apply(struct vol *v, uint32_t segment)
{
	struct repl_disk *d = v->d;

	d->drop_lsn = d->log.applied;
	for (uint32_t i = v->nsegs; i-- > 0;) {
		if (segment == LOGF_ALL || v->segs[i]->no == segment)
			detach_at(v, i);
	}
	scrub_forget(d, &v->uuid, segment);
	if (segment == LOGF_ALL && !v->gone) {
		v->gone = true;
		v->meta_dirty = false;
		v->refs++;
		list_del(&v->link);
		list_push(&d->dying_vols, &v->dying);
	}
	fiber_cond_signal(d->e, &d->wb);
}

bool drop_blocks(const struct vol *v, uint32_t segment)
{
	const struct repl_disk *d = v->d;
	const struct seg *s;
	const struct vol *o;

	list_for_each(s, &d->dying_segs, dying) {
		if (uuid_eq(&s->vol->uuid, &v->uuid) && (s->no == segment || segment == LOGF_ALL))
			return true;
	}
	list_for_each(o, &d->dying_vols, dying) {
		if (o != v && uuid_eq(&o->uuid, &v->uuid))
			return true;
	}
	return false;
}

static int unlink_path(struct repl_disk *d, char *path)
{
	int rc = path ? env_unlink(d->e, path) : -ENOMEM;

	mem_free(path);
	return rc == -ENOENT ? 0 : rc;
}

static int sync_dir(struct repl_disk *d, char *path)
{
	int rc = path ? env_sync_dir(d->e, path) : -ENOMEM;

	mem_free(path);
	return rc == -ENOENT ? 0 : rc;
}

static int unlink_seg(struct repl_disk *d, struct seg *s)
{
	struct vol *v = s->vol;
	int rc;

	while (s->refs)
		fiber_cond_wait(d->e, &d->readers_gone);
	rc = unlink_path(d, seg_path(s, ".seg"));
	if (!rc)
		rc = unlink_path(d, seg_path(s, ".map"));
	if (!rc)
		rc = sync_dir(d, vol_path(v, ""));
	if (rc)
		return rc;
	list_del(&s->dying);
	seg_free(d, s);
	vol_put(v);
	return 0;
}

/* Whatever is in the directory: files of segments that never became part of it, too. */
static int unlink_all(struct repl_disk *d, struct vol *v)
{
	char *dir = vol_path(v, ""), **names = NULL;
	int rc = dir ? env_listdir(d->e, dir, &names) : -ENOMEM;

	for (unsigned i = 0; !rc && names && names[i]; i++)
		rc = unlink_path(d, vol_path(v, names[i]));
	for (unsigned i = 0; names && names[i]; i++)
		mem_free(names[i]);
	mem_free(names);
	if (!rc)
		rc = env_rmdir(d->e, dir);
	mem_free(dir);
	return rc == -ENOENT ? 0 : rc;
}

static int unlink_vol(struct repl_disk *d, struct vol *v)
{
	int rc = unlink_all(d, v);

	if (!rc)
		rc = sync_dir(d, disk_path(d, "vol"));
	if (rc)
		return rc;
	list_del(&v->dying);
	vol_put(v);
	return 0;
}

int drop_unlink(struct repl_disk *d)
{
	int rc = 0;

	while (!rc && !list_empty(&d->dying_segs))
		rc = unlink_seg(d, list_first(&d->dying_segs, struct seg, dying));
	while (!rc && !list_empty(&d->dying_vols))
		rc = unlink_vol(d, list_first(&d->dying_vols, struct vol, dying));
	return rc;
}

static int check(struct repl_disk *d, const struct vol *v, uint64_t generation,
		 struct hci_error *err)
{
	char u[HCI_UUID_STR];

	if (d->failed)
		return err_copy(err, &d->fail_err, HCI_E_IO);
	if (d->closing)
		return err_set(err, HCI_E_CLOSED, "disk %s is being closed", d->path);
	if (!v || generation >= v->max_gen)
		return 0;
	uuid_print(&v->uuid, u);
	return err_set(
		err, HCI_E_FENCED,
		"volume %s on disk %s: generation %llu is older than %llu: nothing was dropped", u,
		d->path, (unsigned long long)generation, (unsigned long long)v->max_gen);
}

/* slot: NULL, or the opening on whose behalf: one that was replaced meanwhile drops nothing. */
static int drop(struct repl_disk *d, struct vol *v, struct repl_slot *slot, uint32_t segment,
		uint64_t generation, struct hci_error *err)
{
	struct ctl c = { .op = { .segment = segment, .slot = slot } };
	int rc = check(d, v, generation, err);

	if (rc || !v || (segment != LOGF_ALL && !seg_find(v, segment)))
		return rc;
	c.op.kind = (enum repl_op_kind)OP_DROP;
	op_priv(&c.op)->vol = v;
	ENV_MARK(d->e, "drop begins");
	rc = log_control(d, &c);
	if (rc == HCI_E_CLOSED && !slot)
		return 0; /* another drop was faster */
	if (rc)
		return err_set(err, rc, "disk %s: cannot log that a segment is dropped: %s",
			       d->path, hci_strerror(rc));
	fiber_mutex_lock(d->e, &d->wb_lock);
	rc = d->failed ? -EIO : drop_unlink(d);
	fiber_mutex_unlock(d->e, &d->wb_lock);
	if (!rc && !d->failed)
		space_refresh(d);
	if (rc)
		return disk_fail(d, -rc, "cannot remove a segment's files");
	return 0;
}

int repl_drop(struct repl_disk *d, const struct uuid *volume, uint32_t segment, uint64_t generation,
	      struct hci_error *err)
{
	int rc;

	disk_enter(d);
	rc = drop(d, vol_find(d, volume), NULL, segment, generation, err);
	disk_leave(d);
	return rc;
}

int repl_slot_drop(struct repl_slot *s, uint32_t segment, struct hci_error *err)
{
	struct repl_disk *d = s->d;
	int rc;

	if (s->ro)
		return err_set(err, HCI_E_READONLY, "disk %s: the handle was opened for reading", d->path);
	if (slot_note_drop(s, segment)) /* first: what is lent from now on may come too late */
		return err_set(err, HCI_E_NOMEM, "disk %s: out of memory for a drop", d->path);
	disk_enter(d);
	rc = drop(d, s->vol, s, segment, s->gen, err);
	disk_leave(d);
	return rc;
}
