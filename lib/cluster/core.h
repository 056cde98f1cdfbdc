/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The heart of an open cluster, on its loop: the store, the rpc endpoint, the peers, and a mirror of the
 * small records (nodes, disks, pools, policies) kept current by watches. The public API (api_*.c), the
 * node service (node*.c) and the simulator's nodes are all built on it; nothing here knows threads.
 */
#ifndef CLUSTER_CORE_H
#define CLUSTER_CORE_H

#include "env/fiber.h"
#include "policy/policy.h"
#include "rpc/rpc.h"
#include "store/records.h"
#include "store/store.h"
#include "volume/volume.h"

struct core;

struct core_opts {
	struct env *env;
	struct store *store;    /* open; the caller's */
	struct env_tls *tls;    /* the caller's, or NULL */
	const char *self;       /* node or client name */
	const char *store_url;  /* for messages of core_open(), may be NULL; read during that call only */
	/* The simulator has no dlopen: a policy of its own for every name. NULL: load plugins. */
	int (*place)(void *arg, const struct hci_placement_snapshot *s, const struct hci_placement_request *r, uint32_t *out,
		     uint32_t want);
	void *place_arg;
};

/* From a fiber. Reads meta/cluster and the tables, starts the watches. */
int core_open(const struct core_opts *o, struct core **out, struct hci_error *err);
/* From a fiber; no volume may be attached through it. */
void core_close(struct core *c);

struct env *core_env(struct core *c);
struct store *core_store(struct core *c);
struct rpc *core_rpc(struct core *c);
struct rpc_peers *core_peers(struct core *c);
struct vol_ctx *core_vol_ctx(struct core *c);
const char *core_self(const struct core *c);
const struct rec_cluster *core_cluster(const struct core *c);

/* ---- the read cache (cache.c) ---- */

struct cache_opts;
/* From a fiber, once. Volumes attached from now on use it; core_close() closes it. */
int core_cache_open(struct core *c, const struct cache_opts *o, struct hci_error *err);
bool core_cache_stat(struct core *c, struct rec_cachestat *out); /* false: none is open */

/* ---- the mirror: pointers are valid until the caller parks ---- */

const struct rec_node *core_node(struct core *c, const char *name);
const struct rec_alive *core_alive(struct core *c, const char *node); /* NULL: no heartbeat */
const struct rec_disk *core_disk(struct core *c, const struct uuid *id);
const struct rec_diskstat *core_diskstat(struct core *c, const struct uuid *id);
const struct rec_pool *core_pool(struct core *c, const char *name);
const struct rec_policy *core_policy(struct core *c, const char *name);
/* Calls fn for each until it returns false. fn must not park. */
void core_each_node(struct core *c, bool (*fn)(void *arg, const struct rec_node *n), void *arg);
void core_each_disk(struct core *c, bool (*fn)(void *arg, const struct rec_disk *d), void *arg);
void core_each_pool(struct core *c, bool (*fn)(void *arg, const struct rec_pool *p), void *arg);
void core_each_policy(struct core *c, bool (*fn)(void *arg, const struct rec_policy *p), void *arg);
/*
 * From a fiber: waits until the mirror holds everything that was in the store at the call, so that a caller
 * sees what he, or anybody he heard from, has written. After a second the mirror is taken as it is.
 */
int core_catch_up(struct core *c, struct hci_error *err);
/* Signalled whenever a mirrored record changed. */
struct fiber_cond *core_changed(struct core *c);

/*
 * Tells every change of the mirrored records, of volumes' attachments and sync records, of VMs and jobs: for events and
 * reconcile loops. Called on the loop, not in a fiber; key and value (NULL: deleted) valid during the call.
 * watcher nodes are the caller's memory.
 */
struct core_watcher {
	struct list link;
	void (*fn)(struct core_watcher *w, const char *key, const void *value, size_t len, uint64_t revision);
};
void core_watch(struct core *c, struct core_watcher *w);
void core_unwatch(struct core *c, struct core_watcher *w);

/* ---- placement (place.c), from a fiber ---- */

/* vol_create.place: places segments by the volume's or its pool's policy. arg is the core. */
int core_place(void *arg, const struct vol_create *c, const struct uuid *volume, uint32_t first_segment, uint32_t nseg,
	       struct uuid *out, struct hci_error *err);
/* A policy by name, loaded once. Those that come with libhci are found beside the library when no record has that name. Reference kept by core. */
int core_policy_get(struct core *c, const char *name, struct policy **out, struct hci_error *err);
/* The policies that need no record, by name: @i from 0 until it returns NULL; @path is their plugin's. */
const char *core_policy_builtin(size_t i, char *path, size_t cap);
/* Asks for one segment with reasons for every disk of the pool: for people. Arrays are mem_free'd by the caller. */
struct core_explained {
	struct uuid disk;
	char node[HCI_NAME_MAX];
	int32_t rank; /* 1.. chosen, 0 not */
	double score;
	char reason[256];
};
int core_explain(struct core *c, const char *policy, const char *pool, uint32_t replicas, struct core_explained **out,
		 size_t *n, struct hci_error *err);

/* ---- jobs (jobs.c), from a fiber ---- */

struct core_job {
	struct list link; /* of the core's, while rec is there */
	struct core *core;
	struct rec_job *rec;
	uint64_t rev;
	uint64_t last_write;
	uint32_t told; /* a sum of what the last write said of its progress */
	bool lost; /* another node has taken it over, or our next life is to: nothing is written any more */
	const bool *stopping; /* the executor's; its end is tried until it is written or this is true; NULL: some times */
};
/* Makes a job record. args: pairs key, value, ..., NULL. id is written to rec. */
int core_job_create(struct core *c, const char *type, const char *target, const char *node, const char *const *args,
		    char id[HCI_NAME_MAX], struct hci_error *err);
/* Takes over a pending (or, after a restart, running) job as its executor. */
int core_job_begin(struct core *c, const char *id, struct core_job *j, struct hci_error *err);
/* The same for a job that any node may do: also one whose node is down. HCI_E_BUSY: a node that is alive has it. */
int core_job_take(struct core *c, const char *id, struct core_job *j, struct hci_error *err);
/*
 * Writes progress (j->rec->unit and ->message too) at most every 300 ms, and every 5 s when nothing of it has changed; returns true when the
 * job is to be cancelled, which is heard at once, written or not.
 */
bool core_job_progress(struct core_job *j, uint64_t done, uint64_t total, const char *phase);
/* Sets an argument that the executor's next life is to find, and writes it. 0: it is durable. */
int core_job_note(struct core_job *j, const char *key, const char *value, struct hci_error *err);
/* It stays as it is, for whoever goes on with it. Frees j->rec. */
void core_job_leave(struct core_job *j);
/* Ends it: status 0, HCI_E_CANCELLED or an error; message: the error's, or the result. Frees j->rec. */
void core_job_end(struct core_job *j, int status, const char *message);
/* Another node is to do it instead, from its beginning; it is pending for that one. Frees j->rec. */
void core_job_hand_on(struct core_job *j, const char *node);
const char *core_job_arg(const struct core_job *j, const char *key); /* NULL when absent */

#endif
