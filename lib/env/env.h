/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outside world behind one table: clock, timers, tasks, disk I/O, sockets, randomness, blocking work.
 *
 * A struct env is one event loop. Everything created on it belongs to it: callbacks arrive on its
 * thread, calls are made from its thread, only env_post() may be called from any. Engine code
 * (replica, volume, cluster, rpc) knows only this header and fiber.h, so the very same source runs
 *   - for real   (env_real.c: epoll, timerfd, kernel AIO + O_DIRECT, OpenSSL), and
 *   - simulated  (sim.h: virtual clock, seeded scheduler, faulty disks and network).
 *
 * Completion contract, everywhere: accepted (0) means exactly one callback, never from inside the
 * accepting call; refused (negative) means none.
 *
 * Errors of I/O are negative errno values (-EIO); of everything else HCI_E_* with struct hci_error.
 */
#ifndef ENV_ENV_H
#define ENV_ENV_H

#include <hci/error.h>
#include <sys/uio.h>

#include "base/base.h"
#include "base/list.h"
#include "base/log.h"
#include "base/metrics.h"

struct env;

/* ---- loop ---- */

struct env_task {
	struct list link;
	void (*fn)(struct env_task *);
	bool queued;
};

static inline void env_task_init(struct env_task *t, void (*fn)(struct env_task *))
{
	list_init(&t->link);
	t->fn = fn;
	t->queued = false;
}

/* Run fn once on the loop, after the current callback. Already queued: nothing. Loop thread only. */
void env_defer(struct env *e, struct env_task *t);
/* Take a deferred task back; fine if it is not queued. */
void env_undefer(struct env *e, struct env_task *t);
/* The same from any thread; wakes the loop. The task must not be posted again before it ran. */
void env_post(struct env *e, struct env_task *t);
bool env_on_loop(struct env *e); /* is the caller on e's thread? */

uint64_t env_now(struct env *e);      /* monotonic ns, cached per turn of the loop */
uint64_t env_realtime(struct env *e); /* ns since 1970 */
void env_random(struct env *e, void *out, size_t len);
const struct log *env_log(struct env *e);
struct metrics *env_metrics(struct env *e);

struct env_timer {
	uint64_t deadline;
	void (*fn)(struct env_timer *);
	/* of the loop: a pairing heap, so that arming needs no memory and cannot fail */
	bool armed;
	uint64_t seq;
	struct env_timer *child, *next, *prev;
};

void env_timer_init(struct env_timer *t, void (*fn)(struct env_timer *));
void env_timer_arm(struct env *e, struct env_timer *t, uint64_t deadline_ns); /* re-arms */
void env_timer_disarm(struct env *e, struct env_timer *t);
static inline bool env_timer_armed(const struct env_timer *t)
{
	return t->armed;
}

/* ---- blocking work: run() on a worker thread, then done() on the loop ---- */

struct env_work {
	struct list link;
	void (*run)(struct env_work *);  /* may block; touches nothing that the loop owns */
	void (*done)(struct env_work *);
	/* of the loop */
	struct env_task task;
	struct env *env;
};

void env_work(struct env *e, struct env_work *w);

/* ---- files: opened from a fiber (fiber.h), read and written asynchronously ---- */

struct env_file;

#define ENV_O_RDONLY 1u
#define ENV_O_CREATE 2u
#define ENV_O_EXCL 4u   /* with CREATE: fail with -EEXIST */
#define ENV_O_DIRECT 8u /* buffers, lengths and offsets are multiples of HCI_BLOCK */
#define ENV_O_LOCK 16u  /* nobody else, in any process, may open it so while it is open: -EBUSY (real world only) */

enum env_io_op {
	ENV_READ,  /* short read at the end of the file: result < asked */
	ENV_WRITE, /* result is always all or an error */
	ENV_SYNC,  /* fdatasync */
	ENV_PUNCH, /* deallocate [off, off+len), reads as zeroes; file keeps its size */
	ENV_ALLOC, /* fallocate [off, off+len), the file grows if need be */
};

