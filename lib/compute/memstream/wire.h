/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages between encoder and decoder, byte for byte as docs/memstream-format.md has them: what is in them, building
 * and reading. Numbers are little endian. Reading checks every length; what it hands out points into the message.
 */
#ifndef MEMSTREAM_WIRE_H
#define MEMSTREAM_WIRE_H

#include "compute/memstream/memstream.h"

#define MST_BATCH_DEFAULT (512u << 10)
#define MST_BATCH_MAX (768u << 10)     /* with everything raw and its ops a message stays below MST_MSG_MAX */
#define MST_PLAIN_MAX (2ull * MST_BATCH_MAX) /* ops, literals, deltas and pages, unpacked */
#define MST_PAGES_MAX 128              /* pages in one answer */
#define MST_HAVE_MAX 16384u            /* halves of hashes in one message: 64 KiB */
#define MST_JOBS_MAX 4096u             /* data messages that are not acknowledged */

enum mst_type { MST_HELLO = 1, MST_DATA, MST_END, MST_PAGES, MST_ACK, MST_NEED, MST_HURRY, MST_WANT, MST_HAVE };

struct mst_hello {
	bool decoder;
	uint16_t version;
	uint32_t codecs;
	uint32_t cache_pages;
	uint64_t window;
	uint8_t n_ids;
	uint8_t ids[MST_PROVIDERS_MAX][16];
};

/* What one message of the stream says of itself; the four sections lie packed together, raw pages behind them. */
struct mst_data {
	uint8_t codec;
	bool plain;                      /* went by without a look: nobody keeps its pages for others */
	uint32_t seq;
	uint32_t out;                    /* bytes of the stream it makes */
	uint32_t crc;                    /* CRC32C of these */
	uint32_t ops, lit, delta, fresh; /* bytes of the sections, unpacked, in this order */
	uint32_t raw;                    /* bytes of pages that are not packed */
	uint32_t packed;
	const uint8_t *packed_at, *raw_at;
};

#define MST_DATA_HEAD 40u
#define MST_PLAIN_HEAD (MST_DATA_HEAD + 4) /* ... and an instruction BYTES, its number in three bytes: the stream's bytes follow */

struct mst_pages {
	uint8_t codec;
	uint16_t n;
	uint32_t seq, packed;
	const uint8_t *index_at; /* n u16 */
	const uint8_t *packed_at;
};

#define MST_PAGES_HEAD 12u

struct mst_need {
	uint16_t n;
	uint32_t seq;
	bool wrong; /* they did not fit the message's checksum, rather than not being there */
	const uint8_t *index_at; /* n u16 */
};

/* What the other VMM has taken, and how many messages more are there. */
struct mst_ack {
	uint32_t messages;
	uint64_t bytes;
	uint16_t more;
	bool end;
};

/* The source wants to know what a provider has; the destination tells a piece of it. */
struct mst_want {
	uint8_t provider;
	uint32_t from;
};

struct mst_have {
	uint8_t provider;
	uint16_t n;
	uint32_t from, next;    /* as asked for; the next piece, 0: that was all */
	const uint8_t *half_at; /* n u32 */
};

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) | (uint32_t)get16(p + 2) << 16;
}

static inline uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* The i-th of a list of pages. */
static inline uint16_t get_index(const uint8_t *list, size_t i)
{
	return get16(list + i * 2);
}

static inline void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void put32(uint8_t *p, uint32_t v)
{
	put16(p, (uint16_t)v);
	put16(p + 2, (uint16_t)(v >> 16));
}

static inline void put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)v);
	put32(p + 4, (uint32_t)(v >> 32));
}

/* A message with room for len bytes, all of them counted. NULL: no memory. */
struct mst_msg *mst_msg_new(size_t len);

/* NULL: no memory. */
struct mst_msg *mst_put_hello(const struct mst_hello *h);
struct mst_msg *mst_put_end(uint32_t messages, uint64_t bytes);
struct mst_msg *mst_put_ack(const struct mst_ack *a);
struct mst_msg *mst_put_need(uint32_t seq, bool wrong, const uint16_t *index, unsigned n);
struct mst_msg *mst_put_want(const struct mst_want *w);
/* Of the n halves. */
struct mst_msg *mst_put_have(const struct mst_have *h, const uint32_t *half);
void mst_put_data(const struct mst_data *d, uint8_t head[MST_DATA_HEAD]);
/* Of `out` bytes that are the stream's as they are, which follow: its seq, out and crc. */
void mst_put_plain(const struct mst_data *d, uint8_t head[MST_PLAIN_HEAD]);

/* 0, or HCI_E_PROTO, HCI_E_VERSION with the reason. */
int mst_get_hello(const uint8_t *p, size_t len, struct mst_hello *out, struct hci_error *err);
int mst_get_data(const uint8_t *p, size_t len, struct mst_data *out, struct hci_error *err);
int mst_get_end(const uint8_t *p, size_t len, uint32_t *messages, uint64_t *bytes, struct hci_error *err);
int mst_get_ack(const uint8_t *p, size_t len, struct mst_ack *out, struct hci_error *err);
int mst_get_pages(const uint8_t *p, size_t len, struct mst_pages *out, struct hci_error *err);
int mst_get_need(const uint8_t *p, size_t len, struct mst_need *out, struct hci_error *err);
int mst_get_want(const uint8_t *p, size_t len, struct mst_want *out, struct hci_error *err);
int mst_get_have(const uint8_t *p, size_t len, struct mst_have *out, struct hci_error *err);

#endif
