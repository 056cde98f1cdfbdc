/* SPDX-License-Identifier: Apache-2.0 */
/* Building and reading messages. Hostile input ends here: what the readers let through has lengths that add up. */
#include "compute/memstream/wire.h"

#include "base/err.h"
#include "base/mem.h"
#include "compute/memstream/codec.h"
#include "compute/memstream/ops.h"
#include "compute/memstream/pool.h"

#define HELLO_MAGIC 0x54534d68u /* "hMST" */
#define HELLO_HEAD 32u
#define END_LEN 16u
#define NEED_HEAD 8u
#define WANT_LEN 8u
#define HAVE_HEAD 12u

void mst_msg_free(struct mst_msg *m)
{
	if (m && m->pool)
		msg_pool_give(m);
	else
		mem_free(m);
}

struct mst_msg *mst_msg_new(size_t len)
{
	struct mst_msg *m = len <= MST_MSG_MAX ? mem_alloc(sizeof(*m) + len) : NULL;

	if (m) {
		list_init(&m->link);
		m->pool = NULL;
		m->len = (uint32_t)len;
	}
	return m;
}

struct mst_msg *mst_put_hello(const struct mst_hello *h)
{
	struct mst_msg *m = mst_msg_new(HELLO_HEAD + h->n_ids * (size_t)16);

	if (!m)
		return NULL;
	memset(m->data, 0, HELLO_HEAD);
	m->data[0] = MST_HELLO;
	m->data[1] = h->decoder;
	put16(m->data + 2, h->version);
	put32(m->data + 4, HELLO_MAGIC);
	put32(m->data + 8, h->codecs);
	put32(m->data + 12, h->cache_pages);
	put64(m->data + 16, h->window);
	m->data[24] = h->n_ids;
	memcpy(m->data + HELLO_HEAD, h->ids, h->n_ids * (size_t)16);
	return m;
}

int mst_get_hello(const uint8_t *p, size_t len, struct mst_hello *out, struct hci_error *err)
{
	if (len < 8 || p[0] != MST_HELLO || get32(p + 4) != HELLO_MAGIC)
		return err_set(err, HCI_E_PROTO, "memory stream: the peer's first message is no hello; is it a libhci node?");
	*out = (struct mst_hello){ .version = get16(p + 2) };
	if (out->version != MST_VERSION)
		return err_set(err, HCI_E_VERSION,
			       "memory stream: the peer speaks version %u, we speak %u; run releases that go together",
			       out->version, MST_VERSION);
	if (len < HELLO_HEAD || p[24] > MST_PROVIDERS_MAX || len != HELLO_HEAD + p[24] * (size_t)16 || p[1] > 1)
		return err_set(err, HCI_E_PROTO, "memory stream: malformed hello of %zu bytes from the peer", len);
	out->decoder = p[1];
	out->codecs = get32(p + 8);
	out->cache_pages = get32(p + 12);
	out->window = get64(p + 16);
	out->n_ids = p[24];
	memcpy(out->ids, p + HELLO_HEAD, out->n_ids * (size_t)16);
	return 0;
}

void mst_put_data(const struct mst_data *d, uint8_t head[MST_DATA_HEAD])
{
	memset(head, 0, MST_DATA_HEAD);
	head[0] = MST_DATA;
	head[1] = d->codec;
	put16(head + 2, d->plain);
	put32(head + 4, d->seq);
	put32(head + 8, d->out);
	put32(head + 12, d->crc);
	put32(head + 16, d->ops);
	put32(head + 20, d->lit);
	put32(head + 24, d->delta);
	put32(head + 28, d->fresh);
	put32(head + 32, d->raw);
	put32(head + 36, d->packed);
}

void mst_put_plain(const struct mst_data *d, uint8_t head[MST_PLAIN_HEAD])
{
	struct mst_data whole = { .codec = MST_STORED, .plain = true, .seq = d->seq, .out = d->out, .crc = d->crc, .ops = 4,
				  .lit = d->out, .packed = 4 + d->out };
	uint8_t *op = head + MST_DATA_HEAD;

	mst_put_data(&whole, head);
	op[0] = OP_BYTES;
	op[1] = (uint8_t)d->out | 0x80;
	op[2] = (uint8_t)(d->out >> 7) | 0x80;
	op[3] = (uint8_t)(d->out >> 14);
}

