/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fixed newstyle negotiation, server side (proto.md, "Handshake phase"). Owns the order of messages
 * and their limits; the options that describe exports are in nbd_options.c. Fuzzed: every byte here
 * comes from a stranger.
 */
#include "export/nbd_negotiate.h"

#include "export/nbd_options.h"
#include "export/nbd_proto.h"

/* Data of one option. The largest honest one is a name and a handful of context queries. */
#define MAX_OPT_DATA (16u << 10)
/* A longer one is skipped and refused, up to this; past it the client is not worth following. */
#define MAX_OPT_SKIP (1u << 20)
#define MAX_OPTIONS 256u

enum { ST_FLAGS, ST_HEAD, ST_DATA, ST_SKIP, ST_TLS, ST_OVER };

void nbd_neg_init(struct nbd_neg *n, const struct nbd_neg_ops *ops, void *arg,
		  enum nbd_tls_mode tls_mode, struct buf *out)
{
	uint8_t hello[18];

	memset(n, 0, sizeof(*n));
	n->ops = ops;
	n->arg = arg;
	n->tls_mode = tls_mode;
	n->state = ST_FLAGS;
	nbd_put64(hello, NBD_MAGIC);
	nbd_put64(hello + 8, NBD_OPT_MAGIC);
	nbd_put16(hello + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	buf_append(out, hello, sizeof(hello));
}

void nbd_neg_fini(struct nbd_neg *n)
{
	buf_free(&n->in);
}

void nbd_neg_tls_started(struct nbd_neg *n)
{
	n->tls = true;
	n->state = ST_HEAD;
	n->meta_handle = NULL;
	memset(&n->session, 0, sizeof(n->session));
	buf_reset(&n->in);
}

static enum nbd_neg_act drop(struct nbd_neg *n, const char *why)
{
	n->state = ST_OVER;
	n->why = why;
	return NBD_NEG_DROP;
}

static enum nbd_neg_act take_flags(struct nbd_neg *n)
{
	uint32_t flags = nbd_get32(n->in.data);

	if (flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
		return drop(n, "unknown client flags");
	n->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
	n->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	n->state = ST_HEAD;
	return NBD_NEG_MORE;
}

static enum nbd_neg_act option_done(struct nbd_neg *n, struct buf *out)
{
	enum nbd_neg_act act = nbd_option(n, n->in.data, n->opt_len, out);

	if (out->failed)
		return drop(n, "no memory for the reply");
	if (act == NBD_NEG_MORE)
		n->state = ST_HEAD;
	else
		n->state = act == NBD_NEG_TLS ? ST_TLS : ST_OVER;
	return act;
}

static enum nbd_neg_act take_head(struct nbd_neg *n, struct buf *out)
{
	if (nbd_get64(n->in.data) != NBD_OPT_MAGIC)
		return drop(n, "wrong option magic");
	n->opt = nbd_get32(n->in.data + 8);
	n->opt_len = nbd_get32(n->in.data + 12);
	if (++n->options > MAX_OPTIONS)
		return drop(n, "too many options");
	/* "NBD_OPT_EXPORT_NAME ... is the only valid option in nonfixed newstyle negotiation." */
	if (!n->fixed && n->opt != NBD_OPT_EXPORT_NAME)
		return drop(n, "fixed newstyle option from a client that did not ask for it");
	if (n->opt_len > MAX_OPT_SKIP)
		return drop(n, "option data too long");
	if (n->opt_len > MAX_OPT_DATA) {
		if (n->opt == NBD_OPT_EXPORT_NAME)
			return drop(n, "export name too long");
		n->skip = n->opt_len;
		n->state = ST_SKIP;
		return NBD_NEG_MORE;
	}
	n->state = ST_DATA;
	return n->opt_len ? NBD_NEG_MORE : option_done(n, out);
}

/* Completes n->in to `need` bytes from the input; false while some are missing. */
static bool collect(struct nbd_neg *n, size_t need, const uint8_t *in, size_t len, size_t *used)
{
	size_t k = MIN(need - n->in.len, len);

	buf_append(&n->in, in, k);
	*used = k;
	return !n->in.failed && n->in.len == need;
}

static enum nbd_neg_act skip(struct nbd_neg *n, size_t len, size_t *used, struct buf *out)
{
	*used = MIN((size_t)n->skip, len);
	n->skip -= (uint32_t)*used;
	if (n->skip)
		return NBD_NEG_MORE;
	n->state = ST_HEAD;
	nbd_option_error(n, out, NBD_REP_ERR_TOO_BIG,
			 "option data of %u bytes: at most %u are taken", n->opt_len, MAX_OPT_DATA);
	return out->failed ? drop(n, "no memory for the reply") : NBD_NEG_MORE;
}

enum nbd_neg_act nbd_neg_feed(struct nbd_neg *n, const uint8_t *in, size_t len, size_t *used,
			      struct buf *out)
{
	enum nbd_neg_act act;
	size_t need;

	*used = 0;
	switch (n->state) {
	case ST_FLAGS:
		need = 4;
		break;
	case ST_HEAD:
		need = NBD_OPT_HEAD;
		break;
	case ST_DATA:
		need = n->opt_len;
		break;
	case ST_SKIP:
		return skip(n, len, used, out);
	default:
		return drop(n, "bytes where none may come");
	}
	if (!collect(n, need, in, len, used))
		return n->in.failed ? drop(n, "no memory for the option") : NBD_NEG_MORE;
	if (n->state == ST_FLAGS)
		act = take_flags(n);
	else if (n->state == ST_HEAD)
		act = take_head(n, out);
	else
		act = option_done(n, out);
	buf_reset(&n->in);
	return act;
}
