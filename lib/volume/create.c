/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes as records: create, grow, delete, look up. Crash-safe by order: a volume under creation is
 * in state "creating" until its map is whole; one that is deleted leaves a tombstone, and only what has
 * a tombstone (or has moved, by the map) is ever dropped from a disk.
 */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/names.h"

#define DELETE_RETRY (100 * NS_PER_MS)
#define DELETE_WAIT (10 * NS_PER_S) /* for a repair to let go */
#define SEGMENT_DEFAULT (256 * MiB)

static int check_create(const struct vol_create *c, struct hci_error *err)
{
	uint64_t ss = c->segment_size ? c->segment_size : SEGMENT_DEFAULT;
	int rc = name_check(c->name, "volume", err);

	if (rc)
		return rc;
	if (c->size > REC_VOLUME_SIZE_MAX)
		return err_set(err, HCI_E_INVAL, "volume %s: size %llu is more than 2^50 (1 PiB): make several smaller ones", c->name,
			       (unsigned long long)c->size);
	if (!c->size || c->size % HCI_BLOCK)
		return err_set(err, HCI_E_INVAL, "volume %s: size %llu is not a multiple of %u above 0: round it up",
			       c->name, (unsigned long long)c->size, HCI_BLOCK);
	if (ss & (ss - 1) || ss < REC_SEGMENT_MIN || ss > REC_SEGMENT_MAX)
		return err_set(err, HCI_E_INVAL, "volume %s: segment size %llu is not a power of two in 1 MiB..1 GiB",
			       c->name, (unsigned long long)ss);
	if (!c->replicas || c->replicas > REC_REPLICAS_MAX)
		return err_set(err, HCI_E_INVAL, "volume %s: %u replicas: choose 1..%u", c->name, c->replicas,
			       REC_REPLICAS_MAX);
	return 0;
}

/* Places the segments [first, first+n) of one chunk, which holds `have` of them already. */
static int place_chunk(struct vol_ctx *x, const struct vol_create *c, const struct uuid *id, uint32_t chunk,
		       struct rec_volmap *m, uint32_t want, struct hci_error *err)
{
	uint32_t first = chunk * REC_VOLMAP_CHUNK + m->n, n = want - m->n;
	struct uuid *disks = mem_calloc((size_t)n * c->replicas, sizeof(*disks));
	int rc;

	(void)x;
	if (!disks)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", c->name);
	rc = c->place(c->arg, c, id, first, n, disks, err);
	for (uint32_t i = 0; !rc && i < n; i++) {
		struct rec_segment *s = &m->seg[m->n + i];

		memset(s, 0, sizeof(*s));
		s->n = c->replicas;
		for (uint32_t k = 0; k < c->replicas; k++)
			s->r[k].disk = disks[i * c->replicas + k];
	}
	mem_free(disks);
	if (!rc)
		m->n = want;
	return rc;
}

static int place_all(struct vol_ctx *x, const struct vol_create *c, const struct uuid *id, uint32_t from, uint32_t to,
		     struct hci_error *err)
{
	struct rec_volmap *m = MEM_NEW(struct rec_volmap);
	char key[REC_KEY];
	int rc = 0;

	if (!m)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", c->name);
	for (uint32_t chunk = from / REC_VOLMAP_CHUNK; !rc && chunk * REC_VOLMAP_CHUNK < to; chunk++) {
		uint32_t want = MIN(to - chunk * REC_VOLMAP_CHUNK, REC_VOLMAP_CHUNK);
		uint64_t rev = 0;

		memset(m, 0, sizeof(*m));
		key_volmap(key, id, chunk);
		rc = rec_volmap_get(x->store, key, m, &rev, err);
		if (rc == HCI_E_NOTFOUND)
			rc = 0, rev = 0, memset(m, 0, sizeof(*m));
		if (rc || m->n >= want)
			continue;
		rc = place_chunk(x, c, id, chunk, m, want, err);
		if (!rc)
			rc = rec_volmap_put(x->store, key, m, rev, 0, NULL, err);
	}
	mem_free(m);
	return rc;
}

