/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder: what its owner calls. The computing is in dec_work.c and dec_ops.c. */
#include "base/err.h"
#include "base/mem.h"
#include "compute/memstream/dec_impl.h"
#include "compute/memstream/hash.h"
#include "compute/memstream/opts.h"


int dec_fail(struct mst_dec *d, int code, const char *what)
{
	if (!d->error.code)
		err_set(&d->error, code, "memory stream: %s", what);
	return d->error.code;
}

void dec_job_free(struct mst_dec *d, struct job *j)
{
	if (!j)
		return;
	scratch_give(&d->scratch, j->message);
	scratch_give(&d->scratch, j->unpacked);
	scratch_give(&d->scratch, j->content);
	scratch_give(&d->scratch, j->out);
	mem_free(j->steps);
	mem_free(j->refs);
	mem_free(j);
}

static void drop(struct mst_dec *d, struct list *l)
{
	struct job *j, *tmp;

	list_for_each_safe(j, tmp, l, link) {
		list_del(&j->link);
		dec_job_free(d, j);
	}
}

static void destroy(struct mst_dec *d)
{
	struct list *l;

	for (uint32_t i = 0; i < d->n_kept; i++)
		if (d->providers[i].keep)
			d->providers[i].keep(d->providers[i].ctx, false);
	for (uint32_t i = 0; d->workers && i < d->o.workers; i++)
		mst_packer_free(d->workers[i].packer);
	mem_free(d->workers);
	drop(d, &d->jobs);
	drop(d, &d->ready);
	scratch_free(&d->scratch);
	while ((l = list_pop(&d->control)))
		mst_msg_free(list_entry(l, struct mst_msg, link));
	slots_free(&d->slots);
	mst_packer_free(d->packer);
	pthread_cond_destroy(&d->over);
	pthread_cond_destroy(&d->work);
	pthread_mutex_destroy(&d->lock);
	mem_free(d);
}

void dec_leave(struct mst_dec *d)
{
	bool last;

	pthread_mutex_lock(&d->lock);
	last = !--d->users;
	pthread_mutex_unlock(&d->lock);
	if (last)
		destroy(d);
}

void mst_dec_free(struct mst_dec *d)
{
	if (!d)
		return;
	dec_stop_workers(d);
	for (uint32_t i = 0; i < MST_PROVIDERS_MAX; i++)
		if (d->who[i])
			d->providers[i].leave(d->providers[i].ctx, d->who[i], d->end_acked);
	dec_leave(d);
}

static int say_hello(struct mst_dec *d)
{
	struct mst_hello h = { .decoder = true, .version = MST_VERSION, .codecs = d->o.codecs, .window = d->o.window,
			       .cache_pages = (uint32_t)(d->o.cache_max / MST_PAGE), .n_ids = (uint8_t)d->o.n_providers };
	struct mst_msg *m;

	for (unsigned i = 0; i < h.n_ids; i++)
		memcpy(h.ids[i], d->providers[i].id, 16);
	m = mst_put_hello(&h);
	if (!m)
		return HCI_E_NOMEM;
	list_push(&d->control, &m->link);
	return 0;
}

int mst_dec_new(struct mst_dec **out, const struct mst_opts *o, struct hci_error *err)
{
	struct mst_dec *d = MEM_NEW(struct mst_dec);
	pthread_condattr_t attr;
	int rc;

	if (!d)
		return err_set(err, HCI_E_NOMEM, "memory stream: no memory for a decoder");
	d->users = 1;
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->work, &attr);
	pthread_cond_init(&d->over, &attr);
	pthread_condattr_destroy(&attr);
	scratch_init(&d->scratch);
	list_init(&d->jobs);
	list_init(&d->ready);
	list_init(&d->control);
	rc = mst_opts_fill(&d->o, o, d->providers, err);
	if (!rc) {
		d->packer = mst_packer_new();
		if (!d->packer || say_hello(d))
			rc = err_set(err, HCI_E_NOMEM, "memory stream: no memory for a decoder");
	}
	for (uint32_t i = 0; !rc && i < d->o.n_providers; i++, d->n_kept++)
		if (d->providers[i].keep)
			d->providers[i].keep(d->providers[i].ctx, true);
	for (uint32_t i = 0; !rc && i < d->o.n_providers; i++)
		d->who[i] = d->providers[i].came ? d->providers[i].join(d->providers[i].ctx) : 0;
	if (!rc)
		rc = dec_start_workers(d, err);
	if (rc) {
		mst_dec_free(d);
		return rc;
	}
	*out = d;
	return 0;
}

