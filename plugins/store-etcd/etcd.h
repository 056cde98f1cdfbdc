/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store driver `etcd`, inside. One thread an open store does everything: it keeps one connection to one member, sends
 * calls over it, follows watches, and goes to the next member when one fails. Callers come in through an inbox.
 *
 * A *call* is one request with its answer; it is sent again, to whichever member, until it is answered or its deadline is
 * over. All calls are made so that sending them twice does no harm: reads and leases by nature, transactions by a guard key
 * (txn.c).
 */
#ifndef ETCD_ETCD_H
#define ETCD_ETCD_H

#include <hci/error.h>
#include <hci/log.h>
#include <hci/plugin_store.h>
#include <pthread.h>
#include <sys/queue.h>

#include "h2.h"
#include "msg.h"
#include "net.h"
#include "url.h"

#define MS UINT64_C(1000000)
#define SEC (1000 * MS)
#define NEVER UINT64_MAX

struct etcd;
struct call;

struct call_kind {
	const char *path;
	bool clean;   /* wait until transactions of unknown outcome are settled (session.c) */
	bool session; /* needs the session's lease and a slot */
	/* Writes the request. */
	void (*build)(struct etcd *e, struct call *c, struct buf *b);
	/* Answered: c->resp. Ends the call, or sends it again. */
	void (*done)(struct etcd *e, struct call *c);
	/* NULL, or what this kind makes of an error; false: nothing special. */
	bool (*error)(struct etcd *e, struct call *c, int status, const char *text);
	/* NULL, or: it is over, before the answer is given. unknown: it may have been done. */
	void (*end)(struct etcd *e, struct call *c, int code, bool unknown);
};

struct call {
	TAILQ_ENTRY(call) link;
	struct etcd *e;
	const struct call_kind *kind;
	const struct hci_store_request *rq; /* NULL: our own */
	uint64_t deadline, retry_at, sent_at;
	unsigned attempts; /* how often it was sent */
	bool unsure;       /* an earlier attempt may have been done, or may be yet */
	struct stream *stream;
	struct buf resp;
	bool got; /* resp is a whole message */
	/* of ranges */
	struct buf *pages;
	size_t npages, bytes;
	uint64_t first_rev; /* of the first page; 0: none yet */
	struct kv_list kvs;
	/* of transactions: the guard (txn.c) */
	int slot; /* -1: none */
	uint64_t session, slot_rev, nonce;
	bool ask_session; /* was it our lease that was not found? */
	/* of leases and watches */
	uint64_t lease;
	struct watch *watch;
};
TAILQ_HEAD(call_list, call);

struct watch {
	TAILQ_ENTRY(watch) link;
	struct etcd *e;
	uint64_t id, pos; /* all up to pos has been told */
	struct key key, end;
	bool closed; /* under the lock */
	bool lost;   /* something was missed: to be told with the next revision that we learn of */
	uint64_t retry_at;
	struct call *check; /* learning the store's revision */
	struct stream *stream;
};
TAILQ_HEAD(watch_list, watch);

#define SLOTS_MAX 64
#define VOIDS_MAX 32
struct slot {
	uint64_t rev; /* mod_revision of its key, 0: not there yet */
	enum { SLOT_FREE, SLOT_BUSY, SLOT_DIRTY } state;
};

enum conn_state { CONN_DOWN, CONN_CONNECTING, CONN_AUTH, CONN_HELLO, CONN_READY };

