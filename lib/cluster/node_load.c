/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much this node's disks are used, for plans that even it out: diskload/<uuid>, told when it is another picture than
 * the one told last, and not often: nobody needs it by the second, and everybody hears of each put.
 */
#include "cluster/node_impl.h"
#include "replica/replica.h"

#define LOOK (5 * NS_PER_S)
#define OFTEN (10 * NS_PER_S) /* when half of it is new, at most so often */
#define SELDOM (60 * NS_PER_S) /* when a quarter is */
#define IDLE 5u /* a second: as good as nothing */

static uint64_t load_of(const struct rec_diskload *r)
{
	return repl_load_of(r->ops, r->bytes);
}

static uint64_t apart(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

static uint64_t hot_of(const struct rec_diskload *r, const struct rec_hot *h)
{
	for (uint32_t i = 0; i < r->n; i++)
		if (r->hot[i].segment == h->segment && uuid_eq(&r->hot[i].volume, &h->volume))
			return repl_load_of(r->hot[i].ops, r->hot[i].bytes);
	return 0;
}

/* By how many percent of the larger load they differ. */
static uint64_t differ(const struct rec_diskload *a, const struct rec_diskload *b)
{
	uint64_t most = MAX(load_of(a), load_of(b)), segs = 0;

	if (most < IDLE)
		return 0;
	for (uint32_t i = 0; i < a->n; i++)
		segs += apart(repl_load_of(a->hot[i].ops, a->hot[i].bytes), hot_of(b, &a->hot[i]));
	for (uint32_t i = 0; i < b->n; i++)
		if (!hot_of(a, &b->hot[i]))
			segs += repl_load_of(b->hot[i].ops, b->hot[i].bytes);
	return 100 * MAX(apart(load_of(a), load_of(b)), segs) / most;
}

static void take(struct node_disk *d, struct rec_diskload *r)
{
	struct repl_load l;

	_Static_assert(REC_HOT_MAX >= REPL_HOT_MAX, "all fit");
	repl_load_take(d->disk, &l);
	memset(r, 0, sizeof(*r));
	r->ops = l.ops;
	r->bytes = l.bytes;
	r->at = env_realtime(d->node->e);
	for (; r->n < l.nhot; r->n++)
		r->hot[r->n] = (struct rec_hot){ l.hot[r->n].volume, l.hot[r->n].segment, l.hot[r->n].ops, l.hot[r->n].bytes };
}

/* What an earlier life told counts until it is another picture. Parks. */
static bool know_told(struct node_disk *d, const char *key)
{
	struct rec_diskload *r;
	int rc;

	if (d->load)
		return true;
	r = MEM_NEW(struct rec_diskload);
	rc = r ? rec_diskload_get(core_store(d->node->core), key, r, NULL, NULL) : HCI_E_NOMEM;
	if (rc && rc != HCI_E_NOTFOUND && rc != HCI_E_CORRUPT) {
		mem_free(r);
		return false;
	}
	if (rc)
		memset(r, 0, sizeof(*r));
	d->load = r;
	return true;
}

void node_load_turn(struct node_disk *d)
{
	struct node *n = d->node;
	uint64_t now = env_now(n->e), percent;
	struct rec_diskload r;
	char key[REC_KEY];

	if (now < d->load_at)
		return;
	d->load_at = now + LOOK;
	key_diskload(key, &d->uuid);
	if (!know_told(d, key) || !d->disk || d->failed)
		return;
	take(d, &r);
	percent = differ(d->load, &r);
	if (percent < 25 || now < d->load_told + (percent < 50 ? SELDOM : OFTEN))
		return;
	if (!rec_diskload_put(core_store(n->core), key, &r, REC_REV_ANY, 0, NULL, NULL)) {
		*d->load = r;
		d->load_told = now;
	}
}
