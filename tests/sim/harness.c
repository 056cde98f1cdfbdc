/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated clusters: see harness.h. */
#include "sim/harness.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"

#define PORT 7400

void cluster_fail(struct cluster *c, const char *fmt, ...)
{
	va_list ap;

	if (c->failed)
		return;
	c->failed = true;
	va_start(ap, fmt);
	vsnprintf(c->why, sizeof(c->why), fmt, ap);
	va_end(ap);
}

/* ---- a node's life ---- */

static int resolve(void *arg, const char *node, char *addr, size_t cap)
{
	(void)arg;
	snprintf(addr, cap, "tcp:%s:%d", node, PORT);
	return 0;
}

static const struct rec_disk *disk_record(void *arg, const struct uuid *u)
{
	struct life *l = arg;
	struct cl_disk *d = cluster_disk(l->node->cl, u);

	return d ? &d->rec : NULL;
}

static bool is_among(const struct cluster *c, const char *node, const struct uuid *set, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		struct cl_disk *d = cluster_disk((struct cluster *)(uintptr_t)c, &set[k]);

		if (d && strcmp(d->rec.node, node) == 0)
			return true;
	}
	return false;
}

/* A disk on a node that holds no copy, spares first, that serves at present. */
static int choose_spare(void *arg, const struct rec_volume *v, uint32_t segment, const struct uuid *keep, size_t nkeep,
			const struct uuid *bad, struct uuid *out, struct hci_error *err)
{
	struct life *l = arg;
	struct cluster *c = l->node->cl;
	uint64_t first = sim_rand_below(c->sim, c->ndisks);

	(void)v;
	(void)segment;
	for (int pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < c->ndisks; i++) {
			struct cl_disk *d = &c->disk[(first + i) % c->ndisks];

			if (!d->serving || (bad && uuid_eq(&d->rec.uuid, bad)) ||
			    d->rec.state == REC_DISK_EVACUATING || is_among(c, d->rec.node, keep, nkeep))
				continue;
			if (pass == 0 && d->rec.role != REC_DISK_SPARE)
				continue;
			*out = d->rec.uuid;
			return 0;
		}
	}
	return err_set(err, HCI_E_NOPLACE, "no disk is left on another node");
}

/* Tiny, so that it is always full. A failing SSD is passed by: nothing but a foreign or damaged beginning is refused. */
static void open_cache(struct life *l)
{
	struct cluster *c = l->node->cl;
	struct cache_opts o = { .path = "/c/cache", .size = c->o.cache_size, .ram = 24 * (uint64_t)c->o.cache_block,
				.block = c->o.cache_block, .cluster = c->uuid, .mutate = c->o.mutate_cache };
	struct hci_error err = { 0 };

	if (!l->node->cache_disk || l->cache_tried)
		return;
	l->cache_tried = true;
	if (cache_open(l->env, &o, &l->vol.cache, &err) && !l->node->cache_faulted && !c->injected)
		cluster_fail(c, "%s: %s", l->node->name, err.message);
}

static void live_fiber(void *arg)
{
	struct life *l = arg;
	struct cluster *c = l->node->cl;

	open_cache(l);

	if (l->node->client && c->on_client)
		c->on_client(l, c->arg);
}

static void live(struct env *e, void *arg)
{
	struct cl_node *n = arg;
	struct cluster *c = n->cl;
	struct life *l = TRY_PTR(MEM_NEW(struct life));
	struct rpc_opts ro = { .node_name = n->name, .cluster = c->uuid, .ping_interval_ns = c->o.ping_ns,
			       .connect_timeout_ns = 2 * NS_PER_S };
	struct hci_error err;
	char addr[HCI_NAME_MAX + 16];

	l->env = e;
	l->node = n;
	list_init(&l->keepers);
	TRY(simstore_open(c->store, e, &l->store));
	store_set_timeout(l->store, c->o.store_timeout_ns);
	l->rpc = TRY_PTR(rpc_new(e, &ro));
	l->peers = TRY_PTR(rpc_peers_new(l->rpc, resolve, l));
	l->vol = (struct vol_ctx){ .env = e, .store = l->store, .peers = l->peers, .self = n->name,
				   .choose_spare = choose_spare, .disk = disk_record, .arg = l,
				   .mutate = c->o.mutate };
	n->life = l;
	if (!n->client) {
		l->service = TRY_PTR(repl_service_new(e, l->rpc));
		/* One node in four has copies carried by the writer. */
		if ((c->o.seed + n->index) % 4)
			repl_service_peers(l->service, l->peers);
		snprintf(addr, sizeof(addr), "tcp:%s:%d", n->name, PORT);
		if (rpc_listen(l->rpc, addr, &err) && rpc_listen(l->rpc, addr, &err))
			cluster_fail(c, "node %s: %s", n->name, err.message);
		keepers_start(l);
	}
	TRY(fiber_spawn(e, live_fiber, l, "live"));
}

