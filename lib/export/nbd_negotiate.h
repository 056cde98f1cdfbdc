/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handshake of an NBD server as a state machine over bytes: no socket, no clock, no export
 * table of its own. Bytes of the client go in, bytes for the client come out, and the return value
 * says what the connection has to do next.
 */
#ifndef EXPORT_NBD_NEGOTIATE_H
#define EXPORT_NBD_NEGOTIATE_H

#include "base/base.h"
#include "base/buf.h"

/* What the handshake tells of an export. */
struct nbd_neg_export {
	void *handle;                   /* of whoever answers; tells two exports apart */
	const char *name, *description; /* description may be NULL */
	uint64_t size;
	uint16_t flags; /* NBD_TX_*, without DF, which the handshake adds */
};

struct nbd_neg_ops {
	/*
	 * 0 and *out filled in, or an NBD_REP_ERR_* and a sentence for the client in msg. go: the
	 * client is about to enter transmission with it (limits on the number of connections
	 * apply).
	 */
	uint32_t (*find)(void *arg, const char *name, size_t len, bool go,
			 struct nbd_neg_export *out, char *msg, size_t msg_cap);
	/* The i-th export, false past the last. */
	bool (*list)(void *arg, unsigned i, struct nbd_neg_export *out);
};

/* What was agreed; the transmission phase works with nothing else. */
struct nbd_session {
	void *handle;
	uint64_t size;
	uint16_t flags;  /* as told to the client, DF included */
	bool structured; /* structured replies */
	bool meta;       /* base:allocation, as context NBD_META_ALLOCATION */
};

#define NBD_META_ALLOCATION 1u /* the context ID that we give to base:allocation */

enum nbd_tls_mode { NBD_TLS_OFF, NBD_TLS_REQUIRE };

enum nbd_neg_act {
	NBD_NEG_MORE, /* go on: feed the rest, or wait for more */
	NBD_NEG_TLS,  /* send, then start TLS, then nbd_neg_tls_started(); no input may be left */
	NBD_NEG_TRANSMIT, /* send; what follows are requests under n->session */
	NBD_NEG_CLOSE,    /* send, then close: the client wished so */
	NBD_NEG_DROP,     /* close at once: n->why names what the client did */
};

struct nbd_neg {
	const struct nbd_neg_ops *ops;
	void *arg;
	enum nbd_tls_mode tls_mode;
	bool tls; /* TLS runs */

	int state;
	bool fixed, no_zeroes; /* the client's flags */
	uint32_t opt, opt_len, skip;
	unsigned options;  /* seen so far: bounded */
	struct buf in;     /* the message being received: bounded */
	void *meta_handle; /* the export that base:allocation was selected for */
	struct nbd_session session;
	const char *why;
};

/* Puts the greeting into out. */
void nbd_neg_init(struct nbd_neg *n, const struct nbd_neg_ops *ops, void *arg,
		  enum nbd_tls_mode tls_mode, struct buf *out);
/* Frees what it holds; fine in any state. */
void nbd_neg_fini(struct nbd_neg *n);
/*
 * Takes *used <= len bytes and appends replies to out. Works through one message at most, so that a
 * caller can hold back a client that sends options and reads no replies: call again while *used <
 * len.
 */
enum nbd_neg_act nbd_neg_feed(struct nbd_neg *n, const uint8_t *in, size_t len, size_t *used,
			      struct buf *out);
/* The TLS handshake is over: what was agreed before it is forgotten (NBD_OPT_STARTTLS). */
void nbd_neg_tls_started(struct nbd_neg *n);

#endif
