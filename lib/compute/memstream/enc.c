/* SPDX-License-Identifier: Apache-2.0 */
/* The encoder: what its owner calls on the way out. What comes back is in enc_back.c, the packing in enc_work.c. */
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "compute/memstream/enc_impl.h"
#include "compute/memstream/pool.h"

#define SPARE_MAX 32
#define SPACE_MIN (16u << 10) /* less is not worth a system call of its own */

int enc_fail(struct mst_enc *e, int code, const char *what)
{
	if (!e->error.code)
		err_set(&e->error, code, "memory stream: %s", what);
	return e->error.code;
}

uint64_t enc_now(const struct mst_enc *e)
{
	struct timespec ts;

	if (e->o.now)
		return e->o.now(e->o.ctx);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t enc_oldest(const struct mst_enc *e)
{
	const struct batch *b;

	list_for_each(b, &e->flight, link)
		if (!b->received)
			return b->msg || b->sent ? b->link_mark.sent_at : 0;
	return 0;
}

struct batch *enc_batch(struct mst_enc *e)
{
	struct list *l = list_pop(&e->spare);
	struct batch *b = l ? list_entry(l, struct batch, link) : MEM_NEW(struct batch);

	if (!b)
		return NULL;
	if (l)
		e->n_spare--;
	list_init(&b->link);
	batch_reset(b);
	b->cap = e->o.batch;
	if (!b->mem)
		b->mem = msg_pool_take(e->pool);
	if (!b->mem) {
		batch_free(b);
		return NULL;
	}
	b->raw = b->mem->data + MST_PLAIN_HEAD;
	return b;
}

void enc_drop_raw(struct mst_enc *e, struct batch *b)
{
	(void)e;
	mst_msg_free(b->mem);
	b->mem = NULL;
	b->raw = NULL;
}

void enc_recycle(struct mst_enc *e, struct batch *b)
{
	if (b->raw)
		enc_drop_raw(e, b);
	if (e->n_spare == SPARE_MAX) {
		batch_free(b);
		return;
	}
	list_push_front(&e->spare, &b->link);
	e->n_spare++;
}

static void close_batch(struct mst_enc *e, struct batch *next)
{
	struct batch *b = e->cur;

	e->cur = next;
	b->seq = e->next_seq++;
	list_push(&e->todo, &b->link);
	e->n_todo++;
	pthread_cond_broadcast(&e->work);
}

bool enc_close_batch(struct mst_enc *e)
{
	struct batch *b = e->cur;

	if (!b || !b->len)
		return true;
	if (!parser_cut(&e->parser, b))
		return false;
	close_batch(e, NULL);
	return true;
}

bool enc_close_settled(struct mst_enc *e)
{
	struct batch *b = e->cur, *next;
	uint32_t rest = parser_unsettled(&e->parser, b);

	if (!rest || rest == b->len)
		return enc_close_batch(e);
	next = enc_batch(e);
	if (!next)
		return false;
	memcpy(next->raw, b->raw + b->len - rest, rest);
	next->len = rest;
	next->since = enc_now(e);
	b->len -= rest;
	parser_moved(&e->parser);
	close_batch(e, next);
	return true;
}

/* Batches that may still be filled: what waits to be packed or sent is bounded. */
static uint32_t free_batches(const struct mst_enc *e)
{
	uint32_t most = e->n_workers + 3, busy = e->n_todo + e->n_unsent;

	return busy < most ? most - busy : 0;
}

static size_t room(const struct mst_enc *e)
{
	uint64_t held = e->stats.in - e->acked_bytes, batches, most = MIN(e->window, e->o.window);

	if (e->error.code || e->finished || held >= most || e->next_seq - e->acked >= MST_JOBS_MAX / 2)
		return 0;
	batches = (uint64_t)free_batches(e) * e->o.batch;
	/* The last bytes of a batch may not be enough for a page. */
	if (e->cur && batches)
		batches -= MIN(batches - 1, (uint64_t)e->cur->len);
	return (size_t)MIN(batches, most - held);
}

size_t mst_enc_room(struct mst_enc *e)
{
	size_t n;

	pthread_mutex_lock(&e->lock);
	n = room(e);
	pthread_mutex_unlock(&e->lock);
	return n;
}

/* Into the current batch; the lock is not held: `feeding` keeps the workers' hands off it. */
static int64_t fill(struct mst_enc *e, const uint8_t *data, size_t len, bool *full)
{
	if (!e->cur) {
		e->cur = enc_batch(e);
		if (!e->cur)
			return HCI_E_NOMEM;
	}
	if (!e->cur->len)
		e->cur->since = enc_now(e);
	return parser_feed(&e->parser, data, len, e->cur, full);
}

/* So many bytes went into the current batch, or an error; it is full. With the lock. */
static int64_t filled(struct mst_enc *e, int64_t n, bool full)
{
	if (n >= 0)
		e->stats.in += (uint64_t)n;
	if (n >= 0 && full && !enc_close_batch(e))
		n = HCI_E_NOMEM;
	if (n < 0)
		enc_fail(e, (int)n, "no memory for the stream's bytes");
	enc_run_inline(e);
	return n;
}

static void fed(struct mst_enc *e)
{
	if (e->n_workers && e->cur && e->cur->len)
		pthread_cond_signal(&e->work); /* somebody shall look at the clock */
}

int64_t mst_enc_feed(struct mst_enc *e, const void *data, size_t len, struct hci_error *err)
{
	const uint8_t *p = data;
	size_t done = 0, most;
	int64_t n = 0;

	pthread_mutex_lock(&e->lock);
	while (n >= 0 && done < len && (most = room(e))) {
		bool full = false;

		e->feeding = true;
		if (!e->cur)
			e->cur = enc_batch(e);
		pthread_mutex_unlock(&e->lock);
		n = fill(e, p + done, MIN(len - done, most), &full);
		pthread_mutex_lock(&e->lock);
		e->feeding = false;
		done += n > 0 ? (size_t)n : 0;
		n = filled(e, n, full);
	}
	fed(e);
	n = e->error.code ? err_copy(err, &e->error, e->error.code) : (int64_t)done;
	pthread_mutex_unlock(&e->lock);
	return n;
}

void *mst_enc_space(struct mst_enc *e, size_t *len)
{
	void *at = NULL;
	size_t most;

	pthread_mutex_lock(&e->lock);
	most = room(e);
	if (most && !e->cur)
		e->cur = enc_batch(e);
	*len = e->cur ? MIN(most, (size_t)(e->cur->cap - e->cur->len)) : 0;
	if (*len >= SPACE_MIN) {
		at = e->cur->raw + e->cur->len;
		e->feeding = true; /* until it is filled */
	}
	pthread_mutex_unlock(&e->lock);
	return at;
}

int mst_enc_filled(struct mst_enc *e, size_t len, struct hci_error *err)
{
	uint8_t rest[PAGE_RECORD + 1]; /* that is more than the parser leaves when the batch is full */
	const uint8_t *at = e->cur->raw + e->cur->len;
	bool full = false;
	size_t left;
	int64_t n = fill(e, at, len, &full);
	int rc;

	left = n < 0 ? 0 : len - (size_t)n;
	memcpy(rest, at + len - left, left);
	pthread_mutex_lock(&e->lock);
	e->feeding = false;
	n = filled(e, n, full);
	if (n >= 0 && left) /* within the room that there was, so it is taken whatever else there is */
		n = filled(e, fill(e, rest, left, &full), false);
	fed(e);
	rc = e->error.code ? err_copy(err, &e->error, e->error.code) : 0;
	pthread_mutex_unlock(&e->lock);
	return rc;
}

static int flush(struct mst_enc *e, bool finish, struct hci_error *err)
{
	int rc;

	pthread_mutex_lock(&e->lock);
	e->finished |= finish;
	if (!e->error.code && !enc_close_batch(e))
		enc_fail(e, HCI_E_NOMEM, "no memory for the stream's bytes");
	enc_run_inline(e);
	rc = e->error.code ? err_copy(err, &e->error, e->error.code) : 0;
	pthread_mutex_unlock(&e->lock);
	return rc;
}

int mst_enc_flush(struct mst_enc *e, struct hci_error *err)
{
	return flush(e, false, err);
}

int mst_enc_finish(struct mst_enc *e, struct hci_error *err)
{
	return flush(e, true, err);
}

/* The oldest batch that was not sent, if it is packed and there is credit for it. */
static struct mst_msg *next_batch(struct mst_enc *e)
{
	struct batch *b;
	struct mst_msg *m;

	list_for_each(b, &e->flight, link) {
		if (b->sent)
			continue;
		if (!b->msg)
			return NULL;
		if (!credit_allows(&e->credit, b->msg->len)) {
			aside_held(&e->aside, enc_now(e), &b->link_mark);
			return NULL;
		}
		m = b->msg;
		b->msg = NULL;
		b->sent = true;
		credit_sent(&e->credit, m->len, enc_now(e), &b->mark);
		e->unsent_bytes -= m->len;
		if (!--e->n_unsent) /* what is in the current batch need not wait for company any more */
			pthread_cond_signal(&e->work);
		enc_run_inline(e);
		return m;
	}
	return NULL;
}

static struct mst_msg *next_locked(struct mst_enc *e)
{
	struct list *l = list_pop(&e->control);
	struct mst_msg *m;

	if (l)
		return list_entry(l, struct mst_msg, link);
	if (!e->hello_got)
		return NULL;
	m = next_batch(e);
	if (m || !e->finished || e->end_sent || e->n_todo || e->n_unsent || (e->cur && e->cur->len))
		return m;
	m = mst_put_end(e->next_seq, e->stats.in);
	if (m)
		e->end_sent = true;
	else
		enc_fail(e, HCI_E_NOMEM, "no memory for the last message");
	return m;
}

struct mst_msg *mst_enc_next(struct mst_enc *e)
{
	struct mst_msg *m = NULL;

	pthread_mutex_lock(&e->lock);
	if (!e->error.code)
		m = next_locked(e);
	if (m)
		e->stats.wire += m->len;
	pthread_mutex_unlock(&e->lock);
	return m;
}

bool mst_enc_done(struct mst_enc *e)
{
	bool done;

	pthread_mutex_lock(&e->lock);
	done = e->end_acked && !e->error.code;
	pthread_mutex_unlock(&e->lock);
	return done;
}

int mst_enc_status(struct mst_enc *e, struct hci_error *err)
{
	int rc;

	pthread_mutex_lock(&e->lock);
	rc = e->error.code ? err_copy(err, &e->error, e->error.code) : 0;
	pthread_mutex_unlock(&e->lock);
	return rc;
}

void mst_enc_stats(struct mst_enc *e, struct mst_stats *out)
{
	pthread_mutex_lock(&e->lock);
	*out = e->stats;
	out->out = e->acked_bytes;
	out->rate = credit_rate(&e->credit);
	out->level = e->level;
	pthread_mutex_unlock(&e->lock);
}

void mst_enc_set_limited(struct mst_enc *e, bool limited)
{
	pthread_mutex_lock(&e->lock);
	e->limited = limited;
	pthread_mutex_unlock(&e->lock);
}

void mst_enc_hurry(struct mst_enc *e)
{
	struct mst_msg *m;

	pthread_mutex_lock(&e->lock);
	m = e->hurry || e->error.code ? NULL : mst_msg_new(1);
	if (m) {
		m->data[0] = MST_HURRY;
		list_push(&e->control, &m->link);
	}
	/* Without memory for it what is on its way waits as it would have. */
	e->hurry = true;
	pthread_mutex_unlock(&e->lock);
}

void mst_enc_set_inflight(struct mst_enc *e, uint64_t ns)
{
	pthread_mutex_lock(&e->lock);
	e->credit.inflight_ns = ns;
	pthread_mutex_unlock(&e->lock);
}
