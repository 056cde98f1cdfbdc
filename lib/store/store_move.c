/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving a cluster's metadata to another store. At no moment do two stores hold a cluster that can be opened: two
 * sets of writers would lose data, none at all only waits for the move to be finished. In this order:
 *
 *   1. target: meta/copying (where from), then every key but meta/cluster;
 *   2. source: meta/moved (where to): from here on it is refused;
 *   3. both are compared, key by key: a client that had the source open all the time may still have changed it. Then meta/moved
 *      is taken back;
 *   4. target: meta/cluster comes, meta/copying goes, in one transaction: from here on it is the cluster's store.
 *
 * Whatever happens in between, the same call begins again: a target with meta/copying of this source is ours to clear. So two may be
 * at it at a time, and each goes by the revisions of the marks that it has put itself: who clears the target puts a new
 * meta/copying, and what the one before writes there is refused from then on; meta/moved is only taken back by who has put it last.
 * Revisions are the store's own and are not copied; no record holds any.
 */
#include "store/store_move.h"

#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "store/records.h"

#define BATCH_OPS 100u
#define BATCH_BYTES (512 * KiB) /* etcd takes 1.5 MiB a request */

/* ---- walking a store ---- */

struct walk {
	struct store *s;
	struct store_result r;
	size_t at;
	char after[REC_KEY];
	bool end;
};

static bool special(const char *key)
{
	return !strcmp(key, KEY_CLUSTER) || !strcmp(key, KEY_MOVED) || !strcmp(key, KEY_COPYING);
}

/* The next key that is to be the same in both, or NULL. */
static int walk_next(struct walk *w, const struct store_kv **out, struct hci_error *err)
{
	for (;;) {
		int rc;

		while (w->at < w->r.n) {
			*out = &w->r.kvs[w->at++];
			if (!special((*out)->key))
				return 0;
		}
		*out = NULL;
		if (w->end)
			return 0;
		if (w->r.n)
			snprintf(w->after, sizeof(w->after), "%s", w->r.kvs[w->r.n - 1].key);
		store_result_free(&w->r);
		w->at = 0;
		rc = store_range(w->s, "", w->after[0] ? w->after : NULL, 0, &w->r, err);
		if (rc)
			return rc;
		w->end = !w->r.more;
	}
}

static void walk_free(struct walk *w)
{
	store_result_free(&w->r);
}

/* ---- the markers ---- */

/* url "": there is none. */
static int marker_get(struct store *s, const char *key, struct rec_moved *out, uint64_t *rev, struct hci_error *err)
{
	int rc = rec_moved_get(s, key, out, rev, err);

	if (rc != HCI_E_NOTFOUND)
		return rc;
	memset(out, 0, sizeof(*out));
	*rev = 0;
	return 0;
}

static int somebody_else(const struct store_move *m, int rc, struct hci_error *err)
{
	return rc != HCI_E_CONFLICT ? rc
				    : err_set(err, rc, "store %.150s: somebody else is copying to %.200s, too: let one of them do it", m->from_url,
					      m->to_url);
}

int store_check_moved(struct store *s, const char *url, struct hci_error *err)
{
	struct rec_moved m;
	uint64_t rev;
	int rc = marker_get(s, KEY_MOVED, &m, &rev, err);

	if (!rc && m.url[0])
		return err_set(err, HCI_E_STATE, "store %.150s: the cluster was moved from here to %.250s: use that one", url, m.url);
	if (!rc)
		rc = marker_get(s, KEY_COPYING, &m, &rev, err);
	if (!rc && m.url[0])
		return err_set(err, HCI_E_STATE,
			       "store %.150s: a cluster is being moved to here from %.200s: let hci_store_copy() (hcictl store copy) end it, or "
			       "begin it again",
			       url, m.url);
	return rc;
}

/* ---- steps ---- */

/* The revisions of the marks; 0: there is none. */
struct marks {
	uint64_t moved, copying;
};

