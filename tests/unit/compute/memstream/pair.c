/* SPDX-License-Identifier: Apache-2.0 */
/* The carrier: moves what can be moved, in portions of any size, until all is through or nothing moves any more. */
#include "pair.h"

#include <string.h>
#include <stdlib.h>
#include <time.h>

struct world {
	const struct pair_opts *o;
	struct pair_result *r;
	struct mst_enc *e;
	struct mst_dec *d;
	const uint8_t *stream;
	size_t len, in;
	bool finished;
	uint64_t seed;
};

static bool bad(struct world *w, int64_t rc)
{
	if (rc < 0 && !w->r->rc)
		w->r->rc = (int)rc;
	return rc < 0;
}

static size_t portion(struct world *w, size_t most)
{
	size_t p = 1 + rnd(&w->seed) % (w->o->portion ? w->o->portion : 65536);

	return p < most ? p : most;
}

static bool carry(struct world *w, bool back)
{
	bool moved = false;
	struct mst_msg *m;

	while ((m = back ? mst_dec_next(w->d) : mst_enc_next(w->e))) {
		moved = true;
		if (!w->o->meddle || w->o->meddle(w->o->ctx, back, &m))
			bad(w, back ? mst_enc_take(w->e, m->data, m->len, &w->r->err) :
				      mst_dec_take(w->d, m->data, m->len, &w->r->err));
		mst_msg_free(m);
		if (w->r->rc)
			return false;
	}
	return moved;
}

/* Straight to where it is packed from, as a socket's bytes are. 0: there is no room for that. */
static int64_t source_direct(struct world *w, size_t n)
{
	size_t len;
	void *to = mst_enc_space(w->e, &len);

	if (!to)
		return 0;
	n = rnd(&w->seed) % 8 ? MIN(n, len) : 0;
	memcpy(to, w->stream + w->in, n);
	bad(w, mst_enc_filled(w->e, n, &w->r->err));
	w->in += n;
	return (int64_t)n;
}

static bool source(struct world *w)
{
	size_t n = w->len - w->in;
	int64_t took;

	if (!n) {
		if (w->finished)
			return false;
		w->finished = true;
		return !bad(w, mst_enc_finish(w->e, &w->r->err));
	}
	n = portion(w, n);
	if (rnd(&w->seed) % 2 && source_direct(w, n))
		return true;
	if (w->r->rc)
		return false;
	/* In a buffer of its own, so that a look beyond the portion is seen. */
	uint8_t *copy = malloc(n);
	memcpy(copy, w->stream + w->in, n);
	took = mst_enc_feed(w->e, copy, n, &w->r->err);
	free(copy);
	if (bad(w, took))
		return false;
	w->in += (size_t)took;
	if (w->o->flushes && rnd(&w->seed) % 16 == 0)
		bad(w, mst_enc_flush(w->e, &w->r->err));
	return took > 0;
}

static bool sink(struct world *w)
{
	const void *p;
	int64_t n = mst_dec_out(w->d, &p, &w->r->err);

	if (n <= 0) {
		bad(w, n);
		return false;
	}
	n = (int64_t)portion(w, (size_t)n);
	if (w->r->out + (uint64_t)n > w->len || memcmp(p, w->stream + w->r->out, (size_t)n))
		w->r->same = false;
	mst_dec_consume(w->d, (size_t)n);
	w->r->out += (uint64_t)n;
	return true;
}

static void turn(struct world *w)
{
	unsigned idle = 0;

	while (!w->r->rc && !(mst_enc_done(w->e) && mst_dec_done(w->d))) {
		bool moved = carry(w, false);

		moved |= carry(w, true);
		moved |= !w->r->rc && source(w);
		moved |= !w->r->rc && sink(w);
		if (moved) {
			idle = 0;
			continue;
		}
		if (w->r->rc || idle++ > (w->o->threads ? 20000u : 2u))
			break;
		if (w->o->threads)
			nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
	}
	if (!w->r->rc && !mst_dec_done(w->d))
		w->r->rc = HCI_E_TIMEOUT;
}

void pair_run(const void *stream, size_t len, const struct pair_opts *o, struct pair_result *r)
{
	struct world w = { .o = o, .r = r, .stream = stream, .len = len, .seed = o->seed };

	*r = (struct pair_result){ .same = true };
	if (!bad(&w, mst_enc_new(&w.e, &o->src, &r->err)) && !bad(&w, mst_dec_new(&w.d, &o->dst, &r->err)))
		turn(&w);
	if (w.e)
		mst_enc_stats(w.e, &r->src);
	if (w.d)
		mst_dec_stats(w.d, &r->dst);
	if (!r->rc && r->out != len)
		r->same = false;
	mst_enc_free(w.e);
	mst_dec_free(w.d);
}
