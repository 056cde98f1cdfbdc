/* SPDX-License-Identifier: Apache-2.0 */
/* See guest_pages.h. Owns the thread, the list of guests and the index; how their memory is reached is guest_ram.c's. */
#include "compute/guest_pages.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "compute/memstream/hash.h"

#define LOG_SUB "compute"
#define GUESTS 256u /* read at a time */
#define PACE (32 * MiB)
#define REST (60 * NS_PER_S)
#define TICK NS_PER_S
#define RETRY (30 * NS_PER_S)   /* for a guest whose memory is not found */
#define PATIENCE (3 * NS_PER_S) /* of sources, with a first pass */
#define ENTRY 16u               /* bytes of a page in the index */
#define FIRST 65536u            /* pages, that the index begins with */
#define NICE 19
#define END_TIME (2 * NS_PER_S) /* for a thread that is to end */

/* What the index has for a page: which guest, which of its pages, and in which pass it was there. */
#define PAGE_BITS 36
#define SLOT_BITS 12

struct guest {
	bool used, gone; /* gone: it ended, or is not among those that run here any more */
	struct uuid vm;
	struct guest_ram *ram; /* NULL: not found yet */
	uint64_t retry_at, next_at;
	uint64_t page;  /* the next to be read */
	uint16_t pass;  /* the present one, or the next */
	bool complete;  /* was read through once */
};

struct guest_pages {
	struct guest_pages_opts o;
	pthread_t thread;
	pthread_rwlock_t lock; /* of what follows: the thread alone writes, for moments, and reads without it */
	struct guest guests[GUESTS];
	struct mst_index *x;
	uint64_t room; /* pages */
	pthread_mutex_t nap; /* of what follows */
	pthread_cond_t wake;
	bool stop, seen;
	bool ended; /* the thread is over, or nearly */
	uint32_t users; /* atomic: the owner, the thread, decoders; the last one frees all */
	struct uuid running[GUESTS]; /* seen: this is new */
	size_t n_running;
	uint64_t hurry_until;
	uint64_t read, passes, served; /* atomic */
	uint8_t buf[GUEST_RAM_RUN * MST_PAGE];
};

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static bool stopped(struct guest_pages *g)
{
	bool is;

	pthread_mutex_lock(&g->nap);
	is = g->stop;
	pthread_mutex_unlock(&g->nap);
	return is;
}

static uint64_t place_of(uint16_t pass, unsigned slot, uint64_t page)
{
	return (uint64_t)pass << (PAGE_BITS + SLOT_BITS) | (uint64_t)slot << PAGE_BITS | page;
}

static unsigned slot_of(uint64_t place)
{
	return (unsigned)(place >> PAGE_BITS) & ((1u << SLOT_BITS) - 1);
}

static uint64_t page_of(uint64_t place)
{
	return place & ((UINT64_C(1) << PAGE_BITS) - 1);
}

/* Seen there in the present pass or the one before. With the lock, or by the thread. */
static bool live(void *ctx, uint64_t place)
{
	const struct guest_pages *g = ctx;
	const struct guest *x = &g->guests[slot_of(place) % GUESTS];

	return x->used && !x->gone && (uint16_t)(x->pass - (uint16_t)(place >> (PAGE_BITS + SLOT_BITS))) <= 1;
}

/* ---- the thread: guests that come and go ---- */

static void forget(struct guest_pages *g, struct guest *x)
{
	struct guest_ram *ram;

	pthread_rwlock_wrlock(&g->lock);
	ram = x->ram;
	*x = (struct guest){ 0 };
	pthread_rwlock_unlock(&g->lock);
	mst_index_keep(g->x, live, g);
	guest_ram_close(ram);
}

/* Room for one page of the index for each of the guests', as far as it may grow; what is known is kept. */
static void make_room(struct guest_pages *g)
{
	uint64_t pages = 0, room = g->room;
	struct mst_index *x, *old;

	for (unsigned i = 0; i < GUESTS; i++)
		pages += g->guests[i].ram ? guest_ram_pages(g->guests[i].ram) : 0;
	while (room < pages)
		room *= 2;
	room = MIN(room, g->o.memory / ENTRY);
	if (room <= g->room)
		return;
	x = mst_index_new(g->o.id, room);
	if (!x)
		return; /* it forgets the oldest then */
	if (g->o.hash)
		mst_index_hash(x, g->o.hash);
	mst_index_copy(g->x, x, live, g);
	pthread_rwlock_wrlock(&g->lock);
	old = g->x;
	g->x = x;
	g->room = room;
	pthread_rwlock_unlock(&g->lock);
	mst_index_free(old);
}

