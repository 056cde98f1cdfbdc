/* SPDX-License-Identifier: Apache-2.0 */
/* See content.h. */
#include "cluster/content_impl.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "cluster/node_vm_impl.h"
#include "compute/compute.h"
#include "compute/memstream/hash.h"
#include "env/fiber.h"

#define INDEX_MEMORY (64 * MiB) /* of a node, for all indexes: 16 GiB of blocks */
#define IDLE (10 * 60 * NS_PER_S)
#define INDEX_WAIT (500 * NS_PER_MS)
#define TOLD_PAGES (4u << 20) /* of a destination's guests: 16 GiB of what is not equal */
#define COLLIDE "HCI_MIGRATE_COLLIDE" /* set: a test of what wrong references do (docs/compute.md) */

struct content_set {
	struct content *c;
	struct mst_provider p[MST_PROVIDERS_MAX];
	uint32_t n;
	struct content_index *index[MST_PROVIDERS_MAX]; /* source */
	uint32_t nindex;
	struct content_blocks *blocks[MST_PROVIDERS_MAX]; /* destination */
	uint32_t nblocks;
	struct mst_told *told; /* source: by the destination, of its guests */
	struct mst_runs *runs[MST_PROVIDERS_MAX]; /* likewise, of its copies of the volumes */
	uint32_t nruns;
};

static void forget(struct env_timer *t)
{
	struct content *c = container_of(t, struct content, idle);

	if (c->sets)
		return;
	ho_pages_free(c->pages);
	c->pages = NULL;
}

/* Without it migrations that come here bring more. */
static void guests_start(struct content *c)
{
	struct guest_pages_opts o = { .memory = c->n->o.guest_index, .hash = content_hash(), .log = *env_log(c->n->e) };
	struct metrics *m = env_metrics(c->n->e);

	env_random(c->n->e, o.id, sizeof(o.id));
	if (!o.memory)
		return;
	c->m_guests = metrics_gauge(m, "hci_guest_index_guests", "Guests here whose pages are read for migrations that come.", "");
	c->m_known = metrics_gauge(m, "hci_guest_index_pages", "Pages of guests here of which it is known what they contain.", "");
	c->m_read = metrics_counter(m, "hci_guest_index_read_bytes_total", "Read of guests' memory to know that.", "");
	c->m_served = metrics_counter(m, "hci_guest_index_served_total", "Pages of guests here that migrations took a copy of.", "");
	c->guests = guest_pages_new(&o);
	if (!c->guests)
		log_warn(env_log(c->n->e), "node %s: out of memory for what its guests' pages contain", c->n->name);
}

static void tell_metrics(struct content *c)
{
	struct guest_pages_stat st;

	guest_pages_stat(c->guests, &st);
	metric_set(c->m_guests, st.guests);
	metric_set(c->m_known, (int64_t)st.known);
	metric_add(c->m_read, st.read - c->told.read);
	metric_add(c->m_served, st.served - c->told.served);
	c->told = st;
}

void content_guests(struct content *c, const struct compute_state *st, size_t n)
{
	struct uuid *running = c && c->guests ? mem_calloc(n + 1, sizeof(*running)) : NULL;
	size_t k = 0;

	if (!running)
		return;
	for (size_t i = 0; i < n; i++)
		if (st[i].state == HCI_VM_RUNNING && !st[i].migrating && !st[i].postcopy && !st[i].broken)
			running[k++] = st[i].uuid;
	guest_pages_seen(c->guests, running, k);
	tell_metrics(c);
	mem_free(running);
}

int content_new(struct node *n, struct content **out, struct hci_error *err)
{
	struct content *c = MEM_NEW(struct content);

	*out = c;
	if (!c)
		return err_set(err, HCI_E_NOMEM, "node %s: out of memory", n->name);
	c->n = n;
	c->index_left = INDEX_MEMORY;
	env_timer_init(&c->idle, forget);
	guests_start(c);
	return 0;
}

void content_free(struct content *c)
{
	if (!c)
		return;
	env_timer_disarm(c->n->e, &c->idle);
	forget(&c->idle);
	guest_pages_free(c->guests);
	mem_free(c);
}

/* ---- sets ---- */

static struct content_set *set_new(struct content *c)
{
	struct content_set *s = MEM_NEW(struct content_set);

