/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packing batches: what a worker does, and what the owner does itself when there is none. A batch gets its turn in the
 * order of its number, which is the order in which batches leave todo: so the one whose turn it is is always in somebody's
 * hands, who waits for nothing else, and nobody waits for ever.
 */
#include <time.h>

#include "base/crc32c.h"
#include "base/err.h"
#include "base/mem.h"
#include "compute/memstream/enc_impl.h"

#define CROWD_PERIOD (200 * NS_PER_MS)
#define CROWD_LESS 50 /* percent of a processor: while others wait for one, levels go down above it */
#define CROWD_MORE 25 /* ... and up below it */
#define PART_PATIENCE 8 /* times as long */

static uint64_t cpu_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static bool fit(uint8_t **p, size_t *cap, size_t need)
{
	if (*cap >= need)
		return true;
	mem_free(*p);
	*p = mem_alloc(need);
	*cap = *p ? need : 0;
	return *p;
}

/* The sections one behind the other, for the packer. */
static size_t lay_out(struct enc_worker *w)
{
	struct mplan *p = &w->plan;
	size_t n = 0;

	for (unsigned i = 0; i < 3; i++) {
		const struct buf *b = i == 0 ? &p->ops : i == 1 ? &p->lit : &p->delta;

		if (b->len)
			memcpy(w->plain + n, b->data, b->len);
		n += b->len;
	}
	for (uint32_t i = 0; i < p->n_fresh; i++, n += MST_PAGE)
		memcpy(w->plain + n, p->fresh[i], MST_PAGE);
	return n;
}

/* The batch's own memory becomes the message: there is room for its head in front of the bytes. */
static struct mst_msg *build_plain(struct batch *b)
{
	struct mst_data d = { .seq = b->seq, .out = b->len, .crc = crc32c(0, b->raw, b->len) };
	struct mst_msg *m = b->mem;

	mst_put_plain(&d, m->data);
	m->len = MST_PLAIN_HEAD + b->len;
	b->mem = NULL;
	b->raw = NULL;
	return m;
}

static int build(struct enc_worker *w, struct batch *b, uint32_t codecs, int level, struct mst_msg **out)
{
	struct mplan *p = &w->plan;
	size_t n = p->ops.len + p->lit.len + p->delta.len + (size_t)p->n_fresh * MST_PAGE;
	struct mst_data d = { .seq = b->seq, .out = b->len, .ops = (uint32_t)p->ops.len, .lit = (uint32_t)p->lit.len,
			      .delta = (uint32_t)p->delta.len, .plain = b->step != ASIDE_FULL, .fresh = p->n_fresh * MST_PAGE,
			      .raw = p->n_raw * MST_PAGE };
	int64_t packed;
	uint8_t *at;

	if (p->whole) {
		*out = build_plain(b);
		return 0;
	}
	if (!fit(&w->plain, &w->plain_cap, n) || !fit(&w->packed, &w->packed_cap, mst_pack_bound(n)))
		return HCI_E_NOMEM;
	lay_out(w);
	packed = mst_pack(w->packer, b->step == ASIDE_FULL ? codecs : 0, level, w->plain, n, w->packed, w->packed_cap, &d.codec);
	if (packed < 0)
		return (int)packed;
	d.packed = (uint32_t)packed;
	d.crc = crc32c(0, b->raw, b->len);
	*out = mst_msg_new(MST_DATA_HEAD + (size_t)packed + d.raw);
	if (!*out)
		return HCI_E_NOMEM;
	mst_put_data(&d, (*out)->data);
	at = (*out)->data + MST_DATA_HEAD;
	memcpy(at, w->packed, (size_t)packed);
	at += packed;
	for (uint32_t i = 0; i < p->n_raw; i++, at += MST_PAGE)
		memcpy(at, p->raw[i], MST_PAGE);
	return 0;
}

/* What the message's bytes went for: raw pages and references as they are, the rest shared out by what each put in. */
static void count(struct mst_enc *e, const struct mplan *p, uint32_t wire)
{
	uint64_t raw = p->n_raw * (uint64_t)MST_PAGE, refs = MIN(p->bytes[MST_REF], wire - raw), rest = wire - raw - refs;
	uint64_t sum = 0;

	for (unsigned c = 0; c < MST_CLASSES; c++) {
		e->stats.pages[c] += p->pages[c];
		sum += c == MST_RAW || c == MST_REF ? 0 : p->bytes[c];
	}
	for (unsigned c = 0; c < MST_CLASSES; c++)
		if (c != MST_RAW && c != MST_REF && sum)
			e->stats.wire_of[c] += rest * p->bytes[c] / sum;
	e->stats.wire_of[MST_RAW] += raw;
	e->stats.wire_of[MST_REF] += refs;
	e->stats.coming += p->coming;
	for (unsigned k = 0; k < MST_KINDS; k++)
		e->stats.refs[k] += p->from[k];
}