void cluster_boot(struct cl_node *n)
{
	if (!sim_node_up(n->sim))
		sim_node_boot(n->sim, live, n);
}

void cluster_add_cache(struct cache_info *t, const struct cache_info *i)
{
	t->hits_ram += i->hits_ram;
	t->hits_ssd += i->hits_ssd;
	t->misses += i->misses;
	t->admitted += i->admitted;
	t->shared += i->shared;
	t->evicted += i->evicted;
	t->errors += i->errors;
	t->corrupt += i->corrupt;
	t->proven += i->proven;
	t->outdated += i->outdated;
}

static void count_cache(struct cl_node *n)
{
	struct cache_info i;

	if (!n->life || !n->life->vol.cache)
		return;
	cache_info(n->life->vol.cache, &i);
	cluster_add_cache(&n->cl->cache, &i);
}

void cluster_count_caches(struct cluster *c)
{
	for (unsigned i = 0; i < c->o.clients; i++)
		count_cache(&c->client[i]);
}

void cluster_kill(struct cl_node *n, bool power_loss)
{
	bool was_up = sim_node_up(n->sim);

	count_cache(n);
	if (power_loss)
		sim_node_power_loss(n->sim);
	else
		sim_node_crash(n->sim);
	if (!was_up)
		return;
	n->life = NULL;
	for (unsigned i = 0; i < n->ndisks; i++)
		n->disks[i]->serving = false;
	if (n->cl->on_death)
		n->cl->on_death(n, n->cl->arg);
}

static void told_to_stop(struct env *e, void *arg)
{
	(void)e;
	keepers_stop(arg);
}

bool cluster_stop(struct cl_node *n)
{
	if (n->client || !n->life || n->life->stopping)
		return false;
	sim_node_call(n->sim, told_to_stop, n->life);
	return true;
}

void cluster_start_clients(struct cluster *c, void (*on_client)(struct life *l, void *arg), void *arg)
{
	c->on_client = on_client;
	c->arg = arg;
	for (unsigned i = 0; i < c->o.clients; i++) {
		struct cl_node *n = &c->client[i];

		if (n->life)
			TRY(fiber_spawn(n->life->env, live_fiber, n->life, "live"));
	}
}

/* ---- calls ---- */

struct call {
	void (*fn)(struct life *l, void *arg);
	void *arg;
	struct life *life;
	bool done;
};

static void call_fiber(void *arg)
{
	struct call *c = arg;

	c->fn(c->life, c->arg);
	c->done = true;
}

static void call_start(struct env *e, void *arg)
{
	TRY(fiber_spawn(e, call_fiber, arg, "call"));
}

static bool call_done(void *arg)
{
	struct call *c = arg;

	return c->done || c->life->node->life != c->life;
}

bool cluster_call(struct cl_node *n, void (*fn)(struct life *l, void *arg), void *arg, uint64_t max_ns)
{
	struct call c = { .fn = fn, .arg = arg, .life = n->life };

	if (!n->life)
		return false;
	sim_node_call(n->sim, call_start, &c);
	sim_run_until(n->cl->sim, call_done, &c, max_ns);
	if (!c.done) /* its fiber has c on our stack */
		cluster_kill(n, false);
	return c.done;
}

struct until {
	struct cluster *c;
	bool (*pred)(struct cluster *c);
};

static bool until_done(void *arg)
{
	struct until *u = arg;

	return u->c->failed || u->pred(u->c);
}

