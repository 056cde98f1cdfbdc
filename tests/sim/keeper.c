/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of a simulated node in one of its lives: opened, served, closed when they fail, opened again. Those with their write log on
 * an SSD by what decides that in the node's service, too (volume/disk_keep.h).
 */
#include "sim/harness.h"

#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "sim/rot.h"
#include "volume/disk_keep.h"

#define PROBE_EVERY (2 * NS_PER_S)

struct keeper {
	struct list link; /* life.keepers */
	struct life *life;
	struct cl_disk *disk;
	unsigned slot; /* of the node's disks */
	struct repl_disk *open;
	struct fiber_cond changed;
	bool failed;
	struct disk_keep keep;
	uint64_t probe_at;
};

static void disk_failed(void *arg, struct repl_disk *d, const struct hci_error *err)
{
	struct keeper *k = arg;

	(void)d;
	(void)err;
	k->failed = true;
	fiber_cond_signal(k->life->env, &k->changed);
}

static void rot(struct keeper *k, bool end)
{
	struct cl_disk *d = k->disk;
	enum rot_where where = d->log_breaks ? ROT_TWO : end ? ROT_LAST : ROT_ONE;
	char log[sizeof(d->rec.log) + 64], super[sizeof(d->rec.path) + 16], id[HCI_UUID_STR];

	d->log_end_rots = d->log_breaks = false;
	uuid_print(&d->rec.uuid, id);
	if (!d->ssd)
		snprintf(log, sizeof(log), "%s/log", d->rec.path);
	else if (d->ssd->device)
		snprintf(log, sizeof(log), "%s", d->rec.log);
	else
		snprintf(log, sizeof(log), "%s/hci-%s.log", d->rec.log, id);
	rot_log(k->life->env, k->life->node->cl->sim, log, &d->rec.uuid, where);
	snprintf(super, sizeof(super), "%s/superblock", d->rec.path);
	if (sim_rand_below(k->life->node->cl->sim, 4) == 0)
		rot_super(k->life->env, k->life->node->cl->sim, super);
	if (end)
		return;
	if (sim_rand_below(k->life->node->cl->sim, 4) == 0)
		rot_checkpoint(k->life->env, k->life->node->cl->sim, log);
	if (sim_rand_below(k->life->node->cl->sim, 2) == 0)
		rot_slot(k->life->env, k->life->node->cl->sim, d->rec.path, d->lied);
}

/* ---- with the write log on an SSD ---- */

static bool ssd_explains(const struct cl_disk *d)
{
	const struct cl_ssd *s = d->ssd;

	return s && (s->fault != SIM_DISK_OK || s->blank || s->swapped || d->log_lost || d->log_old);
}

/* The store says that it was given up, and of whom is in its place; also when that was done in an earlier life. */
static bool given_up(struct keeper *k)
{
	struct life *l = k->life;
	struct cl_disk *d = k->disk;
	struct rec_list disks = { 0 };

	if (!d->ssd || d->dead || !cluster_given_up(d))
		return false;
	if (!rec_disk_list(l->store, PREFIX_DISK, &disks, NULL)) {
		for (size_t i = 0; i < disks.n && !d->successor && !d->dead; i++)
			if (uuid_eq(&REC_AT(&disks, i, struct rec_disk)->replaces, &d->rec.uuid))
				cluster_adopt(d, REC_AT(&disks, i, struct rec_disk));
		rec_list_free(&disks);
	}
	memset(&k->keep, 0, sizeof(k->keep));
	return true;
}

static void set_state(struct keeper *k, enum rec_disk_state state)
{
	struct rec_disk *r = &k->disk->rec;

	if (k->disk->dead || r->state == state || (r->state == REC_DISK_EVACUATING && state == REC_DISK_ONLINE))
		return;
	r->state = state;
	r->state_since = env_realtime(k->life->env);
}

static int open_as_node(struct keeper *k, const struct repl_disk_opts *o, struct hci_error *err)
{
	struct cl_disk *d = k->disk;
	struct rec_disk *r = TRY_PTR(MEM_NEW(struct rec_disk));
	struct disk_keep_how how = { .env = k->life->env, .store = k->life->store, .rec = r, .base = *o, .stopping = &k->life->stopping,
				     .mutate = k->life->node->cl->o.mutate };
	bool away = k->keep.log_away;
	enum rec_disk_state then;
	int rc;

	*r = d->rec;
	rc = disk_keep_open(&k->keep, &how, &k->open, &then, err);
	mem_free(r);
	d->node->cl->logs.back += !rc && away;
	if (!rc) {
		d->log_old = d->log_lost = false; /* or it was empty, and nothing is lost with it */
		d->rec.replaces = (struct uuid){ 0 }; /* as the node's service has it when the disk is online */
	}
	if (rc == HCI_E_STATE && d->log_old) {
		d->log_old = false;
		d->log_lost = true;
		d->node->cl->logs.refused++;
	}
	if (then != REC_DISK_REMOVED)
		set_state(k, then);
	return rc;
}

/* ---- opening ---- */

static int open_plain(struct keeper *k, const struct repl_disk_opts *o, struct hci_error *err)
{
	struct cl_disk *d = k->disk;
	int rc = 0;

	if (!d->formatted)
		rc = repl_disk_format(k->life->env, d->rec.path, o, err);
	d->formatted |= !rc;
	return rc ? rc : repl_disk_open(k->life->env, d->rec.path, o, &k->open, err);
}

