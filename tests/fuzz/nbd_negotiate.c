/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD handshake. The first byte chooses TLS and how the rest is cut into pieces. However it is
 * cut, the machine must do the same: the whole input and the pieces are compared.
 */
#include <stdlib.h>

#include "export/nbd_negotiate.h"
#include "export/nbd_proto.h"

#define CHECK(x)                 \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

static const char *const names[] = { "disk", "", "a-second-export" };

static bool list(void *arg, unsigned i, struct nbd_neg_export *out)
{
	(void)arg;
	if (i >= ARRAY_SIZE(names))
		return false;
	*out = (struct nbd_neg_export){ (void *)names[i], names[i], i ? NULL : "described",
					1u << 30, NBD_TX_HAS_FLAGS };
	return true;
}

static uint32_t find(void *arg, const char *name, size_t len, bool go, struct nbd_neg_export *out,
		     char *msg, size_t cap)
{
	(void)go;
	for (unsigned i = 0; list(arg, i, out); i++)
		if (strlen(out->name) == len && !memcmp(out->name, name, len))
			return 0;
	strncpy(msg, "no such export", cap);
	return NBD_REP_ERR_UNKNOWN;
}

static const struct nbd_neg_ops ops = { find, list };

/* Feeds all of it in pieces; the last action, and what was sent in out. */
static enum nbd_neg_act run(const uint8_t *data, size_t size, size_t piece, bool tls,
			    struct buf *out, size_t *eaten)
{
	enum nbd_neg_act act = NBD_NEG_MORE;
	struct nbd_neg n;
	size_t at = 0, used;

	nbd_neg_init(&n, &ops, NULL, tls ? NBD_TLS_REQUIRE : NBD_TLS_OFF, out);
	while (at < size) {
		size_t len = MIN(piece, size - at);

		act = nbd_neg_feed(&n, data + at, len, &used, out);
		CHECK(used <= len);
		at += used;
		if (act == NBD_NEG_TLS)
			nbd_neg_tls_started(&n);
		else if (act != NBD_NEG_MORE)
			break;
		CHECK(used || act == NBD_NEG_TLS);
		CHECK(n.in.cap <= 64u << 10);
	}
	if (act == NBD_NEG_DROP)
		CHECK(n.why);
	if (act == NBD_NEG_TRANSMIT) {
		CHECK(n.session.handle && n.session.size == 1u << 30);
		CHECK(n.tls == tls);
		CHECK(!n.session.meta || n.session.structured);
		CHECK(!(n.session.flags & NBD_TX_DF) == !n.session.structured);
	}
	*eaten = at;
	nbd_neg_fini(&n);
	return act;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = BUF_INIT, pieces = BUF_INIT;
	size_t at, at2;

	if (!size)
		return 0;
	CHECK(run(data + 1, size - 1, size, data[0] & 1, &whole, &at) ==
	      run(data + 1, size - 1, 1 + data[0] / 2 % 64, data[0] & 1, &pieces, &at2));
	CHECK(at == at2);
	CHECK(whole.len == pieces.len && !memcmp(whole.data, pieces.data, whole.len));
	buf_free(&whole);
	buf_free(&pieces);
	return 0;
}