bool cluster_run_until(struct cluster *c, bool (*pred)(struct cluster *c), uint64_t max_ns)
{
	struct until u = { c, pred };

	return sim_run_until(c->sim, until_done, &u, max_ns) && !c->failed;
}

struct cl_disk *cluster_disk(struct cluster *c, const struct uuid *u)
{
	for (unsigned i = 0; i < c->ndisks; i++) {
		if (uuid_eq(&c->disk[i].rec.uuid, u))
			return &c->disk[i];
	}
	return NULL;
}

unsigned cluster_disks_missing(struct cluster *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->ndisks; i++)
		n += !c->disk[i].dead && !c->disk[i].serving;
	return n;
}

int cluster_place(void *arg, const struct vol_create *vc, const struct uuid *volume, uint32_t first, uint32_t nseg,
		  struct uuid *out, struct hci_error *err)
{
	struct cluster *c = arg;
	unsigned start = 0;

	(void)volume;
	if (vc->replicas > c->o.nodes)
		return err_set(err, HCI_E_NOPLACE, "more replicas than nodes");
	for (uint32_t s = 0; s < nseg; s++) {
		for (uint32_t r = 0; r < vc->replicas; r++) {
			struct cl_node *n = &c->node[(first + s + r + start) % c->o.nodes];

			out[s * vc->replicas + r] = n->disks[s / c->o.nodes % c->o.data_disks]->rec.uuid;
		}
	}
	return 0;
}

/* ---- write logs on SSDs ---- */

static void put_record(struct cl_disk *d)
{
	struct buf b = BUF_INIT;
	char key[REC_KEY];

	key_disk(key, &d->rec.uuid);
	if (rec_disk_encode(&d->rec, &b))
		abort();
	simstore_put(d->node->cl->store, key, b.data, (uint32_t)b.len);
	buf_free(&b);
}

bool cluster_given_up(const struct cl_disk *d)
{
	struct rec_disk *r = calloc(1, sizeof(*r));
	char key[REC_KEY];
	const void *v;
	uint32_t len;
	bool is;

	key_disk(key, &d->rec.uuid);
	v = simstore_peek(d->node->cl->store, key, &len);
	is = v && r && !rec_disk_decode(v, len, r, NULL) && r->state == REC_DISK_REMOVED;
	free(r);
	return is;
}

void cluster_adopt(struct cl_disk *d, const struct rec_disk *new)
{
	struct cluster *c = d->node->cl;
	struct cl_disk *x = &c->disk[c->ndisks];

	if (c->ndisks++ == CL_DISKS_MAX)
		abort();
	*x = (struct cl_disk){ .node = d->node, .sd = d->sd, .under = d->under, .ssd = d->ssd, .rec = *new, .fault = d->fault, .full = d->full,
			       .doomed = d->doomed, .log_lost = d->doomed, .faulted_lately = true, .scrub_wanted = d->scrub_wanted || d->scrubbed };
	d->successor = x;
	d->dead = true;
	d->rec.state = REC_DISK_REMOVED;
	d->ssd->made++;
	c->logs.given_up++;
	for (unsigned k = 0; k < d->node->ndisks; k++)
		if (d->node->disks[k] == d)
			d->node->disks[k] = x;
}

void cluster_blank_ssd(struct cl_ssd *s, struct sim_disk *sd)
{
	char part[16];

	sim_disk_wipe(sd);
	for (unsigned k = 0; s->device && k < s->n; k++) {
		snprintf(part, sizeof(part), "/p%u", k);
		sim_disk_partition(sd, part, s->node->cl->o.log_size + MiB);
	}
}

/* Room for the logs and not for one more that somebody forgot there. */
static void add_ssd(struct cluster *c, struct cl_node *n)
{
	struct cl_ssd *s = &c->ssd[c->nssds++];
	uint64_t size;

	s->node = n;
	s->n = 1 + (unsigned)sim_rand_below(c->sim, c->o.data_disks);
	s->device = sim_rand_below(c->sim, 2);
	size = s->n * (c->o.log_size + MiB) + 2 * MiB;
	s->sd = sim_disk_new(n->sim, "/s", size);
	s->shelf = sim_disk_new(n->sim, "/shelf", size);
	cluster_blank_ssd(s, s->sd);
	n->ssd = s;
}