static int put_new(struct vol_ctx *x, const struct rec_volume *r, struct hci_error *err)
{
	char vkey[REC_KEY], nkey[REC_KEY], skey[REC_KEY];
	struct buf v = BUF_INIT, n = BUF_INIT, s = BUF_INIT;
	struct rec_volname name = { r->uuid };
	struct rec_volsync *sync = MEM_NEW(struct rec_volsync);
	int rc;

	key_volume(vkey, &r->uuid);
	key_volname(nkey, r->name);
	key_volsync(skey, &r->uuid);
	rc = sync ? rec_volume_encode(r, &v) : HCI_E_NOMEM;
	if (!rc)
		rc = rec_volname_encode(&name, &n);
	if (!rc)
		rc = rec_volsync_encode(sync, &s);
	if (rc) {
		err_set(err, rc, "volume %s: its record cannot be made", r->name);
	} else {
		struct store_cmp cmp = { STORE_CMP_MOD_REV, nkey, 0 };
		struct store_op ops[] = { { STORE_PUT, nkey, n.data, (uint32_t)n.len, 0 },
					  { STORE_PUT, vkey, v.data, (uint32_t)v.len, 0 },
					  { STORE_PUT, skey, s.data, (uint32_t)s.len, 0 } };

		rc = store_txn(x->store, &cmp, 1, ops, 3, NULL, err);
		if (rc == HCI_E_CONFLICT)
			rc = err_set(err, HCI_E_EXISTS, "volume %s: there is one of this name: choose another", r->name);
	}
	buf_free(&v);
	buf_free(&n);
	buf_free(&s);
	mem_free(sync);
	return rc;
}

/* Records away, tombstone there: in one transaction. */
static int put_tombstone(struct vol_ctx *x, const struct rec_volume *r, uint64_t rev, struct hci_error *err)
{
	char vkey[REC_KEY], nkey[REC_KEY], skey[REC_KEY], mprefix[REC_KEY], akey[REC_KEY], tkey[REC_KEY], id[HCI_UUID_STR];
	char movekey[REC_KEY], straykey[REC_KEY], wantkey[REC_KEY];
	struct store_cmp cmps[2];
	struct store_op ops[8];

	uuid_print(&r->uuid, id);
	key_volume(vkey, &r->uuid);
	key_volname(nkey, r->name);
	key_volsync(skey, &r->uuid);
	key_volmap_prefix(mprefix, &r->uuid);
	key_volatt(akey, &r->uuid);
	key_volmove(movekey, &r->uuid);
	key_stray(straykey, &r->uuid, NULL);
	snprintf(tkey, sizeof(tkey), PREFIX_TOMB "%s", id);
	snprintf(wantkey, sizeof(wantkey), PREFIX_VOLWANT "%s", id);
	cmps[0] = (struct store_cmp){ STORE_CMP_MOD_REV, akey, 0 };
	cmps[1] = (struct store_cmp){ STORE_CMP_MOD_REV, vkey, rev };
	ops[0] = (struct store_op){ STORE_PUT, tkey, r->name, (uint32_t)strlen(r->name), 0 };
	ops[1] = (struct store_op){ STORE_DELETE, nkey, NULL, 0, 0 };
	ops[2] = (struct store_op){ STORE_DELETE, vkey, NULL, 0, 0 };
	ops[3] = (struct store_op){ STORE_DELETE, skey, NULL, 0, 0 };
	ops[4] = (struct store_op){ STORE_DELETE_PREFIX, mprefix, NULL, 0, 0 };
	ops[5] = (struct store_op){ STORE_DELETE, movekey, NULL, 0, 0 };
	ops[6] = (struct store_op){ STORE_DELETE_PREFIX, straykey, NULL, 0, 0 };
	ops[7] = (struct store_op){ STORE_DELETE, wantkey, NULL, 0, 0 };
	return store_txn(x->store, cmps, 2, ops, 8, NULL, err);
}

int vol_create(struct vol_ctx *x, const struct vol_create *c, struct uuid *id, struct hci_error *err)
{
	struct rec_volume *r;
	char key[REC_KEY];
	uint8_t rnd[16];
	uint64_t rev = 0;
	int rc = check_create(c, err);

	if (rc)
		return rc;
	r = MEM_NEW(struct rec_volume);
	if (!r)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", c->name);
	env_random(x->env, rnd, sizeof(rnd));
	uuid_from_random(&r->uuid, rnd);
	snprintf(r->name, sizeof(r->name), "%s", c->name);
	snprintf(r->pool, sizeof(r->pool), "%s", c->pool ? c->pool : "");
	snprintf(r->policy, sizeof(r->policy), "%s", c->policy ? c->policy : "");
	r->size = c->size;
	r->segment_size = c->segment_size ? c->segment_size : SEGMENT_DEFAULT;
	r->replicas = c->replicas;
	r->on_full = (enum rec_on_full)c->on_full;
	r->write_timeout_ns = c->write_timeout_ns ? c->write_timeout_ns : VOL_WRITE_TIMEOUT;
	r->read_timeout_ns = c->read_timeout_ns;
	r->rebuild_impact = c->rebuild_impact;
	r->rebuild_delay_ns = c->rebuild_delay_ns;
	r->lease_ns = c->lease_ns;
	r->state = REC_VOLUME_CREATING;
	r->created = env_realtime(x->env);
	rc = put_new(x, r, err);
	if (!rc) {
		rc = place_all(x, c, &r->uuid, 0, map_segments(r), err);
		key_volume(key, &r->uuid);
		if (!rc) {
			r->state = REC_VOLUME_READY;
			rc = rec_volume_put(x->store, key, r, REC_REV_ANY, 0, &rev, err);
		}
		if (rc && !rec_volume_get(x->store, key, r, &rev, NULL))
			(void)put_tombstone(x, r, rev, NULL);
	}
	*id = r->uuid;
	mem_free(r);
	return rc;
}