/* is->moved: an earlier move got as far as leaving the source. */
static int check_source(struct store_move *m, struct marks *is, struct rec_cluster *cluster, struct hci_error *err)
{
	struct rec_moved mark;
	struct walk w = { .s = m->from };
	const struct store_kv *kv;
	int rc = marker_get(m->from, KEY_COPYING, &mark, &is->copying, err);

	if (!rc && mark.url[0])
		return store_check_moved(m->from, m->from_url, err);
	if (!rc)
		rc = rec_cluster_get(m->from, KEY_CLUSTER, cluster, NULL, err);
	if (rc == HCI_E_NOTFOUND)
		return err_set(err, rc, "store %s: holds no cluster", m->from_url);
	if (!rc)
		rc = marker_get(m->from, KEY_MOVED, &mark, &is->moved, err);
	if (!rc && mark.url[0] && strcmp(mark.url, m->to_url) != 0)
		return store_check_moved(m->from, m->from_url, err);
	while (!rc && !(rc = walk_next(&w, &kv, err)) && kv)
		if (kv->lease)
			rc = err_set(err, HCI_E_BUSY,
				     "store %s: %s hangs on a lease, so somebody still runs: stop all nodes and clients, or wait until "
				     "the lease of one that died is over",
				     m->from_url, kv->key);
	walk_free(&w);
	return rc;
}

/* The target's: where a cluster is by now, whoever has finished it, is neither cleared nor marked. */
static int begin_target(struct store_move *m, struct marks *is, struct hci_error *err)
{
	struct store_cmp cmps[] = { { STORE_CMP_MOD_REV, KEY_COPYING, is->copying }, { STORE_CMP_MOD_REV, KEY_CLUSTER, 0 } };
	struct store_op clear = { .kind = STORE_DELETE_PREFIX, .key = "" };
	struct rec_moved mark = { 0 };
	struct buf b = BUF_INIT;
	int rc = 0;

	snprintf(mark.url, sizeof(mark.url), "%s", m->from_url);
	if (rec_moved_encode(&mark, &b))
		rc = err_set(err, HCI_E_NOMEM, "store %s: out of memory", m->to_url);
	if (!rc && is->copying) {
		rc = store_txn(m->to, cmps, 2, &clear, 1, NULL, err);
		cmps[0].rev = 0;
	}
	if (!rc) {
		struct store_op put = { STORE_PUT, KEY_COPYING, b.data, (uint32_t)b.len, 0 };

		rc = store_txn(m->to, cmps, 2, &put, 1, &is->copying, err);
	}
	buf_free(&b);
	return somebody_else(m, rc, err);
}

/* Empty, or with what an earlier attempt has left, which goes. *done: it has been the cluster's store for long. */
static int prepare_target(struct store_move *m, struct marks *is, const struct rec_cluster *cluster, bool *done,
			  struct hci_error *err)
{
	struct store_result r;
	struct rec_cluster there;
	struct rec_moved mark;
	int rc = marker_get(m->to, KEY_COPYING, &mark, &is->copying, err);

	*done = false;
	if (rc)
		return rc;
	if (mark.url[0] && !strcmp(mark.url, m->from_url))
		return begin_target(m, is, err);
	if (is->moved && !rec_cluster_get(m->to, KEY_CLUSTER, &there, NULL, NULL) &&
	    uuid_eq(&there.uuid, &cluster->uuid)) {
		*done = true;
		return 0;
	}
	rc = store_range(m->to, "", NULL, 1, &r, err);
	if (rc)
		return rc;
	if (r.n)
		rc = err_set(err, HCI_E_EXISTS,
			     "store %s: not empty, it has %s: give an empty one (another file, or another prefix)", m->to_url,
			     r.kvs[0].key);
	store_result_free(&r);
	return rc ? rc : begin_target(m, is, err);
}

struct batch {
	uint64_t copying; /* as we have put it */
	struct store_op ops[BATCH_OPS];
	size_t n, bytes;
};

static void batch_clear(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		mem_free((char *)b->ops[i].key);
		mem_free((void *)b->ops[i].value);
	}
	b->n = b->bytes = 0;
}

static int batch_put(struct store_move *m, struct batch *b, struct hci_error *err)
{
	struct store_cmp ours = { STORE_CMP_MOD_REV, KEY_COPYING, b->copying };
	int rc = b->n ? store_txn(m->to, &ours, 1, b->ops, b->n, NULL, err) : 0;

	batch_clear(b);
	return somebody_else(m, rc, err);
}

static int batch_add(struct store_move *m, struct batch *b, const struct store_kv *kv, struct hci_error *err)
{
	uint8_t *value = mem_alloc((size_t)kv->value_len + 1);
	char *key = mem_strdup(kv->key);

	if (!value || !key) {
		mem_free(value);
		mem_free(key);
		return err_set(err, HCI_E_NOMEM, "store %s: out of memory", m->to_url);
	}
	memcpy(value, kv->value, kv->value_len);
	b->ops[b->n++] = (struct store_op){ STORE_PUT, key, value, kv->value_len, 0 };
	b->bytes += kv->value_len + strlen(key);
	m->keys++;
	m->bytes += kv->value_len;
	return b->n == BATCH_OPS || b->bytes >= BATCH_BYTES ? batch_put(m, b, err) : 0;
}

