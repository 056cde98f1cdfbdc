/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world: any number of nodes in one process on one thread, with one virtual clock, one
 * seeded scheduler, one network and disks that fail the way real ones do. The same seed and the same
 * program give the same run, bit for bit (sim_digest() tells).
 *
 * Each node has a struct env and a memory arena (base/mem.h) that is current whenever code of that
 * node runs; a crash drops the env's fibers, timers, files, connections and all of the arena's memory
 * without running another line of the node's code.
 */
#ifndef ENV_SIM_H
#define ENV_SIM_H

#include "env/env.h"

struct sim;
struct sim_node;

struct sim_opts {
	uint64_t seed;
	struct log log;
	/* Latencies are drawn from these ranges, ns. */
	uint64_t net_min, net_max;   /* one way */
	uint64_t disk_min, disk_max; /* one I/O */
	uint64_t sync_min, sync_max; /* one fdatasync */
	uint64_t work_min, work_max; /* blocking work, namespace operations */
};
#define SIM_OPTS_INIT                                                                                   \
	{                                                                                               \
		.seed = 1, .net_min = 30000, .net_max = 400000, .disk_min = 20000, .disk_max = 300000,  \
		.sync_min = 50000, .sync_max = 900000, .work_min = 10000, .work_max = 500000            \
	}

struct sim *sim_new(const struct sim_opts *o);
void sim_free(struct sim *s);
uint64_t sim_now(struct sim *s);
uint64_t sim_digest(struct sim *s);   /* hash of every scheduling decision so far */
uint64_t sim_events(struct sim *s);   /* how many events have run */
uint64_t sim_rand(struct sim *s);     /* for the test's own choices: part of the seed */
uint64_t sim_rand_below(struct sim *s, uint64_t n);

/* Runs events until the virtual time has advanced by ns, or until stop() is true (checked after each event). */
void sim_run(struct sim *s, uint64_t ns);
bool sim_run_until(struct sim *s, bool (*stop)(void *arg), void *arg, uint64_t max_ns); /* false: time ran out */
/* Calls fn at the given virtual time on no node (arena: none): for fault schedules. */
void sim_at(struct sim *s, uint64_t when, void (*fn)(void *arg), void *arg);

/* A node that is up. Disks and name survive crashes. */
struct sim_node *sim_node_new(struct sim *s, const char *name);
struct env *sim_node_env(struct sim_node *n);    /* NULL while it is down */
const char *sim_node_name(const struct sim_node *n);
bool sim_node_up(const struct sim_node *n);
/* kill -9: the program ends, what was written but not synced stays with the kernel. */
void sim_node_crash(struct sim_node *n);
/* Power loss: besides, each unsynced 4 KiB block write is kept, lost, or torn at 512 bytes, by the seed;
 * directory changes that were not synced may be lost. */
void sim_node_power_loss(struct sim_node *n);
/* Starts it again: boot(arg) runs with a new env and the arena current. Also the way to run code "on" a node. */
void sim_node_boot(struct sim_node *n, void (*boot)(struct env *e, void *arg), void *arg);
void sim_node_call(struct sim_node *n, void (*fn)(struct env *e, void *arg), void *arg);
/* Stopped (SIGSTOP, a hung hypervisor): its code does not run before the given virtual time; its clock and what the
 * kernel does for it go on. From the node's own code: from the end of this turn on. */
void sim_node_pause(struct sim_node *n, uint64_t until);
/* Clock: the monotonic clock of this node runs faster or slower by ppm; realtime jumps by ns. */
void sim_node_clock(struct sim_node *n, int64_t ppm, int64_t realtime_jump_ns);

/* ---- fail the nth, for every n: as SQLite's tests do ---- */

enum sim_fail_kind {
	SIM_FAIL_IO,           /* a read, write, sync, open... of any file ends with -EIO */
	SIM_FAIL_SEND,         /* a connection is reset when somebody sends on it */
	SIM_FAIL_STORE,        /* a request to the store is lost on its way there */
	SIM_FAIL_STORE_ANSWER, /* the store's answer is lost */
	SIM_FAIL_KINDS,
};
/* The nth from now on, once; 0: none. Counting begins anew. */
void sim_fail_nth(struct sim *s, enum sim_fail_kind k, uint64_t n);
uint64_t sim_fail_count(const struct sim *s, enum sim_fail_kind k); /* how many there were since */

/* ---- one step after the other ---- */

