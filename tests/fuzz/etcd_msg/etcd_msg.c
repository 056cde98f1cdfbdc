/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a member of etcd can send. The first byte chooses:
 *	0  the bytes of a gRPC stream, in pieces
 *	1  the answer to a range
 *	2  the answer to a transaction, with the parts that are looked into
 *	3  what a watch says
 *	4  a number in an answer, its header
 * What is taken out of it must lie within it.
 */
#include <stdlib.h>
#include <string.h>

#include "../../../plugins/store-etcd/h2.h"
#include "../../../plugins/store-etcd/msg.h"

#define CHECK(x)                 \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

static const uint8_t *from, *end;

static void within(const void *p, size_t n)
{
	if (n)
		CHECK((const uint8_t *)p >= from && (const uint8_t *)p + n <= end);
}

static void check_kv(const struct hci_store_kv *kv)
{
	within(kv->key, kv->key_len);
	within(kv->value, kv->value_len);
}

static void message(void *arg, const void *p, size_t n)
{
	volatile uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + ((const uint8_t *)p)[i]);
	(*(size_t *)arg)++;
}

static void stream(const uint8_t *p, size_t n)
{
	struct buf rx = { 0 };
	size_t messages = 0, piece = n ? p[0] % 64 + 1 : 1;

	for (size_t at = 0; at < n; at += piece)
		if (!grpc_feed(&rx, p + at, n - at < piece ? n - at : piece, message, &messages))
			break;
	CHECK(messages <= n / 5);
	buf_free(&rx);
}

static void range(const uint8_t *p, size_t n)
{
	struct kv_list l = { 0 };
	struct hdr h = { 0 };
	bool more, nomem;

	if (msg_range_answer(pb_of(p, n), 4, &h, &l, &more, &nomem))
		for (size_t i = 0; i < l.n; i++)
			check_kv(&l.kv[i]);
	CHECK(!nomem);
	kv_list_free(&l);
}

static void txn(const uint8_t *p, size_t n)
{
	struct txn_answer a;
	struct hci_store_kv kv;
	size_t found;
	bool yes;

	if (!msg_txn_answer(pb_of(p, n), &a))
		return;
	for (size_t i = 0; i < a.nop; i++) {
		within(a.op[i].p, pb_len(&a.op[i]));
		if (msg_op_get(a.op[i], &kv, &found) && found)
			check_kv(&kv);
		(void)msg_op_txn(a.op[i], &yes);
	}
}

static void watch(const uint8_t *p, size_t n)
{
	struct watch_answer a;
	struct hci_store_event ev;

	if (!msg_watch_answer(p, n, &a))
		return;
	CHECK(memchr(a.reason, 0, sizeof(a.reason)));
	while (msg_watch_event(&a, 4, &ev))
		check_kv(&ev.kv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t what = size ? data[0] % 5 : 0;
	uint64_t number;
	struct hdr h;
	uint8_t *copy;
	size_t n = size ? size - 1 : 0;

	copy = malloc(n ? n : 1); /* of the very length, so that a read beyond it is seen */
	CHECK(copy);
	if (n)
		memcpy(copy, data + 1, n);
	from = copy;
	end = copy + n;
	switch (what) {
	case 0:
		stream(copy, n);
		break;
	case 1:
		range(copy, n);
		break;
	case 2:
		txn(copy, n);
		break;
	case 3:
		watch(copy, n);
		break;
	default:
		(void)msg_number(copy, n, 3, &number);
		(void)msg_header(copy, n, &h);
	}
	free(copy);
	return 0;
}
