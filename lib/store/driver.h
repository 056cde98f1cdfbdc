/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the store's front (store.c) and a driver. The front checks arguments, copies them into a
 * struct store_req, parks the fiber, minds the timeout and keeps the watches; the driver answers
 * requests and feeds watches. Everything here happens on the loop's thread.
 *
 * Memory: a request and all it points at belong to the front and stay until the driver has called
 * store_req_done(), also when the caller's timeout has passed meanwhile (the answer is then
 * dropped). The driver fills in `result` with memory from base/mem.h.
 */
#ifndef STORE_DRIVER_H
#define STORE_DRIVER_H

#include "base/list.h"
#include "store/store.h"

enum store_req_kind {
	STORE_REQ_GET,       /* key -> result */
	STORE_REQ_RANGE,     /* key (prefix), after, limit -> result */
	STORE_REQ_TXN,       /* cmps, ops -> revision */
	STORE_REQ_GRANT,     /* ttl_ns -> lease */
	STORE_REQ_KEEPALIVE, /* lease */
	STORE_REQ_REVOKE,    /* lease */
};

struct store_req {
	enum store_req_kind kind;
	struct store *store;
	/* asked; checked by the front, so keys and sizes are within the limits of store.h */
	char *key;
	char *after; /* NULL: from the first */
	uint32_t limit;
	struct store_cmp *cmps;
	size_t ncmp;
	struct store_op *ops;
	size_t nop;
	uint64_t ttl_ns;
	uint64_t lease;    /* of GRANT: the answer */
	uint64_t deadline; /* env_now() when the front gives up: no use in going on after it */
	/* answered: code 0 or HCI_E_* with err (err.message may be left empty for CONFLICT,
	 * NOTFOUND, FENCED) */
	int code;
	struct hci_error err;
	struct store_result result;
	uint64_t revision;
	/* the driver's, until store_req_done(); link is an empty list, task not initialised */
	struct list link;
	struct env_task task;
	uint64_t priv[4];
	/* the front's */
	struct fiber *fiber;
	struct env_timer timer;
	struct list all; /* in store->reqs */
	bool answered;   /* the driver is done with it */
	bool left;       /* the caller is: timeout or close */
};

/*
 * What a driver implements. `d` is the driver's own instance. A driver that cannot reach its store
 * keeps the request and tries until req->deadline, or answers HCI_E_UNAVAILABLE at once when that
 * is known to be useless; the front's timer answers the caller in any case.
 */
struct store_driver {
	const char *name;
	/* Accept the request: exactly one store_req_done() follows, not from inside this call. */
	void (*submit)(void *d, struct store_req *req);
	/*
	 * Feed w (see store_watch_deliver) with the changes after w->rev to keys that start with
	 * w->prefix, in order, none left out. Never from inside this call. 0 or HCI_E_NOMEM: that
	 * the store cannot be reached is no failure, the driver tries again as long as it takes.
	 */
	int (*watch)(void *d, struct store_watch *w);
	/* w is gone when this returns. What is under way for it is looked up by id and found
	 * missing. */
	void (*unwatch)(void *d, struct store_watch *w);
	/* From a fiber, parks: end and free all. The driver answers every request it still has
	 * first (any code; HCI_E_CLOSED is fine); all watches were closed before. */
	void (*close)(void *d);
};

struct store_watch {
	struct store *store;
	uint64_t id; /* never used twice in this store */
	char *prefix;
	uint64_t rev; /* everything up to here was delivered; moved on by the front */
	void (*fn)(void *arg, const struct store_event *ev, size_t n, uint64_t revision);
	void *arg;
	struct list link; /* in store->watches */
	void *driver_priv;
};

/* ---- called by drivers ---- */

/*
 * What the front has made sure of: keys are 1..STORE_KEY_MAX bytes of 0x21..0x7e (prefixes may be
 * ""), values at most STORE_VALUE_MAX, limit 1..1000, at most STORE_TXN_MAX compares and as many
 * ops, no key changed twice by one transaction (neither by its name nor by a prefix, as in etcd),
 * ttl_ns 1 ms..STORE_TTL_MAX. A transaction that changes nothing (no ops, or deletes of absent
 * keys) takes no revision: its answer is the store's present one. All keys of an expired or revoked
 * lease go in one revision. The mod_rev of a deleted key's event is the revision of the deletion.
 */
#define STORE_TTL_MAX (UINT64_C(366) * 24 * 3600 * NS_PER_S)

/* Makes the front for a driver instance: the last step of a driver's open function. NULL: no
 * memory. */
struct store *store_new(struct env *e, const struct store_driver *ops, void *d);
/* The answer is in req. req may be gone when this returns. */
void store_req_done(struct store_req *req);
/* NULL when it has been closed. */
struct store_watch *store_watch_find(struct store *s, uint64_t id);
/*
 * All matching changes of one revision (n > 0), or with ev == NULL: the place was lost, it goes on
 * from revision. Revisions not above w->rev are dropped, so that delivering twice does no harm. May
 * be closed, and gone, when this returns; the store itself is still there.
 */
void store_watch_deliver(struct store_watch *w, const struct store_event *ev, size_t n,
			 uint64_t revision);
/* Nothing matched up to this revision: for drivers that resume from w->rev. */
void store_watch_progress(struct store_watch *w, uint64_t revision);
/* Every watch is told that its place was lost, going on from `revision` or where it is, if that is later. */
void store_watch_lose_all(struct store *s, uint64_t revision);
bool store_key_matches(const char *key, const char *prefix);
void store_kv_clear(struct store_kv *kv); /* frees key and value */

/* Opens, by the rest of the URL after "sqlite:". From a fiber. */
int store_sqlite_open(struct env *e, const char *path, struct store **out, struct hci_error *err);
/* Opens through the plugin store-SCHEME.so (include/hci/plugin_store.h). From a fiber. */
int store_plugin_open(struct env *e, const char *url, struct store **out, struct hci_error *err);

#endif
