/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encoder's inside. A batch goes: filled by feed() -> todo -> a worker packs it -> unsent, in order -> next() ->
 * unacked -> free. Classifying needs the pages of all batches before: the workers do it one at a time, in the order of
 * the batches (`turn`); before it they hash, after it they compress, several at a time.
 */
#ifndef MEMSTREAM_ENC_IMPL_H
#define MEMSTREAM_ENC_IMPL_H

#include <pthread.h>

#include "compute/memstream/aside.h"
#include "compute/memstream/classify.h"
#include "compute/memstream/codec.h"
#include "compute/memstream/credit.h"
#include "compute/memstream/parse.h"

/*
 * How much of the processors the packing takes, and whether they are free: when a batch takes longer than its computing,
 * others want them (the VMMs, the guests), and more compression is paid for by those.
 */
struct crowd {
	uint64_t since, cpu_ns;  /* this period's */
	uint64_t took, computed; /* ns of packing: by the clock, of computing; the last ones count most */
	uint32_t share;          /* of one processor, in percent: the last whole period's */
};

struct enc_worker {
	struct mst_enc *e;
	pthread_t thread;
	struct mst_packer *packer;
	struct mplan plan;
	uint8_t *plain, *packed;
	size_t plain_cap, packed_cap;
};

/* What a provider's other half has: asked for piece by piece. */
struct enc_asking {
	bool (*told)(void *ctx, uint32_t half);
	void *ctx;
	bool asked; /* for the piece from `at` on */
	uint32_t at;
};

struct mst_enc {
	struct parser parser; /* the owner's, or (linger) under the lock while not `feeding` */
	struct mst_opts o;
	struct mst_provider providers[MST_PROVIDERS_MAX];

	pthread_mutex_t lock; /* over all below, but for what says otherwise */
	pthread_cond_t work;  /* for workers: a batch in todo, a turn, the end */
	bool stop, finished, end_sent, end_acked, hello_got, feeding;
	bool hurry;   /* no reference waits */
	bool limited; /* the carrier is */
	struct hci_error error; /* code 0: none */

	struct batch *cur;
	uint64_t window; /* what both sides agreed on */
	uint32_t codecs;

	struct list todo;    /* filled */
	uint32_t n_todo;     /* there or in a worker's hands */
	struct list flight;  /* all that are numbered and not acknowledged, in order: packing, unsent, sent */
	uint32_t n_unsent;   /* packed and not sent */
	uint64_t unsent_bytes;
	struct list spare;   /* batches to use again */
	uint32_t n_spare;
	struct msg_pool *pool; /* of batches' bytes */
	struct list control; /* messages that go before */
	uint32_t next_seq, turn, acked;
	uint64_t acked_bytes;
	int level;
	uint32_t level_wait; /* batches until the level may change again */
	struct crowd crowd;

	struct classifier *cl; /* of who has the turn */
	struct enc_asking asking[MST_PROVIDERS_MAX]; /* by the decoder's numbers */
	struct mst_packer *packer; /* for answers to page requests */
	struct credit credit;
	struct aside aside;
	uint32_t aside_lately; /* counts up by ASIDE_WEIGHT for each batch for which less was done, down by one for the others */
	struct mst_stats stats;
	struct enc_worker *workers;
	uint32_t n_workers; /* threads; with none workers[0] is the owner's */
};

#define LEVEL_FIRST 3 /* of compression */
#define ASIDE_WEIGHT 4u
#define ASIDE_MOST 64u

/* With the lock held, all of them. */
int enc_fail(struct mst_enc *e, int code, const char *what);
struct batch *enc_batch(struct mst_enc *e);
void enc_recycle(struct mst_enc *e, struct batch *b);
/* Its bytes are not needed any more. */
void enc_drop_raw(struct mst_enc *e, struct batch *b);
/* The current batch, if there is anything in it, goes to todo. False: no memory. */
bool enc_close_batch(struct mst_enc *e);
/* The same, but a page that is there in part goes on to the next batch. */
bool enc_close_settled(struct mst_enc *e);
uint64_t enc_now(const struct mst_enc *e);
/* Since when the oldest message that the other side has not may go; 0: there is none. */
uint64_t enc_oldest(const struct mst_enc *e);
/* Without workers: packs all that is in todo. */
void enc_run_inline(struct mst_enc *e);

/* enc_work.c */
int enc_start_workers(struct mst_enc *e, struct hci_error *err);
void enc_stop_workers(struct mst_enc *e);

#endif
