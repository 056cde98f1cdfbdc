/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the simulator: the event queue, the seeded random stream, nodes, and what its parts (files,
 * namespace, network) call of each other. Nothing outside lib/env/sim*.c and store_sim.c sees this.
 *
 * The simulator's own memory comes from calloc, not from base/mem.h: it must be neither in a node's
 * arena nor hit by injected failures. It is a test instrument: out of memory ends the process.
 */
#ifndef ENV_SIM_IMPL_H
#define ENV_SIM_IMPL_H

#include "base/mem.h"
#include "env/env_impl.h"
#include "env/sim.h"

#define SIM_NODES_MAX 64
#define SIM_NOT_QUEUED UINT32_MAX

/* Folded into the digest, so that a run is told apart by what happened and not by addresses. */
enum sim_kind {
	SIM_EV_TURN = 1,
	SIM_EV_TIMER,
	SIM_EV_AT,
	SIM_EV_IO,
	SIM_EV_NAMESPACE,
	SIM_EV_WORK,
	SIM_EV_CONNECT,
	SIM_EV_DELIVER,
	SIM_EV_READABLE,
	SIM_EV_WRITABLE,
	SIM_EV_CLOSED,
	SIM_EV_OPEN,
	SIM_EV_STORE,
	SIM_EV_CRASH,
	SIM_EV_FAULT,
};

/* One thing that will happen; embedded in its owner, at most once in the queue. */
struct sim_ev {
	uint64_t time;
	void (*fn)(struct sim_ev *ev);
	struct sim *sim;
	struct sim_node *node; /* whose code fn runs; NULL: the world's */
	uint32_t pos;
	uint32_t kind;
};

struct sim_slot {
	uint64_t time, tie;
	struct sim_ev *ev;
};

struct sim_page_pool;
struct sim_net;

struct sim {
	struct sim_opts o;
	struct env_ops env_ops;
	uint64_t now;
	uint64_t rng[4];
	uint64_t digest;
	uint64_t events;
	struct sim_slot *heap;
	uint32_t nheap, heap_cap;
	struct sim_node *nodes[SIM_NODES_MAX];
	unsigned nnodes;
	struct sim_node *cur; /* whose code runs; NULL: the test's */
	struct sim_page_pool *pages;
	struct sim_net *net;
	struct fiber_stacks *stacks;
	struct list ats; /* sim_at events still to come */
	void (*on_mark)(void *arg, struct sim_node *n, const struct env_mark *m, unsigned state);
	void *mark_arg;
	void (*on_step)(void *arg);
	void *step_arg;
	struct {
		uint64_t at, made;
	} fail[SIM_FAIL_KINDS];
	struct sim_node *reset_a, *reset_b; /* SIM_FAIL_SEND struck between these */
};

struct sim_node {
	struct sim *sim;
	struct sim_node *machine; /* itself, or the node that has the cables */
	unsigned index;
	char name[HCI_NAME_MAX];
	struct log log; /* adds time and node to each line */
	bool up;        /* the program runs */
	bool powered;   /* the kernel runs: after a kill -9 it does, and answers for the dead program */
	uint8_t crash_pending; /* 1: crash, 2: power loss, at the end of this turn */
	uint64_t boots;
	uint64_t paused_at, paused_until; /* until: 0 when it runs */
	struct sim_env *env;
	struct mem_arena *arena;
	struct list disks;
	struct list pending; /* struct sim_op */
	struct list files;   /* open handles */
	/* clock: local = clk_local + (now - clk_world) * (1e6 + ppm) / 1e6 */
	int64_t ppm;
	uint64_t clk_world, clk_local;
	int64_t realtime_offset;
	/* network */
	struct list conns, listeners;
	unsigned next_port;
};

/* A node's env; freed at a crash together with all that hangs on it. */
struct sim_env {
	struct env env;
	struct sim_node *node;
	struct sim_ev turn;  /* deferred tasks that came up during a turn */
	struct sim_ev timer; /* the earliest deadline */
};

/* Something of a node under way: an I/O, a change of the namespace, blocking work. */
struct sim_op {
	struct sim_ev ev;
	struct list link; /* node->pending, or disk->stalled besides */
	struct list stalled;
	/* The node died with this under way: have its effect, or not. Runs none of the node's code. */
	void (*drop)(struct sim_op *op, bool power_loss);
	struct sim_disk *disk;
	bool is_stalled;
};

/* sim.c */
void *sim_calloc(size_t n, size_t size);
void *sim_realloc(void *p, size_t size);
char *sim_strdup(const char *s);
uint64_t sim_range(struct sim *s, uint64_t min, uint64_t max); /* inclusive */
bool sim_chance(struct sim *s, uint32_t per_mille);
void sim_fold(struct sim *s, uint64_t v);
void sim_ev_init(struct sim_ev *ev, struct sim *s, struct sim_node *n, enum sim_kind kind, void (*fn)(struct sim_ev *));
void sim_ev_at(struct sim_ev *ev, uint64_t time); /* (re)schedules */
static inline void sim_ev_in(struct sim_ev *ev, uint64_t ns)
{
	sim_ev_at(ev, ev->sim->now + ns);
}
void sim_ev_cancel(struct sim_ev *ev); /* fine when not queued */
static inline bool sim_ev_queued(const struct sim_ev *ev)
{
	return ev->pos != SIM_NOT_QUEUED;
}

static inline bool sim_fail_now(struct sim *s, enum sim_fail_kind k)
{
	return ++s->fail[k].made == s->fail[k].at;
}