	if (!s)
		return NULL;
	s->c = c;
	c->sets++;
	env_timer_disarm(c->n->e, &c->idle);
	if (!c->pages)
		c->pages = ho_pages_new(c->n);
	return s;
}

static void wait_ready(struct content *c, struct content_index *x)
{
	uint64_t until = env_now(c->n->e) + INDEX_WAIT;

	content_index_hurry(x);
	while (!content_index_ready(x) && !content_index_over(x) && env_now(c->n->e) < until)
		fiber_sleep(c->n->e, 10 * NS_PER_MS);
}

static void volume_out(struct content_set *s, struct content_index *x)
{
	struct mst_provider index;
	struct mst_runs *r;

	content_index_provider(x, &index);
	r = mst_runs_new(&index, CONTENT_RUNS_MAX);
	if (!r)
		return;
	s->runs[s->nruns++] = r;
	mst_runs_provider(r, &s->p[s->n++]);
}

int content_set_out(struct content *c, struct nvm *m, const char *to, struct content_set **out, struct hci_error *err)
{
	struct content_set *s = set_new(c);

	*out = s;
	if (!s)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", m->name);
	s->n = c->pages && ho_pages_out(c->pages, to, &s->p[0]);
	for (uint32_t i = 0; i < m->ndisks && s->n < MST_PROVIDERS_MAX; i++) {
		struct content_index *x = m->disks[i].index;

		if (!x)
			continue;
		content_index_ref(x);
		wait_ready(c, x);
		s->index[s->nindex++] = x;
		if (content_index_ready(x))
			volume_out(s, x);
	}
	/* After the others, which change less. */
	s->told = s->n < MST_PROVIDERS_MAX ? mst_told_new(GUEST_PAGES_PREFIX, MST_KIND_GUEST, TOLD_PAGES) : NULL;
	if (s->told)
		mst_told_provider(s->told, &s->p[s->n++]);
	return 0;
}

int content_set_in(struct content *c, struct nvm *m, struct content_set **out, struct hci_error *err)
{
	struct content_set *s = set_new(c);

	*out = s;
	if (!s)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", m->name);
	s->n = c->pages && ho_pages_in(c->pages, &s->p[0]);
	for (uint32_t i = 0; i < m->ndisks && s->n < MST_PROVIDERS_MAX; i++) {
		struct content_blocks *b;
		struct hci_error why;

		/* Without it the migration sends more. */
		if (content_blocks_open(c->n, &m->disks[i].volume, &b, &why))
			log_info(env_log(c->n->e), "VM %s: its volume %s is not used to receive it: %s", m->name, m->disks[i].name,
				 why.message);
		if (!b)
			continue;
		s->blocks[s->nblocks++] = b;
		content_blocks_provider(b, &s->p[s->n++]);
	}
	if (c->guests && s->n < MST_PROVIDERS_MAX) {
		guest_pages_hurry(c->guests);
		guest_pages_provider(c->guests, &s->p[s->n++]);
	}
	return 0;
}

const struct mst_provider *content_set_providers(const struct content_set *s, uint32_t *n)
{
	*n = s ? s->n : 0;
	return s ? s->p : NULL;
}

const struct mst_hash *content_hash(void)
{
	return secure_getenv(COLLIDE) ? &mst_hash_colliding : NULL;
}

void content_set_quit(struct content_set *s)
{
	for (uint32_t i = 0; s && i < s->nblocks; i++)
		content_blocks_quit(s->blocks[i]);
}

static void end_fiber(void *arg)
{
	struct content_set *s = arg;
	struct content *c = s->c;

	for (uint32_t i = 0; i < s->nblocks; i++)
		content_blocks_close(s->blocks[i]);
	mem_free(s);
	if (!--c->sets)
		env_timer_arm(c->n->e, &c->idle, env_now(c->n->e) + IDLE);
	vm_fiber_end(c->n);
}

void content_set_free(struct content_set *s)
{
	if (!s)
		return;
	content_set_quit(s);
	for (uint32_t i = 0; i < s->nindex; i++)
		content_index_unref(s->index[i]);
	mst_told_free(s->told);
	s->told = NULL;
	while (s->nruns)
		mst_runs_free(s->runs[--s->nruns]);
	/* Without a fiber the set stays, and what it has open with it, until the node's service ends. */
	if (vm_fiber(s->c->n, end_fiber, s, "content-end"))
		log_warn(env_log(s->c->n->e), "out of memory at the end of a migration");
}