/* What a failure leaves in the target the next attempt clears. */
static int copy_all(struct store_move *m, const struct marks *is, struct hci_error *err)
{
	struct batch *b = MEM_NEW(struct batch);
	struct walk w = { .s = m->from };
	const struct store_kv *kv;
	int rc = 0;

	if (!b)
		return err_set(err, HCI_E_NOMEM, "store %s: out of memory", m->to_url);
	b->copying = is->copying;
	while (!rc && !(rc = walk_next(&w, &kv, err)) && kv)
		rc = batch_add(m, b, kv, err);
	if (!rc)
		rc = batch_put(m, b, err);
	batch_clear(b);
	mem_free(b);
	walk_free(&w);
	return rc;
}

/* The mark of an earlier move becomes ours. */
static int leave_source(struct store_move *m, struct marks *is, struct hci_error *err)
{
	struct rec_moved mark = { 0 };

	snprintf(mark.url, sizeof(mark.url), "%s", m->to_url);
	return somebody_else(m, rec_moved_put(m->from, KEY_MOVED, &mark, is->moved, 0, &is->moved, err), err);
}

static int compare_all(struct store_move *m, struct hci_error *err)
{
	struct walk a = { .s = m->from }, b = { .s = m->to };
	const struct store_kv *x = NULL, *y = NULL;
	int rc;

	do {
		rc = walk_next(&a, &x, err);
		if (!rc)
			rc = walk_next(&b, &y, err);
		if (rc || (!x && !y))
			break;
		if (!x || !y || strcmp(x->key, y->key) || x->lease || x->value_len != y->value_len ||
		    memcmp(x->value, y->value, x->value_len))
			rc = err_set(err, HCI_E_CONFLICT,
				     "store %s: %s is not the same in both: it was changed while it was copied; stop all nodes and "
				     "clients, then copy again",
				     m->from_url, x ? x->key : y->key);
	} while (!rc);
	walk_free(&a);
	walk_free(&b);
	return rc;
}

static int finish_target(struct store_move *m, const struct marks *is, const struct rec_cluster *cluster, struct hci_error *err)
{
	struct buf b = BUF_INIT;
	struct store_cmp cmps[] = { { STORE_CMP_MOD_REV, KEY_COPYING, is->copying }, { STORE_CMP_MOD_REV, KEY_CLUSTER, 0 } };
	int rc = rec_cluster_encode(cluster, &b) ? err_set(err, HCI_E_NOMEM, "store %s: out of memory", m->to_url) : 0;

	if (!rc) {
		struct store_op ops[] = { { STORE_PUT, KEY_CLUSTER, b.data, (uint32_t)b.len, 0 },
					  { .kind = STORE_DELETE, .key = KEY_COPYING } };

		rc = store_txn(m->to, cmps, 2, ops, 2, NULL, err);
	}
	buf_free(&b);
	return somebody_else(m, rc, err);
}

int store_move(struct store_move *m, struct hci_error *err)
{
	struct rec_cluster cluster;
	struct marks is = { 0 };
	bool done;
	int rc;

	m->keys = m->bytes = 0;
	if (strlen(m->to_url) >= REC_URL_MAX || strlen(m->from_url) >= REC_URL_MAX)
		return err_set(err, HCI_E_INVAL, "store: a URL has more than %u bytes", REC_URL_MAX - 1);
	if (!strcmp(m->from_url, m->to_url))
		return err_set(err, HCI_E_INVAL, "store %s: source and target are the same", m->from_url);
	rc = check_source(m, &is, &cluster, err);
	if (!rc)
		rc = prepare_target(m, &is, &cluster, &done, err);
	if (rc || done)
		return rc;
	rc = copy_all(m, &is, err);
	if (!rc)
		rc = leave_source(m, &is, err);
	if (rc)
		return rc;
	rc = compare_all(m, err);
	if (rc) {
		(void)rec_delete(m->from, KEY_MOVED, is.moved, NULL, NULL);
		return rc;
	}
	m->keys++; /* the cluster itself */
	return finish_target(m, &is, &cluster, err);
}
