/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The next step of one segment towards what is wanted of it: which copy comes, where to, which goes. Changes nothing.
 */
#include "volume/reconf.h"

#include "base/err.h"

/* ---- what is wanted ---- */

const struct rec_move *reconf_move(const struct vol *v, uint32_t segment, const struct uuid *from)
{
	const struct reconf *r = v->reconf;
	uint32_t lo = 0, hi = r->rec.n;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (r->rec.m[mid].segment < segment)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < r->rec.n && r->rec.m[lo].segment == segment; lo++)
		if (uuid_eq(&r->rec.m[lo].from, from))
			return &r->rec.m[lo];
	return NULL;
}

bool reconf_evacuating(const struct leg *l)
{
	const struct rec_disk *d = l->v->x->disk(l->v->x->arg, &l->disk);

	return d && d->state == REC_DISK_EVACUATING;
}

static bool is_leaving(struct vol *v, uint32_t segment, unsigned k)
{
	struct leg *l = seg_leg(v, &v->segs[segment], k);

	return l->evacuating || reconf_move(v, segment, &l->disk);
}

/* ---- the next step of one segment ---- */

/* A copy that holds everything and can be read now. */
static bool good(struct vol *v, const struct seg *s, unsigned k)
{
	struct leg *l = seg_leg(v, s, k);

	return s->pos[k] == POS_IN && l->state == LEG_UP && !l->suspect && !l->out;
}

static bool on_one_node(struct vol *v, const struct seg *s, unsigned a, unsigned b)
{
	const char *x = seg_leg(v, s, a)->node, *y = seg_leg(v, s, b)->node;

	return *x && !strcmp(x, y);
}

/* Would two of the copies that are left without this one be on one node? */
static bool clash_without(struct vol *v, const struct seg *s, unsigned gone)
{
	for (unsigned a = 0; a < s->n; a++)
		for (unsigned b = 0; b < a; b++)
			if (a != gone && b != gone && s->leg[a] != LEG_NONE && s->leg[b] != LEG_NONE && on_one_node(v, s, a, b))
				return true;
	return false;
}

/* A copy that is to leave, and the one in its place is there: of those that move, not one whose move has not begun. */
static bool replaced(struct vol *v, uint32_t segment, unsigned k)
{
	const struct seg *s = &v->segs[segment];
	struct leg *l = seg_leg(v, s, k);
	const struct rec_move *m = reconf_move(v, segment, &l->disk);

	return l->evacuating || (m && (s->joining[k] || map_pos(v, s, &m->to) >= 0));
}

/* A copy that the store has for out, whose disk is down, and that nobody can take over. */
static bool is_lost(struct vol *v, const struct seg *s, unsigned k)
{
	struct leg *l = seg_leg(v, s, k);

	return l->homeless && l->out && s->pos[k] == POS_OUT;
}

/*
 * Some are good, the others lost: there will be no more good ones while there are too many. Two that are lost may be what keeps
 * each other from a place, as those that a move had on two disks of one node.
 */
static bool is_stuck(struct vol *v, const struct seg *s, unsigned in)
{
	for (unsigned k = 0; k < s->n; k++)
		if (s->leg[k] != LEG_NONE && !good(v, s, k) && !is_lost(v, s, k))
			return false;
	return in > 0;
}

/*
 * While a copy is being replaced, no other goes for it; but for one whose disk is down and that nobody can take over. The one that is
 * replaced would wait for it to be filled, and may itself hold the only place that it could have, or what takes its place may.
 */
static bool may_go(struct vol *v, uint32_t segment, unsigned k, unsigned in, bool some_replaced)
{
	const struct seg *s = &v->segs[segment];

	return !some_replaced || replaced(v, segment, k) ||
	       (seg_leg(v, s, k)->homeless && (s->joining[k] || in >= v->rec.replicas || is_stuck(v, s, in)));
}

/*
 * Which copy of too many can go now; -1: none yet. One that holds something goes only when as many good ones are left as
 * the volume is to have, and those that are left stay on distinct nodes. One that is lost holds nothing that counts.
 */
static int victim(struct vol *v, uint32_t segment, unsigned in)
{
	struct seg *s = &v->segs[segment];
	int best = -1, best_score = -1;
	uint32_t best_load = 0;
	bool apart = false, some_replaced = false, stuck = is_stuck(v, s, in);

	for (unsigned k = 0; k < s->n; k++)
		some_replaced |= s->leg[k] != LEG_NONE && replaced(v, segment, k);
	for (unsigned k = 0; k < s->n; k++)
		apart |= s->leg[k] != LEG_NONE && may_go(v, segment, k, in, some_replaced) && !clash_without(v, s, k);
	for (unsigned k = 0; k < s->n; k++) {
		struct leg *l = seg_leg(v, s, k);
		int score;

		if (s->leg[k] == LEG_NONE || !may_go(v, segment, k, in, some_replaced) || (apart && clash_without(v, s, k)) ||
		    (!s->joining[k] && in - good(v, s, k) < v->rec.replicas && !(stuck && is_lost(v, s, k)) &&
		     !vol_mutated(v->x, VOL_MUTATE_REMOVE_EARLY)))
			continue;
		score = 4 * is_leaving(v, segment, k) + 2 * s->joining[k] + !good(v, s, k);
		if (score < best_score || (score == best_score && l->segments <= best_load))
			continue;
		best = (int)k;
		best_score = score;
		best_load = l->segments;
	}
	return best;
}

