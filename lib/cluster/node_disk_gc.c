/* SPDX-License-Identifier: Apache-2.0 */
/* What deleted volumes left on this node's disks goes: when their tombstones are heard of, when a disk is opened, now and then. */
#include "cluster/node_impl.h"

#define GC_EVERY (600 * NS_PER_S) /* for what is missed */
#define GC_AGAIN (10 * NS_PER_S)

/* Drops volumes that have a tombstone. Nothing is ever dropped because a record is missing. */
void node_disk_drop_deleted(struct node_disk *d)
{
	struct node *n = d->node;
	struct repl_held *held = NULL;
	struct store_result r;
	struct hci_error err;
	char key[REC_KEY], id[HCI_UUID_STR];
	size_t nheld = 0;

	d->gc_at = env_now(n->e) + GC_EVERY;
	if (repl_held(d->disk, &held, &nheld))
		return;
	for (size_t i = 0; i < nheld && d->disk && !d->failed && !n->stopping; i++) {
		bool dead;

		uuid_print(&held[i].volume, id);
		snprintf(key, sizeof(key), "tomb/%s", id);
		if (store_get(core_store(n->core), key, &r, &err)) {
			d->gc_at = env_now(n->e) + GC_AGAIN;
			break;
		}
		dead = r.n == 1;
		store_result_free(&r);
		if (!dead || !d->disk)
			continue;
		if (repl_drop(d->disk, &held[i].volume, UINT32_MAX, REPL_GEN_MAX, &err)) {
			d->gc_at = env_now(n->e) + GC_AGAIN;
			log_warn(env_log(n->e), "node %s: deleted volume %s is still on disk %s: %s", n->name, id, d->path,
				 err.message);
		} else {
			log_info(env_log(n->e), "node %s: deleted volume %s dropped from disk %s", n->name, id, d->path);
		}
		d->stat_at = 0;
	}
	mem_free(held);
}

void node_disk_deleted(struct node *n, const struct uuid *volume)
{
	struct node_disk *d;

	list_for_each(d, &n->disks, link) {
		struct repl_held *held = NULL;
		size_t nheld = 0;

		if (!d->disk || d->failed || (volume && repl_held(d->disk, &held, &nheld)))
			continue;
		for (size_t i = 0; i < nheld; i++)
			if (uuid_eq(&held[i].volume, volume))
				d->gc_at = 0;
		if (!volume)
			d->gc_at = 0;
		mem_free(held);
	}
	fiber_cond_signal(n->e, &n->wake);
}
