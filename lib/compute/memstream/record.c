/* SPDX-License-Identifier: Apache-2.0 */
/* Records of pages, written and read: see record.h. */
#include "compute/memstream/record.h"

#include <hci/error.h>

#include "compute/memstream/batch.h"

/* Section "ram" starts, under the number 1; its (empty) set-up ends, and a part of it begins. */
static const uint8_t head[] = { 1, 0, 0, 0, 1, 3, 'r', 'a', 'm', 0, 0, 0, 0, 0, 0, 0, 4,
				0x7e, 0, 0, 0, 1, 2, 0, 0, 0, 1 };
/* The same after bytes. */
static const uint8_t again[] = { 0x7e, 0, 0, 0, 1, 2, 0, 0, 0, 1 };

#define BYTES_FOLLOW 'B'
#define NOTHING_FOLLOWS 'E'
#define NAME_LEN 8u

static void be(struct buf *b, uint64_t v, unsigned bytes)
{
	uint8_t out[8];

	for (unsigned i = 0; i < bytes; i++)
		out[i] = (uint8_t)(v >> 8 * (bytes - 1 - i));
	buf_append(b, out, bytes);
}

static void begin(struct record_writer *w, struct buf *b)
{
	if (!w->begun)
		buf_append(b, head, sizeof(head));
	w->begun = true;
}

/* A region's name is its number in hexadecimal. */
static void name(struct buf *b, uint32_t region)
{
	uint8_t out[1 + NAME_LEN] = { NAME_LEN };

	for (unsigned i = 0; i < NAME_LEN; i++)
		out[1 + i] = (uint8_t) "0123456789abcdef"[region >> 4 * (NAME_LEN - 1 - i) & 15];
	buf_append(b, out, sizeof(out));
}

void record_page(struct record_writer *w, struct buf *b, uint32_t region, uint64_t address, const void *page)
{
	uint64_t flags = w->named && region == w->region ? RAM_CONT : 0;
	const uint8_t *p = page;
	uint64_t first;
	bool zero;

	begin(w, b);
	memcpy(&first, p, sizeof(first));
	zero = !first && !memcmp(p, p + 8, MST_PAGE - 8);
	be(b, address | flags | (zero ? RAM_ZERO : RAM_PAGE), 8);
	if (!flags)
		name(b, region);
	w->named = true;
	w->region = region;
	buf_append(b, page, zero ? 1 : MST_PAGE);
}

void record_bytes(struct record_writer *w, struct buf *b, const void *data, size_t len)
{
	begin(w, b);
	be(b, RAM_EOS, 8);
	be(b, BYTES_FOLLOW, 1);
	be(b, len, 4);
	buf_append(b, data, len);
	buf_append(b, again, sizeof(again));
}

void record_end(struct record_writer *w, struct buf *b)
{
	begin(w, b);
	be(b, RAM_EOS, 8);
	be(b, NOTHING_FOLLOWS, 1);
}

enum state { HEAD, WORD, NAME, BODY, WHAT, LENGTH, BYTES, AGAIN, OVER };

static void enter(struct record_reader *r, uint8_t state, uint32_t need)
{
	r->state = state;
	r->need = need;
	r->got = 0;
}

void record_reader_init(struct record_reader *r)
{
	memset(r, 0, offsetof(struct record_reader, buf));
	enter(r, HEAD, sizeof(head));
}

static uint64_t number(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | p[i];
	return v;
}

static void body(struct record_reader *r)
{
	enter(r, BODY, r->word & RAM_PAGE ? MST_PAGE : 1);
}

static int word(struct record_reader *r)
{
	uint32_t flags;

	r->word = number(r->buf, 8);
	flags = (uint32_t)r->word & RAM_FLAGS;
	if (flags == RAM_EOS) {
		enter(r, WHAT, 1);
		return r->word == RAM_EOS ? 0 : HCI_E_PROTO;
	}
	if ((flags & ~RAM_CONT) != RAM_PAGE && (flags & ~RAM_CONT) != RAM_ZERO)
		return HCI_E_PROTO;
	if (flags & RAM_CONT)
		body(r);
	else
		enter(r, NAME, 1 + NAME_LEN);
	return 0;
}

static int region(struct record_reader *r)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < NAME_LEN; i++) {
		uint8_t c = r->buf[1 + i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return HCI_E_PROTO;
		v = v << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	r->region = v;
	body(r);
	return r->buf[0] == NAME_LEN ? 0 : HCI_E_PROTO;
}

/* What was wanted is there. */
static int complete(struct record_reader *r, struct record *out)
{
	uint32_t len;

	switch (r->state) {
	case HEAD:
		enter(r, WORD, 8);
		return memcmp(r->buf, head, sizeof(head)) ? HCI_E_PROTO : 0;
	case WORD:
		return word(r);
	case NAME:
		return region(r);
	case BODY:
		*out = (struct record){ .kind = r->word & RAM_PAGE ? RECORD_PAGE : RECORD_ZERO, .region = r->region,
					.address = r->word & ~(uint64_t)RAM_FLAGS, .data = r->buf };
		out->len = out->kind == RECORD_PAGE ? MST_PAGE : 0;
		enter(r, WORD, 8);
		return 0;
	case WHAT:
		if (r->buf[0] == NOTHING_FOLLOWS) {
			*out = (struct record){ .kind = RECORD_END };
			enter(r, OVER, 1);
			return 0;
		}
		enter(r, LENGTH, 4);
		return r->buf[0] == BYTES_FOLLOW ? 0 : HCI_E_PROTO;
	case LENGTH:
		len = (uint32_t)number(r->buf, 4);
		enter(r, BYTES, len);
		return len && len <= RECORD_BYTES_MAX ? 0 : HCI_E_PROTO;
	case BYTES:
		*out = (struct record){ .kind = RECORD_BYTES, .len = r->need, .data = r->buf };
		enter(r, AGAIN, sizeof(again));
		return 0;
	case AGAIN:
		enter(r, WORD, 8);
		return memcmp(r->buf, again, sizeof(again)) ? HCI_E_PROTO : 0;
	default: /* OVER: nothing may follow */
		return HCI_E_PROTO;
	}
}

int64_t record_read(struct record_reader *r, const uint8_t *p, size_t len, struct record *out)
{
	size_t at = 0;

	out->kind = RECORD_NONE;
	while (at < len && out->kind == RECORD_NONE) {
		size_t n = MIN(len - at, (size_t)(r->need - r->got));
		int rc;

		memcpy(r->buf + r->got, p + at, n);
		at += n;
		r->got += (uint32_t)n;
		if (r->got < r->need)
			break;
		rc = complete(r, out);
		if (rc)
			return rc;
	}
	return (int64_t)at;
}
