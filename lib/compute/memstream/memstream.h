/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The migration codec: makes a stream of guest memory small on its way to another node, and the very same bytes again
 * there. An encoder at the source, a decoder at the destination, messages between them. No sockets, no hypervisor: bytes
 * in, messages out, and worker threads that do the computing. What the messages look like: docs/memstream-format.md.
 *
 *     source VMM --feed--> mst_enc --next--> carrier --take--> mst_dec --out--> destination VMM
 *                              ^--take------ carrier <--next------'
 *
 * The carrier keeps the order of the messages of each direction and loses none; if it cannot, both ends are freed and the
 * migration has failed. A message has at most MST_MSG_MAX bytes and says itself what it is.
 *
 * How to drive an encoder, whenever there is something to read, the carrier has room, or wake() was called:
 *
 *     take() what came from the peer
 *     while the carrier has room and (m = next()): send m->data, m->len; mst_msg_free(m)
 *     read at most room() bytes from the VMM, feed() them; at its end finish()
 *     until done(): the destination's VMM has taken every byte
 *
 * A decoder: take() what came; write out() to the VMM, consume() what it took; send what next() gives; done() when
 * all was consumed. The first message of each side is its hello: until the decoder's has come the encoder sends nothing else.
 *
 * Threads: an encoder or a decoder belongs to one thread at a time (its owner). wake() is called on any thread, the
 * owner's own included, under no lock, when there may be something new for next(), out(), room() or done(); it does
 * nothing but notify (a pipe, an eventfd, a flag). After free() has returned it is not called any more.
 *
 * Errors (of a worker too) come from the next call of the owner and stay: the handle is then good for free() and stats only.
 */
#ifndef COMPUTE_MEMSTREAM_H
#define COMPUTE_MEMSTREAM_H

#include <hci/error.h>

#include "base/base.h"
#include "base/list.h"

#define MST_VERSION 1
#define MST_MSG_MAX (1u << 20) /* bytes of a message */
#define MST_PAGE 4096u
#define MST_STRONG 20 /* bytes of a strong hash on the wire: SHA-256, cut */

struct mst_enc;
struct mst_dec;

/* ---- what a page was, for the statistics and to switch classes off (bits of mst_*_opts.without) ---- */

enum mst_class {
	MST_ZERO,   /* all zeroes */
	MST_SAME,   /* equals a page of this stream that the other side still has */
	MST_REF,    /* equals what a provider has at the other side, or what another migration brings there just now */
	MST_DELTA,  /* sent before, changed since */
	MST_NEW,    /* compressed with its neighbours */
	MST_RAW,    /* would not shrink: as it is */
	MST_OTHER,  /* not a page: device state, headers, all that is not understood */
	MST_CLASSES
};

/* Where the destination has what is referred to. */
enum mst_kind {
	MST_KIND_OTHER,
	MST_KIND_STORE,  /* pages that came there with others */
	MST_KIND_VOLUME, /* blocks of a volume */
	MST_KIND_GUEST,  /* pages of guests that run there */
	MST_KINDS
};

/* By its number. */
const char *mst_class_name(unsigned class);
const char *mst_kind_name(unsigned kind);
/* Names with commas between them, as bits: 1u << class, 1u << (MST_CLASSES + kind); what is none is left out. NULL: no bits. */
uint32_t mst_class_bits(const char *names);

/* For mst_opts.aside: follows, never, light, plain, dances; else follows. */
uint32_t mst_aside_mode(const char *name);

struct mst_stats {
	uint64_t in, out;                /* bytes of the stream, in and (source) acknowledged or (destination) consumed */
	uint64_t wire;                   /* bytes of messages to the decoder */
	uint64_t back;                   /* bytes of messages to the encoder */
	uint64_t pages[MST_CLASSES];     /* how many; of MST_OTHER the bytes */
	uint64_t wire_of[MST_CLASSES];   /* bytes on the wire for them, estimated within a message; the source knows */
	uint64_t refused;                /* references that the destination could not serve */
	uint64_t coming;                 /* references to pages that were on their way with another stream */
	uint64_t refs[MST_KINDS];        /* references, by the kind of their provider (source) */
	uint64_t aside[2];               /* messages for which less was done: the two steps of aside.h (source) */
	uint64_t asked_again;            /* messages whose checksum did not fit until their references were sent in full */
	uint64_t rate;                   /* bytes of messages a second that the path to the other VMM carries (source) */
	uint64_t cpu_ns;                 /* of the workers */
	int level;                       /* of compression, at present: see codec.h */
};

/* ---- providers: content that is at the destination already ---- */

