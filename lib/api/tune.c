/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings of volumes, pools and disks that change while these are in use, of hci/volume.h, hci/pool.h and hci/disk.h. The
 * calls write records; who serves the object takes them over (lib/volume/settings.c, lib/cluster/node_disk.c).
 */
#include "api/tune.h"

#include "api/api_impl.h"
#include "volume/volume.h"

#define TIMEOUT_MAX_MS 600000u

/* ---- limits ---- */

int tune_check_impact(const char *what, const char *name, uint32_t impact, struct hci_error *err)
{
	if (impact && (impact < 100 || impact > REC_IMPACT_MAX))
		return err_set(err, HCI_E_INVAL, "%s %s: rebuild impact of %u%% is not in 100..%u", what, name, impact,
			       REC_IMPACT_MAX);
	return 0;
}

static int check_ms(const char *volume, const char *what, uint32_t ms, uint32_t least, struct hci_error *err)
{
	if (ms && (ms < least || ms > TIMEOUT_MAX_MS))
		return err_set(err, HCI_E_INVAL, "volume %s: %s of %u ms is not in %u..%u", volume, what, ms, least,
			       TIMEOUT_MAX_MS);
	return 0;
}

int tune_check(const char *volume, int32_t on_full, uint32_t write_timeout_ms, uint32_t read_timeout_ms, uint32_t impact,
	       uint32_t lease_ms, struct hci_error *err)
{
	int rc = 0;

	if (on_full < -1 || on_full > HCI_VOLUME_FULL_FAIL)
		rc = err_set(err, HCI_E_INVAL, "volume %s: on_full %d is not known", volume, on_full);
	if (!rc)
		rc = check_ms(volume, "write timeout", write_timeout_ms, 100, err);
	if (!rc)
		rc = check_ms(volume, "read timeout", read_timeout_ms, 1, err);
	if (!rc)
		rc = check_ms(volume, "lease", lease_ms, 500, err);
	return rc ? rc : tune_check_impact("volume", volume, impact, err);
}

/* ---- a volume ---- */

/* Its largest value asks for the default: what the record says as 0. */
static uint32_t given(uint32_t v)
{
	return v == UINT32_MAX ? 0 : v;
}

static void set_ms(uint64_t *ns, uint32_t ms, uint64_t otherwise)
{
	if (ms)
		*ns = ms == UINT32_MAX ? otherwise : ms * NS_PER_MS;
}

static uint64_t delay_ns(uint64_t ms)
{
	return ms > UINT64_MAX / NS_PER_MS ? UINT64_MAX / 2 : ms * NS_PER_MS;
}

struct volume_args {
	const char *name;
	struct hci_volume_tune_opts o;
};

static void volume_change(struct rec_volume *r, const struct hci_volume_tune_opts *o)
{
	if (o->on_full >= 0)
		r->on_full = o->on_full == HCI_VOLUME_FULL_FAIL ? REC_FULL_FAIL : REC_FULL_WAIT;
	if (o->rebuild_delay_ms)
		r->rebuild_delay_ns = o->rebuild_delay_ms == UINT64_MAX ? 0 : delay_ns(o->rebuild_delay_ms);
	if (o->rebuild_impact)
		r->rebuild_impact = given(o->rebuild_impact);
	set_ms(&r->read_timeout_ns, o->read_timeout_ms, 0);
	set_ms(&r->write_timeout_ns, o->write_timeout_ms, 0);
	set_ms(&r->lease_ns, o->lease_ms, 0);
}

static int volume_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const struct volume_args *a = arg;
	struct rec_volume *r;
	char key[REC_KEY];
	struct uuid id;
	uint64_t rev;
	int rc = api_volume_find(c, a->name, &id, NULL, err);

	if (rc)
		return rc;
	r = MEM_NEW(struct rec_volume);
	if (!r)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", a->name);
	key_volume(key, &id);
	do {
		rc = rec_volume_get(c->store, key, r, &rev, err);
		if (rc == HCI_E_NOTFOUND)
			rc = api_none("volume", "volume", a->name, err);
		if (rc)
			break;
		volume_change(r, &a->o);
		rc = rec_volume_put(c->store, key, r, rev, 0, NULL, err);
	} while (rc == HCI_E_CONFLICT);
	mem_free(r);
	return rc;
}

