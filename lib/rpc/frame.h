/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fixed header of a frame, as bytes and as a struct. Pure functions: no I/O, no memory.
 * Layout and rules: docs/wire-format.md. The form of the header, and of hello and goodbye, is the
 * same in every protocol version.
 */
#ifndef RPC_FRAME_H
#define RPC_FRAME_H

#include <hci/error.h>

#include "base/base.h"

#define FRAME_MAGIC 0x52494348u /* "HCIR" in little-endian */
#define FRAME_HDR 40u
#define FRAME_HELLO_MAX 4096u   /* bytes of body in a hello */
#define FRAME_GOODBYE_MAX 1024u /* ... and in a goodbye */
#define FRAME_STATUS_MIN (-4095)

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_REQUEST = 2,
	FRAME_REPLY = 3,
	FRAME_PING = 4,
	FRAME_PONG = 5,
	FRAME_GOODBYE = 6,
};

struct frame {
	uint8_t type;
	uint8_t version;
	uint32_t method;
	int32_t status;
	uint64_t id;
	uint32_t body_len, payload_len;
	uint32_t body_crc;
};

void rpc_frame_encode(const struct frame *f, uint8_t out[FRAME_HDR]);
/* 0, or HCI_E_PROTO with the reason: every field is in its limits when it returns 0. */
int rpc_frame_parse(const uint8_t in[FRAME_HDR], struct frame *f, struct hci_error *err);

#endif