static void open_one(struct guest_pages *g, struct guest *x)
{
	struct guest_ram *ram;
	char uuid[HCI_UUID_STR];
	struct hci_error err;
	int rc = g->o.open(&x->vm, &ram, &err);

	/* That may have taken long: nobody may be there any more to be told. */
	if (stopped(g)) {
		guest_ram_close(rc ? NULL : ram);
		return;
	}
	if (rc) {
		/* Once: it may be ending, or just being started. */
		if (x->retry_at)
			log_info(&g->o.log, "pages of a guest are not used to receive others: %s", err.message);
		pthread_rwlock_wrlock(&g->lock);
		x->retry_at = x->retry_at ? UINT64_MAX : now() + RETRY;
		pthread_rwlock_unlock(&g->lock);
		return;
	}
	pthread_rwlock_wrlock(&g->lock);
	x->ram = ram;
	pthread_rwlock_unlock(&g->lock);
	make_room(g);
	uuid_print(&x->vm, uuid);
	log_debug(&g->o.log, "domain %s: its pages are read for migrations that come here", uuid);
}

static bool among(const struct uuid *vm, const struct uuid *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (uuid_eq(&list[i], vm))
			return true;
	return false;
}

static void add(struct guest_pages *g, const struct uuid *vm)
{
	struct guest *room = NULL;

	for (unsigned i = 0; i < GUESTS; i++) {
		struct guest *x = &g->guests[i];

		if (x->used && uuid_eq(&x->vm, vm))
			return;
		if (!x->used && !room)
			room = x;
	}
	if (room)
		*room = (struct guest){ .used = true, .vm = *vm, .pass = 1 };
}

/* What guest_pages_seen() left. */
static void take_seen(struct guest_pages *g)
{
	pthread_rwlock_wrlock(&g->lock);
	pthread_mutex_lock(&g->nap);
	for (unsigned i = 0; g->seen && i < GUESTS; i++)
		if (g->guests[i].used && !among(&g->guests[i].vm, g->running, g->n_running))
			g->guests[i].gone = true;
	for (size_t i = 0; g->seen && i < g->n_running; i++)
		add(g, &g->running[i]);
	g->seen = false;
	pthread_mutex_unlock(&g->nap);
	pthread_rwlock_unlock(&g->lock);
}

static void look_after_guests(struct guest_pages *g)
{
	take_seen(g);
	for (unsigned i = 0; i < GUESTS; i++) {
		struct guest *x = &g->guests[i];

		if (x->used && x->gone)
			forget(g, x);
		else if (x->used && !x->ram && now() >= x->retry_at)
			open_one(g, x);
	}
}

/* ---- the thread: reading ---- */

static void end_pass(struct guest_pages *g, struct guest *x)
{
	pthread_rwlock_wrlock(&g->lock);
	x->page = 0;
	x->pass++;
	x->complete = true;
	x->next_at = now() + g->o.rest_ns;
	pthread_rwlock_unlock(&g->lock);
	mst_index_keep(g->x, live, g);
	__atomic_add_fetch(&g->passes, 1, __ATOMIC_RELAXED);
}