bool dec_ask(struct mst_dec *d, struct job *j, bool wrong)
{
	uint16_t index[BATCH_PAGES];
	unsigned n = 0;
	struct mst_msg *m;

	for (uint32_t i = 0; i < j->n_refs; i++) {
		struct ref *ref = &j->refs[i];

		if (wrong)
			ref->there = ref->asked = false;
		if (ref->there || ref->asked || ref->comes)
			continue;
		ref->asked = true;
		index[n++] = ref->page;
	}
	m = mst_put_need(j->d.seq, wrong, index, n);
	if (!m)
		return false;
	j->missing = wrong ? n : j->missing;
	j->n_asked = wrong ? n : j->n_asked + n;
	j->state = JOB_WAITING;
	d->stats.refused += n;
	list_push(&d->control, &m->link);
	return true;
}

static int take_hello(struct mst_dec *d, const uint8_t *p, size_t len, struct hci_error *err)
{
	struct mst_hello h;
	int rc = mst_get_hello(p, len, &h, err);

	if (rc)
		return rc;
	if (h.decoder || d->hello_got)
		return err_set(err, HCI_E_PROTO, "memory stream: the peer's hello is not an encoder's, or its second");
	d->cache_pages = MIN(h.cache_pages, (uint32_t)(d->o.cache_max / MST_PAGE));
	if (!slots_init(&d->slots, d->cache_pages))
		return err_set(err, HCI_E_NOMEM, "memory stream: no memory for the page cache");
	d->hello_got = true;
	return 0;
}

static int take_data(struct mst_dec *d, const uint8_t *p, size_t len, struct hci_error *err)
{
	struct mst_data head;
	struct job *j;
	int rc = mst_get_data(p, len, &head, err);

	if (rc)
		return rc;
	if (d->ended || head.seq != d->next_seq)
		return err_set(err, HCI_E_PROTO, "memory stream: message %u came where %u was to come", head.seq, d->next_seq);
	if (d->held + head.out > d->o.window || d->next_seq - d->consumed >= MST_JOBS_MAX)
		return err_set(err, HCI_E_PROTO, "memory stream: the peer sends more than the window it was granted");
	j = MEM_NEW(struct job);
	if (j)
		j->message = scratch_take(&d->scratch, len);
	if (!j || !j->message) {
		dec_job_free(d, j);
		return err_set(err, HCI_E_NOMEM, "memory stream: no memory for a message");
	}
	memcpy(j->message, p, len);
	j->d = head;
	j->d.packed_at = j->message + (head.packed_at - p);
	j->d.raw_at = j->message + (head.raw_at - p);
	list_push(&d->jobs, &j->link);
	d->next_seq++;
	d->held += head.out;
	return 0;
}

static struct ref *find_ref(struct job *j, uint16_t page)
{
	for (uint32_t i = 0; i < j->n_refs; i++)
		if (j->refs[i].page == page)
			return &j->refs[i];
	return NULL;
}

