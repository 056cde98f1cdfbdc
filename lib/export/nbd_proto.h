/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers of the NBD protocol and the big-endian helpers to put them on the wire. Owns no code.
 * Source of the facts: doc/proto.md of the NetworkBlockDevice project, whose section names are
 * cited where the numbers are used.
 */
#ifndef EXPORT_NBD_PROTO_H
#define EXPORT_NBD_PROTO_H

#include "base/base.h"

/* ---- handshake ---- */

#define NBD_MAGIC UINT64_C(0x4e42444d41474943)     /* "NBDMAGIC" */
#define NBD_OPT_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_REP_MAGIC UINT64_C(0x0003e889045565a9)

#define NBD_FLAG_FIXED_NEWSTYLE 1u
#define NBD_FLAG_NO_ZEROES 2u

enum nbd_opt {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
};

#define NBD_REP_ACK 1u
#define NBD_REP_SERVER 2u
#define NBD_REP_INFO 3u
#define NBD_REP_META_CONTEXT 4u
#define NBD_REP_ERR_UNSUP 0x80000001u
#define NBD_REP_ERR_POLICY 0x80000002u
#define NBD_REP_ERR_INVALID 0x80000003u
#define NBD_REP_ERR_TLS_REQD 0x80000005u
#define NBD_REP_ERR_UNKNOWN 0x80000006u
#define NBD_REP_ERR_SHUTDOWN 0x80000007u
#define NBD_REP_ERR_TOO_BIG 0x80000009u

#define NBD_INFO_EXPORT 0u
#define NBD_INFO_NAME 1u
#define NBD_INFO_DESCRIPTION 2u
#define NBD_INFO_BLOCK_SIZE 3u

#define NBD_OPT_HEAD 16u   /* magic, option, length */
#define NBD_MAX_NAME 4096u /* "Strings": no string is longer */

/* ---- transmission flags ---- */

#define NBD_TX_HAS_FLAGS 0x0001u
#define NBD_TX_READ_ONLY 0x0002u
#define NBD_TX_FLUSH 0x0004u
#define NBD_TX_FUA 0x0008u
#define NBD_TX_TRIM 0x0020u
#define NBD_TX_WRITE_ZEROES 0x0040u
#define NBD_TX_DF 0x0080u
#define NBD_TX_MULTI_CONN 0x0100u
#define NBD_TX_CACHE 0x0400u
#define NBD_TX_FAST_ZERO 0x0800u

/* ---- requests and replies ---- */

#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_SIMPLE_MAGIC 0x67446698u
#define NBD_CHUNK_MAGIC 0x668e33efu

#define NBD_REQUEST_SIZE 28u
#define NBD_SIMPLE_SIZE 16u
#define NBD_CHUNK_SIZE 20u

enum nbd_cmd {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
};
#define NBD_CMDS 8u

#define NBD_CMD_FUA 0x01u
#define NBD_CMD_NO_HOLE 0x02u
#define NBD_CMD_DF 0x04u
#define NBD_CMD_REQ_ONE 0x08u
#define NBD_CMD_FAST_ZERO 0x10u

#define NBD_REPLY_DONE 1u

#define NBD_REPLY_NONE 0u
#define NBD_REPLY_OFFSET_DATA 1u
#define NBD_REPLY_OFFSET_HOLE 2u
#define NBD_REPLY_BLOCK_STATUS 5u
#define NBD_REPLY_ERROR 0x8001u

#define NBD_STATE_HOLE 1u
#define NBD_STATE_ZERO 2u

#define NBD_EPERM 1
#define NBD_EIO 5
#define NBD_ENOMEM 12
#define NBD_EINVAL 22
#define NBD_ENOSPC 28
#define NBD_EOVERFLOW 75
#define NBD_ENOTSUP 95
#define NBD_ESHUTDOWN 108

/* "Size constraints": the largest payload that every peer has to put up with. */
#define NBD_MAX_PAYLOAD (32u << 20)

/* ---- big-endian ---- */

static inline uint16_t nbd_get16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap16(v);
}

static inline uint32_t nbd_get32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap32(v);
}

static inline uint64_t nbd_get64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap64(v);
}

static inline void nbd_put16(void *p, uint16_t v)
{
	v = __builtin_bswap16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void nbd_put32(void *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void nbd_put64(void *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, sizeof(v));
}

#endif
