/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of the handshake, one function each (proto.md, "Option types"). Owns what is agreed
 * in struct nbd_session; framing and limits are nbd_negotiate.c's.
 */
#include "export/nbd_options.h"

#include <stdarg.h>
#include <stdio.h>

#include "export/nbd_proto.h"

#define ALLOCATION "base:allocation"

/* A checked reader over an option's data. */
struct cur {
	const uint8_t *p, *end;
	bool bad;
};

static const uint8_t *cur_take(struct cur *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->bad || (size_t)(c->end - c->p) < n) {
		c->bad = true;
		return NULL;
	}
	c->p += n;
	return p;
}

static uint16_t cur_u16(struct cur *c)
{
	const uint8_t *p = cur_take(c, 2);

	return p ? nbd_get16(p) : 0;
}

static uint32_t cur_u32(struct cur *c)
{
	const uint8_t *p = cur_take(c, 4);

	return p ? nbd_get32(p) : 0;
}

/* A string with its length before it; at most NBD_MAX_NAME bytes. */
static const char *cur_str(struct cur *c, uint32_t *len)
{
	*len = cur_u32(c);
	if (*len > NBD_MAX_NAME)
		c->bad = true;
	return (const char *)cur_take(c, *len);
}

static void reply_head(struct nbd_neg *n, struct buf *out, uint32_t type, uint32_t len)
{
	uint8_t h[20];

	nbd_put64(h, NBD_REP_MAGIC);
	nbd_put32(h + 8, n->opt);
	nbd_put32(h + 12, type);
	nbd_put32(h + 16, len);
	buf_append(out, h, sizeof(h));
}

static enum nbd_neg_act ack(struct nbd_neg *n, struct buf *out)
{
	reply_head(n, out, NBD_REP_ACK, 0);
	return NBD_NEG_MORE;
}

void nbd_option_error(struct nbd_neg *n, struct buf *out, uint32_t type, const char *fmt, ...)
{
	char msg[256];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	len = MAX(0, MIN(len, (int)sizeof(msg) - 1));
	reply_head(n, out, type, (uint32_t)len);
	buf_append(out, msg, (size_t)len);
}

static enum nbd_neg_act invalid(struct nbd_neg *n, struct buf *out, const char *why)
{
	nbd_option_error(n, out, NBD_REP_ERR_INVALID, "%s", why);
	return NBD_NEG_MORE;
}

/* Fills in the session for transmission. */
static void enter(struct nbd_neg *n, const struct nbd_neg_export *x)
{
	n->session.handle = x->handle;
	n->session.size = x->size;
	n->session.flags = x->flags | (n->session.structured ? NBD_TX_DF : 0);
	/* Contexts count for the export that they were selected on ("Metadata querying"). */
	n->session.meta = n->meta_handle && n->meta_handle == x->handle;
}

static enum nbd_neg_act opt_export_name(struct nbd_neg *n, const char *name, uint32_t len,
					struct buf *out)
{
	static const uint8_t zeroes[124];
	struct nbd_neg_export x;
	char msg[160];
	uint8_t b[10];

	/* This option cannot be refused politely: the only answer to an error is to hang up. */
	if (n->tls_mode == NBD_TLS_REQUIRE && !n->tls) {
		n->why = "plain NBD_OPT_EXPORT_NAME where TLS is required";
		return NBD_NEG_DROP;
	}
	if (len > NBD_MAX_NAME || n->ops->find(n->arg, name, len, true, &x, msg, sizeof(msg))) {
		n->why = "NBD_OPT_EXPORT_NAME of an export that cannot be had";
		return NBD_NEG_DROP;
	}
	enter(n, &x);
	nbd_put64(b, n->session.size);
	nbd_put16(b + 8, n->session.flags);
	buf_append(out, b, sizeof(b));
	if (!n->no_zeroes)
		buf_append(out, zeroes, sizeof(zeroes));
	return NBD_NEG_TRANSMIT;
}