static void note_crowd(struct mst_enc *e, uint64_t took, uint64_t computed)
{
	struct crowd *c = &e->crowd;
	uint64_t now = enc_now(e);

	c->took += took - c->took / 8;
	c->computed += computed - c->computed / 8;
	c->cpu_ns += computed;
	if (now - c->since < CROWD_PERIOD)
		return;
	c->share = (uint32_t)(c->cpu_ns * 100 / (now - c->since));
	c->since = now;
	c->cpu_ns = 0;
}

/* Processors are wanted by others, and we take more than this share of one. */
static bool crowded(const struct mst_enc *e, uint32_t share)
{
	return e->n_workers && e->crowd.share > share && e->crowd.took * 4 > e->crowd.computed * 5;
}

/*
 * Up a level when packed messages wait for the path, down when batches wait for a processor and the path for them, or others
 * for the processors that the higher levels take. A change needs some messages to be seen in what waits.
 */
static int choose_level(struct mst_enc *e)
{
	if (e->o.level)
		return e->o.level;
	/* Where processors are what there is too little of, time is not for higher levels. One batch is only a look at the link. */
	if (e->aside_lately > ASIDE_WEIGHT && e->level > LEVEL_FIRST)
		e->level = LEVEL_FIRST;
	if (e->level_wait) {
		e->level_wait--;
		return e->level;
	}
	if (e->level > LEVEL_FIRST && crowded(e, CROWD_LESS)) {
		e->level--;
		e->level_wait = 2;
	} else if (e->n_unsent > e->n_workers && e->level < MST_LEVELS &&
		   (e->level < LEVEL_FIRST || (!crowded(e, CROWD_MORE) && e->aside_lately <= ASIDE_WEIGHT))) {
		e->level++;
		e->level_wait = 4;
	} else if (!e->n_unsent && e->n_todo > e->n_workers + 1 && e->level > 1) {
		e->level--;
		e->level_wait = 2;
	}
	return e->level;
}

/* The lock is held, and let go while the batch is computed. */
static void pack_one(struct mst_enc *e, struct enc_worker *w)
{
	struct batch *b = list_entry(list_pop(&e->todo), struct batch, link);
	uint64_t cpu = cpu_now(), from, computed;
	uint32_t codecs = e->codecs;
	bool hurry = e->hurry;
	struct mst_msg *m = NULL;
	int rc = 0, level;

	list_push(&e->flight, &b->link);
	/* Without workers nothing is done by the clock. */
	b->step = e->o.aside || (e->n_workers && !e->limited) ?
			  aside_choose(&e->aside, b->seq, b->len, e->n_todo - 1, enc_oldest(e), enc_now(e)) :
			  ASIDE_FULL;
	if (b->step != ASIDE_FULL)
		e->aside_lately = MIN(e->aside_lately + ASIDE_WEIGHT, ASIDE_MOST);
	else
		e->aside_lately -= e->aside_lately > 0;
	pthread_mutex_unlock(&e->lock);
	mplan_reset(&w->plan);
	w->plan.step = b->step;
	w->plan.hurry = hurry;
	if (!batch_pages(b, b->step == ASIDE_PLAIN ? NULL : e->o.hash))
		rc = HCI_E_NOMEM;

	pthread_mutex_lock(&e->lock);
	while (e->turn != b->seq && !e->stop)
		pthread_cond_wait(&e->work, &e->lock);
	rc = e->stop ? HCI_E_CANCELLED : e->error.code ? e->error.code : rc;
	pthread_mutex_unlock(&e->lock);
	if (!rc)
		rc = classify(e->cl, b, &w->plan);

	pthread_mutex_lock(&e->lock);
	e->turn++;
	level = b->step == ASIDE_FULL ? choose_level(e) : e->level;
	pthread_cond_broadcast(&e->work);
	pthread_mutex_unlock(&e->lock);
	from = enc_now(e);
	computed = cpu_now();
	if (!rc)
		rc = build(w, b, codecs, level, &m);
	computed = cpu_now() - computed;

	pthread_mutex_lock(&e->lock);
	if (b->step == ASIDE_FULL)
		note_crowd(e, enc_now(e) - from, computed);
	e->n_todo--;
	e->stats.cpu_ns += cpu_now() - cpu;
	if (rc) {
		enc_fail(e, rc, "a piece of the stream could not be packed for want of memory");
		return;
	}
	b->msg = m; /* from here on next() may take it */
	b->wire = m->len;
	count(e, &w->plan, b->wire);
	e->n_unsent++;
	aside_ready(&e->aside, b->wire, enc_now(e), &b->link_mark);
	if (b->step != ASIDE_FULL)
		e->stats.aside[b->step - ASIDE_LIGHT]++;
	e->unsent_bytes += b->wire;
	/* What may be asked for is kept until it is acknowledged; the other bytes are not needed again. */
	if (!w->plan.refs)
		enc_drop_raw(e, b);
}

