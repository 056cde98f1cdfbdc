/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD handshake, byte by byte: each option, right and wrong. */
#include "export/nbd_negotiate.h"

#include <stdarg.h>

#include "export/nbd_proto.h"
#include "unit/harness.h"

static int handle_a, handle_b;
static bool full; /* the exports take no more connections */

static bool list(void *arg, unsigned i, struct nbd_neg_export *out)
{
	(void)arg;
	if (i > 1)
		return false;
	*out = (struct nbd_neg_export){ i ? &handle_b : &handle_a, i ? "beta" : "alpha",
					i ? NULL : "the first", (i + 1) * MiB,
					NBD_TX_HAS_FLAGS | NBD_TX_FLUSH };
	return true;
}

static uint32_t find(void *arg, const char *name, size_t len, bool go, struct nbd_neg_export *out,
		     char *msg, size_t cap)
{
	for (unsigned i = 0; list(arg, i, out); i++) {
		if (strlen(out->name) != len || memcmp(out->name, name, len))
			continue;
		if (!go || !full)
			return 0;
		snprintf(msg, cap, "full");
		return NBD_REP_ERR_POLICY;
	}
	snprintf(msg, cap, "unknown");
	return NBD_REP_ERR_UNKNOWN;
}

static const struct nbd_neg_ops ops = { find, list };

static struct nbd_neg neg;
static struct buf out, in;
static size_t seen; /* of out */

static void start(enum nbd_tls_mode mode)
{
	full = false;
	in = out = BUF_INIT;
	nbd_neg_init(&neg, &ops, NULL, mode, &out);
	seen = 18;
}

static void setup(void)
{
	start(NBD_TLS_OFF);
}

static void teardown(void)
{
	nbd_neg_fini(&neg);
	buf_free(&out);
	buf_free(&in);
}

static void put16(uint16_t v)
{
	uint8_t b[2];

	nbd_put16(b, v);
	buf_append(&in, b, 2);
}

static void put32(uint32_t v)
{
	uint8_t b[4];

	nbd_put32(b, v);
	buf_append(&in, b, 4);
}

static void put_str(const char *s)
{
	put32((uint32_t)strlen(s));
	buf_append(&in, s, strlen(s));
}

/* Feeds what was put, one byte at a time; what the last byte brought. */
static enum nbd_neg_act feed(void)
{
	enum nbd_neg_act act = NBD_NEG_MORE;
	size_t used;

	for (size_t i = 0; i < in.len; i++) {
		ck_assert_int_eq(act, NBD_NEG_MORE);
		act = nbd_neg_feed(&neg, in.data + i, 1, &used, &out);
		if (act != NBD_NEG_DROP)
			ck_assert_uint_eq(used, 1);
	}
	buf_reset(&in);
	return act;
}

static void flags(uint32_t f)
{
	put32(f);
	ck_assert_int_eq(feed(), NBD_NEG_MORE);
}

/* Sends an option whose data was put already. */
static enum nbd_neg_act option(uint32_t opt)
{
	struct buf data = in;
	uint8_t h[16];
	enum nbd_neg_act act;

	in = BUF_INIT;
	nbd_put64(h, NBD_OPT_MAGIC);
	nbd_put32(h + 8, opt);
	nbd_put32(h + 12, (uint32_t)data.len);
	buf_append(&in, h, 16);
	buf_append(&in, data.data, data.len);
	buf_free(&data);
	act = feed();
	return act;
}

/* The next reply: its type, with its data at *p. */
static uint32_t reply(uint32_t opt, const uint8_t **p, uint32_t *len)
{
	const uint8_t *h = out.data + seen;

	ck_assert_uint_ge(out.len - seen, 20);
	ck_assert_uint_eq(nbd_get64(h), NBD_REP_MAGIC);
	ck_assert_uint_eq(nbd_get32(h + 8), opt);
	*len = nbd_get32(h + 16);
	*p = h + 20;
	seen += 20 + *len;
	ck_assert_uint_le(seen, out.len);
	return nbd_get32(h + 12);
}

static void want(uint32_t opt, uint32_t type)
{
	const uint8_t *p;
	uint32_t len;

	ck_assert_uint_eq(reply(opt, &p, &len), type);
}

static void over(void)
{
	ck_assert_uint_eq(seen, out.len);
}