/*
 * The same content seen from both nodes, as a volume with an in-sync replica there, or the pages of guests that moved
 * there before. id says which content it is: a provider is used if both sides have one of the same id. A wrong answer
 * from either side costs a round trip and nothing else: the destination compares the strong hash of what it read with
 * that of the page, and asks for the page if it differs.
 *
 * Calls come from worker threads, several at a time; they may block (the destination's do read disks) but not for long:
 * a stream waits for them. A provider that is slow at the destination (two milliseconds a page, on average) is asked for a few
 * pages only, and one whose pages the destination often cannot use is left out by the source for a while (provider.h).
 *
 * Several migrations with one destination may bring the same page at the same time. The provider whose claim() was told of
 * it first says to the others that it is on its way: they send references that wait at the destination (opts.wait_ns) before
 * they turn into requests. No reference waits for a message that waits for it: begin() numbers all batches of all encoders
 * that share ctx, and only pages of batches with smaller numbers are referred to. So of all batches that are not
 * acknowledged the one with the smallest number waits for nothing, nor does anything hold it back in its own stream; and a
 * decoder hands on the pages of a message (note) as soon as that is unpacked, whatever the message waits for itself.
 */
enum mst_has {
	MST_HAS_NOT,
	MST_HAS,
	MST_COMES, /* on its way with a batch of a smaller number */
};

struct mst_provider {
	uint8_t id[16];
	uint8_t kind; /* enum mst_kind: of a source's, for the statistics and to switch it off */
	void *ctx;
	/*
	 * Source: may the other side have a page with this quick hash? An mst_has, and a token that lets it find it. NULL at a
	 * destination. batch: what begin() said of the one that asks.
	 */
	int (*lookup)(void *ctx, uint64_t quick, uint32_t batch, uint64_t *token);
	/* Destination: the page for a token, 0, or a negative HCI_E_*. NULL at a source. */
	int (*read)(void *ctx, uint64_t token, void *page);
	/*
	 * Destination, may be NULL: read() may hang, in the memory of another process for instance. Then an end of the decoder waits for a worker that
	 * is in it for a moment only, and leaves it alone: it calls nothing of any provider when it comes back, but until then this one has to
	 * be there. true: one more uses it; false: one less, on any thread.
	 */
	void (*keep)(void *ctx, bool on);
	/*
	 * Both, may be NULL: a page that both ends now have (source: acknowledged, without its bytes; destination: with them, when
	 * they came, and nobody has said yet that they are right: whoever takes them compares a hash).
	 */
	void (*note)(void *ctx, uint64_t quick, const void *page);
	/* Source, may be NULL: the other side said which ids it has; this one counts if true. Default: compares with `id`. */
	bool (*match)(void *ctx, const uint8_t id[16]);
	/* Destination, may be NULL: read() will be called for these, one after the other. Does not block. */
	void (*soon)(void *ctx, const uint64_t *tokens, unsigned n);
	/*
	 * All that follow or none, of those for its side. An encoder or decoder begins to use it, and gets a number of its own (0: it
	 * may claim nothing); leaves: what it claimed and did not note will not come any more. all: it has noted all.
	 */
	uint32_t (*join)(void *ctx);
	void (*leave)(void *ctx, uint32_t who, bool all);
	/* Source: the number of a batch that is about to be classified. This page goes in full with it. */
	uint32_t (*begin)(void *ctx);
	void (*claim)(void *ctx, uint64_t quick, uint32_t who, uint32_t batch);
	/* Destination: counts what came (note), and who left without all of theirs, so that who waits sees what is new. */
	uint64_t (*came)(void *ctx, uint32_t *left);
	/*
	 * Both or none, each of its side: what a destination has that the source cannot know. It tells a list of numbers (the high halves of
	 * quick hashes: told.c; runs of blocks: runs.c), piece by piece, as the source asks for them. Destination: at most max of
	 * them (an even number, thousands) from place *at of its list on (0: the beginning), *at moved on, 0 at the end; returns how many (none only
	 * at the end), HCI_E_AGAIN: none yet (*at may have moved on), it will be asked again soon; the decoder's owner calls it. Source: one of them; false: no
	 * room for more, nothing further is asked for. Neither blocks.
	 */
	int (*tell)(void *ctx, uint32_t *at, uint32_t *out, unsigned max);
	bool (*told)(void *ctx, uint32_t number);
};

#define MST_PROVIDERS_MAX 8

/* The hashes; other ones are for tests that force collisions. quick: not against an adversary, who gains nothing by it. */
struct mst_hash {
	uint64_t (*quick)(const void *page);
	void (*strong)(const void *page, uint8_t out[MST_STRONG]);
};

/* ---- options: zero is the default of each ---- */

