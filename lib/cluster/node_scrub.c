/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrubs of this node's disks: begun and paced as the disks' records say, told in their diskstat. What one finds is
 * repaired by the volume's writer, who asks for it; for volumes that nobody has attached a volrot/ record calls a
 * repair (node_repair.c), and goes when the writer has taken the list.
 */
#include "cluster/node_impl.h"

#define TELL_EVERY (10 * NS_PER_S)

bool node_scrub_put(struct node_disk *d, struct rec_diskstat *s, const struct rec_diskstat *old)
{
	struct repl_scrub_info i;

	repl_scrub_info(d->disk, &i);
	s->scrub_started = i.started;
	s->scrub_finished = i.finished;
	s->scrub_done = i.done;
	s->scrub_total = i.total;
	s->scrub_corrupt = i.corrupt;
	s->scrub_waiting = i.rotten;
	/* Progress by the fiftieth is enough. */
	return !old || old->scrub_started != i.started || old->scrub_finished != i.finished ||
	       old->scrub_corrupt != i.corrupt || old->scrub_waiting != i.rotten ||
	       i.done / MAX(i.total / 50, MiB) != old->scrub_done / MAX(i.total / 50, MiB);
}

static void put_rot(struct node_disk *d, const struct uuid *volume)
{
	char key[REC_KEY], v[HCI_UUID_STR], id[HCI_UUID_STR];
	struct store_op op = { STORE_PUT, key, d->path, (uint32_t)strlen(d->path), 0 };

	uuid_print(volume, v);
	uuid_print(&d->uuid, id);
	snprintf(key, sizeof(key), PREFIX_VOLROT "%s/%s", v, id);
	(void)store_txn(core_store(d->node->core), NULL, 0, &op, 1, NULL, NULL); /* once more at the next turn */
}

/* Whose record volrot/<volume>/<disk> is. */
static bool parse_rot(const char *key, struct uuid *volume, struct uuid *disk)
{
	const size_t head = strlen(PREFIX_VOLROT), u = HCI_UUID_STR - 1;
	char v[HCI_UUID_STR];

	if (strlen(key) != head + 2 * u + 1)
		return false;
	snprintf(v, sizeof(v), "%.*s", (int)u, key + head);
	return uuid_parse(v, volume) && uuid_parse(key + head + u + 1, disk);
}

/*
 * A record of ours, of this life or one before, whose rot a writer has taken on or that was dropped; or one of a disk that
 * was removed from the cluster, and so has nobody else to do it. (One that is too new to be known to us tells again.)
 */
static bool is_over(struct node_disk *d, const struct uuid *volume, const struct uuid *disk)
{
	const struct rec_disk *r = core_disk(d->node->core, disk);

	if (uuid_eq(disk, &d->uuid))
		return !repl_has_rotten(d->disk, volume);
	return !r || r->state == REC_DISK_REMOVED;
}

static bool delete_old(struct node_disk *d)
{
	struct store_result r;
	struct uuid volume, disk;

	if (store_range(core_store(d->node->core), PREFIX_VOLROT, NULL, 0, &r, NULL))
		return false;
	for (size_t i = 0; i < r.n && d->disk; i++) {
		struct store_op op = { STORE_DELETE, r.kvs[i].key, NULL, 0, 0 };

		if (parse_rot(r.kvs[i].key, &volume, &disk) && is_over(d, &volume, &disk))
			(void)store_txn(core_store(d->node->core), NULL, 0, &op, 1, NULL, NULL);
	}
	store_result_free(&r);
	return true;
}

/* Rare: only while there is rot, or was until now. */
static void tell_rot(struct node_disk *d)
{
	struct repl_held *held = NULL;
	bool any = false;
	size_t n = 0;

	if (repl_held(d->disk, &held, &n))
		return;
	for (size_t i = 0; i < n && d->disk && !d->failed; i++) {
		if (!repl_has_rotten(d->disk, &held[i].volume))
			continue;
		any = true;
		put_rot(d, &held[i].volume);
	}
	mem_free(held);
	d->rot_told = (d->disk && !delete_old(d)) || any;
}

void node_scrub_turn(struct node_disk *d)
{
	const struct rec_disk *r = core_disk(d->node->core, &d->uuid);
	struct repl_scrub_info i;

	repl_scrub_info(d->disk, &i);
	if (!r || !i.known)
		return;
	if (d->scrub_period != r->scrub_period_ns || d->scrub_rate != r->scrub_rate) {
		d->scrub_period = r->scrub_period_ns;
		d->scrub_rate = r->scrub_rate;
		repl_scrub_set(d->disk, r->scrub_period_ns, r->scrub_rate);
	}
	if (r->scrub_asked > d->scrub_asked) {
		d->scrub_asked = r->scrub_asked;
		if (r->scrub_asked > i.started)
			repl_scrub_start(d->disk);
	}
	if (env_now(d->node->e) >= d->rot_at && (i.rotten || d->rot_told)) {
		d->rot_at = env_now(d->node->e) + TELL_EVERY;
		tell_rot(d);
	}
}
