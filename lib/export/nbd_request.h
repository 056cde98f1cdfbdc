/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and replies of the transmission phase as bytes: parse, judge, build. No I/O, no state.
 */
#ifndef EXPORT_NBD_REQUEST_H
#define EXPORT_NBD_REQUEST_H

#include "export/nbd_negotiate.h"
#include "export/nbd_proto.h"

struct nbd_request {
	uint16_t flags, type;
	uint32_t len;
	uint64_t cookie, off;
};

/* b: NBD_REQUEST_SIZE bytes. False: not a request, the stream is lost. */
bool nbd_request_parse(const uint8_t *b, struct nbd_request *r);

/* The stream cannot be followed any more: hang up. */
#define NBD_FATAL (-1)
/*
 * 0: fine. NBD_E*: answer with it; a WRITE's payload still follows on the stream and is to be
 * skipped. NBD_FATAL: hang up. *why gets a sentence unless 0.
 */
int nbd_request_check(const struct nbd_request *r, const struct nbd_session *s, const char **why);

/* The NBD error for a HCI_E_* and a sentence for it. */
int nbd_error_of(int status, const char **why);

/* Room for any reply's head: chunk, and offset + hole size or an error with its text. */
#define NBD_REPLY_MAX 160u

/* All return the bytes put to p. */
uint32_t nbd_put_simple(uint8_t *p, const struct nbd_request *r, uint32_t error);
uint32_t nbd_put_none(uint8_t *p, const struct nbd_request *r);
uint32_t nbd_put_data(uint8_t *p, const struct nbd_request *r); /* r->len bytes of data follow */
uint32_t nbd_put_hole(uint8_t *p, const struct nbd_request *r);
uint32_t nbd_put_status(uint8_t *p, const struct nbd_request *r,
			uint32_t extents); /* 8 bytes each follow */
uint32_t nbd_put_error(uint8_t *p, const struct nbd_request *r, uint32_t error, const char *msg);

#endif
