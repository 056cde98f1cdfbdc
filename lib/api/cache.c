/* SPDX-License-Identifier: Apache-2.0 */
/* hci/cache.h: the read cache of this process, and those of others as they tell. */
#include "api/api_impl.h"

#include "cache/cache.h"

static int open_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const struct hci_cache_opts *o = arg;
	struct cache_opts x = { .path = o->path, .size = o->bytes, .ram = o->ram, .block = o->block };

	return core_cache_open(c->core, &x, err);
}

int hci_cache_open(hci_cluster *cluster, const struct hci_cache_opts *opts, struct hci_error *err)
{
	static const struct hci_cache_opts defaults = HCI_CACHE_OPTS_INIT;
	struct hci_cache_opts o;
	int rc;

	if (!cluster)
		return api_null("cluster", err);
	rc = opts_take(&o, &defaults, sizeof(o), opts, OPTS_UP_TO(struct hci_cache_opts, ram), "hci_cache_opts", err);
	return rc ? rc : api_call(cluster, open_on_loop, &o, err);
}

static void info_of(const struct rec_cachestat *r, const char *holder, struct hci_cache_info *i)
{
	*i = (struct hci_cache_info){
		.block = r->block, .ssd_failed = r->ssd_failed, .ssd_size = r->ssd_size, .ssd_used = r->ssd_used,
		.ram_max = r->ram_max, .ram_used = r->ram_used, .index_memory = r->memory, .blocks = r->blocks,
		.hits_ram = r->hits_ram, .hits_ssd = r->hits_ssd, .misses = r->misses, .shared = r->shared,
		.errors = r->errors, .corrupt = r->corrupt, .saved_ms = r->saved_ns / NS_PER_MS, .at = r->at,
	};
	API_TEXT(i->holder, holder);
	API_TEXT(i->path, r->path);
}

static int info_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct rec_cachestat r;

	if (!core_cache_stat(c->core, &r))
		return err_set(err, HCI_E_NOTFOUND, "cache: none is open here: open one with hci_cache_open()");
	info_of(&r, core_self(c->core), arg);
	return 0;
}

int hci_cache_info(hci_cluster *cluster, struct hci_cache_info *out, uint64_t info_size, struct hci_error *err)
{
	struct hci_cache_info i = { 0 };
	int rc;

	if (!cluster)
		return api_null("cluster", err);
	rc = api_call(cluster, info_on_loop, &i, err);
	return rc ? rc : api_info_out(out, info_size, &i, sizeof(i), "cache info", err);
}

static int list_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct api_list *l = arg;
	struct rec_list r;
	int rc = rec_cachestat_list(c->store, PREFIX_CACHESTAT, &r, err);

	if (rc)
		return rc;
	for (size_t k = 0; k < r.n && !rc; k++) {
		const char *holder = key_tail(r.keys[k], PREFIX_CACHESTAT);
		struct hci_cache_info i;

		info_of(REC_AT(&r, k, struct rec_cachestat), holder ? holder : "", &i);
		rc = api_list_add(l, &i, sizeof(i), err);
	}
	rec_list_free(&r);
	return rc;
}

int hci_cache_list(hci_cluster *cluster, struct hci_cache_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err)
{
	struct api_list l;

	return api_list_call(cluster, list_on_loop, &l, &l, out, n, info_size, sizeof(struct hci_cache_info), err);
}
