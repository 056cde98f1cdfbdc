/* SPDX-License-Identifier: Apache-2.0 */
/* Plans for one volume, and what all plans have in common. Those for a pool: balance.c. */
#include "cluster/plan.h"

#include "cluster/plan_impl.h"

void plan_free(struct plan *p)
{
	mem_free(p->vols);
	mem_free(p->moves);
	memset(p, 0, sizeof(*p));
}

bool plan_add(struct plan *p, uint32_t vol, uint32_t segment, const struct uuid *from, const struct uuid *to)
{
	if (p->n == p->cap) {
		uint32_t cap = p->cap ? p->cap * 2 : 64;
		struct plan_move *m = mem_realloc(p->moves, cap * sizeof(*m));

		if (!m)
			return false;
		p->moves = m;
		p->cap = cap;
	}
	p->moves[p->n++] = (struct plan_move){ vol, { segment, *from, *to } };
	return true;
}

int plan_each_chunk(struct core *c, const struct rec_volume *v, plan_chunk_fn *fn, void *arg, struct hci_error *err)
{
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	uint64_t nseg = (v->size + v->segment_size - 1) / v->segment_size;
	char key[REC_KEY];
	int rc = m ? 0 : err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->name);

	for (uint32_t k = 0; !rc && (uint64_t)k * REC_VOLMAP_CHUNK < nseg; k++) {
		key_volmap(key, &v->uuid, k);
		rc = rec_volmap_get(c->o.store, key, m, NULL, err);
		if (!rc)
			rc = fn(arg, k * REC_VOLMAP_CHUNK, m, err);
	}
	mem_free(m);
	return rc;
}

/* ---- counting ---- */

struct count {
	const struct uuid *disks;
	size_t n;
	uint64_t copies;
};

static int count_chunk(void *arg, uint32_t first, const struct rec_volmap *m, struct hci_error *err)
{
	struct count *x = arg;

	(void)first;
	(void)err;
	for (uint32_t i = 0; i < m->n; i++)
		for (uint32_t k = 0; k < m->seg[i].n; k++)
			for (size_t d = 0; d < x->n; d++)
				x->copies += uuid_eq(&m->seg[i].r[k].disk, &x->disks[d]);
	return 0;
}

int plan_count_copies(struct core *c, const struct uuid *disks, size_t n, uint64_t *copies, struct hci_error *err)
{
	struct count x = { disks, n, 0 };
	struct rec_list vols;
	int rc = rec_volume_list(c->o.store, PREFIX_VOLUME, &vols, err);

	if (rc)
		return rc;
	for (size_t i = 0; !rc && i < vols.n; i++) {
		const struct rec_volume *v = REC_AT(&vols, i, struct rec_volume);

		rc = plan_each_chunk(c, v, count_chunk, &x, err);
		/* Being made or deleted just now. */
		if (rc == HCI_E_NOTFOUND)
			rc = 0;
	}
	rec_list_free(&vols);
	*copies = x.copies;
	return rc;
}

/* ---- one volume, where its policy wants it ---- */

struct replace {
	struct core *c;
	struct rec_volume v;
	struct plan *p;
};

static bool same_node(struct core *c, const struct uuid *a, const struct uuid *b)
{
	const struct rec_disk *x = core_disk(c, a), *y = core_disk(c, b);

	return x && y && !strcmp(x->node, y->node);
}

/* Pairs what has to go with what is wanted: those of one node first, as no two copies may meet on a node on the way. */
static bool pair(struct replace *x, uint32_t segment, struct uuid *from, uint32_t nfrom, struct uuid *to, uint32_t nto)
{
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < nto; i++) {
			for (uint32_t k = 0; k < nfrom; k++) {
				if (!pass && !same_node(x->c, &from[k], &to[i]))
					continue;
				if (!plan_add(x->p, 0, segment, &from[k], &to[i]))
					return false;
				from[k] = from[--nfrom];
				to[i--] = to[--nto];
				break;
			}
		}
	}
	return true;
}

static bool is_in(const struct uuid *set, uint32_t n, const struct uuid *u)
{
	for (uint32_t i = 0; i < n; i++)
		if (uuid_eq(&set[i], u))
			return true;
	return false;
}

static int replace_chunk(void *arg, uint32_t first, const struct rec_volmap *m, struct hci_error *err)
{
	struct replace *x = arg;
	uint32_t r = x->v.replicas;
	struct vol_create how = { .name = x->v.name, .pool = x->v.pool, .policy = x->v.policy, .replicas = r,
				  .segment_size = x->v.segment_size };
	struct uuid *want = mem_calloc((size_t)m->n * r, sizeof(*want));
	int rc;

	if (!want)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", x->v.name);
	rc = core_place(x->c, &how, &x->v.uuid, first, m->n, want, err);
	for (uint32_t i = 0; !rc && i < m->n; i++) {
		struct uuid from[REC_COPIES_MAX], to[REC_COPIES_MAX], have[REC_COPIES_MAX], *w = want + (size_t)i * r;
		uint32_t nfrom = 0, nto = 0, n = m->seg[i].n;

		for (uint32_t k = 0; k < n; k++)
			have[k] = m->seg[i].r[k].disk;
		for (uint32_t k = 0; k < n; k++)
			if (!is_in(w, r, &have[k]))
				from[nfrom++] = have[k];
		for (uint32_t k = 0; k < r; k++)
			if (!is_in(have, n, &w[k]))
				to[nto++] = w[k];
		if (!pair(x, first + i, from, nfrom, to, nto))
			rc = err_set(err, HCI_E_NOMEM, "volume %s: out of memory", x->v.name);
	}
	mem_free(want);
	return rc;
}