struct etcd {
	const struct hci_store_host *host;
	struct cfg cfg;
	pthread_t thread;
	int wake_fd;
	/* shared */
	pthread_mutex_t lock;
	pthread_cond_t opened;
	struct call_list inbox;
	struct watch_list watches; /* the thread adds and removes under the lock, others look under it */
	bool stop, open_over;
	struct failure open_err;
	/* the thread's */
	struct call_list waiting, sent;
	bool queued; /* a call was added to those that wait */
	enum conn_state state;
	struct net net;
	struct h2 *h2;
	struct stream *setup; /* of AUTH and HELLO */
	unsigned ep, tries;
	unsigned fails; /* members that failed one after another */
	uint64_t conn_at;   /* DOWN: when to try again; else when it is to be ready */
	uint64_t answered_at, stall;
	uint64_t cluster; /* its id, 0: not known yet */
	char token[300];
	struct failure why; /* the last thing that went wrong */
	enum { DOOM_NONE, DOOM_AGAIN, DOOM_NEXT } doom; /* the connection is to go; not while its own callbacks run */
	bool closing, told_down, more; /* more: to read, do not sleep */
	/* the session (session.c) */
	uint64_t session, session_at; /* its lease, 0: none; when to renew it */
	bool asked;                   /* somebody wants to know whether it lives */
	struct call *session_call, *void_call;
	struct slot slots[SLOTS_MAX];
	unsigned ndirty;
	uint64_t nonce;
};

uint64_t now_ns(void);
uint64_t random_id(void); /* positive as an int64, not 0 */
void say(struct etcd *e, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- engine.c ---- */
void *engine_main(void *arg);
/* The first member that works, or none: open() may go on. */
void engine_opened(struct etcd *e, const struct failure *f);

/* ---- connect.c ---- */
void conn_step(struct etcd *e, uint64_t now);
void conn_flush(struct etcd *e);
/* This member is of no use now: soon what is under way is sent again, to another one. */
void conn_fail(struct etcd *e, int code, const char *why);
/* Connect to it again, soon. */
void conn_again(struct etcd *e);
/* At once, for good. */
void conn_close(struct etcd *e);

/* ---- call.c ---- */
struct call *call_new(struct etcd *e, const struct call_kind *kind, const struct hci_store_request *rq);
/* Into the list of those that wait to be sent. */
void call_queue(struct etcd *e, struct call *c);
void call_send_waiting(struct etcd *e, uint64_t now);
/* Once more, at once: nothing went wrong. */
void call_again(struct etcd *e, struct call *c);
/* Once more, later: it failed in a way that another try may mend. */
void call_retry(struct etcd *e, struct call *c, uint64_t delay);
/* The answer; frees it. text NULL: the host knows what to say. */
void call_end(struct etcd *e, struct call *c, struct hci_store_answer *a);
void call_fail(struct etcd *e, struct call *c, int code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void call_nonsense(struct etcd *e, struct call *c);
void call_expire(struct etcd *e, uint64_t now);
void call_cancel_all(struct etcd *e);
uint64_t call_next_time(struct etcd *e, uint64_t now);

/* ---- call_kinds.c, txn.c, session.c, watch.c ---- */
const struct call_kind *kind_of(const struct hci_store_request *rq);
extern const struct call_kind kind_txn, kind_revision;

/* Is there a session, or does one begin? False: wait. */
bool session_ready(struct etcd *e);
/* Are all transactions of unknown outcome settled? False: wait, it is being done. */
bool session_clean(struct etcd *e);
void session_step(struct etcd *e, uint64_t now);
uint64_t session_next_time(const struct etcd *e);
/* That one's lease is gone; nothing when there is another one by now. */
void session_lost(struct etcd *e, uint64_t session);
/* Asks etcd whether it still lives; calls with ask_session are told by txn_session_says(). */
void session_ask(struct etcd *e);
void txn_session_says(struct etcd *e, bool lives);
void session_end(struct etcd *e);
/* False: wait, or the call has ended. */
bool slot_take(struct etcd *e, struct call *c);
void slot_give(struct etcd *e, struct call *c, uint64_t rev, bool dirty);
void slot_key(const struct etcd *e, int slot, struct key *k);

void watch_step(struct etcd *e, uint64_t now);
uint64_t watch_next_time(struct etcd *e);
/* The store's revision, for the watch that asked. */
void watch_checked(struct etcd *e, struct watch *w, bool ok, uint64_t revision);
void watch_free_all(struct etcd *e);

#endif