void reconf_judge(struct vol *v, uint32_t segment, struct todo *t)
{
	struct seg *s = &v->segs[segment];
	unsigned n = 0, in = 0;
	int leaving = -1;

	memset(t, 0, sizeof(*t));
	t->segment = segment;
	t->pos = -1;
	for (unsigned k = 0; k < s->n; k++) {
		if (s->leg[k] == LEG_NONE)
			continue;
		n++;
		in += good(v, s, k);
		if (is_leaving(v, segment, k))
			leaving = (int)k;
	}
	/* A copy that came to take its neighbour's place, and then both were to stay: one of them goes to another node. */
	for (unsigned a = 0; a < s->n && n == v->rec.replicas && leaving < 0; a++)
		for (unsigned b = 0; b < a; b++)
			if (s->leg[a] != LEG_NONE && s->leg[b] != LEG_NONE && on_one_node(v, s, a, b))
				leaving = (int)(good(v, s, a) ? b : a);
	if (n == v->rec.replicas && leaving < 0)
		return;
	t->step = STEP_WAIT;
	if (n > v->rec.replicas) {
		t->pos = victim(v, segment, in);
		if (t->pos >= 0) {
			t->step = STEP_REMOVE;
			t->disk = seg_leg(v, s, (unsigned)t->pos)->disk;
		}
	} else if (in && n < REC_COPIES_MAX) {
		t->pos = n < v->rec.replicas ? -1 : leaving;
		t->step = STEP_ADD;
	}
}

/* ---- where a new copy goes ---- */

static bool same_node(struct vol *v, const struct rec_disk *d, const struct uuid *other)
{
	const struct rec_disk *o = v->x->disk(v->x->arg, other);

	return o && !strcmp(o->node, d->node);
}

/* Where the copy was asked to go, if that can be. */
static bool asked_for(struct vol *v, const struct rec_move *m, const struct uuid *keep, size_t nkeep)
{
	const struct rec_disk *d = v->x->disk(v->x->arg, &m->to);
	/* Not to where it would have to leave again at once. */
	bool fine = d && d->state == REC_DISK_ONLINE && !strcmp(d->pool, v->rec.pool) && !reconf_move(v, m->segment, &m->to);

	for (size_t i = 0; fine && i < nkeep; i++)
		fine = !uuid_eq(&keep[i], &m->to) && !same_node(v, d, &keep[i]);
	return fine;
}

int reconf_home(struct vol *v, struct todo *t, struct hci_error *err)
{
	struct uuid keep[SEG_POS_MAX], bad = { 0 };
	struct seg *s = &v->segs[t->segment];
	const struct rec_move *m = NULL;
	size_t nkeep = 0;
	int rc;

	for (unsigned k = 0; k < s->n; k++) {
		struct leg *l = seg_leg(v, s, k);

		if (s->leg[k] == LEG_NONE)
			continue;
		if ((int)k != t->pos)
			keep[nkeep++] = l->disk;
		else
			bad = l->disk;
	}
	if (t->pos >= 0)
		m = reconf_move(v, t->segment, &bad);
	if (m) {
		t->disk = m->to;
		return asked_for(v, m, keep, nkeep) ? 0 : HCI_E_STATE; /* prune() takes it off the list */
	}
	if (!v->x->choose_spare)
		return err_set(err, HCI_E_NOPLACE, "volume %s: nobody chooses disks here", v->rec.name);
	rc = v->x->choose_spare(v->x->arg, &v->rec, t->segment, keep, nkeep, t->pos >= 0 ? &bad : NULL, &t->disk, err);
	for (size_t i = 0; !rc && i < nkeep; i++)
		if (uuid_eq(&keep[i], &t->disk))
			rc = err_set(err, HCI_E_NOPLACE, "volume %s: segment %u: the disk chosen has a copy", v->rec.name,
				     t->segment);
	return rc;
}

bool reconf_move_is_over(struct vol *v, const struct rec_move *m)
{
	struct uuid keep[SEG_POS_MAX];
	unsigned n = 0;
	struct seg *s;
	size_t nkeep = 0;

	if (m->segment >= v->nsegs || map_pos(v, &v->segs[m->segment], &m->from) < 0)
		return true;
	s = &v->segs[m->segment];
	for (unsigned k = 0; k < s->n; k++)
		n += s->leg[k] != LEG_NONE;
	if (map_pos(v, s, &m->to) >= 0)
		return n <= v->rec.replicas; /* it had one there before */
	for (unsigned k = 0; k < s->n; k++)
		if (s->leg[k] != LEG_NONE && !uuid_eq(&seg_leg(v, s, k)->disk, &m->from))
			keep[nkeep++] = seg_leg(v, s, k)->disk;
	return !asked_for(v, m, keep, nkeep);
}