#define ENV_IO_DSYNC 1u /* with WRITE: durable when done (as O_DSYNC) */

struct env_io {
	/* set by the caller, kept until done */
	enum env_io_op op;
	uint32_t flags;
	struct env_file *file;
	struct iovec *iov; /* for a single buffer: point at iov1 */
	int niov;
	struct iovec iov1;
	uint64_t off, len; /* len: of PUNCH and ALLOC */
	void (*done)(struct env_io *);
	/* set when done */
	int64_t result; /* bytes, or -errno */
	/* of the loop */
	struct list link;
	uint64_t priv[12];
};

/* Never refuses: errors arrive with done(). Requests to one file run in any order. I/O submitted
 * within one turn of the loop goes to the kernel as one batch. */
void env_submit(struct env *e, struct env_io *io);
static inline void env_io_prep(struct env_io *io, enum env_io_op op, struct env_file *f, void *buf, uint64_t len,
			       uint64_t off, void (*done)(struct env_io *))
{
	io->op = op;
	io->flags = 0;
	io->file = f;
	io->iov1.iov_base = buf;
	io->iov1.iov_len = (size_t)len;
	io->iov = &io->iov1;
	io->niov = 1;
	io->off = off;
	io->len = len;
	io->done = done;
	io->result = 0;
}

/* From a fiber only: they park it. Paths are absolute. 0 or -errno. */
int env_open(struct env *e, const char *path, unsigned flags, struct env_file **out);
void env_close(struct env *e, struct env_file *f); /* no I/O may be in flight */
int env_file_size(struct env *e, struct env_file *f, uint64_t *out);
int env_truncate(struct env *e, struct env_file *f, uint64_t size);
int env_unlink(struct env *e, const char *path);
int env_rename(struct env *e, const char *from, const char *to); /* atomic, replaces */
int env_mkdir(struct env *e, const char *path);                  /* 0 also when it is there */
int env_rmdir(struct env *e, const char *path);
int env_sync_dir(struct env *e, const char *path);               /* makes create/rename/unlink in it durable */
/* Bytes free for us and bytes in all on the file system of path. */
int env_statfs(struct env *e, const char *path, uint64_t *free_bytes, uint64_t *total_bytes);
/* Which file system a path is on: of two with the same number a write to one takes room from the other. in_ram: gone with the power. */
struct env_fs {
	uint64_t id;
	bool in_ram;
};
int env_fs_of(struct env *e, const char *path, struct env_fs *out);
/* Names in a directory, without . and .., NULL-terminated array; mem_free each and the array. */
int env_listdir(struct env *e, const char *path, char ***out);

/* Whole small files, from a fiber: at most max bytes. env_write_file is atomic and durable (temp, sync, rename, sync dir). */
struct buf;
int env_read_file(struct env *e, const char *path, size_t max, struct buf *out);
int env_write_file(struct env *e, const char *path, const void *data, size_t len);

/* ---- connections: ordered byte streams ---- */

struct env_conn;
struct env_listener;
struct env_tls;

/*
 * Addresses: "tcp:HOST:PORT" (HOST an IPv4/IPv6 literal in [] or a name; PORT 0 when listening: any),
 * "unix:/path". In the simulator "tcp:<node>:<port>".
 */

struct env_conn_ops {
	void (*on_open)(void *arg);     /* connected, and the TLS handshake is over; once */
	void (*on_readable)(void *arg); /* level-triggered: until env_conn_recv says AGAIN */
	void (*on_writable)(void *arg); /* after env_conn_send said AGAIN */
	/* The stream is over: the peer closed it, it broke, or it never opened. Once, the last callback.
	 * The conn is still to be freed with env_conn_close(). err: HCI_E_CLOSED, AUTH, TIMEOUT, UNAVAILABLE, ... */
	void (*on_closed)(void *arg, const struct hci_error *err);
};

/* tls == NULL: plain. Returns the conn at once; on_open or on_closed follows. NULL and err only when the address is nonsense. */
struct env_conn *env_connect(struct env *e, const char *addr, struct env_tls *tls, const struct env_conn_ops *ops,
			     void *arg, struct hci_error *err);