static void read_some(struct guest_pages *g, struct guest *x)
{
	uint64_t first = x->page, left = guest_ram_pages(x->ram) - first, there;
	unsigned n = (unsigned)MIN(left, (uint64_t)GUEST_RAM_RUN), slot = (unsigned)(x - g->guests);

	if (guest_ram_read(x->ram, first, n, g->buf, &there)) {
		pthread_rwlock_wrlock(&g->lock);
		x->gone = true;
		pthread_rwlock_unlock(&g->lock);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		if (there >> i & 1)
			mst_index_note(g->x, place_of(x->pass, slot, first + i), g->buf + (size_t)i * MST_PAGE);
	__atomic_add_fetch(&g->read, (uint64_t)__builtin_popcountll(there) * MST_PAGE, __ATOMIC_RELAXED);
	x->page = first + n;
	if (n == left)
		end_pass(g, x);
}

/* One that was never read through goes before others. NULL: all may rest. */
static struct guest *next(struct guest_pages *g)
{
	struct guest *found = NULL;
	uint64_t t = now();

	for (unsigned i = 0; i < GUESTS; i++) {
		struct guest *x = &g->guests[i];

		if (!x->ram || t < x->next_at)
			continue;
		if (!x->complete)
			return x;
		if (!found || x->page) /* what was begun is brought to its end */
			found = x;
	}
	return found;
}

/* False: it is to end. */
static bool nap(struct guest_pages *g, uint64_t ns)
{
	uint64_t until = now() + ns;
	struct timespec ts = { .tv_sec = (time_t)(until / NS_PER_S), .tv_nsec = (long)(until % NS_PER_S) };
	bool go_on;

	pthread_mutex_lock(&g->nap);
	if (!g->stop && ns)
		pthread_cond_timedwait(&g->wake, &g->nap, &ts);
	go_on = !g->stop;
	pthread_mutex_unlock(&g->nap);
	return go_on;
}

static bool hurried(struct guest_pages *g)
{
	bool is;

	pthread_mutex_lock(&g->nap);
	is = now() < g->hurry_until;
	pthread_mutex_unlock(&g->nap);
	return is;
}

static void destroy(struct guest_pages *g)
{
	for (unsigned i = 0; i < GUESTS; i++)
		guest_ram_close(g->guests[i].ram);
	mst_index_free(g->x);
	pthread_cond_destroy(&g->wake);
	pthread_mutex_destroy(&g->nap);
	pthread_rwlock_destroy(&g->lock);
	mem_free(g);
}

static void keep(void *ctx, bool on)
{
	struct guest_pages *g = ctx;

	if (on)
		__atomic_add_fetch(&g->users, 1, __ATOMIC_RELAXED);
	else if (!__atomic_sub_fetch(&g->users, 1, __ATOMIC_ACQ_REL))
		destroy(g);
}

static void *end_thread(struct guest_pages *g)
{
	pthread_mutex_lock(&g->nap);
	g->ended = true;
	pthread_cond_signal(&g->wake);
	pthread_mutex_unlock(&g->nap);
	keep(g, false);
	return NULL;
}

static void *work(void *arg)
{
	struct guest_pages *g = arg;
	uint64_t ns = 0, looked = 0;

	/* Of this thread alone, as Linux has it. */
	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
	while (nap(g, ns)) {
		struct guest *x;

		if (now() - looked >= TICK || !looked) {
			look_after_guests(g);
			looked = now();
		}
		x = next(g);
		ns = TICK;
		if (!x)
			continue;
		ns = !x->complete && hurried(g) ? 0 : sizeof(g->buf) * NS_PER_S / g->o.pace;
		read_some(g, x);
	}
	return end_thread(g);
}

/* ---- whoever knows which guests there are ---- */

void guest_pages_seen(struct guest_pages *g, const struct uuid *running, size_t n)
{
	n = MIN(n, (size_t)GUESTS);
	pthread_mutex_lock(&g->nap);
	/* A guest that ended and is there again has the thread find out by itself. */
	g->seen = true;
	if (n)
		memcpy(g->running, running, n * sizeof(*running));
	g->n_running = n;
	pthread_mutex_unlock(&g->nap);
}

void guest_pages_hurry(struct guest_pages *g)
{
	pthread_mutex_lock(&g->nap);
	g->hurry_until = now() + PATIENCE;
	pthread_cond_signal(&g->wake);
	pthread_mutex_unlock(&g->nap);
}

/* ---- the provider: the codec's threads ---- */

static int tell(void *ctx, uint32_t *at, uint32_t *out, unsigned max)
{
	struct guest_pages *g = ctx;
	bool wait = !*at && hurried(g), missing = false;
	int n = HCI_E_AGAIN;

	pthread_rwlock_rdlock(&g->lock);
	for (unsigned i = 0; i < GUESTS && wait; i++)
		missing |= g->guests[i].used && !g->guests[i].gone && !g->guests[i].complete && g->guests[i].retry_at != UINT64_MAX;
	if (!missing)
		n = mst_index_tell(g->x, at, out, max, live, g);
	pthread_rwlock_unlock(&g->lock);
	return n;
}

/* Without the lock while it reads: a process that hangs is not to hold up who wants to know of others. */
static int read_page(void *ctx, uint64_t token, void *page)
{
	struct guest_pages *g = ctx;
	struct guest_ram *ram = NULL;
	uint64_t place;
	int rc;

	pthread_rwlock_rdlock(&g->lock);
	if (mst_index_find(g->x, token, &place) && live(g, place))
		ram = g->guests[slot_of(place)].ram;
	if (ram)
		guest_ram_keep(ram);
	pthread_rwlock_unlock(&g->lock);
	if (!ram)
		return HCI_E_NOTFOUND;
	rc = g->o.page(ram, page_of(place), page);
	guest_ram_close(ram);
	if (!rc)
		__atomic_add_fetch(&g->served, 1, __ATOMIC_RELAXED);
	return rc;
}

void guest_pages_provider(struct guest_pages *g, struct mst_provider *out)
{
	*out = (struct mst_provider){ .ctx = g, .kind = MST_KIND_GUEST, .read = read_page, .keep = keep, .tell = tell };
	memcpy(out->id, g->o.id, sizeof(out->id));
}

void guest_pages_stat(struct guest_pages *g, struct guest_pages_stat *out)
{
	*out = (struct guest_pages_stat){ .read = __atomic_load_n(&g->read, __ATOMIC_RELAXED),
					  .passes = __atomic_load_n(&g->passes, __ATOMIC_RELAXED),
					  .served = __atomic_load_n(&g->served, __ATOMIC_RELAXED) };
	pthread_rwlock_rdlock(&g->lock);
	for (unsigned i = 0; i < GUESTS; i++)
		out->guests += g->guests[i].used && !g->guests[i].gone && g->guests[i].ram;
	out->known = mst_index_used(g->x);
	pthread_rwlock_unlock(&g->lock);
}

/* ---- beginning and end ---- */

struct guest_pages *guest_pages_new(const struct guest_pages_opts *o)
{
	struct guest_pages *g = o->memory / ENTRY ? MEM_NEW(struct guest_pages) : NULL;
	pthread_condattr_t attr;
	sigset_t all, old;
	bool started;

	if (!g)
		return NULL;
	g->o = *o;
	memcpy(g->o.id, GUEST_PAGES_PREFIX, strlen(GUEST_PAGES_PREFIX));
	g->o.pace = o->pace ? o->pace : PACE;
	g->o.rest_ns = o->rest_ns ? o->rest_ns : REST;
	g->o.open = o->open ? o->open : guest_ram_open;
	g->o.page = o->page ? o->page : guest_ram_page;
	g->users = 2;
	pthread_rwlock_init(&g->lock, NULL);
	pthread_mutex_init(&g->nap, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&g->wake, &attr);
	pthread_condattr_destroy(&attr);
	g->room = MIN(FIRST, o->memory / ENTRY);
	g->x = mst_index_new(g->o.id, g->room);
	if (g->x && o->hash)
		mst_index_hash(g->x, o->hash);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	started = g->x && !pthread_create(&g->thread, NULL, work, g);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (started)
		return g;
	destroy(g);
	return NULL;
}

/* False: it hangs in a process's memory, and ends when that lets it. */
static bool wait_for_thread(struct guest_pages *g)
{
	uint64_t until = now() + END_TIME;
	struct timespec ts = { .tv_sec = (time_t)(until / NS_PER_S), .tv_nsec = (long)(until % NS_PER_S) };
	bool ended;
	int rc = 0;

	pthread_mutex_lock(&g->nap);
	g->stop = true;
	pthread_cond_signal(&g->wake);
	while (!g->ended && !rc)
		rc = pthread_cond_timedwait(&g->wake, &g->nap, &ts);
	ended = g->ended;
	if (!ended) {
		log_warn(&g->o.log, "a guest's process hangs while its memory is read: it is left alone");
		pthread_detach(g->thread);
	}
	pthread_mutex_unlock(&g->nap);
	return ended;
}

void guest_pages_free(struct guest_pages *g)
{
	if (!g)
		return;
	if (wait_for_thread(g))
		pthread_join(g->thread, NULL);
	keep(g, false);
}
