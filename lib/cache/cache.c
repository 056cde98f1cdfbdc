/* SPDX-License-Identifier: Apache-2.0 */
/* The cache as a whole: opening, closing, what it tells of itself. */
#include "cache/cache_impl.h"

#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"

static int check(const struct cache_opts *o, struct hci_error *err)
{
	if (o->block < CACHE_BLOCK_MIN || o->block > CACHE_BLOCK_MAX || o->block & (o->block - 1))
		return err_set(err, HCI_E_INVAL, "cache: a block of %u bytes: give 4096, 8192, 16384, 32768 or 65536", o->block);
	if (o->ram / o->block < 16 || o->ram > UINT64_C(1) << 40)
		return err_set(err, HCI_E_INVAL, "cache: %llu bytes of memory: give 16 blocks at least and 1 TiB at most",
			       (unsigned long long)o->ram);
	if (o->path && (*o->path != '/' || strlen(o->path) >= sizeof(((struct cache *)0)->path)))
		return err_set(err, HCI_E_INVAL, "cache %s: give an absolute path of at most %zu characters", o->path,
			       sizeof(((struct cache *)0)->path) - 1);
	return 0;
}

static void add_metrics(struct cache *c)
{
	struct metrics *m = env_metrics(c->e);

	if (!m)
		return;
	c->m_hit_ram = metrics_counter(m, "hci_cache_hits_total", "Reads answered by the read cache.", "tier=\"ram\"");
	c->m_hit_ssd = metrics_counter(m, "hci_cache_hits_total", "Reads answered by the read cache.", "tier=\"ssd\"");
	c->m_miss = metrics_counter(m, "hci_cache_misses_total", "Reads that the read cache did not answer.", "");
	c->m_fill = metrics_counter(m, "hci_cache_fills_total", "Blocks taken into memory.", "");
	c->m_admit = metrics_counter(m, "hci_cache_admitted_total", "Blocks written to the cache's SSD.", "");
	c->m_share = metrics_counter(m, "hci_cache_shared_total", "Blocks that an equal one was found for.", "");
	c->m_evict = metrics_counter(m, "hci_cache_evicted_total", "Blocks that left to make room.", "");
	c->m_error = metrics_counter(m, "hci_cache_errors_total", "I/O of the cache's SSD that failed or took too long.", "");
	c->m_corrupt = metrics_counter(m, "hci_cache_corrupt_total", "Blocks of the cache's SSD with wrong content.", "");
	c->m_saved = metrics_gauge(m, "hci_cache_saved_milliseconds",
				   "Time that misses would have taken, less that of the hits.", "");
	c->m_ram = metrics_gauge(m, "hci_cache_bytes", "Blocks in the read cache.", "tier=\"ram\"");
	c->m_ssd = metrics_gauge(m, "hci_cache_bytes", "Blocks in the read cache.", "tier=\"ssd\"");
}

static void drop(struct cache *c)
{
	struct list *n;

	env_timer_disarm(c->e, &c->patience);
	env_timer_disarm(c->e, &c->gauges);
	env_undefer(c->e, &c->done_task);
	ssd_close(c);
	for (uint32_t k = 0; k < c->t.nchunks; k++)
		if (c->t.chunks[k].buf)
			mem_free_aligned(c->t.chunks[k].buf);
	while ((n = list_pop(&c->free_bufs)))
		mem_free_aligned(n);
	for (uint32_t i = 0; i < c->nvols; i++)
		mem_free(c->vols[i]);
	tab_fini(&c->t);
	fp_key_free(c->key);
	mem_free(c->vols);
	mem_free(c->tickets);
	mem_free(c->dirty);
	mem_free(c);
}

static void gauges(struct env_timer *t)
{
	struct cache *c = container_of(t, struct cache, gauges);

	metric_set(c->m_ram, (int64_t)((uint64_t)(c->bufs - c->nfree_bufs) * c->o.block));
	metric_set(c->m_ssd, (int64_t)((uint64_t)(c->t.nslots - c->t.slots_free) * c->o.block));
	env_timer_arm(c->e, t, env_now(c->e) + 5 * NS_PER_S);
}

static struct cache *new_cache(struct env *e, const struct cache_opts *o)
{
	struct cache *c = MEM_NEW(struct cache);

	if (!c)
		return NULL;
	c->e = e;
	c->o = *o;
	snprintf(c->path, sizeof(c->path), "%s", o->path ? o->path : "");
	list_init(&c->free_bufs);
	list_init(&c->done);
	env_task_init(&c->done_task, cache_done_task);
	env_timer_init(&c->gauges, gauges);
	fiber_cond_init(&c->changed);
	ssd_init(c);
	c->bufs_max = (uint32_t)(o->ram / o->block);
	return c;
}

static int build(struct cache *c)
{
	uint32_t maps = c->file ? c->geo.claims : c->bufs_max + c->bufs_max / 2;

	c->tickets = mem_calloc(CACHE_TICKETS, sizeof(*c->tickets));
	if (!c->tickets || !tab_init(&c->t, c->file ? c->geo.slots : 0, maps, c->bufs_max))
		return HCI_E_NOMEM;
	if (!c->file) {
		tab_maps_free(&c->t);
		tab_slots_free(&c->t);
		return 0;
	}
	c->dirty = mem_calloc(c->geo.pages / 64 + 1, sizeof(*c->dirty));
	if (!c->dirty)
		return HCI_E_NOMEM;
	return cache_load(c);
}

int cache_open(struct env *e, const struct cache_opts *opts, struct cache **out, struct hci_error *err)
{
	struct cache_opts o = *opts;
	struct cache *c;
	int rc;

	*out = NULL;
	o.block = o.block ? o.block : CACHE_BLOCK;
	o.ram = o.ram ? o.ram : CACHE_RAM;
	rc = check(&o, err);
	if (rc)
		return rc;
	c = new_cache(e, &o);
	if (!c)
		return err_set(err, HCI_E_NOMEM, "cache: out of memory");
	add_metrics(c);
	rc = o.path ? ssd_open(c, err) : 0;
	if (!rc) {
		rc = build(c);
		if (!rc && c->file)
			rc = cache_flush_start(c);
		if (rc)
			err_set(err, rc, "cache %s: out of memory for its index: make it smaller or its blocks larger", c->path);
	}
	if (rc) {
		drop(c);
		return rc;
	}
	env_timer_arm(e, &c->gauges, env_now(e));
	if (c->file)
		log_info(env_log(e), "cache %s: %llu MiB, %u of %u places used", c->path,
			 (unsigned long long)(c->geo.size / MiB), c->t.nslots - c->t.slots_free, c->t.nslots);
	*out = c;
	return 0;
}

void cache_close(struct cache *c)
{
	if (!c)
		return;
	cache_flush_end(c);
	drop(c);
}

uint32_t cache_block(const struct cache *c)
{
	return c->o.block;
}

void cache_info(const struct cache *c, struct cache_info *out)
{
	*out = c->st;
	out->block = c->o.block;
	out->ssd_failed = c->ssd_off;
	out->ram_max = (uint64_t)c->bufs_max * c->o.block;
	out->ram_used = (uint64_t)(c->bufs - c->nfree_bufs) * c->o.block;
	out->ssd_size = (uint64_t)c->t.nslots * c->o.block;
	out->ssd_used = (uint64_t)(c->t.nslots - c->t.slots_free) * c->o.block;
	out->memory = c->t.bytes;
	out->blocks = c->t.maps_used;
}
