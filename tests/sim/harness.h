/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cluster in the simulated world: storage nodes that serve their disks with the real rpc and replica
 * code, client nodes that attach volumes with the real volume code, one store. What the node service
 * does for disks in life (open, serve, close when failed, open again) is done here in its simplest form.
 *
 * Everything here is the test's own memory and outlives the nodes' lives, but for struct life.
 */
#ifndef TESTS_SIM_HARNESS_H
#define TESTS_SIM_HARNESS_H

#include "cache/cache.h"
#include "env/fiber.h"
#include "env/sim.h"
#include "replica/replica.h"
#include "rpc/rpc.h"
#include "sim/try.h"
#include "store/records.h"
#include "store/store_sim.h"
#include "volume/volume.h"

#define CL_NODES_MAX 8
#define CL_CLIENTS_MAX 4
#define CL_DISKS_MAX 64

struct cluster;
struct cl_node;

/* An SSD of a node with the write logs of its disks: /s. */
struct cl_ssd {
	struct cl_node *node;
	struct sim_disk *sd;
	struct sim_disk *shelf;    /* where the right one lies while another is in its place */
	bool device;               /* it has a partition for each disk, else they are files */
	unsigned n;                /* disks with their log on it: the first of the node */
	unsigned made;             /* logs that were made on it since the beginning */
	enum sim_disk_fault fault; /* GONE: it is out */
	bool lost;                 /* for good, and there is no new one yet */
	struct cl_disk *blank;     /* another one is in its place, which stays there if this disk of its is given up meanwhile */
	bool blank_taken;          /* nor is it taken out again when that one, closed in an orderly way, has made its log anew there */
	struct cl_ssd *swapped;    /* with that, of another node */
};

struct cl_disk {
	struct cl_node *node;
	struct sim_disk *sd;
	struct cl_ssd *ssd;   /* of its write log, NULL: that is on the disk itself */
	struct cl_disk *successor; /* given up for its log: that one is in its place */
	/* As a node service's mirror of the store would show it. With a log on an SSD there is one in the store, too: whether the disk
	 * was removed is said there. */
	struct rec_disk rec;
	bool log_lost;        /* its log will not come back, what it holds counts for nothing, */
	bool doomed;          /* and there will be no other SSD */
	bool log_old;         /* its log is an old copy: it may be noticed when it is opened */
	bool formatted;
	bool serving;         /* in this life of its node */
	bool dead;            /* failed for good: nobody opens it again */
	enum sim_disk_fault fault;
	bool full;            /* somebody else took its room */
	struct sim_disk *under; /* with cluster_opts.unmounts: what is in its directory when it is not mounted */
	bool unmounted;
	bool faulted_lately;  /* a failure to open has its reason */
	bool lied;            /* of data it has dropped a write, or put it elsewhere: its checksums alone witness that */
	bool log_end_rots;    /* when it is opened next */
	bool log_breaks;      /* likewise: and nothing tells what was in the middle of its log */
	bool scrub_wanted;    /* by the test; its node begins soon */
	bool scrubbed;        /* and was done with it */
};

/* What runs on a node; of its arena. */
struct life {
	struct env *env;
	struct cl_node *node;
	struct store *store;
	struct rpc *rpc;
	struct rpc_peers *peers;
	struct repl_service *service;
	struct vol_ctx vol;
	struct list keepers;  /* of its disks (keeper.c) */
	bool stopping;        /* the service ends when they have */
	bool cache_tried;     /* client: its read cache was opened, or is being */
};

struct cl_node {
	struct cluster *cl;
	struct sim_node *sim;
	char name[HCI_NAME_MAX];
	bool client;
	unsigned index;       /* of the nodes, or of the clients */
	struct life *life;    /* NULL while it is down or not ready */
	struct cl_disk *disks[CL_DISKS_MAX];
	unsigned ndisks;
	struct cl_ssd *ssd;   /* NULL: none */
	struct sim_disk *cache_disk; /* client: the SSD of its read cache, or NULL */
	bool cache_faulted;          /* it failed at some time: no wonder if it cannot be opened */
};

