/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a record's struct is described to the codec (rec_codec.c): a table of fields, each a key in
 * the msgpack map, a place in the struct and its limits. The tables are in rec_cluster.c,
 * rec_volume.c and rec_work.c; nobody else includes this.
 */
#ifndef STORE_REC_CODEC_H
#define STORE_REC_CODEC_H

#include "base/pack.h"
#include "store/records.h"

enum rec_kind {
	F_U64,
	F_U32,
	F_I32,
	F_BOOL,
	F_UUID,
	F_STR,  /* any text of at most cap - 1 bytes */
	F_NAME, /* a name as name_check() wants it; "" when not required */
	F_ENUM, /* by name; cap: how many */
	F_LIST, /* count at off2, cap elements of stride bytes at off, each a map of sub */
	F_OWN,  /* encode and decode of its own */
};

struct rec_field {
	const char *key;
	enum rec_kind kind;
	bool required;
	size_t off, off2, cap, stride;
	uint64_t min, max; /* of integers; max 0: any */
	const char *const *names;
	const struct rec_field *sub;
	unsigned nsub;
	/* Both say what is wrong, or NULL. */
	const char *(*encode)(const void *rec, struct buf *out);
	const char *(*decode)(struct rd *r, void *rec);
};

struct rec_type {
	const char *name;
	size_t size;
	const struct rec_field *fields;
	unsigned nfields;
	/* What no single field's limits say: NULL when the record is fine, else what is wrong. */
	const char *(*check)(const void *rec);
};

#define REC_FIELDS_MAX 30u

/* NOLINTBEGIN(bugprone-macro-parentheses): types and members cannot stand in parentheses */
#define FIELD_CAP(s, m) sizeof(((s *)0)->m)
#define FIELD_U64(s, m, k, lo, hi)                                                   \
	{                                                                            \
		.key = k, .kind = F_U64, .off = offsetof(s, m), .min = lo, .max = hi \
	}
#define FIELD_U32(s, m, k, lo, hi)                                                   \
	{                                                                            \
		.key = k, .kind = F_U32, .off = offsetof(s, m), .min = lo, .max = hi \
	}
#define FIELD_I32(s, m, k)                                     \
	{                                                      \
		.key = k, .kind = F_I32, .off = offsetof(s, m) \
	}
#define FIELD_BOOL(s, m, k)                                     \
	{                                                       \
		.key = k, .kind = F_BOOL, .off = offsetof(s, m) \
	}
#define FIELD_UUID(s, m, k)                                                       \
	{                                                                         \
		.key = k, .kind = F_UUID, .required = true, .off = offsetof(s, m) \
	}
#define FIELD_UUID_OPT(s, m, k)                                 \
	{                                                       \
		.key = k, .kind = F_UUID, .off = offsetof(s, m) \
	}
#define FIELD_STR(s, m, k)                                                             \
	{                                                                              \
		.key = k, .kind = F_STR, .off = offsetof(s, m), .cap = FIELD_CAP(s, m) \
	}
#define FIELD_NAME(s, m, k)                                                        \
	{                                                                          \
		.key = k, .kind = F_NAME, .required = true, .off = offsetof(s, m), \
		.cap = FIELD_CAP(s, m)                                             \
	}
#define FIELD_NAME_OPT(s, m, k)                                                         \
	{                                                                               \
		.key = k, .kind = F_NAME, .off = offsetof(s, m), .cap = FIELD_CAP(s, m) \
	}
#define FIELD_ENUM(s, m, k, nm)                                                         \
	{                                                                               \
		.key = k, .kind = F_ENUM, .off = offsetof(s, m), .cap = ARRAY_SIZE(nm), \
		.names = nm                                                             \
	}
#define FIELD_LIST(s, count, arr, k, subf)                                                       \
	{                                                                                        \
		.key = k, .kind = F_LIST, .off = offsetof(s, arr), .off2 = offsetof(s, count),   \
		.cap = FIELD_CAP(s, arr) / FIELD_CAP(s, arr[0]), .stride = FIELD_CAP(s, arr[0]), \
		.sub = subf, .nsub = ARRAY_SIZE(subf)                                            \
	}
#define FIELD_OWN(k, enc, dec)                                                          \
	{                                                                               \
		.key = k, .kind = F_OWN, .required = true, .encode = enc, .decode = dec \
	}

#define REC_TYPE(nm, fieldtab, chk)                                                       \
	const struct rec_type rec_##nm##_type = { #nm, sizeof(struct rec_##nm), fieldtab, \
						  ARRAY_SIZE(fieldtab), chk };            \
	_Static_assert(ARRAY_SIZE(fieldtab) <= REC_FIELDS_MAX, "one bit a field")

/* NOLINTEND(bugprone-macro-parentheses) */

/* For the functions that give the names of enums. */
const char *rec_enum_name(const char *const *names, size_t n, unsigned v);
int rec_enum_parse(const char *const *names, size_t n, const char *s);

#endif
