/* SPDX-License-Identifier: Apache-2.0 */
/* What core.c, place.c and jobs.c share. */
#ifndef CLUSTER_CORE_IMPL_H
#define CLUSTER_CORE_IMPL_H

#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "cluster/core.h"

#define LOG_SUB "cluster"

#define CORE_SENT 128u

enum { T_NODE, T_ALIVE, T_DISK, T_DISKSTAT, T_POOL, T_POLICY, TABLES };

struct ent {
	char *key;
	uint64_t mod_rev;
	void *rec;
};

struct table {
	const char *prefix;
	const struct rec_type *type;
	struct ent *ents; /* sorted by key */
	size_t n, cap;
};

/* A table that is being read. */
struct reading {
	struct table *of, now;
	bool again; /* what was read is not all as it is now */
};

struct core {
	struct core_opts o;
	char self[HCI_NAME_MAX];
	struct rec_cluster cluster;
	struct rpc *rpc;
	struct rpc_peers *peers;
	struct vol_ctx vol_ctx;
	struct core_cache *cache; /* cache.c; NULL: none is open */
	struct table tables[TABLES];
	struct store_watch *watch;
	uint64_t seen; /* the mirror holds everything up to this revision */
	struct list watchers;
	struct list jobs; /* that are executed here: struct core_job */
	struct fiber_cond changed;
	struct list policies; /* loaded ones: struct loaded_policy of place.c */
	struct fiber_mutex policy_lock;
	/* Disks that copies were sent to lately: their fill level does not show it yet. */
	struct {
		struct uuid disk;
		uint64_t at, bytes;
	} sent[CORE_SENT];
	unsigned sent_next;
	struct reading *reading; /* NULL: none */
	bool lost; /* the watch's place, and nothing was read since */
	bool reloading, closing;
};

/* vol_ctx.choose_spare: a home for one segment's lost copy. */
int core_choose_spare(void *arg, const struct rec_volume *v, uint32_t segment, const struct uuid *keep, size_t nkeep,
		      const struct uuid *bad, struct uuid *out, struct hci_error *err);
void core_policies_free(struct core *c);
/* A record under the prefix of jobs has changed. value NULL: it is gone. */
void core_job_changed(struct core *c, const char *id, const void *value, size_t len, uint64_t revision);
void core_cache_close(struct core *c); /* from a fiber */

#endif