static enum nbd_neg_act opt_list(struct nbd_neg *n, uint32_t len, struct buf *out)
{
	struct nbd_neg_export x;
	uint8_t b[4];

	if (len)
		return invalid(n, out, "NBD_OPT_LIST carries no data");
	for (unsigned i = 0; n->ops->list(n->arg, i, &x); i++) {
		size_t nl = strlen(x.name), dl = x.description ? strlen(x.description) : 0;

		reply_head(n, out, NBD_REP_SERVER, (uint32_t)(4 + nl + dl));
		nbd_put32(b, (uint32_t)nl);
		buf_append(out, b, sizeof(b));
		buf_append(out, x.name, nl);
		buf_append(out, x.description, dl);
	}
	return ack(n, out);
}

static enum nbd_neg_act opt_starttls(struct nbd_neg *n, uint32_t len, struct buf *out)
{
	if (n->tls || len)
		return invalid(n, out,
			       n->tls ? "TLS runs already" : "NBD_OPT_STARTTLS carries no data");
	if (n->tls_mode == NBD_TLS_OFF) {
		nbd_option_error(n, out, NBD_REP_ERR_POLICY, "this server was set up without TLS");
		return NBD_NEG_MORE;
	}
	ack(n, out);
	return NBD_NEG_TLS;
}

static void info_text(struct nbd_neg *n, struct buf *out, uint16_t type, const char *s)
{
	size_t len = strlen(s);
	uint8_t b[2];

	reply_head(n, out, NBD_REP_INFO, (uint32_t)(2 + len));
	nbd_put16(b, type);
	buf_append(out, b, 2);
	buf_append(out, s, len);
}

static void send_info(struct nbd_neg *n, struct buf *out, const struct nbd_neg_export *x,
		      uint32_t asked)
{
	uint8_t b[14];

	reply_head(n, out, NBD_REP_INFO, 12);
	nbd_put16(b, NBD_INFO_EXPORT);
	nbd_put64(b + 2, x->size);
	nbd_put16(b + 10, x->flags | (n->session.structured ? NBD_TX_DF : 0));
	buf_append(out, b, 12);
	if (asked & (1u << NBD_INFO_BLOCK_SIZE)) {
		/* Any byte range works, through read-modify-write; whole blocks go straight. */
		reply_head(n, out, NBD_REP_INFO, 14);
		nbd_put16(b, NBD_INFO_BLOCK_SIZE);
		nbd_put32(b + 2, 1);
		nbd_put32(b + 6, HCI_BLOCK);
		nbd_put32(b + 10, NBD_MAX_PAYLOAD);
		buf_append(out, b, 14);
	}
	if (asked & (1u << NBD_INFO_NAME))
		info_text(n, out, NBD_INFO_NAME, x->name);
	if (asked & (1u << NBD_INFO_DESCRIPTION) && x->description)
		info_text(n, out, NBD_INFO_DESCRIPTION, x->description);
}

/* NBD_OPT_INFO and NBD_OPT_GO. */
static enum nbd_neg_act opt_info(struct nbd_neg *n, struct cur c, struct buf *out, bool go)
{
	struct nbd_neg_export x;
	uint32_t len, asked = 0, err;
	char msg[160] = "";
	const char *name = cur_str(&c, &len);
	uint16_t items = cur_u16(&c);

	for (uint16_t i = 0; i < items && !c.bad; i++) {
		uint16_t type = cur_u16(&c);

		if (type < 32)
			asked |= 1u << type;
	}
	if (c.bad || c.p != c.end)
		return invalid(n, out, "lengths inside the option disagree with its own");
	err = n->ops->find(n->arg, name, len, go, &x, msg, sizeof(msg));
	if (err) {
		nbd_option_error(n, out, err, "%s", msg);
		return NBD_NEG_MORE;
	}
	send_info(n, out, &x, asked);
	ack(n, out);
	if (!go)
		return NBD_NEG_MORE;
	enter(n, &x);
	return NBD_NEG_TRANSMIT;
}

