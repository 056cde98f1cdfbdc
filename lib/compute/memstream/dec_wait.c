/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References to pages that another stream brings just now. Their messages wait, nothing else does: their own stream goes on
 * being taken and unpacked. Whoever has nothing else to do looks now and then whether something came; what does not come in
 * time, or turns out to be another page, is asked for; all of it at once when a stream ends, as it may have been that one.
 */
#include "compute/memstream/dec_impl.h"

#define LOOK (2 * NS_PER_MS)

uint64_t dec_wait_came(const struct mst_dec *d, uint32_t *left)
{
	uint64_t came = 0;

	*left = 0;
	for (uint32_t k = 0; k < d->o.n_providers; k++) {
		uint32_t l = 0;

		if (d->providers[k].came)
			came += d->providers[k].came(d->providers[k].ctx, &l);
		*left += l;
	}
	return came;
}

void dec_wait_begin(struct mst_dec *d, struct job *j)
{
	uint64_t now = dec_now(d);

	j->until = now + d->o.wait_ns;
	if (!d->n_waiting++ || d->hurry)
		d->look_at = d->hurry ? now : now + LOOK;
	d->stats.coming += j->waits;
}

bool dec_wait_due(const struct mst_dec *d)
{
	return d->n_waiting && dec_now(d) >= d->look_at;
}

/* Without the lock: nobody else touches references that come. Returns how many are found now. */
static uint32_t look_for(struct mst_dec *d, struct dec_worker *w, struct job *j)
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < j->n_refs; i++) {
		struct ref *ref = &j->refs[i];
		enum served how;

		if (!ref->comes)
			continue;
		how = dec_serve(d, w, ref, j->content + (size_t)i * MST_PAGE);
		ref->there = how == SERVED;
		ref->comes = how == NOT_THERE;
		found += ref->there;
	}
	return found;
}

static uint32_t count(const struct job *j)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < j->n_refs; i++)
		n += j->refs[i].comes;
	return n;
}

/* What comes is not waited for any more. */
static void give_up(struct job *j)
{
	for (uint32_t i = 0; i < j->n_refs; i++)
		j->refs[i].comes = false;
}

static void look(struct mst_dec *d, struct dec_worker *w, struct job *j)
{
	bool late = d->hurry || dec_now(d) >= j->until, gone;
	uint32_t left, waited = j->waits, found = 0;
	uint64_t came = dec_wait_came(d, &left);

	gone = late || left != j->left;
	if (came != j->came || gone) {
		j->came = came;
		j->looking = true;
		pthread_mutex_unlock(&d->lock);
		found = look_for(d, w, j);
		pthread_mutex_lock(&d->lock);
		j->looking = false;
	}
	if (gone)
		give_up(j);
	j->missing -= found;
	j->waits = count(j);
	d->n_waiting -= !j->waits;
	if (!j->missing)
		j->state = JOB_WHOLE;
	else if (waited - found > j->waits && !dec_ask(d, j, false))
		dec_fail(d, HCI_E_NOMEM, "no memory to ask for pages");
}

static struct job *next(const struct mst_dec *d, uint32_t after)
{
	struct job *j;

	list_for_each(j, &d->jobs, link)
		if (j->state == JOB_WAITING && j->waits && !j->looking && (int32_t)(j->d.seq - after) > 0)
			return j;
	return NULL;
}

void dec_wait_look(struct mst_dec *d, struct dec_worker *w)
{
	uint32_t at;
	struct job *j;

	if (list_empty(&d->jobs))
		return;
	/* By number, since the list may be another after each. */
	at = list_first(&d->jobs, struct job, link)->d.seq - 1;
	d->look_at = dec_now(d) + LOOK;
	while (!d->error.code && !d->stop && (j = next(d, at))) {
		at = j->d.seq;
		look(d, w, j);
	}
}