static int bad_data(struct hci_error *err, const char *what)
{
	return err_set(err, HCI_E_PROTO, "memory stream: malformed data message from the peer: %s", what);
}

int mst_get_data(const uint8_t *p, size_t len, struct mst_data *out, struct hci_error *err)
{
	struct mst_data d;
	uint64_t plain;

	if (len < MST_DATA_HEAD || len > MST_MSG_MAX || p[0] != MST_DATA)
		return bad_data(err, "length");
	if (get16(p + 2) > 1)
		return bad_data(err, "flags");
	d = (struct mst_data){ .codec = p[1], .plain = p[2], .seq = get32(p + 4), .out = get32(p + 8), .crc = get32(p + 12),
			       .ops = get32(p + 16), .lit = get32(p + 20), .delta = get32(p + 24),
			       .fresh = get32(p + 28), .raw = get32(p + 32), .packed = get32(p + 36) };
	plain = (uint64_t)d.ops + d.lit + d.delta + d.fresh;
	if (!d.out || d.out > MST_BATCH_MAX)
		return bad_data(err, "it makes too much or nothing");
	if (plain > MST_PLAIN_MAX || d.ops > d.out + 1024 || d.fresh % MST_PAGE || d.raw % MST_PAGE)
		return bad_data(err, "sections");
	/* The window counts what is made: so what waits to be made is bounded by that too. */
	if ((uint64_t)d.lit + d.fresh + d.raw > d.out || d.delta > d.out || d.packed > plain)
		return bad_data(err, "it holds more than it makes");
	if ((uint64_t)MST_DATA_HEAD + d.packed + d.raw != len)
		return bad_data(err, "its parts do not add up to its length");
	d.packed_at = p + MST_DATA_HEAD;
	d.raw_at = d.packed_at + d.packed;
	*out = d;
	return 0;
}

static struct mst_msg *put_count(uint8_t type, uint32_t messages, uint64_t bytes)
{
	struct mst_msg *m = mst_msg_new(END_LEN);

	if (!m)
		return NULL;
	memset(m->data, 0, END_LEN);
	m->data[0] = type;
	put32(m->data + 4, messages);
	put64(m->data + 8, bytes);
	return m;
}

static int get_count(uint8_t type, const uint8_t *p, size_t len, uint32_t *messages, uint64_t *bytes,
		     struct hci_error *err)
{
	if (len != END_LEN || p[0] != type)
		return err_set(err, HCI_E_PROTO, "memory stream: malformed message of type %u from the peer", type);
	*messages = get32(p + 4);
	*bytes = get64(p + 8);
	return 0;
}

struct mst_msg *mst_put_end(uint32_t messages, uint64_t bytes)
{
	return put_count(MST_END, messages, bytes);
}

int mst_get_end(const uint8_t *p, size_t len, uint32_t *messages, uint64_t *bytes, struct hci_error *err)
{
	return get_count(MST_END, p, len, messages, bytes, err);
}

struct mst_msg *mst_put_ack(const struct mst_ack *a)
{
	struct mst_msg *m = put_count(MST_ACK, a->messages, a->bytes);

	if (m) {
		m->data[1] = a->end;
		put16(m->data + 2, a->more);
	}
	return m;
}

int mst_get_ack(const uint8_t *p, size_t len, struct mst_ack *out, struct hci_error *err)
{
	int rc = get_count(MST_ACK, p, len, &out->messages, &out->bytes, err);

	out->end = !rc && p[1];
	out->more = rc ? 0 : get16(p + 2);
	return rc;
}

struct mst_msg *mst_put_need(uint32_t seq, bool wrong, const uint16_t *index, unsigned n)
{
	struct mst_msg *m = mst_msg_new(NEED_HEAD + n * (size_t)2);