int hci_volume_tune(hci_cluster *c, const char *name, const struct hci_volume_tune_opts *opts, struct hci_error *err)
{
	static const struct hci_volume_tune_opts defaults = HCI_VOLUME_TUNE_OPTS_INIT;
	struct volume_args a = { .name = name };
	int rc;

	if (!c || !name || !opts)
		return api_null(!c ? "c" : !name ? "name" : "opts", err);
	rc = opts_take(&a.o, &defaults, sizeof(a.o), opts, OPTS_UP_TO(struct hci_volume_tune_opts, lease_ms),
		       "hci_volume_tune_opts", err);
	if (!rc)
		rc = tune_check(name, a.o.on_full, given(a.o.write_timeout_ms), given(a.o.read_timeout_ms),
				given(a.o.rebuild_impact), given(a.o.lease_ms), err);
	return rc ? rc : api_call_fresh(c, volume_on_loop, &a, err);
}

/* ---- a pool ---- */

struct pool_args {
	const char *name;
	struct hci_pool_set_opts o;
};

static int pool_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const struct pool_args *a = arg;
	struct rec_pool r;
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	key_pool(key, a->name);
	do {
		rc = rec_pool_get(c->store, key, &r, &rev, err);
		if (rc == HCI_E_NOTFOUND)
			return api_none("pool", "pool", a->name, err);
		if (rc)
			return rc;
		if (a->o.rebuild_delay_ms)
			r.rebuild_delay_ns = a->o.rebuild_delay_ms == UINT64_MAX ? TUNE_REBUILD_DELAY_MS * NS_PER_MS
										: delay_ns(a->o.rebuild_delay_ms);
		if (a->o.rebuild_impact)
			r.rebuild_impact = given(a->o.rebuild_impact);
		rc = rec_pool_put(c->store, key, &r, rev, 0, NULL, err);
	} while (rc == HCI_E_CONFLICT);
	return rc;
}

int hci_pool_set(hci_cluster *c, const char *name, const struct hci_pool_set_opts *opts, struct hci_error *err)
{
	static const struct hci_pool_set_opts defaults = HCI_POOL_SET_OPTS_INIT;
	struct pool_args a = { .name = name };
	int rc;

	if (!c || !name || !opts)
		return api_null(!c ? "c" : !name ? "name" : "opts", err);
	rc = opts_take(&a.o, &defaults, sizeof(a.o), opts, OPTS_UP_TO(struct hci_pool_set_opts, rebuild_delay_ms),
		       "hci_pool_set_opts", err);
	if (!rc)
		rc = name_check(name, "pool", err);
	if (!rc)
		rc = tune_check_impact("pool", name, given(a.o.rebuild_impact), err);
	return rc ? rc : api_call_fresh(c, pool_on_loop, &a, err);
}

/* ---- a disk ---- */

struct disk_args {
	const char *prefix;
	struct hci_disk_set_opts o;
};

static int disk_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const struct disk_args *a = arg;
	struct rec_disk *r;
	char key[REC_KEY];
	struct uuid id;
	uint64_t rev;
	int rc = api_disk_find(c, a->prefix, &id, err);

	if (rc)
		return rc;
	r = MEM_NEW(struct rec_disk);
	if (!r)
		return err_set(err, HCI_E_NOMEM, "disk %s: out of memory", a->prefix);
	key_disk(key, &id);
	do {
		rc = rec_disk_get(c->store, key, r, &rev, err);
		if (rc)
			break;
		set_ms(&r->log_wait_ns, a->o.log_wait_ms, UINT32_MAX * NS_PER_MS);
		if (a->o.log_level)
			r->log_level = a->o.log_level;
		rc = rec_disk_put(c->store, key, r, rev, 0, NULL, err);
	} while (rc == HCI_E_CONFLICT);
	mem_free(r);
	return rc;
}

int hci_disk_set(hci_cluster *c, const char *uuid, const struct hci_disk_set_opts *opts, struct hci_error *err)
{
	static const struct hci_disk_set_opts defaults = HCI_DISK_SET_OPTS_INIT;
	struct disk_args a = { .prefix = uuid };
	int rc;

	if (!c || !uuid || !opts)
		return api_null(!c ? "c" : !uuid ? "uuid" : "opts", err);
	rc = opts_take(&a.o, &defaults, sizeof(a.o), opts, OPTS_UP_TO(struct hci_disk_set_opts, reserved),
		       "hci_disk_set_opts", err);
	if (!rc)
		rc = opts_reserved(a.o.reserved, "hci_disk_set_opts", err);
	if (!rc)
		rc = api_disk_prefix(uuid, err);
	if (!rc && a.o.log_level > 90)
		rc = err_set(err, HCI_E_RANGE, "disk %s: log level %u%% is more than 90", uuid, a.o.log_level);
	return rc ? rc : api_call_fresh(c, disk_on_loop, &a, err);
}