/* Opens it, or says why not. What is not explained by a fault is a failure of the run. */
static int keep_open(struct keeper *k)
{
	struct cl_disk *d = k->disk;
	struct cluster *c = k->life->node->cl;
	struct repl_disk_opts o = {
		.uuid = d->rec.uuid, .cluster = c->uuid, .log_size = c->o.log_size, .reserve = MiB,
		.on_failed = disk_failed, .arg = k, .mutate = c->o.mutate_replica,
	};
	struct hci_error err = { 0 };
	bool end = d->log_end_rots || d->log_breaks;
	int rc;

	k->failed = false;
	if (d->formatted && !d->unmounted && (end || (c->log_rots && sim_rand_below(c->sim, 3) == 0)))
		rot(k, end);
	rc = d->ssd ? open_as_node(k, &o, &err) : open_plain(k, &o, &err);
	d->formatted |= !rc;
	if (rc == HCI_E_CORRUPT && end) {
		d->dead = true;
		d->rec.state = REC_DISK_FAILED;
		return rc;
	}
	d->log_lost |= rc == HCI_E_STATE && end;
	if (rc && d->fault == SIM_DISK_OK && !d->full && !d->faulted_lately && !c->injected && !ssd_explains(d) && !d->unmounted)
		cluster_fail(c, "node %s: disk %s cannot be opened: %s", d->rec.node, d->rec.path, err.message);
	if (!rc && d->unmounted)
		cluster_fail(c, "node %s: disk %s was opened, and nothing is mounted there", d->rec.node, d->rec.path);
	d->faulted_lately = d->unmounted || d->fault != SIM_DISK_OK || d->full || ssd_explains(d);
	return rc;
}

/* Goes on until a pass that was begun by us has come to its end. */
static void keep_scrub(struct keeper *k, bool *begun, uint64_t *passes)
{
	struct repl_scrub_info i;

	repl_scrub_info(k->open, &i);
	if (k->disk->scrub_wanted && !*begun) {
		repl_scrub_start(k->open);
		*begun = true;
		*passes = i.passes;
	} else if (*begun && i.passes > *passes) {
		k->disk->scrub_wanted = *begun = false;
		k->disk->scrubbed = true;
	}
}

static void probe(struct keeper *k)
{
	struct life *l = k->life;
	struct repl_disk_info i;
	struct hci_error err;

	if (!k->disk->ssd || env_now(l->env) < k->probe_at)
		return;
	k->probe_at = env_now(l->env) + PROBE_EVERY;
	repl_disk_info(k->open, &i);
	k->failed |= disk_keep_probe(l->env, i.path, i.log_path, &err) != 0;
}

static void serve(struct keeper *k)
{
	struct life *l = k->life;
	struct cl_disk *d = k->disk;
	uint64_t passes = 0;

	TRY(repl_service_add(l->service, k->open));
	d->serving = true;
	for (bool scrub = false; !k->failed && !l->stopping;) {
		fiber_cond_wait_until(l->env, &k->changed, env_now(l->env) + 500 * NS_PER_MS);
		if (!k->failed)
			keep_scrub(k, &scrub, &passes);
		if (!k->failed)
			probe(k);
	}
	d->serving = false;
	if (d->ssd && k->failed)
		set_state(k, REC_DISK_FAILED);
	repl_service_remove(l->service, k->open);
	repl_disk_close(k->open, k->failed);
}

/* Unless it was killed or started again in the meantime. */
static void stopped(void *arg)
{
	struct cl_node *n = arg;

	if (n->life && n->life->stopping && list_empty(&n->life->keepers))
		cluster_kill(n, false);
}

static void stop_if_last(struct life *l)
{
	if (l->stopping && list_empty(&l->keepers))
		sim_at(l->node->cl->sim, sim_now(l->node->cl->sim), stopped, l->node);
}

static void keep_disk(void *arg)
{
	struct keeper *k = arg;
	struct life *l = k->life;

	while (k->disk = l->node->disks[k->slot], !k->disk->dead && !l->stopping) {
		if (given_up(k) || keep_open(k)) {
			fiber_sleep(l->env, 500 * NS_PER_MS);
		} else {
			serve(k);
			if (!l->stopping)
				fiber_sleep(l->env, 200 * NS_PER_MS);
		}
	}
	list_del(&k->link);
	stop_if_last(l);
}

void keepers_stop(struct life *l)
{
	struct keeper *k;

	l->stopping = true;
	list_for_each(k, &l->keepers, link)
		fiber_cond_signal(l->env, &k->changed);
	stop_if_last(l);
}

void keepers_start(struct life *l)
{
	for (unsigned i = 0; i < l->node->ndisks; i++) {
		struct keeper *k = TRY_PTR(MEM_NEW(struct keeper));

		l->node->disks[i]->serving = false;
		k->life = l;
		k->slot = i;
		k->disk = l->node->disks[i];
		fiber_cond_init(&k->changed);
		list_init(&k->link);
		if (k->disk->dead)
			continue;
		list_push(&l->keepers, &k->link);
		TRY(fiber_spawn(l->env, keep_disk, k, "disk"));
	}
}