int plan_replace(struct core *c, const struct uuid *volume, struct plan *out, struct hci_error *err)
{
	struct replace *x = MEM_NEW(struct replace);
	char key[REC_KEY];
	int rc;

	memset(out, 0, sizeof(*out));
	if (!x)
		return err_set(err, HCI_E_NOMEM, "volume: out of memory");
	x->c = c;
	x->p = out;
	out->vols = MEM_NEW(struct uuid);
	out->nvols = 1;
	key_volume(key, volume);
	rc = out->vols ? rec_volume_get(c->o.store, key, &x->v, NULL, err) : err_set(err, HCI_E_NOMEM, "volume: out of memory");
	if (!rc) {
		*out->vols = *volume;
		rc = plan_each_chunk(c, &x->v, replace_chunk, x, err);
		out->bytes = out->n * x->v.segment_size;
	}
	mem_free(x);
	if (rc)
		plan_free(out);
	return rc;
}

/* ---- one volume, one copy of each segment to a node ---- */

struct to_node {
	struct rec_volume v;
	struct plan *p;
	struct snap snap;
	const char *from, *to;
};

/* The node's disk with most room; UINT32_MAX: none has enough. */
static uint32_t roomiest(const struct to_node *x)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < x->snap.n; i++) {
		const struct hci_placement_disk *d = &x->snap.disks[i];

		if (strcmp(d->node, x->to) || !d->usable || d->free < x->v.segment_size)
			continue;
		if (best == UINT32_MAX || d->free > x->snap.disks[best].free)
			best = i;
	}
	return best;
}

static bool is_there(const struct to_node *x, const struct rec_segment *s)
{
	for (uint32_t k = 0; k < s->n; k++) {
		uint32_t i = snap_find(&x->snap, &s->r[k].disk);

		if (i != UINT32_MAX && !strcmp(x->snap.disks[i].node, x->to))
			return true;
	}
	return false;
}

/* Which copy goes if one comes to disk `to`: -1 if none may, as two would meet in a domain. */
static int leaves(const struct to_node *x, const struct rec_segment *s, uint32_t to)
{
	int go = *x->from ? -1 : 0, must = -1;

	for (uint32_t k = 0; k < s->n; k++) {
		uint32_t i = snap_find(&x->snap, &s->r[k].disk);

		if (i == UINT32_MAX)
			continue;
		if (*x->from && !strcmp(x->snap.disks[i].node, x->from))
			go = (int)k;
		if (!strcmp(x->snap.disks[i].domain, x->snap.disks[to].domain))
			must = (int)k;
	}
	if (must < 0)
		return go;
	return *x->from && must != go ? -1 : must;
}

static int to_node_chunk(void *arg, uint32_t first, const struct rec_volmap *m, struct hci_error *err)
{
	struct to_node *x = arg;

	for (uint32_t i = 0; i < m->n; i++) {
		const struct rec_segment *s = &m->seg[i];
		uint32_t to;
		int go;

		if (!s->n || is_there(x, s))
			continue;
		to = roomiest(x);
		go = to == UINT32_MAX ? -1 : leaves(x, s, to);
		if (to == UINT32_MAX)
			return err_set(err, HCI_E_NOPLACE, "volume %s: node %s has no disk in pool %s with room for another segment",
				       x->v.name, x->to, x->v.pool);
		if (go < 0)
			continue;
		if (!plan_add(x->p, 0, first + i, &s->r[go].disk, &x->snap.ids[to]))
			return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", x->v.name);
		x->snap.disks[to].free -= x->v.segment_size;
	}
	return 0;
}

int plan_to_node(struct core *c, const struct uuid *volume, const char *from, const char *to, struct plan *out,
		 struct hci_error *err)
{
	struct to_node *x = MEM_NEW(struct to_node);
	char key[REC_KEY];
	int rc;

	memset(out, 0, sizeof(*out));
	if (!x)
		return err_set(err, HCI_E_NOMEM, "volume: out of memory");
	x->p = out;
	x->from = from;
	x->to = to;
	out->vols = MEM_NEW(struct uuid);
	out->nvols = 1;
	key_volume(key, volume);
	rc = out->vols ? rec_volume_get(c->o.store, key, &x->v, NULL, err) : err_set(err, HCI_E_NOMEM, "volume: out of memory");
	if (!rc)
		rc = snap_make(c, x->v.pool, HCI_PLACE_NEW, &x->snap, err);
	if (!rc) {
		*out->vols = *volume;
		rc = plan_each_chunk(c, &x->v, to_node_chunk, x, err);
		out->bytes = out->n * x->v.segment_size;
	}
	snap_free(&x->snap);
	mem_free(x);
	if (rc)
		plan_free(out);
	return rc;
}
