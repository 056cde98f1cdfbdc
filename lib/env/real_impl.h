/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real env inside: what its files share. env_real.c has the loop, real_work.c the worker
 * threads, real_aio.c disk I/O, real_file.c the name space, real_addr.c addresses, real_net.c
 * listeners and connection set-up, real_conn.c the byte streams, real_tls.c what OpenSSL does for
 * them.
 */
#ifndef ENV_REAL_IMPL_H
#define ENV_REAL_IMPL_H

#include <linux/aio_abi.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/spin.h"
#include "env/env_impl.h"

/* What epoll wakes us for. */
struct source {
	void (*fn)(struct source *s, uint32_t events);
};

/* ---- worker threads ---- */

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct list queue;
	unsigned max, n, idle, queued;
	bool stop;
	pthread_t *threads;
};

/* ---- disk I/O ---- */

struct aio {
	aio_context_t ctx; /* 0: not set up yet, or not to be had */
	int fd;            /* eventfd of the completions */
	struct source src;
	unsigned depth, inflight;
	bool tried;
	struct list queue; /* not submitted yet */
};

/* ---- buffers of connections ---- */

#define CHUNK_SIZE (64u << 10)
struct chunk {
	struct list link;
	uint32_t head, tail; /* the bytes that are in it */
	uint8_t data[];
};
#define CHUNK_DATA ((uint32_t)(CHUNK_SIZE - 128))

/* ---- who runs the loop: real_drive.c ---- */

enum { DRIVE_HOME, DRIVE_GUEST, DRIVE_FREE };

struct drive {
	_Atomic uint32_t owner;
	atomic_bool want;         /* a guest asks: the home is to let go after its turn */
	_Atomic uint64_t left_at; /* when the last one let go */
	pthread_mutex_t lock;     /* guards what follows, and the waits */
	pthread_cond_t home, guest;
	bool asking, called;
	bool made;
	pthread_t home_thread; /* set before the loop runs */
};

struct real {
	struct env env;
	_Atomic pthread_t thread; /* who runs it; while nobody does, its own */
	struct drive drive;
	const sigset_t *sigmask; /* of the guest, while it sleeps */
	int epfd, wakefd;
	struct source wake;
	_Atomic(struct list *) posted; /* stack of env_task.link, by next */
	atomic_bool sleeping, stop, runs;
	bool draining; /* env_free(): nothing new is taken on */
	bool no_pwait2;
	uint64_t work_inflight; /* of env_work and of I/O on workers */
	char name[11];
	struct spin spin;
	struct metric *turns; /* how long each was busy */
	struct pool pool;
	struct aio aio;

	struct list conns, listeners;
	struct list ready;     /* conns with something to do */
	struct list flush;     /* conns with corked bytes */
	struct list graveyard; /* closed conns; freed before the next epoll_wait */
	struct list chunks;    /* free ones */
	unsigned nchunks;
};

static inline struct real *real_of(struct env *e)
{
	return container_of(e, struct real, env);
}

/* env_real.c */
uint64_t real_clock(void);
void real_wake(struct real *r);
void real_push(struct real *r, struct env_task *t); /* a post that calls nobody but who sleeps in the loop */
bool real_turn(struct real *r);                     /* work there is after this turn: do not sleep */
void real_sleep(struct real *r, bool busy, uint64_t until); /* then learns what came */
int real_watch(struct real *r, int fd, uint32_t events, struct source *s); /* 0 or -errno */

/* real_work.c */
int pool_init(struct pool *p, unsigned max);
void pool_stop(struct real *r); /* all that is queued is run first */
void pool_fini(struct pool *p);
void real_work(struct env *e, struct env_work *w);

/* real_aio.c */
void aio_setup(struct real *r); /* at the first O_DIRECT file */
void aio_flush(struct real *r); /* io_submit what this turn gathered */
bool aio_pending(const struct real *r);
bool aio_reap(struct real *r);  /* true when there was something */
void aio_fini(struct real *r);
void real_submit(struct env *e, struct env_io *io);

/* real_drive.c */
int drive_init(struct real *r); /* 0 or -errno */
void drive_fini(struct real *r);
void drive_park(struct real *r);      /* the home lets go, and returns when it has the loop again */
void drive_call_home(struct real *r);

/* real_spin.c */
struct epoll_event;
/* True when there is something to do: *n events of epoll, or what a turn finds. */
bool spin_look(struct real *r, struct epoll_event *ev, int nev, uint64_t now, uint64_t until, int *n);

/* real_file.c */
struct env_file {
	int fd;
	bool direct, blockdev;
};
int real_open(struct env *e, const char *path, unsigned flags, struct env_file **out);
void real_close(struct env *e, struct env_file *f);
int real_file_size(struct env *e, struct env_file *f, uint64_t *out);
int real_truncate(struct env *e, struct env_file *f, uint64_t size);
int real_unlink(struct env *e, const char *path);
int real_rename(struct env *e, const char *from, const char *to);
int real_mkdir(struct env *e, const char *path);
int real_rmdir(struct env *e, const char *path);
int real_sync_dir(struct env *e, const char *path);
int real_fs_of(struct env *e, const char *path, struct env_fs *out);
int real_statfs(struct env *e, const char *path, uint64_t *free_bytes, uint64_t *total_bytes);
int real_listdir(struct env *e, const char *path, char ***out);

/* real_addr.c */
struct addr {
	bool is_unix;
	char host[256]; /* without brackets */
	uint16_t port;
	char path[108];
};
int addr_parse(const char *s, struct addr *a, struct hci_error *err);
/* Without asking anybody: a literal or a unix path. False: the name must be looked up. */
bool addr_literal(const struct addr *a, struct sockaddr_storage *ss, socklen_t *len);
void addr_print(const struct sockaddr_storage *ss, char *out, size_t cap);
#define ADDR_TRIES 4
/* Blocks. Number of addresses, or an EAI_* code (negative). */
int addr_lookup(const struct addr *a, struct sockaddr_storage out[ADDR_TRIES],
		socklen_t len[ADDR_TRIES]);

/* real_net.c, real_conn.c, real_tls.c: see real_conn.h */
void net_init(struct real *r);
bool net_run(struct real *r);   /* callbacks of conns that are ready; true when some still are */
void net_flush(struct real *r); /* sends what is corked */
void net_bury(struct real *r);  /* frees closed conns */
void net_fini(struct real *r);

#endif