/* on_accept gets a conn whose handshake (if TLS) is over; it must call env_conn_set_ops or env_conn_close at once. */
struct env_listener *env_listen(struct env *e, const char *addr, struct env_tls *tls,
				void (*on_accept)(void *arg, struct env_conn *c), void *arg, struct hci_error *err);
/* The address that is really listened on (port filled in); valid as long as the listener. */
const char *env_listener_addr(const struct env_listener *l);
void env_listener_close(struct env_listener *l); /* unlinks a unix socket */

void env_conn_set_ops(struct env_conn *c, const struct env_conn_ops *ops, void *arg);
/* Bytes got (> 0), 0 at the end of the stream, HCI_E_AGAIN, or another HCI_E_* (on_closed follows). */
int64_t env_conn_recv(struct env_conn *c, void *buf, size_t len);
/* Bytes taken (> 0, may be fewer), HCI_E_AGAIN, or another HCI_E_*. Taken bytes need not stay. Corked: sent
 * at the end of this turn of the loop, in as few system calls and TLS records as possible. */
int64_t env_conn_send(struct env_conn *c, const struct iovec *iov, int n);
/* Stop and resume on_readable, to hold back a peer that sends faster than we work. */
void env_conn_pause(struct env_conn *c, bool paused);
/* Turn a plain stream into TLS from here on (NBD's STARTTLS); on_open is called again when the handshake is over. */
int env_conn_start_tls(struct env_conn *c, struct env_tls *tls, bool server, struct hci_error *err);
/* Common name in the peer's certificate, "" on a plain stream. */
const char *env_conn_peer_name(const struct env_conn *c);
/* Frees it; what env_conn_send took is still sent in the background unless abort. No callback after. */
void env_conn_close(struct env_conn *c, bool abort_now);

/* TLS 1.3 only, both sides present a certificate that chains to the CA. Paths of PEM files. Expired, wrong or
 * unreadable ones are refused here with HCI_E_AUTH naming the file. verify_peer false (NBD servers only) lets a client without one in. */
struct env_tls *env_tls_new(struct env *e, const char *ca_file, const char *cert_file, const char *key_file,
			    bool verify_peer, struct hci_error *err);
const char *env_tls_name(const struct env_tls *t); /* common name of our own certificate, "" when it has none */
void env_tls_free(struct env_tls *t); /* conns that use it keep it alive */

/* ---- the real world (env_real.c) ---- */

struct env_real_opts {
	struct log log;          /* copied */
	struct metrics *metrics; /* may be NULL; outlives the env */
	unsigned workers;        /* threads for blocking work, 0: 4 */
	const char *name;        /* of the threads, at most 10 characters */
	uint64_t spin_ns;        /* how long the loop looks for work at most before it sleeps; 0: it sleeps */
};

/* A loop that runs on the calling thread when env_run() is called. */
struct env *env_real_new(const struct env_real_opts *o, struct hci_error *err);
/* Until env_stop(). */
void env_run(struct env *e);
/*
 * Instead of sleeping until the loop has done something: run it, in the calling thread, until done(arg), which is asked
 * between turns, or until (monotonic ns). Any thread, while env_run() runs in another. Real loops only.
 */
enum env_drive {
	ENV_DRIVE_NO,    /* somebody else does, or the loop's thread is in a long turn */
	ENV_DRIVE_ASKED, /* its thread had to hand it over, which is no cheaper than to be woken */
	ENV_DRIVE_OK,
};
enum env_drive env_drive(struct env *e, uint64_t until, bool (*done)(void *arg), void *arg);
/* env_post() of one who has just driven and will again at once. If it does not, the task runs within some milliseconds. */
void env_post_quiet(struct env *e, struct env_task *t);
void env_stop(struct env *e); /* from any thread */
bool env_runs_here(struct env *e); /* are we called, however indirectly, by env_run() or env_drive()? */
/* After env_run() returned: ends workers, frees everything. Objects of the env must be closed. */
void env_free(struct env *e);

#endif
