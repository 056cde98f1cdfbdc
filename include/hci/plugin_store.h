/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/plugin_store.h
 * Store drivers: where a cluster's metadata is. The part of a store's URL before the first ':' names the driver:
 * of "etcd://host:2379" it is "etcd", and the plugin is store-etcd.so in the folder of plugins (docs/plugins.md).
 *
 * What the operations mean is in docs/store-format.md: revisions, compare-and-swap transactions, leases, watches.
 * A driver may block only in open() and close(). It has threads of its own for the rest, as many as it
 * likes; submit(), watch() and unwatch() are called by one thread of the host and return at once.
 */
#ifndef HCI_PLUGIN_STORE_H
#define HCI_PLUGIN_STORE_H

#include <hci/plugin.h>

HCI_BEGIN_DECLS

/** Compares and operations in one transaction, each. */
#define HCI_STORE_TXN_MAX 120
/** Bytes of a key: printable ASCII without spaces. */
#define HCI_STORE_KEY_MAX 255
/** Bytes of a value. */
#define HCI_STORE_VALUE_MAX 1048576

/** A key with its value. Whoever hands it out keeps it for the call only. */
struct hci_store_kv {
	const char *key;     /**< key_len bytes; a NUL after them is not needed */
	const void *value;   /**< value_len bytes */
	uint32_t key_len;
	uint32_t value_len;
	uint64_t create_rev; /**< revision of the put that made the key */
	uint64_t mod_rev;    /**< of its last put; in the event of a deletion that of the deletion */
	uint64_t lease;      /**< 0: none */
};

#define HCI_STORE_CMP_MOD_REV 0 /**< the key's mod_rev is rev; rev 0: the key is absent */
#define HCI_STORE_CMP_EXISTS 1  /**< the key is there */

struct hci_store_cmp {
	const char *key;
	uint64_t rev;
	uint32_t kind;     /**< HCI_STORE_CMP_* */
	uint32_t reserved; /**< 0 */
};

#define HCI_STORE_PUT 0
#define HCI_STORE_DELETE 1
#define HCI_STORE_DELETE_PREFIX 2

struct hci_store_op {
	const char *key;    /**< of DELETE_PREFIX the prefix, may be "" */
	const void *value;  /**< of PUT */
	uint32_t value_len;
	uint32_t kind;      /**< HCI_STORE_PUT, DELETE, DELETE_PREFIX */
	uint64_t lease;     /**< of PUT: 0 or a lease */
};

#define HCI_STORE_REQ_GET 1       /**< key: kvs has it, or is empty */
#define HCI_STORE_REQ_RANGE 2     /**< key is a prefix: those after `after`, in byte order, at most limit */
#define HCI_STORE_REQ_TXN 3       /**< cmps, ops */
#define HCI_STORE_REQ_GRANT 4     /**< ttl_ns: a lease that lives at least so long after each renewal */
#define HCI_STORE_REQ_KEEPALIVE 5 /**< lease: renewed when it arrives, or HCI_E_NOTFOUND */
#define HCI_STORE_REQ_REVOKE 6    /**< lease: 0 also when it is gone */

/**
 * What is asked. The host has checked it: lengths are within the limits above, limit is 1..1000, no key is changed
 * twice by a transaction. All of it stays as it is until done().
 */
struct hci_store_request {
	uint32_t size;       /**< sizeof(struct hci_store_request) at the host */
	uint32_t kind;       /**< HCI_STORE_REQ_* */
	void *tag;           /**< the host's: for done() */
	uint64_t timeout_ns; /**< from the call of submit(): nobody waits longer */
	const char *key;
	const char *after;   /**< NULL: from the first */
	const struct hci_store_cmp *cmps; /**< walk with cmp_stride */
	const struct hci_store_op *ops;   /**< walk with op_stride */
	uint32_t cmp_stride;
	uint32_t op_stride;
	uint32_t ncmps;
	uint32_t nops;
	uint32_t limit;
	uint32_t reserved;   /**< 0 */
	uint64_t ttl_ns;
	uint64_t lease;
};

