/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etcd's messages (etcd v3.4, etcdserver/etcdserverpb/rpc.proto and mvcc/mvccpb/kv.proto): those that this driver
 * sends are written, those that come back are taken apart. What is read points into the message.
 */
#ifndef ETCD_MSG_H
#define ETCD_MSG_H

#include <hci/plugin_store.h>

#include "pb.h"

/* A key of etcd: our prefix and the rest. */
#define ETCD_KEY_MAX (64 + 2 + 64 + HCI_STORE_KEY_MAX)
struct key {
	char p[ETCD_KEY_MAX + 1];
	size_t n;
};
void key_set(struct key *k, const char *prefix, const char *rest);
/* The first key that does not begin with k any more. */
void key_end(struct key *end, const struct key *k);

struct range_ask {
	const struct key *key, *end; /* end NULL: the key alone */
	uint64_t limit, revision;    /* 0: none; now */
	bool serializable, count_only;
};
void msg_range(struct buf *b, const struct range_ask *a);

/* Parts of a transaction; branch is TXN_SUCCESS or TXN_FAILURE. */
enum { TXN_COMPARE = 1, TXN_SUCCESS = 2, TXN_FAILURE = 3 };
void txn_cmp_mod(struct buf *b, const struct key *k, uint64_t rev);
void txn_cmp_there(struct buf *b, const struct key *k);
void txn_cmp_absent(struct buf *b, const struct key *k, const struct key *end);
void txn_get(struct buf *b, unsigned branch, const struct key *k);
void txn_put(struct buf *b, unsigned branch, const struct key *k, const void *value, size_t n, uint64_t lease);
void txn_delete(struct buf *b, unsigned branch, const struct key *k, const struct key *end);
/* A transaction within a branch: what is written between the two. */
struct txn_sub {
	size_t op, txn;
};
struct txn_sub txn_begin(struct buf *b, unsigned branch);
void txn_end(struct buf *b, struct txn_sub s);

/* ---- answers; false: not what etcd would say ---- */

struct hdr {
	uint64_t cluster, revision;
};
/* Of any answer: its header is field 1. */
bool msg_header(const void *p, size_t n, struct hdr *h);

struct kv_list {
	struct hci_store_kv *kv;
	size_t n, cap;
};
void kv_list_free(struct kv_list *l);
/* Adds to l, with keys less their first `skip` bytes. nomem is set when that is why it is false. */
bool msg_range_answer(struct pb_in in, size_t skip, struct hdr *h, struct kv_list *l, bool *more, bool *nomem);
bool msg_kv(struct pb_in in, size_t skip, struct hci_store_kv *kv);

struct txn_answer {
	struct hdr h;
	bool succeeded;
	struct pb_in op[HCI_STORE_TXN_MAX + 8]; /* a ResponseOp each */
	size_t nop;
};
bool msg_txn_answer(struct pb_in in, struct txn_answer *a);
/* The range in a ResponseOp: its one key, or n 0. */
bool msg_op_get(struct pb_in op, struct hci_store_kv *kv, size_t *n);
/* The transaction in a ResponseOp: did its compares hold? */
bool msg_op_txn(struct pb_in op, bool *succeeded);

/* A field of the answer that is a number, such as the TTL of a lease; 0 when it is not there. */
bool msg_number(const void *p, size_t n, unsigned field, uint64_t *out);

struct watch_answer {
	struct hdr h;
	bool created, canceled;
	uint64_t compact_revision;
	char reason[160];
	struct pb_in events; /* the message again, for msg_watch_event() */
};
bool msg_watch_answer(const void *p, size_t n, struct watch_answer *a);
/* The next event. False at the end; a->events.bad when it makes no sense. */
bool msg_watch_event(struct watch_answer *a, size_t skip, struct hci_store_event *ev);

#endif
