/* SPDX-License-Identifier: Apache-2.0 */
/* Encodes and checks frame headers. Owns the limits by type; does not know about connections. */
#include "rpc/frame.h"

#include "base/crc32c.h"
#include "base/err.h"
#include "rpc/rpc.h"

#define HDR_CRC_AT 36u

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, 4);
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "the wire format is little-endian, as is x86");

void rpc_frame_encode(const struct frame *f, uint8_t out[FRAME_HDR])
{
	put32(out, FRAME_MAGIC);
	out[4] = f->type;
	out[5] = f->version;
	out[6] = out[7] = 0;
	put32(out + 8, f->method);
	put32(out + 12, (uint32_t)f->status);
	memcpy(out + 16, &f->id, 8);
	put32(out + 24, f->body_len);
	put32(out + 28, f->payload_len);
	put32(out + 32, f->body_crc);
	put32(out + HDR_CRC_AT, crc32c(0, out, HDR_CRC_AT));
}

/* What a frame of each type may carry. */
struct frame_rule {
	uint32_t body_max, payload_max;
	bool method, status, id;
};

static const struct frame_rule rules[] = {
	[FRAME_HELLO] = { FRAME_HELLO_MAX, 0, false, false, false },
	[FRAME_REQUEST] = { RPC_BODY_MAX, RPC_PAYLOAD_MAX, true, false, true },
	[FRAME_REPLY] = { RPC_BODY_MAX, RPC_PAYLOAD_MAX, true, true, true },
	[FRAME_PING] = { 0, 0, false, false, true },
	[FRAME_PONG] = { 0, 0, false, false, true },
	[FRAME_GOODBYE] = { FRAME_GOODBYE_MAX, 0, false, true, false },
};

static int check_rule(const struct frame *f, struct hci_error *err)
{
	const struct frame_rule *r;

	if (f->type >= ARRAY_SIZE(rules) || f->type < FRAME_HELLO)
		return err_set(err, HCI_E_PROTO, "frame of unknown type %u", f->type);
	r = &rules[f->type];
	if (f->body_len > r->body_max)
		return err_set(err, HCI_E_PROTO,
			       "frame of type %u announces a body of %u bytes, the limit is %u",
			       f->type, f->body_len, r->body_max);
	if (f->payload_len > r->payload_max)
		return err_set(err, HCI_E_PROTO,
			       "frame of type %u announces a payload of %u bytes, the limit is %u",
			       f->type, f->payload_len, r->payload_max);
	if ((f->method && !r->method) || (f->status && !r->status) || (f->id && !r->id))
		return err_set(err, HCI_E_PROTO,
			       "frame of type %u has a method, status or id that it may not have",
			       f->type);
	if (f->status > 0 || f->status < FRAME_STATUS_MIN)
		return err_set(err, HCI_E_PROTO,
			       "frame of type %u has status %d, which is out of range", f->type,
			       f->status);
	return 0;
}

int rpc_frame_parse(const uint8_t in[FRAME_HDR], struct frame *f, struct hci_error *err)
{
	uint32_t magic = get32(in);

	if (magic != FRAME_MAGIC)
		return err_set(err, HCI_E_PROTO,
			       "bad magic 0x%08x at the start of a frame: not a libhci peer, or "
			       "TLS on one side only",
			       magic);
	if (get32(in + HDR_CRC_AT) != crc32c(0, in, HDR_CRC_AT))
		return err_set(err, HCI_E_PROTO, "frame header fails its checksum");
	if (in[6] || in[7])
		return err_set(err, HCI_E_PROTO, "frame header has reserved bits set");
	f->type = in[4];
	f->version = in[5];
	f->method = get32(in + 8);
	f->status = (int32_t)get32(in + 12);
	memcpy(&f->id, in + 16, 8);
	f->body_len = get32(in + 24);
	f->payload_len = get32(in + 28);
	f->body_crc = get32(in + 32);
	return check_rule(f, err);
}
