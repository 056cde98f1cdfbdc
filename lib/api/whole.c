/* SPDX-License-Identifier: Apache-2.0 */
#include "api/whole.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"

#define CHUNKS_MAX (REC_VOLUME_SIZE_MAX / REC_SEGMENT_MIN / REC_VOLMAP_CHUNK)

/* Of the segments of one chunk of the map: how many have so many copies in sync, and how many have one under way. */
struct chunk {
	uint64_t rev; /* of its record; 0: not seen yet */
	uint16_t copies[REC_COPIES_MAX + 1];
	uint16_t joining;
};

struct entry {
	struct list link;
	struct uuid id;
	char name[HCI_NAME_MAX];
	uint64_t vol_rev, sync_rev; /* of what is below; 0: not seen yet */
	uint64_t changed;           /* the last revision that was taken in */
	bool ready, dirty;
	bool degraded;              /* as told last */
	uint32_t replicas;
	uint32_t out, out_told;
	struct chunk *chunks;
	uint32_t n;
};

struct whole {
	struct env *e;
	void (*told)(void *arg, const struct whole_news *n);
	void *arg;
	struct list vols;
	struct entry *last; /* found last: records come sorted, or again and again of the same volume */
	struct env_timer timer; /* runs out when the loop is through with the change at hand */
	bool loading, loaded;
};

static struct entry *find(struct whole *w, const struct uuid *id, bool make)
{
	struct entry *v = w->last;

	if (v && uuid_eq(&v->id, id))
		return v;
	if (v && v->link.next != &w->vols) {
		v = container_of(v->link.next, struct entry, link);
		if (uuid_eq(&v->id, id))
			return w->last = v;
	}
	list_for_each(v, &w->vols, link)
		if (uuid_eq(&v->id, id))
			return w->last = v;
	v = make ? MEM_NEW(struct entry) : NULL;
	if (v) {
		v->id = *id;
		list_push(&w->vols, &v->link);
		w->last = v;
	}
	return v;
}

static void drop(struct whole *w, struct entry *v)
{
	if (w->last == v)
		w->last = NULL;
	list_del(&v->link);
	mem_free(v->chunks);
	mem_free(v);
}

/* ---- records come in; an older one than is known is passed by ---- */

static void take_volume(struct entry *v, const void *value, size_t len, uint64_t rev)
{
	struct rec_volume r;

	if (v->vol_rev >= rev || rec_volume_decode(value, len, &r, NULL))
		return;
	v->vol_rev = rev;
	snprintf(v->name, sizeof(v->name), "%s", r.name);
	v->ready = r.state == REC_VOLUME_READY;
	v->replicas = r.replicas;
}

static void take_sync(struct entry *v, const void *value, size_t len, uint64_t rev)
{
	struct rec_volsync *s = MEM_NEW(struct rec_volsync);

	if (s && v->sync_rev < rev && !rec_volsync_decode(value, len, s, NULL)) {
		v->sync_rev = rev;
		v->out = s->n;
	}
	mem_free(s);
}

static struct chunk *chunk_at(struct entry *v, uint32_t i)
{
	if (i >= CHUNKS_MAX)
		return NULL;
	if (i >= v->n) {
		struct chunk *c = mem_realloc(v->chunks, (i + 1) * sizeof(*c));

		if (!c)
			return NULL;
		memset(c + v->n, 0, (i + 1 - v->n) * sizeof(*c));
		v->chunks = c;
		v->n = i + 1;
	}
	return &v->chunks[i];
}

static void take_map(struct entry *v, uint32_t i, const void *value, size_t len, uint64_t rev)
{
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	struct chunk *c = chunk_at(v, i);

	if (m && c && c->rev < rev && !rec_volmap_decode(value, len, m, NULL)) {
		memset(c, 0, sizeof(*c));
		c->rev = rev;
		for (uint32_t s = 0; s < m->n; s++) {
			uint32_t joining = 0;

			for (uint32_t k = 0; k < m->seg[s].n; k++)
				joining += m->seg[s].r[k].joining;
			c->copies[m->seg[s].n - joining]++;
			c->joining += joining != 0;
		}
	}
	mem_free(m);
}

/* NULL: the key is none of a volume, or the volume is gone. */
static struct entry *take(struct whole *w, const char *key, const void *value, size_t len, uint64_t rev)
{
	struct entry *v = NULL;
	struct uuid id;
	uint32_t i;