static void log_on_ssd(struct cluster *c, struct cl_disk *d, unsigned k)
{
	d->ssd = d->node->ssd;
	snprintf(d->rec.log, sizeof(d->rec.log), d->ssd->device ? "/s/p%u" : "/s", k);
	d->rec.log_size = c->o.log_size;
	d->rec.log_wait_ns = c->o.log_wait_ns;
	d->rec.state = REC_DISK_NEW;
	put_record(d);
	d->ssd->made++;
	c->logs.disks++;
}

/* ---- making and ending ---- */

static void add_disk(struct cluster *c, struct cl_node *n, bool spare)
{
	struct cl_disk *d = &c->disk[c->ndisks++];
	uint8_t rnd[16];
	char under[16];

	for (int k = 0; k < 16; k++)
		rnd[k] = (uint8_t)sim_rand(c->sim);
	uuid_from_random(&d->rec.uuid, rnd);
	snprintf(d->rec.node, sizeof(d->rec.node), "%s", n->name);
	snprintf(d->rec.path, sizeof(d->rec.path), "/d%u", n->ndisks);
	snprintf(d->rec.pool, sizeof(d->rec.pool), "pool");
	d->rec.role = spare ? REC_DISK_SPARE : REC_DISK_DATA;
	d->rec.state = REC_DISK_ONLINE;
	d->rec.capacity = c->o.disk_size;
	d->node = n;
	d->sd = sim_disk_new(n->sim, d->rec.path, c->o.disk_size);
	if (c->o.unmounts) {
		snprintf(under, sizeof(under), "/under%u", n->ndisks);
		d->under = sim_disk_new(n->sim, under, c->o.disk_size);
	}
	if (n->ssd && n->ndisks < n->ssd->n)
		log_on_ssd(c, d, n->ndisks);
	n->disks[n->ndisks++] = d;
}

static void add_node(struct cluster *c, struct cl_node *n, unsigned index, bool client)
{
	n->cl = c;
	n->index = index;
	n->client = client;
	snprintf(n->name, sizeof(n->name), "%s%u", client ? "client" : "node", index);
	n->sim = sim_node_new(c->sim, n->name);
	if (!client && c->o.ssds && (index == 0 || sim_rand_below(c->sim, 4)))
		add_ssd(c, n);
	for (unsigned k = 0; !client && k < c->o.data_disks + c->o.spare_disks; k++)
		add_disk(c, n, k >= c->o.data_disks);
	if (client && c->o.cache_size)
		n->cache_disk = sim_disk_new(n->sim, "/c", c->o.cache_size + 64 * KiB);
	sim_node_boot(n->sim, live, n);
}

static bool all_serve(struct cluster *c)
{
	return cluster_disks_missing(c) == 0;
}

struct cluster *cluster_new(const struct cluster_opts *o)
{
	struct cluster *c = calloc(1, sizeof(*c));
	struct sim_opts so = SIM_OPTS_INIT;
	uint8_t rnd[16];

	if (!c || o->nodes > CL_NODES_MAX || o->clients > CL_CLIENTS_MAX ||
	    o->nodes * (o->data_disks + o->spare_disks) > CL_DISKS_MAX)
		abort();
	c->o = *o;
	so.seed = o->seed;
	so.log = o->log;
	c->sim = sim_new(&so);
	c->store = simstore_new(c->sim);
	for (int k = 0; k < 16; k++)
		rnd[k] = (uint8_t)sim_rand(c->sim);
	uuid_from_random(&c->uuid, rnd);
	for (unsigned k = 0; k < o->nodes; k++)
		add_node(c, &c->node[k], k, false);
	for (unsigned k = 0; k < o->clients; k++)
		add_node(c, &c->client[k], k, true);
	if (!cluster_run_until(c, all_serve, 60 * NS_PER_S))
		cluster_fail(c, "the disks did not all come up");
	return c;
}

void cluster_free(struct cluster *c)
{
	if (!c)
		return;
	simstore_free(c->store);
	sim_free(c->sim);
	free(c);
}