	if (!m)
		return NULL;
	m->data[0] = MST_NEED;
	m->data[1] = wrong;
	put16(m->data + 2, (uint16_t)n);
	put32(m->data + 4, seq);
	for (unsigned i = 0; i < n; i++)
		put16(m->data + NEED_HEAD + (size_t)i * 2, index[i]);
	return m;
}

int mst_get_need(const uint8_t *p, size_t len, struct mst_need *out, struct hci_error *err)
{
	if (len < NEED_HEAD || p[0] != MST_NEED || p[1] > 1 || !get16(p + 2) || len != NEED_HEAD + get16(p + 2) * (size_t)2)
		return err_set(err, HCI_E_PROTO, "memory stream: malformed page request from the peer");
	*out = (struct mst_need){ .n = get16(p + 2), .seq = get32(p + 4), .wrong = p[1], .index_at = p + NEED_HEAD };
	return 0;
}

int mst_get_pages(const uint8_t *p, size_t len, struct mst_pages *out, struct hci_error *err)
{
	unsigned n;

	if (len < MST_PAGES_HEAD || len > MST_MSG_MAX || p[0] != MST_PAGES)
		goto bad;
	n = get16(p + 2);
	if (!n || n > MST_PAGES_MAX || (uint64_t)MST_PAGES_HEAD + n * 2ull + get32(p + 8) != len)
		goto bad;
	*out = (struct mst_pages){ .codec = p[1], .n = (uint16_t)n, .seq = get32(p + 4), .packed = get32(p + 8),
				   .index_at = p + MST_PAGES_HEAD, .packed_at = p + MST_PAGES_HEAD + n * (size_t)2 };
	return 0;
bad:
	return err_set(err, HCI_E_PROTO, "memory stream: malformed answer to a page request from the peer");
}

struct mst_msg *mst_put_want(const struct mst_want *w)
{
	struct mst_msg *m = mst_msg_new(WANT_LEN);

	if (!m)
		return NULL;
	m->data[0] = MST_WANT;
	m->data[1] = w->provider;
	put16(m->data + 2, 0);
	put32(m->data + 4, w->from);
	return m;
}

int mst_get_want(const uint8_t *p, size_t len, struct mst_want *out, struct hci_error *err)
{
	if (len != WANT_LEN || p[0] != MST_WANT || p[1] >= MST_PROVIDERS_MAX || get16(p + 2))
		return err_set(err, HCI_E_PROTO, "memory stream: malformed question of the peer for what is here");
	*out = (struct mst_want){ .provider = p[1], .from = get32(p + 4) };
	return 0;
}

struct mst_msg *mst_put_have(const struct mst_have *h, const uint32_t *half)
{
	struct mst_msg *m = mst_msg_new(HAVE_HEAD + h->n * (size_t)4);

	if (!m)
		return NULL;
	m->data[0] = MST_HAVE;
	m->data[1] = h->provider;
	put16(m->data + 2, h->n);
	put32(m->data + 4, h->from);
	put32(m->data + 8, h->next);
	for (unsigned i = 0; i < h->n; i++)
		put32(m->data + HAVE_HEAD + (size_t)i * 4, half[i]);
	return m;
}

/* Each but the last brings something and leads further, so that there is an end. */
int mst_get_have(const uint8_t *p, size_t len, struct mst_have *out, struct hci_error *err)
{
	struct mst_have h;

	if (len < HAVE_HEAD || p[0] != MST_HAVE || p[1] >= MST_PROVIDERS_MAX || get16(p + 2) > MST_HAVE_MAX ||
	    len != HAVE_HEAD + get16(p + 2) * (size_t)4)
		goto bad;
	h = (struct mst_have){ .provider = p[1], .n = get16(p + 2), .from = get32(p + 4), .next = get32(p + 8),
			       .half_at = p + HAVE_HEAD };
	if (h.next && (!h.n || h.next <= h.from))
		goto bad;
	*out = h;
	return 0;
bad:
	return err_set(err, HCI_E_PROTO, "memory stream: malformed list of what the peer has");
}