/* sim_node.c */
struct sim_enter {
	struct sim_node *prev;
	struct mem_arena *prev_arena;
	bool nested;
};
/* Around every call into a node's code. After sim_leave the node may be down. */
struct sim_enter sim_enter(struct sim_node *n);
void sim_leave(struct sim_node *n, struct sim_enter e);
static inline struct sim_node *sim_node_of(struct env *e)
{
	return container_of(e, struct sim_env, env)->node;
}
void sim_op_start(struct sim_op *op, struct sim_node *n, enum sim_kind kind, void (*fn)(struct sim_ev *), uint64_t delay);
void sim_op_end(struct sim_op *op); /* takes it off the lists, does not free */
void sim_node_free(struct sim_node *n);
uint64_t sim_node_now(const struct sim_node *n);

/* sim_file.c: what is in a file */
struct sim_inode {
	struct sim_disk *disk;
	uint32_t refs; /* names, journal entries, open handles */
	uint64_t ino;
	uint64_t size;         /* as read now */
	uint64_t durable_size; /* after a power loss at the latest */
	struct sim_l1 **l1;
	uint64_t nl1;
	struct list undo; /* unsynced writes, oldest first */
	struct list all;  /* disk->inodes */
	uint64_t write_seq;
	uint64_t size_seq; /* write_seq when size last changed */
	uint64_t durable_seq; /* the same of durable_size */
	bool dead;            /* its disk was replaced */
	uint8_t lie;          /* enum sim_disk_lie: of the next write */
};
struct sim_page_pool *sim_pages_new(void);
void sim_pages_free(struct sim_page_pool *p);
struct sim_inode *sim_inode_new(struct sim_disk *d);
void sim_inode_ref(struct sim_inode *i);
void sim_inode_unref(struct sim_inode *i);
uint64_t sim_inode_read(struct sim_inode *i, const struct iovec *iov, int niov, uint64_t off);
/* 0 or -ENOSPC with nothing done. */
int sim_inode_write(struct sim_inode *i, const struct iovec *iov, int niov, uint64_t off, bool durable);
/* What a power loss in the middle of the write left of it. */
void sim_inode_write_torn(struct sim_inode *i, const struct iovec *iov, int niov, uint64_t off);
int sim_inode_alloc(struct sim_inode *i, uint64_t off, uint64_t len);
void sim_inode_punch(struct sim_inode *i, uint64_t off, uint64_t len);
void sim_inode_truncate(struct sim_inode *i, uint64_t size);
void sim_inode_sync(struct sim_inode *i, uint64_t seq, uint64_t size, uint64_t size_seq);
void sim_inode_power_loss(struct sim_inode *i);
bool sim_inode_rot(struct sim_inode *i, uint64_t spare); /* nothing of the last so many writes */

/* sim_ns.c: names, and which of their changes are durable */
struct sim_dent;
struct sim_ns {
	struct sim_dent *root;
	struct list journal; /* changes that are not durable, oldest first */
	uint64_t seq, stamp;
};
void sim_ns_init(struct sim_ns *ns);
void sim_ns_free(struct sim_ns *ns);
int sim_ns_open(struct sim_disk *d, const char *rel, unsigned flags, struct sim_inode **out);
int sim_ns_unlink(struct sim_disk *d, const char *rel);
int sim_ns_rename(struct sim_disk *d, const char *from, const char *to);
int sim_ns_mkdir(struct sim_disk *d, const char *rel);
int sim_ns_rmdir(struct sim_disk *d, const char *rel);
/* Makes durable what was done in that directory up to seq. */
int sim_ns_sync_dir(struct sim_disk *d, const char *rel, uint64_t seq);
int sim_ns_listdir(struct sim_disk *d, const char *rel, char ***out); /* memory of the current arena */
/* What is at least this old becomes durable. */
void sim_ns_commit(struct sim_disk *d, uint64_t min_age);
void sim_ns_power_loss(struct sim_disk *d);
/* All files, by path order. */
void sim_ns_each(struct sim_disk *d, void (*fn)(void *arg, const char *path, struct sim_inode *i), void *arg);
/* The n-th (from 0) file whose path contains match, by path order; NULL past the last. */
struct sim_inode *sim_ns_match(struct sim_disk *d, const char *match, uint64_t n);

/* sim_disk.c */
struct sim_disk {
	struct sim *sim;
	struct sim_node *node;
	struct list link;
	char *prefix;
	size_t prefix_len;
	uint64_t capacity, used;
	enum sim_disk_fault fault;
	struct sim_ns ns;
	struct list inodes;
	struct list stalled; /* struct sim_op */
	uint64_t next_ino;
};
struct env_file {
	struct list link; /* node->files */
	struct sim_inode *inode;
	unsigned flags;
	unsigned inflight;
	bool stale;       /* its disk was pulled out */
};
void sim_disk_free(struct sim_disk *d);
struct sim_disk *sim_disk_of(struct sim_node *n, const char *path, const char **rel);
uint64_t sim_disk_slow(const struct sim_disk *d, uint64_t ns);
bool sim_disk_stall(struct sim_op *op);
void sim_file_submit(struct env *e, struct env_io *io);
void sim_disk_power_loss(struct sim_disk *d);

/* sim_names.c */
void sim_env_file_ops(struct env_ops *ops);
void sim_files_drop(struct sim_node *n); /* open handles of a dead program */

/* sim_net.c */
struct sim_net *sim_net_new(struct sim *s);
void sim_net_free(struct sim_net *net);
void sim_env_net_ops(struct env_ops *ops);
void sim_net_node_gone(struct sim_node *n, bool power_loss);
void sim_net_node_powered(struct sim_node *n);
/* sim_unix.c: adds names of sockets in a directory to those of files; the array may move. */
int sim_names_list(struct sim_node *n, const char *dir, char ***names);

#endif
