/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The read cache of an open cluster (lib/cache), and what others see of it: cachestat/<name>, under a lease, so
 * that it goes with the process.
 */
#include "cluster/core_impl.h"

#include "cache/cache.h"

#define TELL_EVERY (10 * NS_PER_S)
#define STAT_TTL (60 * NS_PER_S)

struct core_cache {
	struct core *c;
	struct cache *cache;
	char path[REC_PATH_MAX];
	uint64_t lease;
	bool stop, ended;
	struct fiber_cond cond;
};

static void stat_of(const struct core_cache *x, struct rec_cachestat *s)
{
	struct cache_info i;

	cache_info(x->cache, &i);
	*s = (struct rec_cachestat){
		.block = i.block, .ssd_failed = i.ssd_failed, .ram_max = i.ram_max, .ram_used = i.ram_used,
		.ssd_size = i.ssd_size, .ssd_used = i.ssd_used, .memory = i.memory, .blocks = i.blocks, .hits_ram = i.hits_ram,
		.hits_ssd = i.hits_ssd, .misses = i.misses, .shared = i.shared, .errors = i.errors,
		.corrupt = i.corrupt, .saved_ns = i.saved_ns, .at = env_realtime(x->c->o.env),
	};
	snprintf(s->path, sizeof(s->path), "%s", x->path);
}

bool core_cache_stat(struct core *c, struct rec_cachestat *out)
{
	if (!c->cache)
		return false;
	stat_of(c->cache, out);
	return true;
}

static void tell(struct core_cache *x)
{
	struct store *s = x->c->o.store;
	struct rec_cachestat r;
	char key[REC_KEY];

	if (x->lease && store_lease_keepalive(s, x->lease, NULL) == HCI_E_NOTFOUND)
		x->lease = 0;
	if (!x->lease && store_lease_grant(s, STAT_TTL, &x->lease, NULL))
		return; /* the store does not answer: later */
	stat_of(x, &r);
	key_cachestat(key, x->c->self);
	(void)rec_cachestat_put(s, key, &r, REC_REV_ANY, x->lease, NULL, NULL);
}

static void tell_fiber(void *arg)
{
	struct core_cache *x = arg;
	struct env *e = x->c->o.env;
	struct cache_info now;
	uint64_t told = UINT64_MAX, last = 0;

	while (!x->stop) {
		cache_info(x->cache, &now);
		/* Nothing new is told at times only, so that the lease lives. */
		if (told != now.hits_ram + now.hits_ssd + now.misses || env_now(e) - last >= STAT_TTL / 3) {
			told = now.hits_ram + now.hits_ssd + now.misses;
			last = env_now(e);
			tell(x);
		}
		if (!x->stop)
			fiber_cond_wait_until(e, &x->cond, env_now(e) + TELL_EVERY);
	}
	x->ended = true;
	fiber_cond_signal(e, &x->cond);
}

int core_cache_open(struct core *c, const struct cache_opts *opts, struct hci_error *err)
{
	struct cache_opts o = *opts;
	struct core_cache *x;
	int rc;

	if (c->cache)
		return err_set(err, HCI_E_STATE, "cache: one is open already: an open cluster has one");
	x = MEM_NEW(struct core_cache);
	if (!x)
		return err_set(err, HCI_E_NOMEM, "cache: out of memory");
	c->cache = x; /* before the first park: nobody else opens one meanwhile */
	x->c = c;
	x->ended = true;
	snprintf(x->path, sizeof(x->path), "%s", o.path ? o.path : "");
	fiber_cond_init(&x->cond);
	o.cluster = c->cluster.uuid;
	rc = cache_open(c->o.env, &o, &x->cache, err);
	if (rc) {
		c->cache = NULL;
		mem_free(x);
		return rc;
	}
	c->vol_ctx.cache = x->cache;
	x->ended = false;
	if (fiber_spawn(c->o.env, tell_fiber, x, "cache-stat"))
		x->ended = true; /* works all the same, unseen */
	return 0;
}

void core_cache_close(struct core *c)
{
	struct core_cache *x = c->cache;

	if (!x)
		return;
	x->stop = true;
	fiber_cond_signal(c->o.env, &x->cond);
	while (!x->ended)
		fiber_cond_wait(c->o.env, &x->cond);
	if (x->lease)
		(void)store_lease_revoke(c->o.store, x->lease, NULL);
	c->vol_ctx.cache = NULL;
	cache_close(x->cache);
	c->cache = NULL;
	mem_free(x);
}