static bool is(const char *s, uint32_t len, const char *what)
{
	return len == strlen(what) && !memcmp(s, what, len);
}

/* Reads the queries; true when base:allocation is meant by one of them. */
static bool wants_allocation(struct cur *c, bool list)
{
	uint32_t nq = cur_u32(c), len;
	bool found = list && nq == 0; /* no query lists everything, and selects nothing */

	for (uint32_t i = 0; i < nq && !c->bad; i++) {
		const char *q = cur_str(c, &len);

		if (c->bad)
			break;
		if (is(q, len, ALLOCATION) || (list && is(q, len, "base:")))
			found = true;
	}
	if (c->p != c->end)
		c->bad = true;
	return found && !c->bad;
}

/* NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
static enum nbd_neg_act opt_meta(struct nbd_neg *n, struct cur c, struct buf *out, bool list)
{
	struct nbd_neg_export x;
	char msg[160] = "";
	uint32_t len, err;
	const char *name;
	uint8_t id[4];
	bool found;

	if (!list)
		n->meta_handle = NULL; /* replaced "including when this command fails" */
	if (!n->session.structured)
		return invalid(n, out, "ask for structured replies first");
	name = cur_str(&c, &len);
	found = wants_allocation(&c, list);
	if (c.bad)
		return invalid(n, out, "lengths inside the option disagree with its own");
	err = n->ops->find(n->arg, name, len, false, &x, msg, sizeof(msg));
	if (err) {
		nbd_option_error(n, out, err, "%s", msg);
		return NBD_NEG_MORE;
	}
	if (found) {
		reply_head(n, out, NBD_REP_META_CONTEXT, 4 + sizeof(ALLOCATION) - 1);
		nbd_put32(id, list ? 0 : NBD_META_ALLOCATION);
		buf_append(out, id, 4);
		buf_append(out, ALLOCATION, sizeof(ALLOCATION) - 1);
		if (!list)
			n->meta_handle = x.handle;
	}
	return ack(n, out);
}

static enum nbd_neg_act opt_structured(struct nbd_neg *n, uint32_t len, struct buf *out)
{
	if (len)
		return invalid(n, out, "NBD_OPT_STRUCTURED_REPLY carries no data");
	n->session.structured = true;
	return ack(n, out);
}

enum nbd_neg_act nbd_option(struct nbd_neg *n, const uint8_t *data, uint32_t len, struct buf *out)
{
	struct cur c = { data, data + len, false };

	if (n->opt == NBD_OPT_ABORT) {
		ack(n, out);
		return NBD_NEG_CLOSE;
	}
	if (n->opt == NBD_OPT_EXPORT_NAME)
		return opt_export_name(n, (const char *)data, len, out);
	if (n->opt == NBD_OPT_STARTTLS)
		return opt_starttls(n, len, out);
	/* "FORCEDTLS mode": whatever else comes, known or not, is told to start TLS. */
	if (n->tls_mode == NBD_TLS_REQUIRE && !n->tls) {
		nbd_option_error(n, out, NBD_REP_ERR_TLS_REQD,
				 "this server speaks TLS only: start it first");
		return NBD_NEG_MORE;
	}
	switch (n->opt) {
	case NBD_OPT_LIST:
		return opt_list(n, len, out);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return opt_info(n, c, out, n->opt == NBD_OPT_GO);
	case NBD_OPT_STRUCTURED_REPLY:
		return opt_structured(n, len, out);
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return opt_meta(n, c, out, n->opt == NBD_OPT_LIST_META_CONTEXT);
	}
	nbd_option_error(n, out, NBD_REP_ERR_UNSUP, "option %u is not known here", n->opt);
	return NBD_NEG_MORE;
}