static void put_go(const char *name, int n, ...)
{
	va_list ap;

	put_str(name);
	put16((uint16_t)n);
	va_start(ap, n);
	while (n--)
		put16((uint16_t)va_arg(ap, int));
	va_end(ap);
}

START_TEST(greeting)
{
	ck_assert_uint_eq(out.len, 18);
	ck_assert_mem_eq(out.data, "NBDMAGICIHAVEOPT\0\3", 18);
}
END_TEST

START_TEST(client_flags_unknown_are_dropped)
{
	put32(4);
	ck_assert_int_eq(feed(), NBD_NEG_DROP);
	ck_assert_ptr_nonnull(neg.why);
}
END_TEST

START_TEST(not_fixed_may_only_name_an_export)
{
	flags(0);
	ck_assert_int_eq(option(NBD_OPT_LIST), NBD_NEG_DROP);
}
END_TEST

START_TEST(export_name_with_zeroes)
{
	flags(0);
	buf_append(&in, "beta", 4);
	ck_assert_int_eq(option(NBD_OPT_EXPORT_NAME), NBD_NEG_TRANSMIT);
	ck_assert_uint_eq(out.len, 18 + 10 + 124);
	ck_assert_uint_eq(nbd_get64(out.data + 18), 2 * MiB);
	ck_assert_ptr_eq(neg.session.handle, &handle_b);
	ck_assert(!neg.session.structured && !neg.session.meta);
}
END_TEST

START_TEST(export_name_without_zeroes)
{
	flags(3);
	buf_append(&in, "alpha", 5);
	ck_assert_int_eq(option(NBD_OPT_EXPORT_NAME), NBD_NEG_TRANSMIT);
	ck_assert_uint_eq(out.len, 18 + 10);
}
END_TEST

START_TEST(export_name_unknown_hangs_up)
{
	flags(3);
	buf_append(&in, "gamma", 5);
	ck_assert_int_eq(option(NBD_OPT_EXPORT_NAME), NBD_NEG_DROP);
}
END_TEST

START_TEST(abort_is_acknowledged)
{
	flags(3);
	ck_assert_int_eq(option(NBD_OPT_ABORT), NBD_NEG_CLOSE);
	want(NBD_OPT_ABORT, NBD_REP_ACK);
	over();
}
END_TEST

START_TEST(list_names_all)
{
	const uint8_t *p;
	uint32_t len;

	flags(3);
	ck_assert_int_eq(option(NBD_OPT_LIST), NBD_NEG_MORE);
	ck_assert_uint_eq(reply(NBD_OPT_LIST, &p, &len), NBD_REP_SERVER);
	ck_assert_uint_eq(len, 4 + 5 + 9);
	ck_assert_uint_eq(nbd_get32(p), 5);
	ck_assert_mem_eq(p + 4, "alphathe first", 14);
	ck_assert_uint_eq(reply(NBD_OPT_LIST, &p, &len), NBD_REP_SERVER);
	ck_assert_mem_eq(p + 4, "beta", 4);
	want(NBD_OPT_LIST, NBD_REP_ACK);
	put32(1);
	option(NBD_OPT_LIST);
	want(NBD_OPT_LIST, NBD_REP_ERR_INVALID);
	over();
}
END_TEST

START_TEST(info_tells_what_was_asked)
{
	const uint8_t *p;
	uint32_t len;

	flags(3);
	put_go("alpha", 4, NBD_INFO_BLOCK_SIZE, NBD_INFO_NAME, NBD_INFO_DESCRIPTION, 4711);
	ck_assert_int_eq(option(NBD_OPT_INFO), NBD_NEG_MORE);
	ck_assert_uint_eq(reply(NBD_OPT_INFO, &p, &len), NBD_REP_INFO);
	ck_assert_uint_eq(len, 12);
	ck_assert_uint_eq(nbd_get16(p), NBD_INFO_EXPORT);
	ck_assert_uint_eq(nbd_get64(p + 2), MiB);
	ck_assert_uint_eq(nbd_get16(p + 10), NBD_TX_HAS_FLAGS | NBD_TX_FLUSH);
	ck_assert_uint_eq(reply(NBD_OPT_INFO, &p, &len), NBD_REP_INFO);
	ck_assert_uint_eq(nbd_get16(p), NBD_INFO_BLOCK_SIZE);
	ck_assert_uint_eq(nbd_get32(p + 2), 1);
	ck_assert_uint_eq(nbd_get32(p + 6), 4096);
	ck_assert_uint_eq(nbd_get32(p + 10), 32u << 20);
	ck_assert_uint_eq(reply(NBD_OPT_INFO, &p, &len), NBD_REP_INFO);
	ck_assert_mem_eq(p, "\0\1alpha", 7);
	ck_assert_uint_eq(reply(NBD_OPT_INFO, &p, &len), NBD_REP_INFO);
	ck_assert_mem_eq(p, "\0\2the first", 11);
	want(NBD_OPT_INFO, NBD_REP_ACK);
	over();
}
END_TEST

