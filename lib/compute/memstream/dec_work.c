/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the decoder's workers do, or the owner itself when there are none. Messages are unpacked and their references
 * looked up as they come, in any order; their bytes are made in the order of the messages, by one at a time. So what is
 * missing is asked for long before its turn, and several round trips pass at once; and pages are there for other streams
 * whatever this one waits for.
 */
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "compute/memstream/dec_impl.h"
#include "compute/memstream/hash.h"
#include "compute/memstream/ops.h"

#define END_TIME (50 * NS_PER_MS) /* for workers that read a page of another process */

static uint64_t cpu_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t dec_now(const struct mst_dec *d)
{
	struct timespec ts;

	if (d->o.now)
		return d->o.now(d->o.ctx);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

bool dec_is_over(const struct mst_dec *d)
{
	return __atomic_load_n(&d->stop, __ATOMIC_SEQ_CST);
}

/* In one that may hang we may be left alone: who has said that he is in it looks whether that is still wanted, then and after it. */
static int read_page(struct mst_dec *d, struct dec_worker *w, const struct mst_provider *p, uint64_t token, uint8_t *page)
{
	int rc = HCI_E_CLOSED;

	if (!w || !p->keep)
		return p->read(p->ctx, token, page);
	__atomic_store_n(&w->reads, true, __ATOMIC_SEQ_CST);
	if (!dec_is_over(d))
		rc = p->read(p->ctx, token, page);
	__atomic_store_n(&w->reads, false, __ATOMIC_SEQ_CST);
	return rc;
}

/* What the provider gives for a reference is taken only if it has the page's hash. */
enum served dec_serve(struct mst_dec *d, struct dec_worker *w, const struct ref *ref, uint8_t *page)
{
	const struct mst_provider *p = &d->providers[ref->provider];
	uint8_t strong[MST_STRONG];
	uint64_t from;
	int rc;

	if (ref->provider >= d->o.n_providers || !p->read || !worth_reading(&d->worth[ref->provider]))
		return OTHER;
	from = dec_now(d);
	rc = read_page(d, w, p, ref->token, page);
	if (dec_is_over(d))
		return NOT_THERE;
	worth_read(&d->worth[ref->provider], dec_now(d) - from);
	if (rc)
		return NOT_THERE;
	d->o.hash->strong(page, strong);
	return memcmp(strong, ref->strong, MST_STRONG) ? OTHER : SERVED;
}

/* Tells the providers which pages will be wanted, so that they may read them together. */
static void announce(struct mst_dec *d, const struct job *j)
{
	for (uint32_t k = 0; k < d->o.n_providers; k++) {
		uint64_t tokens[BATCH_PAGES];
		unsigned n = 0;

		for (uint32_t i = 0; d->providers[k].soon && i < j->n_refs; i++)
			if (j->refs[i].provider == k)
				tokens[n++] = j->refs[i].token;
		if (n)
			d->providers[k].soon(d->providers[k].ctx, tokens, n);
	}
}

/* Pages that came whole: others may take them from now on. */
static void hand_on(struct mst_dec *d, const struct job *j)
{
	const uint8_t *fresh = j->plain + j->d.ops + j->d.lit + j->d.delta;
	uint32_t n_fresh = j->d.fresh / MST_PAGE, n = n_fresh + j->d.raw / MST_PAGE;

	for (uint32_t k = 0; k < d->o.n_providers; k++) {
		const struct mst_provider *p = &d->providers[k];

		for (uint32_t i = 0; p->note && i < n; i++) {
			const uint8_t *page = i < n_fresh ? fresh + (size_t)i * MST_PAGE :
							    j->d.raw_at + (size_t)(i - n_fresh) * MST_PAGE;

			p->note(p->ctx, d->o.hash->quick(page), page);
		}
	}
}

static int unpack(struct mst_dec *d, struct job *j, struct mst_packer *packer, size_t n)
{
	if (j->d.codec == MST_STORED && j->d.packed == n) {
		j->plain = j->d.packed_at;
		return 0;
	}
	j->plain = j->unpacked = scratch_take(&d->scratch, MAX(n, (size_t)1));
	return j->plain ? mst_unpack(packer, j->d.codec, j->d.packed_at, j->d.packed, j->unpacked, n) : HCI_E_NOMEM;
}

/* Everything about a message that needs no others. When all is over it may be left half done. */
static int prepare(struct mst_dec *d, struct dec_worker *w, struct job *j, struct mst_packer *packer)
{
	size_t n = (size_t)j->d.ops + j->d.lit + j->d.delta + j->d.fresh;
	int rc;

	rc = unpack(d, j, packer, n);
	if (!rc)
		rc = job_compile(j, d->cache_pages);
	if (!rc && !j->d.plain)
		hand_on(d, j);
	if (rc || !j->n_refs)
		return rc;
	j->content = scratch_take(&d->scratch, (size_t)j->n_refs * MST_PAGE);
	if (!j->content)
		return HCI_E_NOMEM;
	announce(d, j);
	j->came = dec_wait_came(d, &j->left);
	for (uint32_t i = 0; i < j->n_refs && !dec_is_over(d); i++) {
		struct ref *ref = &j->refs[i];
		enum served how = dec_serve(d, w, ref, j->content + (size_t)i * MST_PAGE);

		ref->there = how == SERVED;
		/* Only a provider that says what comes can be waited for. */
		ref->comes &= how == NOT_THERE && ref->provider < d->o.n_providers && d->providers[ref->provider].came;
		j->missing += !ref->there;
		j->waits += ref->comes;
	}
	return 0;
}

static void count(struct mst_dec *d, const struct job *j)
{
	static const uint8_t class_of[OP_KINDS] = { [OP_FRESH] = MST_NEW,   [OP_RAW] = MST_RAW,	   [OP_NULL] = MST_ZERO,
						    [OP_SLOT] = MST_SAME,   [OP_LOCAL] = MST_SAME, [OP_DSLOT] = MST_DELTA,
						    [OP_DLOCAL] = MST_DELTA, [OP_REF] = MST_REF };

	d->stats.in += j->d.out;
	d->stats.pages[MST_OTHER] += j->d.lit;
	for (uint32_t i = 0; i < j->n_steps; i++) {
		unsigned kind = j->steps[i].op & OP_KIND;

		if (kind >= OP_FRESH)
			d->stats.pages[class_of[kind]] += j->steps[i].n;
		else if (kind == OP_ZEROES)
			d->stats.pages[MST_ZERO] += j->steps[i].n;
	}
}

/* The first message, nothing of it missing: its bytes. The lock is held, and let go meanwhile. */
static void finish_first(struct mst_dec *d)
{
	struct job *j = list_first(&d->jobs, struct job, link);
	int rc;

	d->applying = true;
	pthread_mutex_unlock(&d->lock);
	if (!job_is_made(j) && !j->out)
		j->out = scratch_take(&d->scratch, j->d.out);
	rc = j->out || j->made ? job_run(j, &d->slots) : HCI_E_NOMEM;
	if (!rc && !job_store(j, &d->slots))
		rc = HCI_E_NOMEM;
	pthread_mutex_lock(&d->lock);
	d->applying = false;
	if (rc == HCI_E_CORRUPT && j->n_asked < j->n_refs) {
		/* Hashes that collide, or content that changed while it was read: the real pages decide. */
		d->stats.asked_again++;
		if (!dec_ask(d, j, true))
			dec_fail(d, HCI_E_NOMEM, "no memory to ask for pages");
		return;
	}
	if (rc) {
		dec_fail(d, rc,
			 rc == HCI_E_NOMEM ? "no memory for the page cache" :
			 rc == HCI_E_CORRUPT ? "what a message made does not fit its checksum; migrate again" :
					       "a message from the peer makes no sense");
		return;
	}
	count(d, j);
	list_del(&j->link);
	list_push(&d->ready, &j->link);
	/* Only its bytes are needed from here on. */
	scratch_give(&d->scratch, j->content);
	j->content = NULL;
	if (j->made == j->out) {
		scratch_give(&d->scratch, j->unpacked);
		j->unpacked = NULL;
	}
	if (j->made == j->out || j->unpacked) {
		scratch_give(&d->scratch, j->message);
		j->message = NULL;
	}
}

static bool first_is_whole(const struct mst_dec *d)
{
	return !d->applying && !list_empty(&d->jobs) && list_first(&d->jobs, struct job, link)->state == JOB_WHOLE;
}

static struct job *first_new(const struct mst_dec *d)
{
	struct job *j;

	list_for_each(j, &d->jobs, link)
		if (j->state == JOB_NEW)
			return j;
	return NULL;
}

static void unpack_one(struct mst_dec *d, struct dec_worker *w, struct job *j, struct mst_packer *packer)
{
	int rc;

	j->state = JOB_BUSY;
	pthread_mutex_unlock(&d->lock);
	rc = prepare(d, w, j, packer);
	pthread_mutex_lock(&d->lock);
	if (d->stop)
		return;
	if (rc) {
		dec_fail(d, rc, rc == HCI_E_NOMEM ? "no memory to unpack a message" : "a message from the peer makes no sense");
		return;
	}
	j->state = j->missing ? JOB_WAITING : JOB_WHOLE;
	if (j->waits)
		dec_wait_begin(d, j);
	if (j->missing > j->waits && !dec_ask(d, j, false))
		dec_fail(d, HCI_E_NOMEM, "no memory to ask for pages");
}

/* One thing that is there to be done; false: nothing. w: NULL on the owner's thread. */
static bool step(struct mst_dec *d, struct dec_worker *w)
{
	struct mst_packer *packer = w ? w->packer : d->packer;
	struct job *j;
	uint64_t cpu;

	if (d->error.code)
		return false;
	cpu = cpu_now();
	if (first_is_whole(d))
		finish_first(d);
	else if ((j = first_new(d)))
		unpack_one(d, w, j, packer);
	else if (dec_wait_due(d))
		dec_wait_look(d, w);
	else
		return false;
	d->stats.cpu_ns += cpu_now() - cpu;
	/* What became possible, another may do. */
	if (first_is_whole(d))
		pthread_cond_signal(&d->work);
	return true;
}

/* Nothing to do: until there is, or until what is waited for is to be looked for again. */
static void wait_for_work(struct mst_dec *d)
{
	struct timespec ts;
	uint64_t at, t;

	if (!d->n_waiting) {
		pthread_cond_wait(&d->work, &d->lock);
		return;
	}
	t = dec_now(d);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	at = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec + (d->look_at > t ? d->look_at - t : NS_PER_MS);
	ts.tv_sec = (time_t)(at / NS_PER_S);
	ts.tv_nsec = (long)(at % NS_PER_S);
	pthread_cond_timedwait(&d->work, &d->lock, &ts);
}

static void *work(void *arg)
{
	struct dec_worker *w = arg;
	struct mst_dec *d = w->d;

	pthread_mutex_lock(&d->lock);
	while (!d->stop) {
		if (!step(d, w)) {
			wait_for_work(d);
			continue;
		}
		if (d->stop || !d->o.wake)
			continue;
		pthread_mutex_unlock(&d->lock);
		d->o.wake(d->o.ctx);
		pthread_mutex_lock(&d->lock);
	}
	w->ended = true;
	d->n_running--;
	pthread_cond_signal(&d->over);
	pthread_mutex_unlock(&d->lock);
	dec_leave(d);
	return NULL;
}

void dec_run_inline(struct mst_dec *d)
{
	if (d->n_workers)
		pthread_cond_signal(&d->work);
	else
		while (step(d, NULL))
			;
}

int dec_start_workers(struct mst_dec *d, struct hci_error *err)
{
	if (!d->o.workers)
		return 0;
	d->workers = mem_calloc(d->o.workers, sizeof(*d->workers));
	if (!d->workers)
		return err_set(err, HCI_E_NOMEM, "memory stream: no memory for the workers");
	for (uint32_t i = 0; i < d->o.workers; i++) {
		int rc;

		d->workers[i].d = d;
		d->workers[i].packer = mst_packer_new();
		if (!d->workers[i].packer)
			return err_set(err, HCI_E_NOMEM, "memory stream: no memory for the workers");
		pthread_mutex_lock(&d->lock);
		rc = pthread_create(&d->workers[i].thread, NULL, work, &d->workers[i]);
		d->n_workers += !rc;
		d->n_running += !rc;
		d->users += !rc;
		pthread_mutex_unlock(&d->lock);
		if (rc)
			return err_sys(err, HCI_E_SYS, rc, "memory stream: a worker thread cannot be started");
	}
	return 0;
}

/* All that have not ended are in a read that may hang. Who comes out of it, or goes in from now on, finds that all is over. */
static bool only_readers_left(const struct mst_dec *d)
{
	for (uint32_t i = 0; i < d->n_workers; i++)
		if (!d->workers[i].ended && !__atomic_load_n(&d->workers[i].reads, __ATOMIC_SEQ_CST))
			return false;
	return true;
}

static void wait_for_workers(struct mst_dec *d)
{
	struct timespec ts;
	uint64_t until;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	until = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec + END_TIME;
	ts.tv_sec = (time_t)(until / NS_PER_S);
	ts.tv_nsec = (long)(until % NS_PER_S);
	while (d->n_running) {
		if (!only_readers_left(d))
			pthread_cond_wait(&d->over, &d->lock);
		else if (pthread_cond_timedwait(&d->over, &d->lock, &ts) && only_readers_left(d))
			return;
	}
}

void dec_stop_workers(struct mst_dec *d)
{
	pthread_mutex_lock(&d->lock);
	__atomic_store_n(&d->stop, true, __ATOMIC_SEQ_CST);
	pthread_cond_broadcast(&d->work);
	wait_for_workers(d);
	for (uint32_t i = 0; i < d->n_workers; i++) {
		d->workers[i].left = !d->workers[i].ended;
		if (d->workers[i].left)
			pthread_detach(d->workers[i].thread);
	}
	pthread_mutex_unlock(&d->lock);
	/* The owner is one of its users still, so none of those that were left frees it. */
	for (uint32_t i = 0; i < d->n_workers; i++)
		if (!d->workers[i].left)
			pthread_join(d->workers[i].thread, NULL);
}
