/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder's inside. A message goes: take() -> jobs -> a worker unpacks it, hands its pages to the providers and looks its
 * references up -> when it is the first and nothing is missing, somebody makes its bytes, checks them and stores its pages
 * -> ready -> out(). What another stream brings is looked for again and again (dec_wait.c), until it is asked for.
 */
#ifndef MEMSTREAM_DEC_IMPL_H
#define MEMSTREAM_DEC_IMPL_H

#include <pthread.h>

#include "base/buf.h"
#include "compute/memstream/batch.h"
#include "compute/memstream/codec.h"
#include "compute/memstream/provider.h"
#include "compute/memstream/scratch.h"
#include "compute/memstream/slots.h"

#define BATCH_PAGES (MST_BATCH_MAX / MST_PAGE)

/* An instruction, read and checked. */
struct step {
	uint8_t op;
	uint32_t n;
	uint32_t from;  /* slots: the first; LOCAL: how far back; REF: index of the first reference */
	uint32_t store; /* with OP_STORE, OP_BACK: the first slot */
	int64_t jump;
};

struct ref {
	uint16_t page;
	uint8_t provider;
	bool there; /* its content is in `content` */
	bool asked; /* for, or came so */
	bool comes; /* with another stream; false from when it is not waited for any more */
	uint64_t token;
	uint8_t strong[MST_STRONG];
};

enum job_state { JOB_NEW, JOB_BUSY, JOB_WAITING, JOB_WHOLE };

struct job {
	struct list link;
	uint8_t state;
	uint32_t n_asked; /* references that came from the other side, or will */
	bool looking;   /* somebody looks for what it waits for, without the lock */
	uint32_t waits; /* references that are missing, and not asked for: another stream brings them */
	uint64_t until; /* ... or does not, by then */
	uint32_t left;  /* by how many had left when it began to wait */
	uint64_t came;  /* what had come when it was last looked for */
	struct mst_data d;
	uint8_t *message;
	const uint8_t *plain; /* ops, literals, delta, fresh: unpacked, or in the message if they were not packed */
	uint8_t *unpacked;
	struct step *steps;
	uint32_t n_steps, cap_steps;
	struct ref *refs;
	uint32_t n_refs, cap_refs, missing;
	uint8_t *content; /* of the references, a page each */
	uint32_t n_pages;
	uint32_t page_at[BATCH_PAGES];
	uint8_t page_op[BATCH_PAGES];
	uint32_t page_slot[BATCH_PAGES]; /* where it is to be kept, or ~0 */
	const uint8_t *made; /* its bytes: in `out`, or in the message if they are there as they are */
	uint8_t *out;
};

struct dec_worker {
	struct mst_dec *d;
	pthread_t thread;
	struct mst_packer *packer;
	bool ended, left; /* left: nobody waits for it */
	bool reads; /* atomic: it is in a read() that may hang, or about to look whether it may begin one */
};

struct mst_dec {
	struct mst_opts o;
	struct mst_provider providers[MST_PROVIDERS_MAX];
	struct worth worth[MST_PROVIDERS_MAX];
	uint32_t who[MST_PROVIDERS_MAX];

	pthread_mutex_t lock;
	pthread_cond_t work, over; /* over: a worker has ended */
	bool stop; /* atomic where the lock is not held */
	bool hello_got, applying, ended, end_acked;
	bool hurry; /* nothing waits for other streams */
	struct hci_error error;

	struct {
		bool asked;
		uint32_t from, at; /* as asked for, and what was looked through without finding any */
	} wanted[MST_PROVIDERS_MAX]; /* what the source wants to be told, and was not yet */
	struct list jobs, ready, control;
	uint32_t n_waiting; /* jobs with waits */
	uint64_t look_at;   /* when they are looked at next */
	uint32_t next_seq, consumed, told, told_got; /* told: of consumed, of what came */
	uint64_t end_bytes, held; /* held: bytes that jobs and ready will make */
	size_t offset;            /* consumed of the first that is ready */
	uint32_t cache_pages;

	struct scratch scratch; /* buffers of jobs; has a lock of its own */
	struct slots slots; /* of whoever is `applying` */
	struct mst_stats stats;
	struct dec_worker *workers;
	uint32_t n_workers, n_running;
	uint32_t users;  /* the owner, and workers: the last one frees it */
	uint32_t n_kept; /* providers that were told so */
	struct mst_packer *packer; /* the owner's */
};

void dec_job_free(struct mst_dec *d, struct job *j);
/* One user less; the last one frees it. Without the lock. */
void dec_leave(struct mst_dec *d);
/* With the lock held. */
int dec_fail(struct mst_dec *d, int code, const char *what);
/* For its references that are missing and not waited for; wrong: for all. False: no memory. */
bool dec_ask(struct mst_dec *d, struct job *j, bool wrong);
void dec_run_inline(struct mst_dec *d);

/* Without the lock. w: NULL on the owner's thread. */
enum served { SERVED, NOT_THERE, OTHER };

enum served dec_serve(struct mst_dec *d, struct dec_worker *w, const struct ref *ref, uint8_t *page);
/* Nobody may be there any more but who ends. */
bool dec_is_over(const struct mst_dec *d);
uint64_t dec_now(const struct mst_dec *d);

/* dec_wait.c. With the lock, which dec_wait_look() lets go meanwhile. */
void dec_wait_begin(struct mst_dec *d, struct job *j); /* some of its references wait */
bool dec_wait_due(const struct mst_dec *d);
void dec_wait_look(struct mst_dec *d, struct dec_worker *w);
/* For what a job counts. What came before it is looked up is not missed. */
uint64_t dec_wait_came(const struct mst_dec *d, uint32_t *left);

/* dec_ops.c: without the lock. */
/* Reads the instructions of a message that is unpacked. 0, HCI_E_PROTO or HCI_E_NOMEM. */
int job_compile(struct job *j, uint32_t slots);
/* Are its bytes in the message as they are? Then that is where they stay. */
bool job_is_made(struct job *j);
/* Makes its bytes. 0, HCI_E_PROTO; HCI_E_CORRUPT: they do not fit the checksum. */
int job_run(struct job *j, const struct slots *slots);
/* Its pages go where they are to be kept. False: no memory. */
bool job_store(struct job *j, struct slots *slots);

/* dec_work.c */
int dec_start_workers(struct mst_dec *d, struct hci_error *err);
/* Returns when they have ended, but for those that hang in a page which they read: these are left alone. */
void dec_stop_workers(struct mst_dec *d);

#endif