/* What we asked for. */
static int take_pages(struct mst_dec *d, const uint8_t *p, size_t len, struct hci_error *err)
{
	struct mst_pages in;
	struct job *j, *found = NULL;
	uint8_t *pages;
	int rc = mst_get_pages(p, len, &in, err);

	if (rc)
		return rc;
	list_for_each(j, &d->jobs, link)
		if (j->d.seq == in.seq && j->state == JOB_WAITING)
			found = j;
	if (!found || in.n > found->missing - found->waits)
		return err_set(err, HCI_E_PROTO, "memory stream: the peer sends pages that nobody asked for");
	pages = mem_alloc((size_t)in.n * MST_PAGE);
	if (!pages)
		return err_set(err, HCI_E_NOMEM, "memory stream: no memory for pages");
	rc = mst_unpack(d->packer, in.codec, in.packed_at, in.packed, pages, (size_t)in.n * MST_PAGE);
	for (unsigned i = 0; !rc && i < in.n; i++) {
		struct ref *ref = find_ref(found, get_index(in.index_at, i));

		if (!ref || ref->there || !ref->asked) {
			rc = HCI_E_PROTO;
			break;
		}
		memcpy(found->content + (size_t)(ref - found->refs) * MST_PAGE, pages + (size_t)i * MST_PAGE, MST_PAGE);
		ref->there = true;
		found->missing--;
	}
	mem_free(pages);
	if (rc)
		return err_set(err, rc, "memory stream: pages that were asked for came malformed");
	if (!found->missing)
		found->state = JOB_WHOLE;
	return 0;
}

static int take_end(struct mst_dec *d, const uint8_t *p, size_t len, struct hci_error *err)
{
	uint32_t messages;
	int rc = mst_get_end(p, len, &messages, &d->end_bytes, err);

	if (rc)
		return rc;
	if (d->ended || messages != d->next_seq || d->end_bytes != d->stats.out + d->held)
		return err_set(err, HCI_E_PROTO, "memory stream: the peer's end does not add up with what it sent");
	d->ended = true;
	return 0;
}

static int take_hurry(struct mst_dec *d, size_t len, struct hci_error *err)
{
	if (len != 1)
		return err_set(err, HCI_E_PROTO, "memory stream: malformed message of type %u from the peer", MST_HURRY);
	d->hurry = true;
	d->look_at = dec_now(d);
	return 0;
}

/* One question a provider at a time. */
static int take_want(struct mst_dec *d, const uint8_t *p, size_t len, struct hci_error *err)
{
	struct mst_want w;
	int rc = mst_get_want(p, len, &w, err);

	if (rc)
		return rc;
	if (w.provider >= d->o.n_providers || !d->providers[w.provider].tell || d->wanted[w.provider].asked)
		return err_set(err, HCI_E_PROTO, "memory stream: the peer asks for a list that there is not, or again");
	d->wanted[w.provider].asked = true;
	d->wanted[w.provider].from = d->wanted[w.provider].at = w.from;
	return 0;
}

/* A piece of what the source wants to know, or NULL: nothing is asked for, or it is not known yet. */
static struct mst_msg *tell(struct mst_dec *d)
{
	for (unsigned i = 0; i < d->o.n_providers; i++) {
		struct mst_have h = { .provider = (uint8_t)i, .from = d->wanted[i].from, .next = d->wanted[i].at };
		uint32_t *half = d->wanted[i].asked ? mem_calloc(MST_HAVE_MAX, sizeof(*half)) : NULL;
		struct mst_msg *m = NULL;
		int n;

		if (!half)
			continue; /* without memory: later */
		n = d->providers[i].tell(d->providers[i].ctx, &h.next, half, MST_HAVE_MAX);
		if (n >= 0) {
			h.n = (uint16_t)n;
			m = mst_put_have(&h, half);
		} else {
			d->wanted[i].at = h.next;
		}
		mem_free(half);
		d->wanted[i].asked = !m;
		if (m)
			return m;
	}
	return NULL;
}