	if (key_parse_uuid(key, PREFIX_VOLUME, &id)) {
		v = find(w, &id, value != NULL);
		if (v && value)
			take_volume(v, value, len, rev);
		else if (v)
			drop(w, v);
		return value ? v : NULL;
	}
	if (!value)
		return NULL;
	if (key_parse_uuid(key, PREFIX_VOLSYNC, &id)) {
		v = find(w, &id, true);
		if (v)
			take_sync(v, value, len, rev);
	} else if (key_parse_volmap(key, &id, &i)) {
		v = find(w, &id, true);
		if (v)
			take_map(v, i, value, len, rev);
	}
	return v;
}

/* ---- news go out ---- */

static void judge(struct whole *w, struct entry *v, bool tell)
{
	struct whole_news n = { &v->id, v->name, v->changed, false, v->out, 0, 0 };
	bool degraded;

	if (!v->ready || !v->sync_rev)
		return;
	for (uint32_t i = 0; i < v->n; i++) {
		n.joining += v->chunks[i].joining;
		for (uint32_t k = 0; k < v->replicas && k <= REC_COPIES_MAX; k++)
			n.short_of += v->chunks[i].copies[k];
	}
	/* A copy that moves while all others are there is no loss; but who waits for the end of one waits for all. */
	degraded = v->out || n.short_of || (v->degraded && n.joining);
	n.whole = !degraded;
	tell = tell && (degraded != v->degraded || (degraded && v->out != v->out_told));
	v->degraded = degraded;
	v->out_told = v->out;
	if (tell)
		w->told(w->arg, &n);
}

static void judge_all(struct whole *w, bool tell)
{
	struct entry *v;

	list_for_each(v, &w->vols, link) {
		if (v->dirty)
			judge(w, v, tell);
		v->dirty = false;
	}
}

static void on_timer(struct env_timer *t)
{
	struct whole *w = container_of(t, struct whole, timer);

	if (w->loaded && !w->loading)
		judge_all(w, true);
}

void whole_record(struct whole *w, const char *key, const void *value, size_t len, uint64_t revision)
{
	struct entry *v = take(w, key, value, len, revision);

	if (!v)
		return;
	v->dirty = true;
	v->changed = revision;
	if (!w->loading && !env_timer_armed(&w->timer))
		env_timer_arm(w->e, &w->timer, env_now(w->e));
}

/* ---- all of them ---- */

static int load(struct whole *w, struct store *s, const char *prefix, struct hci_error *err)
{
	struct store_result r;
	char *after = NULL;
	bool more = true;
	int rc = 0;

	while (more && !rc) {
		rc = store_range(s, prefix, after, 100, &r, err);
		if (rc)
			break;
		mem_free(after);
		after = r.n ? mem_strdup(r.kvs[r.n - 1].key) : NULL;
		more = r.more && r.n;
		if (more && !after)
			rc = err_set(err, HCI_E_NOMEM, "volumes' records: out of memory");
		for (size_t i = 0; i < r.n; i++) {
			struct entry *v = take(w, r.kvs[i].key, r.kvs[i].value, r.kvs[i].value_len, r.kvs[i].mod_rev);

			if (v)
				v->dirty = true;
		}
		store_result_free(&r);
	}
	mem_free(after);
	return rc;
}

int whole_load(struct whole *w, struct store *s, struct hci_error *err)
{
	int rc;

	env_timer_disarm(w->e, &w->timer);
	w->loading = true;
	rc = load(w, s, PREFIX_VOLUME, err);
	if (!rc)
		rc = load(w, s, PREFIX_VOLSYNC, err);
	if (!rc)
		rc = load(w, s, PREFIX_VOLMAP, err);
	w->loading = false;
	if (rc)
		return rc;
	judge_all(w, w->loaded);
	w->loaded = true;
	return 0;
}

struct whole *whole_new(struct env *e, void (*told)(void *arg, const struct whole_news *n), void *arg)
{
	struct whole *w = MEM_NEW(struct whole);

	if (!w)
		return NULL;
	w->e = e;
	w->told = told;
	w->arg = arg;
	list_init(&w->vols);
	env_timer_init(&w->timer, on_timer);
	return w;
}

void whole_free(struct whole *w)
{
	struct entry *v, *tmp;

	if (!w)
		return;
	env_timer_disarm(w->e, &w->timer);
	list_for_each_safe(v, tmp, &w->vols, link)
		drop(w, v);
	mem_free(w);
}
