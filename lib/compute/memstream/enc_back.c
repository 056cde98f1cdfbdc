/* SPDX-License-Identifier: Apache-2.0 */
/* The encoder's beginning and end, and what comes back from the decoder: its hello, acknowledgements, page requests. */
#include "base/err.h"
#include "base/mem.h"
#include "compute/memstream/enc_impl.h"
#include "compute/memstream/opts.h"
#include "compute/memstream/pool.h"

static void drop(struct list *l)
{
	struct batch *b, *tmp;

	list_for_each_safe(b, tmp, l, link) {
		list_del(&b->link);
		batch_free(b);
	}
}

void mst_enc_free(struct mst_enc *e)
{
	struct list *l;

	if (!e)
		return;
	enc_stop_workers(e);
	batch_free(e->cur);
	drop(&e->todo);
	drop(&e->flight);
	drop(&e->spare);
	while ((l = list_pop(&e->control)))
		mst_msg_free(list_entry(l, struct mst_msg, link));
	msg_pool_close(e->pool);
	classifier_free(e->cl);
	mst_packer_free(e->packer);
	pthread_cond_destroy(&e->work);
	pthread_mutex_destroy(&e->lock);
	mem_free(e);
}

static int say_hello(struct mst_enc *e)
{
	struct mst_hello h = { .version = MST_VERSION, .codecs = e->o.codecs, .window = e->o.window,
			       .cache_pages = (uint32_t)(e->o.cache_max / MST_PAGE) };
	struct mst_msg *m = mst_put_hello(&h);

	if (!m)
		return HCI_E_NOMEM;
	list_push(&e->control, &m->link);
	return 0;
}

int mst_enc_new(struct mst_enc **out, const struct mst_opts *o, struct hci_error *err)
{
	struct mst_enc *e = MEM_NEW(struct mst_enc);
	pthread_condattr_t attr;
	int rc;

	if (!e)
		return err_set(err, HCI_E_NOMEM, "memory stream: no memory for an encoder");
	pthread_mutex_init(&e->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->work, &attr);
	pthread_condattr_destroy(&attr);
	list_init(&e->todo);
	list_init(&e->flight);
	list_init(&e->spare);
	list_init(&e->control);
	parser_init(&e->parser);
	rc = mst_opts_fill(&e->o, o, e->providers, err);
	if (!rc) {
		e->window = e->o.window;
		e->level = e->o.level ? e->o.level : LEVEL_FIRST;
		credit_init(&e->credit, e->o.inflight_ns, enc_now(e));
		aside_init(&e->aside, (enum aside_mode)e->o.aside, enc_now(e));
		e->packer = mst_packer_new();
		e->pool = msg_pool_new(MST_PLAIN_HEAD + (size_t)e->o.batch);
		if (!e->packer || !e->pool || say_hello(e))
			rc = err_set(err, HCI_E_NOMEM, "memory stream: no memory for an encoder");
	}
	if (!rc)
		rc = enc_start_workers(e, err);
	if (rc) {
		mst_enc_free(e);
		return rc;
	}
	*out = e;
	return 0;
}

/* Which of our providers is the one that the decoder calls by this index? */
static void match_providers(const struct mst_enc *e, const struct mst_hello *h, struct mst_provider *in_use)
{
	memset(in_use, 0, MST_PROVIDERS_MAX * sizeof(*in_use));
	for (unsigned i = 0; i < h->n_ids; i++) {
		for (unsigned k = 0; k < e->o.n_providers && !in_use[i].lookup; k++) {
			const struct mst_provider *p = &e->providers[k];

			if (p->lookup && !(e->o.without & 1u << (MST_CLASSES + p->kind)) && (p->match ? p->match(p->ctx, h->ids[i]) : !memcmp(p->id, h->ids[i], 16)))
				in_use[i] = *p;
		}
	}
}

static int ask_for_more(struct mst_enc *e, unsigned provider, uint32_t from)
{
	struct mst_msg *m = mst_put_want(&(struct mst_want){ .provider = (uint8_t)provider, .from = from });

	if (!m)
		return HCI_E_NOMEM;
	list_push(&e->control, &m->link);
	e->asking[provider].asked = true;
	e->asking[provider].at = from;
	return 0;
}