START_TEST(go_enters_transmission)
{
	flags(3);
	put_go("alpha", 0);
	ck_assert_int_eq(option(NBD_OPT_GO), NBD_NEG_TRANSMIT);
	want(NBD_OPT_GO, NBD_REP_INFO);
	want(NBD_OPT_GO, NBD_REP_ACK);
	over();
	ck_assert_ptr_eq(neg.session.handle, &handle_a);
	ck_assert_uint_eq(neg.session.size, MiB);
}
END_TEST

START_TEST(go_unknown_or_full_may_try_again)
{
	flags(3);
	put_go("gamma", 0);
	ck_assert_int_eq(option(NBD_OPT_GO), NBD_NEG_MORE);
	want(NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
	full = true;
	put_go("alpha", 0);
	ck_assert_int_eq(option(NBD_OPT_GO), NBD_NEG_MORE);
	want(NBD_OPT_GO, NBD_REP_ERR_POLICY);
	full = false;
	put_go("alpha", 0);
	ck_assert_int_eq(option(NBD_OPT_GO), NBD_NEG_TRANSMIT);
}
END_TEST

START_TEST(go_with_lying_lengths)
{
	flags(3);
	put32(4096); /* a name longer than the option */
	put16(0);
	option(NBD_OPT_GO);
	want(NBD_OPT_GO, NBD_REP_ERR_INVALID);
	put_str("alpha");
	put16(9); /* more items than there are */
	option(NBD_OPT_GO);
	want(NBD_OPT_GO, NBD_REP_ERR_INVALID);
	put_go("alpha", 0);
	put16(0); /* bytes left over */
	option(NBD_OPT_GO);
	want(NBD_OPT_GO, NBD_REP_ERR_INVALID);
	option(NBD_OPT_GO); /* nothing at all */
	want(NBD_OPT_GO, NBD_REP_ERR_INVALID);
	put32(UINT32_MAX);
	option(NBD_OPT_GO);
	want(NBD_OPT_GO, NBD_REP_ERR_INVALID);
	over();
}
END_TEST

static void put_meta(const char *name, int n, const char *q, const char *q2)
{
	put_str(name);
	put32((uint32_t)n);
	if (n > 0)
		put_str(q);
	if (n > 1)
		put_str(q2);
}

START_TEST(meta_context_needs_structured_replies)
{
	flags(3);
	put_meta("alpha", 1, "base:allocation", NULL);
	option(NBD_OPT_SET_META_CONTEXT);
	want(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
	over();
}
END_TEST

START_TEST(meta_context_is_set_for_its_export)
{
	const uint8_t *p;
	uint32_t len;

	flags(3);
	option(NBD_OPT_STRUCTURED_REPLY);
	want(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
	put_meta("alpha", 2, "qemu:dirty-bitmap:x", "base:allocation");
	option(NBD_OPT_SET_META_CONTEXT);
	ck_assert_uint_eq(reply(NBD_OPT_SET_META_CONTEXT, &p, &len), NBD_REP_META_CONTEXT);
	ck_assert_uint_eq(nbd_get32(p), NBD_META_ALLOCATION);
	ck_assert_mem_eq(p + 4, "base:allocation", 15);
	want(NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	put_go("alpha", 0);
	ck_assert_int_eq(option(NBD_OPT_GO), NBD_NEG_TRANSMIT);
	ck_assert(neg.session.meta && neg.session.structured);
	ck_assert_uint_eq(neg.session.flags & NBD_TX_DF, NBD_TX_DF);
}
END_TEST

START_TEST(meta_context_of_another_export_is_off)
{
	flags(3);
	option(NBD_OPT_STRUCTURED_REPLY);
	put_meta("alpha", 1, "base:allocation", NULL);
	option(NBD_OPT_SET_META_CONTEXT);
	put_go("beta", 0);
	ck_assert_int_eq(option(NBD_OPT_GO), NBD_NEG_TRANSMIT);
	ck_assert(!neg.session.meta);
}
END_TEST

START_TEST(meta_context_failing_unsets)
{
	flags(3);
	option(NBD_OPT_STRUCTURED_REPLY);
	put_meta("alpha", 1, "base:allocation", NULL);
	option(NBD_OPT_SET_META_CONTEXT);
	put_str("alpha");
	put32(3); /* and no query follows */
	option(NBD_OPT_SET_META_CONTEXT);
	put_go("alpha", 0);
	ck_assert_int_eq(option(NBD_OPT_GO), NBD_NEG_TRANSMIT);
	ck_assert(!neg.session.meta);
}
END_TEST

START_TEST(meta_context_list_and_wildcards)
{
	flags(3);
	option(NBD_OPT_STRUCTURED_REPLY);
	want(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
	put_meta("alpha", 0, NULL, NULL);
	option(NBD_OPT_LIST_META_CONTEXT);
	want(NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT);
	want(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK);
	put_meta("alpha", 1, "base:", NULL);
	option(NBD_OPT_LIST_META_CONTEXT);
	want(NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT);
	want(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK);
	put_meta("alpha", 1, "base:", NULL);
	option(NBD_OPT_SET_META_CONTEXT); /* "MUST ignore this form" */
	want(NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	put_meta("gamma", 1, "base:allocation", NULL);
	option(NBD_OPT_SET_META_CONTEXT);
	want(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_UNKNOWN);
	over();
}
END_TEST

START_TEST(unknown_option)
{
	flags(3);
	put32(7);
	ck_assert_int_eq(option(11), NBD_NEG_MORE);
	want(11, NBD_REP_ERR_UNSUP);
	over();
}
END_TEST

START_TEST(wrong_magic)
{
	flags(3);
	for (int i = 0; i < 4; i++)
		put32(0);
	ck_assert_int_eq(feed(), NBD_NEG_DROP);
}
END_TEST

START_TEST(long_option_is_skipped_and_refused)
{
	static const char zeroes[20000];

	flags(3);
	buf_append(&in, zeroes, sizeof(zeroes));
	ck_assert_int_eq(option(NBD_OPT_GO), NBD_NEG_MORE);
	want(NBD_OPT_GO, NBD_REP_ERR_TOO_BIG);
	over();
	put_go("alpha", 0);
	ck_assert_int_eq(option(NBD_OPT_GO), NBD_NEG_TRANSMIT);
}
END_TEST

START_TEST(huge_option_hangs_up)
{
	uint8_t h[16];

	flags(3);
	nbd_put64(h, NBD_OPT_MAGIC);
	nbd_put32(h + 8, NBD_OPT_GO);
	nbd_put32(h + 12, UINT32_MAX);
	buf_append(&in, h, 16);
	ck_assert_int_eq(feed(), NBD_NEG_DROP);
	ck_assert_uint_le(neg.in.cap, 256);
}
END_TEST

START_TEST(endless_options_hang_up)
{
	enum nbd_neg_act act = NBD_NEG_MORE;
	int n = 0;

	flags(3);
	while (act == NBD_NEG_MORE && ++n < 100000)
		act = option(NBD_OPT_LIST);
	ck_assert_int_eq(act, NBD_NEG_DROP);
	ck_assert_int_lt(n, 1000);
}
END_TEST

START_TEST(tls_off_refuses_starttls)
{
	flags(3);
	ck_assert_int_eq(option(NBD_OPT_STARTTLS), NBD_NEG_MORE);
	want(NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY);
}
END_TEST

START_TEST(tls_required_refuses_the_rest)
{
	teardown();
	start(NBD_TLS_REQUIRE);
	flags(3);
	option(NBD_OPT_LIST);
	want(NBD_OPT_LIST, NBD_REP_ERR_TLS_REQD);
	put_go("alpha", 0);
	ck_assert_int_eq(option(NBD_OPT_GO), NBD_NEG_MORE);
	want(NBD_OPT_GO, NBD_REP_ERR_TLS_REQD);
	option(4711);
	want(4711, NBD_REP_ERR_TLS_REQD);
	over();
	buf_append(&in, "alpha", 5);
	ck_assert_int_eq(option(NBD_OPT_EXPORT_NAME), NBD_NEG_DROP);
}
END_TEST

START_TEST(tls_forgets_what_was_before)
{
	teardown();
	start(NBD_TLS_REQUIRE);
	flags(3);
	put32(0);
	ck_assert_int_eq(option(NBD_OPT_STARTTLS), NBD_NEG_MORE);
	want(NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID);
	neg.session.structured = true;
	ck_assert_int_eq(option(NBD_OPT_STARTTLS), NBD_NEG_TLS);
	want(NBD_OPT_STARTTLS, NBD_REP_ACK);
	nbd_neg_tls_started(&neg);
	ck_assert(!neg.session.structured);
	ck_assert_int_eq(option(NBD_OPT_STARTTLS), NBD_NEG_MORE);
	want(NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID);
	put_go("beta", 0);
	ck_assert_int_eq(option(NBD_OPT_GO), NBD_NEG_TRANSMIT);
}
END_TEST

START_TEST(bytes_instead_of_tls_hang_up)
{
	size_t used;

	teardown();
	start(NBD_TLS_REQUIRE);
	flags(3);
	ck_assert_int_eq(option(NBD_OPT_STARTTLS), NBD_NEG_TLS);
	ck_assert_int_eq(nbd_neg_feed(&neg, (const uint8_t *)"x", 1, &used, &out), NBD_NEG_DROP);
}
END_TEST

START_TEST(no_memory_hangs_up)
{
	static const uint8_t hello[] = "\0\0\0\3IHAVEOPT\0\0\0\7\0\0\0\013\0\0\0\5alpha\0\0";

	FOR_EACH_ALLOC_FAILURE(n) {
		struct buf o = BUF_INIT;
		struct nbd_neg g;
		enum nbd_neg_act act = NBD_NEG_MORE;
		size_t at = 0, used;

		nbd_neg_init(&g, &ops, NULL, NBD_TLS_OFF, &o);
		while (act == NBD_NEG_MORE && at < sizeof(hello) - 1) {
			act = nbd_neg_feed(&g, hello + at, sizeof(hello) - 1 - at, &used, &o);
			at += used;
		}
		ck_assert(act == NBD_NEG_DROP || act == NBD_NEG_TRANSMIT);
		nbd_neg_fini(&g);
		buf_free(&o);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("nbd handshake");
	TCase *t = tcase_create("options");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, greeting);
	tcase_add_test(t, client_flags_unknown_are_dropped);
	tcase_add_test(t, not_fixed_may_only_name_an_export);
	tcase_add_test(t, export_name_with_zeroes);
	tcase_add_test(t, export_name_without_zeroes);
	tcase_add_test(t, export_name_unknown_hangs_up);
	tcase_add_test(t, abort_is_acknowledged);
	tcase_add_test(t, list_names_all);
	tcase_add_test(t, info_tells_what_was_asked);
	tcase_add_test(t, go_enters_transmission);
	tcase_add_test(t, go_unknown_or_full_may_try_again);
	tcase_add_test(t, go_with_lying_lengths);
	tcase_add_test(t, meta_context_needs_structured_replies);
	tcase_add_test(t, meta_context_is_set_for_its_export);
	tcase_add_test(t, meta_context_of_another_export_is_off);
	tcase_add_test(t, meta_context_failing_unsets);
	tcase_add_test(t, meta_context_list_and_wildcards);
	tcase_add_test(t, unknown_option);
	tcase_add_test(t, wrong_magic);
	tcase_add_test(t, long_option_is_skipped_and_refused);
	tcase_add_test(t, huge_option_hangs_up);
	tcase_add_test(t, endless_options_hang_up);
	tcase_add_test(t, tls_off_refuses_starttls);
	tcase_add_test(t, tls_required_refuses_the_rest);
	tcase_add_test(t, tls_forgets_what_was_before);
	tcase_add_test(t, bytes_instead_of_tls_hang_up);
	tcase_add_test(t, no_memory_hangs_up);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
