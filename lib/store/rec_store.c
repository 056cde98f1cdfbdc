/* SPDX-License-Identifier: Apache-2.0 */
/* Records to and from the store: the few lines that every caller would repeat otherwise. All park.
 */
#include "base/err.h"
#include "base/mem.h"
#include "store/records.h"

int rec_get(struct store *s, const struct rec_type *t, const char *key, void *out,
	    uint64_t *mod_rev, struct hci_error *err)
{
	struct store_result res;
	int rc = store_get(s, key, &res, err);

	if (rc)
		return rc;
	if (res.n == 0) {
		store_result_free(&res);
		return err_set(err, HCI_E_NOTFOUND, "%s: there is no %s record with this key", key,
			       rec_type_name(t));
	}
	rc = rec_decode(t, res.kvs[0].value, res.kvs[0].value_len, out, err);
	if (rc)
		err_prefix(err, "%s", key);
	else if (mod_rev)
		*mod_rev = res.kvs[0].mod_rev;
	store_result_free(&res);
	return rc;
}

static int txn_one(struct store *s, const struct store_op *op, uint64_t rev, uint64_t *revision,
		   struct hci_error *err)
{
	struct store_cmp cmp = { STORE_CMP_MOD_REV, op->key, rev };

	return store_txn(s, &cmp, rev == REC_REV_ANY ? 0 : 1, op, 1, revision, err);
}

int rec_put(struct store *s, const struct rec_type *t, const char *key, const void *rec,
	    uint64_t rev, uint64_t lease, uint64_t *revision, struct hci_error *err)
{
	struct buf b = BUF_INIT;
	int rc = rec_encode(t, rec, &b, err);

	if (rc) {
		err_prefix(err, "%s", key);
	} else {
		struct store_op op = { STORE_PUT, key, b.data, (uint32_t)b.len, lease };

		rc = txn_one(s, &op, rev, revision, err);
	}
	buf_free(&b);
	return rc;
}

int rec_delete(struct store *s, const char *key, uint64_t rev, uint64_t *revision,
	       struct hci_error *err)
{
	struct store_op op = { .kind = STORE_DELETE, .key = key };

	return txn_one(s, &op, rev, revision, err);
}

void rec_list_free(struct rec_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		mem_free(l->keys[i]);
	mem_free(l->keys);
	mem_free(l->recs);
	mem_free(l->mod_revs);
	*l = (struct rec_list){ 0 };
}

static bool list_grow(struct rec_list *l, size_t more, size_t size)
{
	void *p;

	p = mem_realloc(l->recs, (l->n + more) * size);
	if (!p)
		return false;
	l->recs = p;
	p = mem_realloc(l->keys, (l->n + more) * sizeof(*l->keys));
	if (!p)
		return false;
	l->keys = p;
	p = mem_realloc(l->mod_revs, (l->n + more) * sizeof(*l->mod_revs));
	if (!p)
		return false;
	l->mod_revs = p;
	return true;
}

static int list_take(struct rec_list *l, const struct rec_type *t, struct store_result *page,
		     struct hci_error *err)
{
	size_t size = rec_size(t);

	if (page->n && !list_grow(l, page->n, size))
		return err_set(err, HCI_E_NOMEM, "list of %s records: out of memory",
			       rec_type_name(t));
	for (size_t i = 0; i < page->n; i++) {
		struct store_kv *kv = &page->kvs[i];
		int rc =
			rec_decode(t, kv->value, kv->value_len, (char *)l->recs + l->n * size, err);

		if (rc) {
			err_prefix(err, "%s", kv->key);
			return rc;
		}
		l->keys[l->n] = kv->key; /* moved over */
		kv->key = NULL;
		l->mod_revs[l->n++] = kv->mod_rev;
	}
	return 0;
}

int rec_list(struct store *s, const struct rec_type *t, const char *prefix, struct rec_list *out,
	     struct hci_error *err)
{
	struct rec_list l = { 0 };
	bool more = true, first = true;
	int rc = 0;

	*out = l;
	while (more && !rc) {
		struct store_result page;

		rc = store_range(s, prefix, l.n ? l.keys[l.n - 1] : NULL, 0, &page, err);
		if (rc)
			break;
		if (first)
			l.revision = page.revision;
		first = false;
		more = page.more;
		rc = list_take(&l, t, &page, err);
		store_result_free(&page);
	}
	if (rc)
		rec_list_free(&l);
	else
		*out = l;
	return rc;
}