int mst_dec_take(struct mst_dec *d, const void *data, size_t len, struct hci_error *err)
{
	struct hci_error why;
	const uint8_t *p = data;
	int rc;

	pthread_mutex_lock(&d->lock);
	if (d->error.code) {
		rc = err_copy(err, &d->error, d->error.code);
		goto out;
	}
	d->stats.wire += len;
	if (!len || len > MST_MSG_MAX || (!d->hello_got && p[0] != MST_HELLO))
		rc = err_set(&why, HCI_E_PROTO, "memory stream: the peer's first message is no hello");
	else if (p[0] == MST_HELLO)
		rc = take_hello(d, p, len, &why);
	else if (p[0] == MST_DATA)
		rc = take_data(d, p, len, &why);
	else if (p[0] == MST_PAGES)
		rc = take_pages(d, p, len, &why);
	else if (p[0] == MST_HURRY)
		rc = take_hurry(d, len, &why);
	else if (p[0] == MST_WANT)
		rc = take_want(d, p, len, &why);
	else if (p[0] == MST_END)
		rc = take_end(d, p, len, &why);
	else
		rc = err_set(&why, HCI_E_PROTO, "memory stream: message of unknown type %u from the peer", p[0]);
	if (rc) {
		d->error = why;
		err_copy(err, &why, rc);
	} else {
		dec_run_inline(d);
		rc = d->error.code ? err_copy(err, &d->error, d->error.code) : 0;
	}
out:
	pthread_mutex_unlock(&d->lock);
	return rc;
}

int64_t mst_dec_out(struct mst_dec *d, const void **data, struct hci_error *err)
{
	int64_t n = 0;

	pthread_mutex_lock(&d->lock);
	if (!list_empty(&d->ready)) {
		const struct job *j = list_first(&d->ready, struct job, link);

		*data = j->made + d->offset;
		n = (int64_t)(j->d.out - d->offset);
	} else if (d->error.code) {
		n = err_copy(err, &d->error, d->error.code);
	}
	pthread_mutex_unlock(&d->lock);
	return n;
}

void mst_dec_consume(struct mst_dec *d, size_t n)
{
	struct job *j;

	pthread_mutex_lock(&d->lock);
	j = list_empty(&d->ready) ? NULL : list_first(&d->ready, struct job, link);
	if (j) {
		n = MIN(n, (size_t)j->d.out - d->offset);
		d->offset += n;
		d->stats.out += n;
		d->held -= n;
		if (d->offset == j->d.out) {
			list_del(&j->link);
			dec_job_free(d, j);
			d->offset = 0;
			d->consumed++;
		}
	}
	pthread_mutex_unlock(&d->lock);
}

static bool over(const struct mst_dec *d)
{
	return d->ended && !d->error.code && d->consumed == d->next_seq;
}

struct mst_msg *mst_dec_next(struct mst_dec *d)
{
	struct mst_msg *m = NULL;
	struct list *l;

	pthread_mutex_lock(&d->lock);
	/* Without workers this is where time passes. */
	if (!d->n_workers && d->n_waiting && !d->error.code)
		dec_run_inline(d);
	l = d->error.code ? NULL : list_pop(&d->control);
	if (l) {
		m = list_entry(l, struct mst_msg, link);
	} else if (!d->error.code && (d->told != d->consumed || d->told_got != d->next_seq || (over(d) && !d->end_acked))) {
		/* Bytes of messages that were consumed as a whole. */
		m = mst_put_ack(&(struct mst_ack){ .messages = d->consumed, .bytes = d->stats.out - d->offset,
						   .more = (uint16_t)(d->next_seq - d->consumed), .end = over(d) });
		if (m) {
			d->told = d->consumed;
			d->told_got = d->next_seq;
			d->end_acked |= over(d);
		} else {
			dec_fail(d, HCI_E_NOMEM, "no memory to acknowledge");
		}
	} else if (!d->error.code && !d->end_acked) {
		m = tell(d);
	}
	if (m)
		d->stats.back += m->len;
	pthread_mutex_unlock(&d->lock);
	return m;
}

bool mst_dec_done(struct mst_dec *d)
{
	bool done;

	pthread_mutex_lock(&d->lock);
	done = over(d);
	pthread_mutex_unlock(&d->lock);
	return done;
}

int mst_dec_status(struct mst_dec *d, struct hci_error *err)
{
	int rc;

	pthread_mutex_lock(&d->lock);
	rc = d->error.code ? err_copy(err, &d->error, d->error.code) : 0;
	pthread_mutex_unlock(&d->lock);
	return rc;
}

void mst_dec_stats(struct mst_dec *d, struct mst_stats *out)
{
	pthread_mutex_lock(&d->lock);
	*out = d->stats;
	pthread_mutex_unlock(&d->lock);
}