int vol_resize(struct vol_ctx *x, const struct uuid *id, uint64_t size, const struct vol_create *place,
	       struct hci_error *err)
{
	struct rec_volume *r = MEM_NEW(struct rec_volume);
	struct vol_create c = *place;
	char key[REC_KEY];
	uint64_t rev;
	int rc;

	if (!r)
		return err_set(err, HCI_E_NOMEM, "volume: out of memory");
	key_volume(key, id);
	rc = rec_volume_get(x->store, key, r, &rev, err);
	if (!rc && (size % HCI_BLOCK || size > REC_VOLUME_SIZE_MAX))
		rc = err_set(err, HCI_E_INVAL, "volume %s: size %llu is not a multiple of %u up to 2^50", r->name,
			     (unsigned long long)size, HCI_BLOCK);
	if (!rc && size < r->size)
		rc = err_set(err, HCI_E_INVAL,
			     "volume %s: has %llu bytes and cannot shrink to %llu: make a smaller one and copy", r->name,
			     (unsigned long long)r->size, (unsigned long long)size);
	if (!rc && size > r->size) {
		uint32_t had = map_segments(r);

		c.name = r->name;
		c.pool = r->pool;
		c.policy = r->policy;
		c.replicas = r->replicas;
		c.segment_size = r->segment_size;
		r->size = c.size = size;
		rc = place_all(x, &c, id, had, map_segments(r), err);
		if (!rc)
			rc = rec_volume_put(x->store, key, r, rev, 0, NULL, err);
	}
	mem_free(r);
	return rc;
}

/* Its holder only repairs it, and was asked to let go: worth another try. */
static bool repair_lets_go(struct vol_ctx *x, const struct uuid *id, const struct rec_volatt *a, uint64_t until)
{
	if (a->purpose != REC_ATT_REPAIR || env_now(x->env) >= until)
		return false;
	vol_want(x, id);
	fiber_sleep(x->env, DELETE_RETRY);
	return true;
}

int vol_delete(struct vol_ctx *x, const struct uuid *id, struct hci_error *err)
{
	struct rec_volume *r = MEM_NEW(struct rec_volume);
	struct rec_volatt *a = MEM_NEW(struct rec_volatt);
	uint64_t rev, until = env_now(x->env) + DELETE_WAIT;
	char key[REC_KEY], akey[REC_KEY];
	bool held;
	int rc;

	key_volume(key, id);
	key_volatt(akey, id);
	do {
		held = false;
		rc = r && a ? rec_volume_get(x->store, key, r, &rev, err)
			    : err_set(err, HCI_E_NOMEM, "volume: out of memory");
		if (!rc)
			rc = put_tombstone(x, r, rev, err);
		if (rc == HCI_E_CONFLICT)
			held = !rec_volatt_get(x->store, akey, a, NULL, NULL);
	} while (held && repair_lets_go(x, id, a, until));
	if (held)
		rc = err_set(err, HCI_E_BUSY, "volume %s: attached by %s: detach it there first", r->name, a->holder);
	else if (rc == HCI_E_CONFLICT)
		rc = err_set(err, HCI_E_CONFLICT, "volume %s: changed meanwhile: try again", r->name);
	mem_free(r);
	mem_free(a);
	return rc;
}

int vol_lookup(struct vol_ctx *x, const char *name, struct uuid *id, struct rec_volume *out, struct hci_error *err)
{
	struct rec_volname n;
	char key[REC_KEY];
	int rc = name_check(name, "volume", err);

	if (rc)
		return rc;
	if (!uuid_parse(name, id)) {
		key_volname(key, name);
		rc = rec_volname_get(x->store, key, &n, NULL, err);
		if (rc)
			return rc == HCI_E_NOTFOUND ? err_set(err, rc, "volume %s: there is none of this name", name) : rc;
		*id = n.uuid;
	}
	if (!out)
		return 0;
	key_volume(key, id);
	return rec_volume_get(x->store, key, out, NULL, err);
}