static void wake(struct mst_enc *e)
{
	pthread_mutex_unlock(&e->lock);
	if (e->o.wake)
		e->o.wake(e->o.ctx);
	pthread_mutex_lock(&e->lock);
}

/*
 * When the current batch shall go although it is not full: after lingering, if the path has nothing else to do. A page that
 * is there in part is waited for longer; but not for ever, since it may be no page.
 */
static uint64_t due(struct mst_enc *e)
{
	const struct batch *b = e->cur;

	if (e->feeding || !b || !b->len || e->n_unsent)
		return UINT64_MAX;
	return b->since + e->o.linger_ns * (parser_unsettled(&e->parser, b) == b->len ? PART_PATIENCE : 1);
}

/* Nothing to pack: until there is, or until what was fed has waited long enough for more. */
static void wait_for_work(struct mst_enc *e)
{
	uint64_t at = due(e), now;
	struct timespec ts;

	if (at == UINT64_MAX) {
		pthread_cond_wait(&e->work, &e->lock);
		return;
	}
	now = enc_now(e);
	if (now >= at) {
		if (!enc_close_settled(e))
			enc_fail(e, HCI_E_NOMEM, "no memory for the stream's bytes");
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &ts);
	at = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec + (at - now);
	ts.tv_sec = (time_t)(at / NS_PER_S);
	ts.tv_nsec = (long)(at % NS_PER_S);
	pthread_cond_timedwait(&e->work, &e->lock, &ts);
}

static void *work(void *arg)
{
	struct enc_worker *w = arg;
	struct mst_enc *e = w->e;

	pthread_mutex_lock(&e->lock);
	while (!e->stop) {
		if (e->error.code || !e->hello_got) {
			pthread_cond_wait(&e->work, &e->lock);
		} else if (list_empty(&e->todo)) {
			wait_for_work(e);
		} else {
			pack_one(e, w);
			wake(e);
		}
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

void enc_run_inline(struct mst_enc *e)
{
	if (e->n_workers)
		return;
	while (!e->error.code && e->hello_got && !list_empty(&e->todo))
		pack_one(e, e->workers);
}

int enc_start_workers(struct mst_enc *e, struct hci_error *err)
{
	uint32_t n = MAX(e->o.workers, 1u);

	e->workers = mem_calloc(n, sizeof(*e->workers));
	if (!e->workers)
		return err_set(err, HCI_E_NOMEM, "memory stream: no memory for the workers");
	for (uint32_t i = 0; i < n; i++) {
		e->workers[i].e = e;
		e->workers[i].packer = mst_packer_new();
		if (!e->workers[i].packer)
			return err_set(err, HCI_E_NOMEM, "memory stream: no memory for the workers");
	}
	for (uint32_t i = 0; i < e->o.workers; i++) {
		int rc = pthread_create(&e->workers[i].thread, NULL, work, &e->workers[i]);

		if (rc)
			return err_sys(err, HCI_E_SYS, rc, "memory stream: a worker thread cannot be started");
		e->n_workers++;
	}
	return 0;
}

void enc_stop_workers(struct mst_enc *e)
{
	uint32_t n = e->workers ? MAX(e->o.workers, 1u) : 0;

	pthread_mutex_lock(&e->lock);
	e->stop = true;
	pthread_cond_broadcast(&e->work);
	pthread_mutex_unlock(&e->lock);
	for (uint32_t i = 0; i < e->n_workers; i++)
		pthread_join(e->workers[i].thread, NULL);
	for (uint32_t i = 0; i < n; i++) {
		mst_packer_free(e->workers[i].packer);
		mplan_free(&e->workers[i].plan);
		mem_free(e->workers[i].plain);
		mem_free(e->workers[i].packed);
	}
	mem_free(e->workers);
	e->workers = NULL;
}
