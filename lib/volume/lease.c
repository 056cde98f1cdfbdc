/* SPDX-License-Identifier: Apache-2.0 */
/* The lease that makes us the only writer: kept by a fiber, taken again when it ended and nobody came. */
#include "volume/volume_impl.h"

#include "base/err.h"
#include "base/mem.h"

/* Does the store still have our generation? True as well when it does not answer: then nothing is known. */
static bool still_ours(struct vol *v)
{
	struct rec_volsync *s = MEM_NEW(struct rec_volsync);
	char key[REC_KEY];
	int rc;

	key_volsync(key, &v->rec.uuid);
	rc = s ? rec_volsync_get(v->x->store, key, s, NULL, NULL) : HCI_E_NOMEM;
	if (!rc)
		rc = s->generation == v->gen ? 0 : HCI_E_FENCED;
	mem_free(s);
	return rc != HCI_E_FENCED && rc != HCI_E_NOTFOUND;
}

/* Our lease ended in the store, but nobody came: take a new one under the same generation. */
static int lease_again(struct vol *v, struct hci_error *err)
{
	struct buf b = BUF_INIT;
	char key[REC_KEY], synckey[REC_KEY];
	uint64_t lease;
	int rc;

	ENV_MARK(v->e, "lease ended");
	rc = store_lease_grant(v->x->store, v->lease_ttl, &lease, err);
	if (rc)
		return rc;
	key_volatt(key, &v->rec.uuid);
	key_volsync(synckey, &v->rec.uuid);
	rc = rec_volatt_encode(&v->att, &b);
	if (!rc) {
		struct store_cmp cmps[2];
		struct store_op op = { STORE_PUT, key, b.data, (uint32_t)b.len, lease };

		fiber_mutex_lock(v->e, &v->set_lock);
		cmps[0] = (struct store_cmp){ STORE_CMP_MOD_REV, key, 0 };
		cmps[1] = (struct store_cmp){ STORE_CMP_MOD_REV, synckey, v->sync_rev };
		rc = store_txn(v->x->store, cmps, 2, &op, 1, NULL, err);
		fiber_mutex_unlock(v->e, &v->set_lock);
	}
	buf_free(&b);
	/* An attempt before whose answer was lost leaves the same: only another's generation ends us. */
	if (rc == HCI_E_CONFLICT && still_ours(v))
		rc = err_set(err, HCI_E_AGAIN, "the attachment is still in the store");
	ENV_MARK_STATE(v->e, "lease taken again:yes,no", rc != 0, 2);
	if (!rc)
		v->lease = lease;
	else
		(void)store_lease_revoke(v->x->store, lease, NULL);
	return rc;
}

static void lease_fiber(void *arg)
{
	struct vol *v = arg;
	struct env *e = v->e;
	struct hci_error err;

	while (!v->closing && !v->abandoned && !v->fenced) {
		uint64_t before, wake = env_now(e) + v->lease_ttl / 4;
		int rc;

		while (!v->closing && !v->abandoned && !v->fenced && env_now(e) < wake)
			fiber_cond_wait_until(e, &v->changed, wake);
		if (v->closing || v->abandoned || v->fenced)
			break;
		before = env_now(e);
		rc = store_lease_keepalive(v->x->store, v->lease, &err);
		if (rc == HCI_E_NOTFOUND) {
			rc = lease_again(v, &err);
			if (rc == HCI_E_CONFLICT) {
				sync_fenced(v, "its lease ended and another writer took the volume");
				break;
			}
		}
		if (!rc) {
			bool late = before >= v->lease_deadline;

			/* A tenth is left for clocks that run apart. */
			v->lease_deadline = before + v->lease_ttl - v->lease_ttl / 10;
			if (late)
				ENV_MARK(e, "lease renewed late");
			if (late)
				io_recheck(v); /* reads waited */
		} else {
			ENV_MARK(e, "lease not renewed");
			log_warn(env_log(e), "volume %s: lease not renewed: %s", v->rec.name, err.message);
		}
	}
	vol_fiber_end(v);
}

int lease_start(struct vol *v)
{
	int rc;

	v->fibers++;
	rc = fiber_spawn(v->e, lease_fiber, v, "volume-lease");
	if (rc)
		v->fibers--;
	return rc;
}
