/* SPDX-License-Identifier: Apache-2.0 */
/* The msgpack writer: msgpack-c's packer with struct buf behind it. Reading is in rd.c. */
#include "base/pack.h"

#include <msgpack/pack.h>

static int write_buf(void *arg, const char *data, size_t len)
{
	struct buf *b = arg;

	/* Almost every call is one to nine bytes into a buffer that has room. */
	if (len <= b->cap - b->len && !b->failed) {
		memcpy(b->data + b->len, data, len);
		b->len += len;
		return 0;
	}
	buf_append(b, data, len);
	return b->failed ? -1 : 0;
}

static inline msgpack_packer packer(struct buf *b)
{
	return (msgpack_packer){ .data = b, .callback = write_buf };
}

void pk_map(struct buf *b, uint32_t pairs)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_map(&pk, pairs);
}

void pk_array(struct buf *b, uint32_t n)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_array(&pk, n);
}

void pk_u64(struct buf *b, uint64_t v)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_uint64(&pk, v);
}

void pk_i64(struct buf *b, int64_t v)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_int64(&pk, v);
}

void pk_bool(struct buf *b, bool v)
{
	msgpack_packer pk = packer(b);

	if (v)
		msgpack_pack_true(&pk);
	else
		msgpack_pack_false(&pk);
}

void pk_str(struct buf *b, const char *s)
{
	pk_strn(b, s, strlen(s));
}

void pk_strn(struct buf *b, const char *s, size_t n)
{
	msgpack_packer pk = packer(b);

	if (n > UINT32_MAX) {
		b->failed = true;
		return;
	}
	msgpack_pack_str(&pk, n);
	if (n)
		msgpack_pack_str_body(&pk, s, n);
}

void pk_bin(struct buf *b, const void *p, size_t n)
{
	msgpack_packer pk = packer(b);

	if (n > UINT32_MAX) {
		b->failed = true;
		return;
	}
	msgpack_pack_bin(&pk, n);
	if (n)
		msgpack_pack_bin_body(&pk, p, n);
}

void pk_uuid(struct buf *b, const struct uuid *u)
{
	pk_bin(b, u->b, sizeof(u->b));
}

void pk_nil(struct buf *b)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_nil(&pk);
}

void pk_kv_u64(struct buf *b, const char *k, uint64_t v)
{
	pk_str(b, k);
	pk_u64(b, v);
}

void pk_kv_i64(struct buf *b, const char *k, int64_t v)
{
	pk_str(b, k);
	pk_i64(b, v);
}

void pk_kv_bool(struct buf *b, const char *k, bool v)
{
	pk_str(b, k);
	pk_bool(b, v);
}

void pk_kv_str(struct buf *b, const char *k, const char *s)
{
	pk_str(b, k);
	pk_str(b, s ? s : "");
}

void pk_kv_uuid(struct buf *b, const char *k, const struct uuid *u)
{
	pk_str(b, k);
	pk_uuid(b, u);
}