struct mst_opts {
	uint32_t workers;     /* threads; 0: all is computed inside feed(), take() and flush(), the same bytes each time */
	uint64_t cache;       /* bytes of pages kept at both ends for deltas and repeats: the smaller counts; default 512 MiB */
	uint64_t cache_max;   /* it grows so far when pages come again that it had no room for; less than cache: it does not */
	uint64_t window;      /* bytes of stream accepted and not yet acknowledged, at most; also memory; default 64 MiB */
	uint64_t inflight_ns; /* of these as much as the path carries in this time (source); default 100 ms; ~0: no limit */
	uint64_t wait_ns;     /* a reference waits so long for a page that another stream brings (destination); default 1 s */
	uint64_t linger_ns;   /* with workers: bytes wait so long for more to be packed with them; default 3 ms */
	uint32_t batch;       /* bytes of stream in a message, at most MST_BATCH_MAX; default 512 KiB */
	uint32_t without;     /* what is switched off, as mst_class_bits() has it: 1u << MST_DELTA ... (source) */
	uint32_t codecs;      /* 0: all that is built in; else bits 1u << MST_ZLIB ... of codec.h */
	int32_t level;        /* 0: follows link and processor; else fixed, 1 (fast) .. MST_LEVELS (small) */
	uint32_t aside;       /* with workers: when pages go as they are, 0: as link and processor have it (never, with a level); else see aside.h (source) */
	uint32_t n_providers;
	const struct mst_provider *providers; /* copied; what is behind ctx outlives the handle */
	const struct mst_hash *hash;          /* NULL: the real ones */
	uint64_t (*now)(void *ctx);           /* monotonic ns; NULL: CLOCK_MONOTONIC */
	void (*wake)(void *ctx);              /* may be NULL */
	void *ctx;
};

/* All of a message is data, len bytes. */
struct mst_msg {
	struct list link;      /* of whoever has it */
	struct msg_pool *pool; /* NULL, or where its memory goes */
	uint32_t len;
	uint8_t data[];
};

/* On any thread. NULL is fine. */
void mst_msg_free(struct mst_msg *m);

/* ---- the source ---- */

int mst_enc_new(struct mst_enc **out, const struct mst_opts *o, struct hci_error *err);
/* At any moment; waits for what workers have in hand. NULL is fine. */
void mst_enc_free(struct mst_enc *e);

/* How many bytes feed() takes now. 0: not before wake(). */
size_t mst_enc_room(struct mst_enc *e);
/* The next bytes of the stream, in any portions. Returns how many were taken (from the front), or an error. */
int64_t mst_enc_feed(struct mst_enc *e, const void *data, size_t len, struct hci_error *err);
/*
 * The same without a copy: where the next bytes may be put, and how many; then how many were (0 is fine). NULL: feed() them. Nothing
 * else may be called between the two.
 */
void *mst_enc_space(struct mst_enc *e, size_t *len);
int mst_enc_filled(struct mst_enc *e, size_t len, struct hci_error *err);
/* Do not wait for more: pack what is there. Workers do it by themselves after linger_ns. */
int mst_enc_flush(struct mst_enc *e, struct hci_error *err);
/* The stream is over; flushes. Nothing can be fed after it. */
int mst_enc_finish(struct mst_enc *e, struct hci_error *err);
/* A message from the decoder: lent during the call. HCI_E_PROTO, HCI_E_VERSION: the migration cannot go on. */
int mst_enc_take(struct mst_enc *e, const void *data, size_t len, struct hci_error *err);
/* The next message for the decoder, the caller's from now on, or NULL: none now (or an error: see status). */
struct mst_msg *mst_enc_next(struct mst_enc *e);
/* Finished, and the decoder said that all of it was consumed there. */
bool mst_enc_done(struct mst_enc *e);
/* 0, or the error that ended it. */
int mst_enc_status(struct mst_enc *e, struct hci_error *err);
void mst_enc_stats(struct mst_enc *e, struct mst_stats *out);
/* The carrier sends no faster than somebody set: then bytes are what counts, and pages do not go as they are. */
void mst_enc_set_limited(struct mst_enc *e, bool limited);
/* From now on no reference waits for what another stream brings, at neither side: a guest may be waiting for the page. */
void mst_enc_hurry(struct mst_enc *e);
/* Change the time's worth in flight of a running encoder. */
void mst_enc_set_inflight(struct mst_enc *e, uint64_t ns);

/* ---- the destination ---- */

int mst_dec_new(struct mst_dec **out, const struct mst_opts *o, struct hci_error *err);
/* At any moment; waits for what workers have in hand, but see mst_provider.keep. Nothing of opts is used after it. NULL is fine. */
void mst_dec_free(struct mst_dec *d);

/* A message from the encoder: lent during the call. Memory stays bounded by the window that our hello granted. */
int mst_dec_take(struct mst_dec *d, const void *data, size_t len, struct hci_error *err);
/* The next bytes for the VMM: *data, valid until consume() or free(); returns how many, 0 for none now, or an error. */
int64_t mst_dec_out(struct mst_dec *d, const void **data, struct hci_error *err);
/* The VMM took the first n of those: at most what out() said. */
void mst_dec_consume(struct mst_dec *d, size_t n);
struct mst_msg *mst_dec_next(struct mst_dec *d);
/* The stream was over and all of it was consumed. Send what next() still gives, then free. */
bool mst_dec_done(struct mst_dec *d);
int mst_dec_status(struct mst_dec *d, struct hci_error *err);
void mst_dec_stats(struct mst_dec *d, struct mst_stats *out);

#endif