static int ask_all(struct mst_enc *e, const struct mst_provider *in_use, unsigned n)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < n; i++) {
		e->asking[i] = (struct enc_asking){ .told = in_use[i].told, .ctx = in_use[i].ctx };
		if (in_use[i].told && !(e->o.without & 1u << MST_REF))
			rc = ask_for_more(e, i, 0);
	}
	return rc;
}

static int take_have(struct mst_enc *e, const uint8_t *p, size_t len, struct hci_error *err)
{
	struct enc_asking *a;
	struct mst_have have;
	bool room = true;
	int rc = mst_get_have(p, len, &have, err);

	if (rc)
		return rc;
	a = &e->asking[have.provider];
	if (!a->asked || a->at != have.from)
		return err_set(err, HCI_E_PROTO, "memory stream: the peer tells what it was not asked for");
	a->asked = false;
	for (unsigned i = 0; i < have.n && room; i++)
		room = a->told(a->ctx, get32(have.half_at + (size_t)i * 4));
	rc = have.next && room ? ask_for_more(e, have.provider, have.next) : 0;
	return rc ? err_set(err, rc, "memory stream: no memory to ask what the peer has") : 0;
}

static int take_hello(struct mst_enc *e, const uint8_t *p, size_t len, struct hci_error *err)
{
	struct mst_provider in_use[MST_PROVIDERS_MAX];
	struct mst_hello h;
	int rc = mst_get_hello(p, len, &h, err);

	if (rc)
		return rc;
	if (!h.decoder || e->hello_got || h.window < MST_WINDOW_MIN)
		return err_set(err, HCI_E_PROTO, "memory stream: the peer's hello is not a decoder's, or its second");
	match_providers(e, &h, in_use);
	e->cl = classifier_new(&e->o, MIN(h.cache_pages, (uint32_t)(e->o.cache_max / MST_PAGE)), in_use, h.n_ids);
	if (!e->cl || ask_all(e, in_use, h.n_ids))
		return err_set(err, HCI_E_NOMEM, "memory stream: no memory for the page cache");
	e->codecs = e->o.codecs & h.codecs;
	e->window = MIN(e->o.window, h.window);
	e->hello_got = true;
	pthread_cond_broadcast(&e->work);
	return 0;
}

/* The other side has so many messages by now. What it says of that moves nothing but the measured rate of the link. */
static void received(struct mst_enc *e, uint32_t n, uint64_t now)
{
	struct batch *b;

	list_for_each(b, &e->flight, link) {
		if ((int32_t)(b->seq - n) >= 0 || !b->sent)
			break;
		if (b->received)
			continue;
		b->received = true;
		aside_received(&e->aside, b->wire, now, &b->link_mark);
	}
}

static int take_ack(struct mst_enc *e, const uint8_t *p, size_t len, struct hci_error *err)
{
	uint64_t now = enc_now(e);
	struct mst_ack ack;
	int rc = mst_get_ack(p, len, &ack, err);

	if (rc)
		return rc;
	received(e, ack.messages + ack.more, now);
	while (e->acked != ack.messages) {
		struct batch *b = list_empty(&e->flight) ? NULL : list_first(&e->flight, struct batch, link);

		if (!b || !b->sent)
			return err_set(err, HCI_E_PROTO, "memory stream: the peer acknowledges what was not sent");
		list_del(&b->link);
		e->acked++;
		e->acked_bytes += b->len;
		credit_arrived(&e->credit, b->wire, now, &b->mark);
		aside_taken(&e->aside, b->step, b->len, b->wire, list_empty(&e->flight) && !e->n_todo, enc_oldest(e), now);
		if (e->cl)
			classifier_acked(e->cl, b);
		enc_recycle(e, b);
	}
	if (e->acked_bytes != ack.bytes || (ack.end && (!e->end_sent || ack.messages != e->next_seq)))
		return err_set(err, HCI_E_PROTO, "memory stream: the peer acknowledges what does not add up");
	e->end_acked |= ack.end;
	return 0;
}

static struct batch *find_sent(struct mst_enc *e, uint32_t seq)
{
	struct batch *b;

