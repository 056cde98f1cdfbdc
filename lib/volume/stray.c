/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Old copies: a disk that was away while its segments were rebuilt elsewhere comes back with copies that nobody
 * counts on. They are dropped, by the writer, which alone changes the map.
 *
 * That a disk may hold such copies is written in the same transaction that takes it out of the map
 * (stray/<volume>/<disk>), so no writer forgets it. Its segments are asked of the disk itself, once it is up. One
 * goes only while all copies that it should have are in the set and up, so that what is dropped is never the copy that is
 * missed; and by the disk's present opening (reconf_drop.c), which is ours: an older writer's, or one that comes late, is
 * refused. The note goes when the disk has no such segment any more.
 */
#include "volume/reconf.h"

#include "base/mem.h"

#define TRY_EVERY (2 * NS_PER_S)
#define AT_A_TIME 64u

struct stray {
	struct list link;
	struct uuid disk;
	uint64_t try_at;
};

void key_stray(char out[REC_KEY], const struct uuid *volume, const struct uuid *disk)
{
	char v[HCI_UUID_STR], d[HCI_UUID_STR] = "";

	uuid_print(volume, v);
	if (disk)
		uuid_print(disk, d);
	snprintf(out, REC_KEY, PREFIX_STRAY "%s/%s", v, d);
}

bool stray_note(struct vol *v, const struct uuid *disk)
{
	struct stray *s;

	list_for_each(s, &v->strays, link)
		if (uuid_eq(&s->disk, disk))
			return true;
	s = MEM_NEW(struct stray);
	if (!s) {
		v->strays_known = false; /* read again what the store says */
		return false;
	}
	s->disk = *disk;
	s->try_at = env_now(v->e) + TRY_EVERY;
	list_push(&v->strays, &s->link);
	return true;
}

void stray_fini(struct vol *v)
{
	struct list *l;

	while ((l = list_pop(&v->strays)))
		mem_free(list_entry(l, struct stray, link));
}

/* What earlier writers left. */
static void load(struct vol *v)
{
	struct store_result r;
	char prefix[REC_KEY];
	struct uuid disk;

	key_stray(prefix, &v->rec.uuid, NULL);
	if (store_range(v->x->store, prefix, NULL, VOL_LEGS_MAX, &r, NULL))
		return;
	v->strays_known = true;
	for (size_t i = 0; i < r.n; i++)
		if (key_parse_uuid(r.kvs[i].key, prefix, &disk) && !stray_note(v, &disk))
			break;
	store_result_free(&r);
}

/* Every copy that it should have is in the set, and up. */
static bool seg_whole(struct vol *v, uint32_t segment)
{
	struct seg *s = &v->segs[segment];
	unsigned good = 0, all = 0;

	for (unsigned k = 0; k < s->n; k++) {
		if (s->leg[k] == LEG_NONE)
			continue;
		all++;
		good += s->pos[k] == POS_IN && !s->joining[k] && seg_leg(v, s, k)->state == LEG_UP;
	}
	return good == all && good >= v->rec.replicas;
}

static bool over(const struct vol *v)
{
	return v->closing || v->abandoned || v->fenced;
}

/* 0: there are none left; HCI_E_AGAIN: some are being dropped, or cannot be yet. */
static int drop_all(struct vol *v, struct leg *l)
{
	uint32_t segment = 0, queued = 0, waiting = 0;
	int rc;

	while (!(rc = leg_next_segment(l, &segment)) && segment < v->nsegs && queued < AT_A_TIME && !over(v)) {
		if (map_pos(v, &v->segs[segment], &l->disk) < 0) {
			if (seg_whole(v, segment)) {
				ENV_MARK(v->e, "old copy is dropped");
				reconf_drop_later(v->reconf, segment, l);
				queued++;
			} else {
				waiting++;
			}
		}
		segment++;
	}
	if (queued) {
		log_info(env_log(v->e), "volume %s: %u old copies on a disk of node %s are dropped", v->rec.name, queued,
			 l->node);
		fiber_cond_signal(v->e, &v->changed);
	}
	if (rc == HCI_E_NOTFOUND && !queued && !waiting)
		return 0;
	return HCI_E_AGAIN;
}

static void forget(struct vol *v, struct stray *s)
{
	char key[REC_KEY], synckey[REC_KEY];
	struct store_op op = { STORE_DELETE, key, NULL, 0, 0 };
	struct store_cmp cmp = { STORE_CMP_MOD_REV, synckey, 0 };
	int rc;

	key_stray(key, &v->rec.uuid, &s->disk);
	key_volsync(synckey, &v->rec.uuid);
	/* Not if there is another writer by now, which may have written it anew. */
	fiber_mutex_lock(v->e, &v->set_lock);
	cmp.rev = v->sync_rev;
	rc = store_txn(v->x->store, &cmp, 1, &op, 1, NULL, NULL);
	fiber_mutex_unlock(v->e, &v->set_lock);
	if (rc)
		return;
	list_del(&s->link);
	mem_free(s);
}

static void look(struct vol *v, struct stray *s)
{
	const struct rec_disk *d = v->x->disk(v->x->arg, &s->disk);
	struct leg *l;

	s->try_at = env_now(v->e) + TRY_EVERY;
	if (!d || d->state == REC_DISK_REMOVED) {
		forget(v, s);
		return;
	}
	if (leg_add(v, &s->disk, &l) || leg_start(l) || l->state != LEG_UP)
		return;
	if (!drop_all(v, l) && !over(v))
		forget(v, s);
}

static uint32_t count_up(struct vol *v)
{
	struct stray *s;
	uint32_t n = 0;

	list_for_each(s, &v->strays, link) {
		const struct rec_disk *d = v->x->disk(v->x->arg, &s->disk);

		n += d && (d->state == REC_DISK_ONLINE || d->state == REC_DISK_EVACUATING);
	}
	return n;
}

/* Called when there is nothing to copy. Only this takes notes off the list, and only one fiber calls it. */
void stray_run(struct vol *v)
{
	struct stray *s, *next = NULL;

	if (!v->strays_known)
		load(v);
	v->st.strays = count_up(v);
	if (v->st.dropping)
		return;
	list_for_each(s, &v->strays, link)
		if (env_now(v->e) >= s->try_at && (!next || s->try_at < next->try_at))
			next = s;
	if (next && !over(v))
		look(v, next);
	v->st.strays = count_up(v);
}