/* Called after each event of the network or the store (something arrives, a connection comes or ends), on no node. */
void sim_on_step(struct sim *s, void (*fn)(void *arg), void *arg);

/* ---- marked points (env/mark.h) ---- */

struct env_mark;
/* All there are in the program, in no particular order. */
const struct env_mark *sim_marks(size_t *n);
/* Called for each one reached, from inside the node's code: faults have to be put off with sim_at(). */
void sim_on_mark(struct sim *s, void (*fn)(void *arg, struct sim_node *n, const struct env_mark *m, unsigned state), void *arg);

/* Files of a node live below the prefixes of its disks ("/d1/..."); every other path is -ENOENT. */
struct sim_disk;
struct sim_disk *sim_disk_new(struct sim_node *n, const char *prefix, uint64_t capacity);
enum sim_disk_fault {
	SIM_DISK_OK,
	SIM_DISK_EIO,       /* every I/O fails with -EIO, open files included; contents kept */
	SIM_DISK_STALL,     /* I/O is accepted and completes only after the fault is over */
	SIM_DISK_READONLY,  /* writes fail with -EROFS */
	SIM_DISK_SLOW,      /* 100 times slower */
	SIM_DISK_GONE,      /* pulled out: see sim_disk_pull() */
};
void sim_disk_fault(struct sim_disk *d, enum sim_disk_fault f);
void sim_disk_set_capacity(struct sim_disk *d, uint64_t capacity); /* below what is used: -ENOSPC on allocation */
uint64_t sim_disk_used(const struct sim_disk *d);
void sim_disk_wipe(struct sim_disk *d);                            /* replaced by a new, empty one */
/*
 * Pulled out, now: of what was not synced is kept, lost or torn what a power loss would. Its names are -ENOENT until the fault is
 * set to another, and what was open on it fails for good, also when it is back.
 */
void sim_disk_pull(struct sim_disk *d);
/* Two that are pulled out: each will be put in where the other was. */
void sim_disk_swap(struct sim_disk *a, struct sim_disk *b);
/* A file of zeroes, durable: for those who take a device. */
void sim_disk_partition(struct sim_disk *d, const char *rel, uint64_t size);
/* What is in its files (not directories); and that again, in place of all that is in them now. */
struct sim_image;
struct sim_image *sim_disk_image(struct sim_disk *d);
void sim_disk_restore(struct sim_disk *d, const struct sim_image *m);
void sim_image_free(struct sim_image *m);
/* Flip a bit in some allocated block of a file whose path contains match; false when there is none. */
bool sim_disk_rot(struct sim_disk *d, const char *match);
bool sim_disk_rot_old(struct sim_disk *d, const char *match, uint64_t spare); /* nothing of the last so many writes to the file */
/* The next write to such a file is reported as done and never happens, or happens at another block of the file. */
enum sim_disk_lie { SIM_LIE_NONE, SIM_LIE_LOST, SIM_LIE_MISDIRECTED };
bool sim_disk_lie(struct sim_disk *d, const char *match, enum sim_disk_lie lie);

/*
 * Several nodes may be programs of one machine: they have its end of every cable, and unix sockets that the others reach. To be said
 * before anything is cut or listens; each has disks of its own all the same, and loses power by itself.
 */
void sim_node_join(struct sim_node *n, struct sim_node *machine);
#define SIM_UNIX_MAX 108
/* Names of a machine's unix sockets, seen from a node of it; a dead program's stays until it is unlinked or taken again. */
bool sim_unix_is_socket(struct sim_node *n, const char *path);
bool sim_unix_answers(struct sim_node *n, const char *path);
bool sim_unix_is_link(struct sim_node *n, const char *path);
void sim_unix_link(struct sim_node *n, const char *path, const char *to); /* if nothing is there */
void sim_unix_rename(struct sim_node *n, const char *from, const char *to);
void sim_unix_unlink(struct sim_node *n, const char *path);
const char *sim_unix_name(struct sim_node *n, unsigned i); /* NULL past the last */

/* Network between nodes. Connections keep their order; different ones overtake each other. */
void sim_net_cut(struct sim *s, struct sim_node *from, struct sim_node *to, bool cut); /* one way; packets vanish, like a pulled cable */
void sim_net_isolate(struct sim *s, struct sim_node *n, bool cut);                      /* both ways, to all */
void sim_net_heal(struct sim *s);
void sim_net_reset_conns(struct sim *s, struct sim_node *a, struct sim_node *b);        /* as by RST: both ends see it */

#endif