/** The answer. Memory of the driver, read during done() only. */
struct hci_store_answer {
	uint32_t size;                  /**< sizeof(struct hci_store_answer) at the driver */
	/**
	 * 0, or HCI_E_CONFLICT (a compare did not hold), FENCED (a lease of the transaction is unknown or over), NOTFOUND (lease), after
	 * all of which nothing was done; HCI_E_UNAVAILABLE: the request may have been done, but will not be done any more once a
	 * later request has been answered; or another HCI_E_*.
	 */
	int32_t code;
	const char *message;            /**< NULL, or object, cause and cure */
	uint64_t revision;              /**< of the store, as of the answer; of a transaction: its own */
	uint64_t lease;                 /**< GRANT: the new lease, not 0 */
	const struct hci_store_kv *kvs; /**< walk with kv_stride */
	uint32_t kv_stride;
	uint32_t nkvs;
	uint32_t more;                  /**< 1: RANGE has more after the last of kvs */
	uint32_t reserved;              /**< 0 */
};

/** One change. */
struct hci_store_event {
	struct hci_store_kv kv; /**< never grows: see reserved */
	uint32_t deleted;       /**< 1: then it has no value */
	uint32_t reserved;      /**< 0 */
};

/** What a watch is told: all changes of one revision, or that its place was lost. */
struct hci_store_change {
	uint32_t size;         /**< sizeof(struct hci_store_change) at the driver */
	uint32_t event_stride; /**< bytes from one event to the next */
	const struct hci_store_event *events;
	uint32_t nevents;      /**< at least 1 unless lost */
	uint32_t lost;         /**< 1: changes were missed (compacted history, a restored store); it goes on after revision */
	uint64_t revision;
};

/** Lent by the host until close() has returned. Any thread may call it, not from inside submit() and watch(). */
struct hci_store_host {
	uint32_t size; /**< sizeof(struct hci_store_host) at the host */
	uint32_t abi;  /**< HCI_PLUGIN_ABI of the host */
	void *ctx;     /**< first argument of the calls below */
	/** One line for the log. level: HCI_LOG_* (hci/log.h). */
	void (*log)(void *ctx, int32_t level, const char *line);
	/** In open() only: why it fails, an HCI_E_* and a message with object, cause and cure. */
	void (*fail)(void *ctx, int32_t code, const char *message);
	/** The answer of the request with this tag; exactly once for each request. */
	void (*done)(void *ctx, void *tag, const struct hci_store_answer *answer);
	/** News for the watch of this id; fine when it is closed. */
	void (*changed)(void *ctx, uint64_t watch, const struct hci_store_change *change);
};

struct hci_store_ops {
	uint32_t size; /**< sizeof(struct hci_store_ops) at the plugin */
	uint32_t reserved;
	/** Required. Connect to what url names. 0, or negative after host->fail(). May block for some seconds, on a thread of its own. */
	int32_t (*open)(const struct hci_store_host *host, const char *url, void **instance);
	/**
	 * Required. End: every request that is still open is answered first (HCI_E_CLOSED will do), threads are gone and nothing of
	 * the host is called any more when it returns. May block, on a thread of its own.
	 */
	void (*close)(void *instance);
	/**
	 * Required. Take the request. 0: one done() follows, at the latest when timeout_ns is over, better a little earlier. Negative:
	 * no memory, the request was not taken.
	 */
	int32_t (*submit)(void *instance, const struct hci_store_request *request);
	/**
	 * Required. Tell all changes after revision `after_rev` to keys that start with `prefix`, in order, none left out, for as long as it
	 * takes to reach the store; what cannot be told any more is `lost`. The prefix is read during the call only. 0, or negative
	 * when there is no memory.
	 */
	int32_t (*watch)(void *instance, uint64_t watch, const char *prefix, uint64_t after_rev);
	/** Required. Forget the watch; news that are under way do no harm. */
	void (*unwatch)(void *instance, uint64_t watch);
};

HCI_END_DECLS
#endif