struct cluster_opts {
	uint64_t seed;
	unsigned nodes, clients;
	unsigned data_disks, spare_disks; /* of each node */
	uint64_t disk_size, log_size;
	uint64_t ping_ns, store_timeout_ns;
	/* VOL_MUTATE_*, REPL_MUTATE_*, CACHE_MUTATE_*: rules that the engine is to break */
	uint32_t mutate, mutate_replica, mutate_cache;
	uint64_t cache_size; /* of each client's read cache; 0: none */
	uint32_t cache_block;
	bool ssds;            /* of most nodes some disks have their write log on an SSD, */
	uint64_t log_wait_ns; /* and wait so long for it */
	bool unmounts;        /* disks may be unmounted */
	struct log log;
};
#define CLUSTER_OPTS_INIT                                                                             \
	{                                                                                             \
		.seed = 1, .nodes = 3, .clients = 2, .data_disks = 1, .spare_disks = 1,               \
		.disk_size = 64 * MiB, .log_size = 0, .ping_ns = 500 * NS_PER_MS,                     \
		.store_timeout_ns = 2 * NS_PER_S,                                                     \
	}

struct cluster {
	struct cluster_opts o;
	struct sim *sim;
	struct simstore *store;
	struct uuid uuid;
	struct cl_node node[CL_NODES_MAX], client[CL_CLIENTS_MAX];
	struct cl_disk disk[CL_DISKS_MAX];
	unsigned ndisks;
	struct cl_ssd ssd[CL_NODES_MAX];
	unsigned nssds;
	struct cl_log_counts {
		uint64_t disks, back, given_up, refused; /* with their log on an SSD; logs that came back, counted on or not; old ones */
	} logs;
	/* Runs as a fiber on a client in each of its lives. */
	void (*on_client)(struct life *l, void *arg);
	/* A node died (before anything else hears of it). */
	void (*on_death)(struct cl_node *n, void *arg);
	void *arg;
	struct cache_info cache; /* counts of all clients' caches in all lives that are over */
	bool log_rots;        /* while a disk is not open a bit of its write log may flip */
	bool injected;        /* a failure was injected: a disk may be refused once */
	bool failed;          /* something happened that must not happen */
	char why[512];
};

/* Boots all nodes, formats and serves all disks; NULL arguments are fine. Fails the run (see why) when that does not work. */
struct cluster *cluster_new(const struct cluster_opts *o);
void cluster_free(struct cluster *c);
void cluster_fail(struct cluster *c, const char *fmt, ...) PRINTF(2, 3);
/* Runs until pred or max_ns; false: time ran out. Stops at a failure, too. */
bool cluster_run_until(struct cluster *c, bool (*pred)(struct cluster *c), uint64_t max_ns);

void cluster_boot(struct cl_node *n);
void cluster_kill(struct cl_node *n, bool power_loss);
/* Its service is told to end: it is down when its disks are closed. False: it is a client, or down, or told already. */
bool cluster_stop(struct cl_node *n);
/* Starts what on_client says on all clients that are up, and on others when they boot. */
void cluster_start_clients(struct cluster *c, void (*on_client)(struct life *l, void *arg), void *arg);
/* fn as a fiber on this node until its end. False: the node died, or time ran out. */
bool cluster_call(struct cl_node *n, void (*fn)(struct life *l, void *arg), void *arg, uint64_t max_ns);
struct cl_disk *cluster_disk(struct cluster *c, const struct uuid *u);
/* The one that is there now. */
static inline struct cl_disk *cluster_disk_now(struct cl_disk *d)
{
	return d->successor ? cluster_disk_now(d->successor) : d;
}
/* As the store has it, which need not have been noticed yet. */
bool cluster_given_up(const struct cl_disk *d);
/* It was given up: new is the record of the one in its place. */
void cluster_adopt(struct cl_disk *d, const struct rec_disk *new);
/* An SSD that nobody has used: partitions, if it has any. */
void cluster_blank_ssd(struct cl_ssd *s, struct sim_disk *sd);
/* Adds the caches of the clients that are up to cluster.cache: once, at the end. */
void cluster_count_caches(struct cluster *c);
void cluster_add_cache(struct cache_info *to, const struct cache_info *i);
/* Disks that are in no state to serve. */
unsigned cluster_disks_missing(struct cluster *c);

/* keeper.c: keeps the disks of a node open, serves them. */
void keepers_start(struct life *l);
void keepers_stop(struct life *l); /* they close them: from the node's code */

/* Places replicas on the data disks of distinct nodes, turn by turn. For vol_create. */
int cluster_place(void *arg, const struct vol_create *c, const struct uuid *volume, uint32_t first, uint32_t nseg,
		  struct uuid *out, struct hci_error *err);

#endif
