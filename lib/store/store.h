/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cluster's metadata: keys, revisions, compare-and-swap transactions, leases, watches. The
 * semantics are etcd's v3, cut down: one revision counter for the whole store, each successful
 * transaction that writes takes the next one.
 *
 * A struct store is a client on one loop. Requests are asynchronous with exactly one done();
 * fiber_ twins park. When the store cannot be reached requests wait until their timeout and then
 * fail with HCI_E_UNAVAILABLE: a write may then have happened or not (read again to know).
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/buf.h"
#include "env/env.h"

#define STORE_KEY_MAX 255u        /* bytes; printable ASCII without spaces, parts joined with '/' */
#define STORE_VALUE_MAX (1u << 20)
#define STORE_TXN_MAX 120u        /* compares, operations in one transaction: etcd's 128 less what its driver adds */

struct store;

struct store_kv {
	char *key;
	uint8_t *value;
	uint32_t value_len;
	uint64_t create_rev, mod_rev;
	uint64_t lease; /* 0: none */
};

/* What a get or range returned; mem of the request, freed by store_result_free. */
struct store_result {
	uint64_t revision; /* of the store when it was read or written; a long range may have later changes in it, too */
	struct store_kv *kvs;
	size_t n;
	bool more; /* range stopped at its limit */
};
void store_result_free(struct store_result *r);

enum store_cmp_kind {
	STORE_CMP_MOD_REV, /* key's mod_rev == rev; rev 0: key is absent */
	STORE_CMP_EXISTS,  /* key is there, whatever its revision */
};
struct store_cmp {
	enum store_cmp_kind kind;
	const char *key;
	uint64_t rev;
};
enum store_op_kind { STORE_PUT, STORE_DELETE, STORE_DELETE_PREFIX };
struct store_op {
	enum store_op_kind kind;
	const char *key;
	const void *value;
	uint32_t value_len;
	uint64_t lease; /* PUT: 0 or a lease; the key goes when the lease does. An unknown or expired lease fails the transaction with HCI_E_FENCED */
};

/* All parks: call from a fiber on the store's loop. Keys and values are copied at the call. */
int store_get(struct store *s, const char *key, struct store_result *out /* n is 0 or 1 */, struct hci_error *err);
/* Keys that start with prefix, in byte order, after `after` (NULL: from the first), at most limit (0: 1000). */
int store_range(struct store *s, const char *prefix, const char *after, uint32_t limit, struct store_result *out,
		struct hci_error *err);
/* All compares hold: all ops are done, 0. One does not: nothing is done, HCI_E_CONFLICT. *revision may be NULL. */
int store_txn(struct store *s, const struct store_cmp *cmps, size_t ncmp, const struct store_op *ops, size_t nop,
	      uint64_t *revision, struct hci_error *err);
/* Lives until ttl after the last keepalive. */
int store_lease_grant(struct store *s, uint64_t ttl_ns, uint64_t *lease, struct hci_error *err);
int store_lease_keepalive(struct store *s, uint64_t lease, struct hci_error *err); /* HCI_E_NOTFOUND when it is gone */
int store_lease_revoke(struct store *s, uint64_t lease, struct hci_error *err);    /* 0 also when it is gone */

/* One change; value of a DELETE is empty. */
struct store_event {
	bool deleted;
	struct store_kv kv;
};
struct store_watch;
/*
 * Every change to keys with this prefix after revision `after_rev`, in order, in batches of one revision
 * each, none left out. events == NULL: history was compacted or the connection lost its place: read the
 * range again, and go on from the watch, which continues from `revision`.
 * Called on the loop, not in a fiber. Memory is the store's, for the call only.
 */
struct store_watch *store_watch(struct store *s, const char *prefix, uint64_t after_rev,
				void (*fn)(void *arg, const struct store_event *ev, size_t n, uint64_t revision), void *arg);
void store_watch_close(struct store_watch *w); /* no call after */

/*
 * Opens by URL: "sqlite:/path/file.db" (built in). "X://..." through the plugin store-X.so ("etcd://...").
 * From a fiber. HCI_E_VERSION and HCI_E_CORRUPT for a file of another version or damaged, unchanged.
 */
int store_open(struct env *e, const char *url, struct store **out, struct hci_error *err);
/* False when the URL names a file that is not there, which store_open() would make. */
bool store_present(const char *url);
void store_close(struct store *s); /* from a fiber; open requests complete with HCI_E_CLOSED first */
struct env *store_env(struct store *s);
void store_set_timeout(struct store *s, uint64_t ns); /* of each request; default 5 s */

/* ---- what a driver implements: driver.h ---- */
#endif
