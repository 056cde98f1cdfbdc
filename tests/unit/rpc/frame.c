/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/frame.h"

#include "base/crc32c.h"
#include "rpc/rpc.h"
#include "unit/harness.h"

static const struct frame request = {
	.type = FRAME_REQUEST,
	.version = 1,
	.method = 0x123,
	.id = 0x1122334455667788,
	.body_len = 77,
	.payload_len = 4096,
	.body_crc = 0xdeadbeef,
};

/* A header that was tampered with, its checksum made right again. */
static int parse_with(size_t at, uint8_t value, struct hci_error *err)
{
	uint8_t h[FRAME_HDR];
	struct frame f;
	uint32_t crc;

	rpc_frame_encode(&request, h);
	h[at] = value;
	crc = crc32c(0, h, 36);
	memcpy(h + 36, &crc, 4);
	return rpc_frame_parse(h, &f, err);
}

START_TEST(there_and_back)
{
	uint8_t h[FRAME_HDR];
	struct frame f;

	rpc_frame_encode(&request, h);
	ck_assert_int_eq(rpc_frame_parse(h, &f, NULL), 0);
	ck_assert_uint_eq(f.type, request.type);
	ck_assert_uint_eq(f.version, request.version);
	ck_assert_uint_eq(f.method, request.method);
	ck_assert_int_eq(f.status, 0);
	ck_assert_uint_eq(f.id, request.id);
	ck_assert_uint_eq(f.body_len, request.body_len);
	ck_assert_uint_eq(f.payload_len, request.payload_len);
	ck_assert_uint_eq(f.body_crc, request.body_crc);
}
END_TEST

/* The bytes as docs/wire-format.md has them: another implementation reads the same. */
START_TEST(layout_is_fixed)
{
	static const uint8_t want[36] = {
		'H', 'C', 'I', 'R', 2,    1,    0,    0,    0x23, 1,    0,    0,
		0,   0,   0,   0,   0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
		77,  0,   0,   0,   0,    16,   0,    0,    0xef, 0xbe, 0xad, 0xde,
	};
	uint8_t h[FRAME_HDR];

	rpc_frame_encode(&request, h);
	ck_assert_mem_eq(h, want, sizeof(want));
}
END_TEST

START_TEST(every_flipped_bit_is_seen)
{
	uint8_t h[FRAME_HDR];
	struct frame f;

	rpc_frame_encode(&request, h);
	for (size_t bit = 0; bit < FRAME_HDR * 8; bit++) {
		h[bit / 8] ^= (uint8_t)(1u << bit % 8);
		ck_assert_int_eq(rpc_frame_parse(h, &f, NULL), HCI_E_PROTO);
		h[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	ck_assert_int_eq(rpc_frame_parse(h, &f, NULL), 0);
}
END_TEST

START_TEST(what_may_not_be_is_refused)
{
	struct hci_error err;

	ck_assert_int_eq(parse_with(4, 0, &err), HCI_E_PROTO);
	ck_assert_int_eq(parse_with(4, 7, &err), HCI_E_PROTO);
	ck_assert_int_eq(parse_with(4, 255, &err), HCI_E_PROTO);
	ck_assert_ptr_nonnull(strstr(err.message, "unknown type 255"));
	ck_assert_int_eq(parse_with(6, 1, &err), HCI_E_PROTO);
	ck_assert_int_eq(parse_with(4, FRAME_PING, &err), HCI_E_PROTO);
	ck_assert_int_eq(parse_with(12, 1, &err), HCI_E_PROTO); /* a request has no status */
}
END_TEST

START_TEST(lengths_have_limits)
{
	struct hci_error err;
	struct frame f = request, g;
	uint8_t h[FRAME_HDR];

	f.body_len = RPC_BODY_MAX;
	f.payload_len = RPC_PAYLOAD_MAX;
	rpc_frame_encode(&f, h);
	ck_assert_int_eq(rpc_frame_parse(h, &g, &err), 0);
	f.body_len++;
	rpc_frame_encode(&f, h);
	ck_assert_int_eq(rpc_frame_parse(h, &g, &err), HCI_E_PROTO);
	ck_assert_ptr_nonnull(strstr(err.message, "262145"));
	f.body_len = 0;
	f.payload_len++;
	rpc_frame_encode(&f, h);
	ck_assert_int_eq(rpc_frame_parse(h, &g, &err), HCI_E_PROTO);
	f = (struct frame){ .type = FRAME_HELLO, .version = 1, .body_len = FRAME_HELLO_MAX + 1 };
	rpc_frame_encode(&f, h);
	ck_assert_int_eq(rpc_frame_parse(h, &g, &err), HCI_E_PROTO);
	f = (struct frame){ .type = FRAME_REPLY, .version = 1, .status = FRAME_STATUS_MIN };
	rpc_frame_encode(&f, h);
	ck_assert_int_eq(rpc_frame_parse(h, &g, &err), 0);
	f.status--;
	rpc_frame_encode(&f, h);
	ck_assert_int_eq(rpc_frame_parse(h, &g, &err), HCI_E_PROTO);
	f.status = 1;
	rpc_frame_encode(&f, h);
	ck_assert_int_eq(rpc_frame_parse(h, &g, &err), HCI_E_PROTO);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("rpc frame");
	TCase *tc = tcase_create("header");

	tcase_add_test(tc, there_and_back);
	tcase_add_test(tc, layout_is_fixed);
	tcase_add_test(tc, every_flipped_bit_is_seen);
	tcase_add_test(tc, what_may_not_be_is_refused);
	tcase_add_test(tc, lengths_have_limits);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