	list_for_each(b, &e->flight, link)
		if (b->seq == seq)
			return b->sent ? b : NULL;
	return NULL;
}

/* Up to MST_PAGES_MAX pages of one batch, in full. */
static int answer(struct mst_enc *e, const struct batch *b, const uint8_t *index, unsigned n, struct hci_error *err)
{
	size_t plain = n * (size_t)MST_PAGE, head = MST_PAGES_HEAD + n * (size_t)2, cap = mst_pack_bound(plain);
	uint8_t *pages = mem_alloc(plain), *packed = mem_alloc(cap), codec;
	struct mst_msg *m = NULL;
	int64_t len = HCI_E_NOMEM;

	if (pages && packed) {
		for (unsigned i = 0; i < n; i++)
			memcpy(pages + (size_t)i * MST_PAGE, b->raw + b->pages[get_index(index, i)], MST_PAGE);
		len = mst_pack(e->packer, e->codecs, e->level, pages, plain, packed, cap, &codec);
	}
	if (len >= 0)
		m = mst_msg_new(head + (size_t)len);
	if (m) {
		m->data[0] = MST_PAGES;
		m->data[1] = codec;
		put16(m->data + 2, (uint16_t)n);
		put32(m->data + 4, b->seq);
		put32(m->data + 8, (uint32_t)len);
		memcpy(m->data + MST_PAGES_HEAD, index, n * (size_t)2);
		memcpy(m->data + head, packed, (size_t)len);
		list_push(&e->control, &m->link);
	}
	mem_free(pages);
	mem_free(packed);
	return m ? 0 : err_set(err, HCI_E_NOMEM, "memory stream: no memory to answer a page request");
}

static int take_need(struct mst_enc *e, const uint8_t *p, size_t len, struct hci_error *err)
{
	struct mst_need need;
	struct batch *b;
	int rc = mst_get_need(p, len, &need, err);

	if (rc)
		return rc;
	b = find_sent(e, need.seq);
	if (!b || !b->raw)
		return err_set(err, HCI_E_PROTO, "memory stream: the peer asks for pages that are no references in flight");
	for (unsigned i = 0; i < need.n; i++)
		if (get_index(need.index_at, i) >= b->n_pages)
			return err_set(err, HCI_E_PROTO, "memory stream: the peer asks for a page that there is not");
	if (b->asked + need.n > 2 * b->n_pages)
		return err_set(err, HCI_E_PROTO, "memory stream: the peer asks for the same pages again and again");
	b->asked += need.n;
	e->stats.refused += need.n;
	e->stats.asked_again += need.wrong;
	for (unsigned i = 0; i < need.n; i++)
		classifier_refused(e->cl, b, get_index(need.index_at, i));
	for (unsigned i = 0; !rc && i < need.n; i += MST_PAGES_MAX)
		rc = answer(e, b, need.index_at + (size_t)i * 2, MIN(need.n - i, (unsigned)MST_PAGES_MAX), err);
	return rc;
}

int mst_enc_take(struct mst_enc *e, const void *data, size_t len, struct hci_error *err)
{
	struct hci_error why;
	const uint8_t *p = data;
	int rc;

	pthread_mutex_lock(&e->lock);
	if (e->error.code) {
		rc = err_copy(err, &e->error, e->error.code);
		goto out;
	}
	e->stats.back += len;
	if (!len || (!e->hello_got && p[0] != MST_HELLO))
		rc = err_set(&why, HCI_E_PROTO, "memory stream: the peer's first message is no hello");
	else if (p[0] == MST_HELLO)
		rc = take_hello(e, p, len, &why);
	else if (p[0] == MST_ACK)
		rc = take_ack(e, p, len, &why);
	else if (p[0] == MST_NEED)
		rc = take_need(e, p, len, &why);
	else if (p[0] == MST_HAVE)
		rc = take_have(e, p, len, &why);
	else
		rc = err_set(&why, HCI_E_PROTO, "memory stream: message of unknown type %u from the peer", p[0]);
	if (rc) {
		e->error = why;
		err_copy(err, &why, rc);
	}
	enc_run_inline(e);
out:
	pthread_mutex_unlock(&e->lock);
	return rc;
}
