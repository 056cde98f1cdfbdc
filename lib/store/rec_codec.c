/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of records: from a struct to a msgpack map and back, driven by the field tables of
 * rec_codec.h. The limits of a table hold in both directions. Decoding trusts nothing: any bytes
 * give either a record within its limits or an error.
 */
#include "store/rec_codec.h"

#include "base/err.h"
#include "base/names.h"

/* What is wrong, and with which field; why == NULL: all is well. */
struct trouble {
	const char *field;
	const char *why;
	int code;
};

static bool complain(struct trouble *t, const char *field, int code, const char *why)
{
	if (!t->why)
		*t = (struct trouble){ field, why, code };
	return false;
}

const char *rec_enum_name(const char *const *names, size_t n, unsigned v)
{
	return v < n ? names[v] : "?";
}

int rec_enum_parse(const char *const *names, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], s) == 0)
			return (int)i;
	return -1;
}

static bool in_range(const struct rec_field *f, uint64_t v)
{
	return v >= f->min && (f->max == 0 || v <= f->max);
}

/* The limits of a field that can be told from its value alone; s is where it is in the struct. */
static const char *value_wrong(const struct rec_field *f, const char *s)
{
	uint32_t u32;
	uint64_t u64;

	switch (f->kind) {
	case F_U64:
		memcpy(&u64, s, sizeof(u64));
		return in_range(f, u64) ? NULL : "number out of range";
	case F_U32:
		memcpy(&u32, s, sizeof(u32));
		return in_range(f, u32) ? NULL : "number out of range";
	case F_ENUM:
		memcpy(&u32, s, sizeof(u32));
		return u32 < f->cap ? NULL : "unknown value";
	case F_STR:
		return strnlen(s, f->cap) < f->cap ? NULL : "text too long";
	case F_NAME:
		if (strnlen(s, f->cap) >= f->cap)
			return "name too long";
		if (!s[0] && !f->required)
			return NULL;
		return name_check(s, "record", NULL) == 0 ? NULL : "not a valid name";
	default:
		return NULL;
	}
}

static bool put_fields(const struct rec_field *fields, unsigned n, const char *base,
		       struct buf *out, struct trouble *t);

static bool put_list(const struct rec_field *f, const char *base, struct buf *out,
		     struct trouble *t)
{
	uint32_t count;

	memcpy(&count, base + f->off2, sizeof(count));
	if (count > f->cap)
		return complain(t, f->key, HCI_E_INVAL, "too many elements");
	pk_array(out, count);
	for (uint32_t i = 0; i < count; i++) {
		pk_map(out, f->nsub);
		if (!put_fields(f->sub, f->nsub, base + f->off + i * f->stride, out, t))
			return false;
	}
	return true;
}

static bool put_value(const struct rec_field *f, const char *base, struct buf *out,
		      struct trouble *t)
{
	const char *s = base + f->off;
	const char *why = value_wrong(f, s);
	uint64_t u64;
	uint32_t u32;

	if (why)
		return complain(t, f->key, HCI_E_INVAL, why);
	switch (f->kind) {
	case F_U64:
		memcpy(&u64, s, sizeof(u64));
		pk_u64(out, u64);
		break;
	case F_U32:
		memcpy(&u32, s, sizeof(u32));
		pk_u64(out, u32);
		break;
	case F_I32:
		memcpy(&u32, s, sizeof(u32));
		pk_i64(out, (int32_t)u32);
		break;
	case F_BOOL:
		pk_bool(out, *(const bool *)s);
		break;
	case F_UUID:
		pk_uuid(out, (const struct uuid *)s);
		break;
	case F_STR:
	case F_NAME:
		pk_str(out, s);
		break;
	case F_ENUM:
		memcpy(&u32, s, sizeof(u32));
		pk_str(out, f->names[u32]);
		break;
	case F_LIST:
		return put_list(f, base, out, t);
	case F_OWN:
		why = f->encode(base, out);
		return why ? complain(t, f->key, HCI_E_INVAL, why) : true;
	}
	return true;
}

static bool put_fields(const struct rec_field *fields, unsigned n, const char *base,
		       struct buf *out, struct trouble *t)
{
	for (unsigned i = 0; i < n; i++) {
		pk_str(out, fields[i].key);
		if (!put_value(&fields[i], base, out, t))
			return false;
	}
	return true;
}

int rec_encode(const struct rec_type *t, const void *rec, struct buf *out, struct hci_error *err)
{
	struct trouble bad = { 0 };
	size_t start = out->len;

	pk_map(out, t->nfields + 1);
	pk_kv_u64(out, "v", REC_VERSION);
	if (put_fields(t->fields, t->nfields, rec, out, &bad) && t->check) {
		const char *why = t->check(rec);

		if (why)
			complain(&bad, "*", HCI_E_INVAL, why);
	}
	if (!bad.why && !out->failed)
		return 0;
	out->len = start;
	if (out->failed)
		return err_set(err, HCI_E_NOMEM, "%s record: out of memory", t->name);
	return err_set(err, bad.code, "%s record cannot be stored: field %s: %s", t->name,
		       bad.field, bad.why);
}

static bool get_fields(const struct rec_field *fields, unsigned n, struct rd *r, uint32_t pairs,
		       char *base, struct trouble *t);

static bool get_list(const struct rec_field *f, struct rd *r, char *base, struct trouble *t)
{
	uint32_t count = rd_array(r);

	if (r->bad || count > f->cap)
		return complain(t, f->key, HCI_E_CORRUPT,
				r->bad ? "not a list" : "too many elements");
	memcpy(base + f->off2, &count, sizeof(count));
	for (uint32_t i = 0; i < count; i++) {
		uint32_t pairs = rd_map(r);

		if (!get_fields(f->sub, f->nsub, r, pairs, base + f->off + i * f->stride, t))
			return false;
	}
	return true;
}

static bool get_enum(const struct rec_field *f, struct rd *r, char *s, struct trouble *t)
{
	char name[32];
	int v;

	if (!rd_strcpy(r, name, sizeof(name)))
		return complain(t, f->key, HCI_E_CORRUPT, "not the name of a value");
	v = rec_enum_parse(f->names, f->cap, name);
	if (v < 0)
		return complain(t, f->key, HCI_E_CORRUPT,
				"unknown value, perhaps of a newer version");
	memcpy(s, &v, sizeof(v));
	return true;
}

static bool get_value(const struct rec_field *f, struct rd *r, char *base, struct trouble *t)
{
	char *s = base + f->off;
	const char *why;
	uint64_t u64;
	uint32_t u32;
	int64_t i64;

	switch (f->kind) {
	case F_U64:
		u64 = rd_u64(r);
		memcpy(s, &u64, sizeof(u64));
		break;
	case F_U32:
		u32 = rd_u32(r);
		memcpy(s, &u32, sizeof(u32));
		break;
	case F_I32:
		i64 = rd_i64(r);
		if (i64 < INT32_MIN || i64 > INT32_MAX)
			return complain(t, f->key, HCI_E_CORRUPT, "number out of range");
		u32 = (uint32_t)(int32_t)i64;
		memcpy(s, &u32, sizeof(u32));
		break;
	case F_BOOL:
		*(bool *)s = rd_bool(r);
		break;
	case F_UUID:
		rd_uuid(r, (struct uuid *)s);
		break;
	case F_STR:
	case F_NAME:
		rd_strcpy(r, s, f->cap);
		break;
	case F_ENUM:
		return get_enum(f, r, s, t);
	case F_LIST:
		return get_list(f, r, base, t);
	case F_OWN:
		why = f->decode(r, base);
		return why ? complain(t, f->key, HCI_E_CORRUPT, why) : true;
	}
	if (r->bad)
		return complain(t, f->key, HCI_E_CORRUPT, "truncated, too long or of another type");
	why = value_wrong(f, s);
	return why ? complain(t, f->key, HCI_E_CORRUPT, why) : true;
}

static int find_field(const struct rec_field *fields, unsigned n, struct rd_key k)
{
	for (unsigned i = 0; i < n; i++)
		if (rd_is(k, fields[i].key))
			return (int)i;
	return -1;
}

static bool get_version(struct rd *r, struct trouble *t)
{
	uint64_t v = rd_u64(r);

	if (!r->bad && v > REC_VERSION)
		return complain(t, "v", HCI_E_VERSION,
				"written by a newer version: update this node");
	return !r->bad && v > 0 ? true : complain(t, "v", HCI_E_CORRUPT, "not a version");
}

static bool get_fields(const struct rec_field *fields, unsigned n, struct rd *r, uint32_t pairs,
		       char *base, struct trouble *t)
{
	uint32_t seen = 0;

	while (!r->bad && pairs--) {
		struct rd_key k = rd_key(r);
		int i = r->bad ? -1 : find_field(fields, n, k);

		if (r->bad)
			break;
		if (i < 0) {
			rd_skip(r);
		} else if (seen & (1u << i)) {
			return complain(t, fields[i].key, HCI_E_CORRUPT, "there twice");
		} else {
			seen |= 1u << i;
			if (!get_value(&fields[i], r, base, t))
				return false;
		}
	}
	if (r->bad)
		return complain(t, "*", HCI_E_CORRUPT, "truncated or not a record");
	for (unsigned i = 0; i < n; i++) {
		if (seen & (1u << i))
			continue;
		/* A key that is not there is a zero; zero must be allowed then. */
		if (fields[i].required || value_wrong(&fields[i], base + fields[i].off))
			return complain(t, fields[i].key, HCI_E_CORRUPT, "missing");
	}
	return true;
}

/* The version comes first, before anything is made of the rest: a newer one may mean anything. */
static bool get_record(const struct rec_type *t, struct rd *r, void *rec, struct trouble *bad)
{
	uint32_t pairs = rd_map(r);
	struct rd_key k;

	if (r->bad || pairs == 0)
		return complain(bad, "*", HCI_E_CORRUPT, "truncated or not a record");
	k = rd_key(r);
	if (r->bad || !rd_is(k, "v"))
		return complain(bad, "v", HCI_E_CORRUPT, "not in its first place");
	if (!get_version(r, bad) || !get_fields(t->fields, t->nfields, r, pairs - 1, rec, bad))
		return false;
	if (r->p != r->end)
		return complain(bad, "*", HCI_E_CORRUPT, "more bytes after its end");
	if (t->check) {
		const char *why = t->check(rec);

		if (why)
			return complain(bad, "*", HCI_E_CORRUPT, why);
	}
	return true;
}

int rec_decode(const struct rec_type *t, const void *data, size_t len, void *rec,
	       struct hci_error *err)
{
	struct trouble bad = { 0 };
	struct rd r = rd_init(data, len);

	memset(rec, 0, t->size);
	if (get_record(t, &r, rec, &bad))
		return 0;
	memset(rec, 0, t->size);
	if (bad.code == HCI_E_VERSION)
		return err_set(err, bad.code, "%s record: %s", t->name, bad.why);
	return err_set(err, bad.code,
		       "%s record is damaged: field %s: %s; restore the store from a backup",
		       t->name, bad.field, bad.why);
}

size_t rec_size(const struct rec_type *t)
{
	return t->size;
}

const char *rec_type_name(const struct rec_type *t)
{
	return t->name;
}

const struct rec_type *rec_type_at(unsigned i)
{
	static const struct rec_type *const all[REC_TYPES] = {
		&rec_cluster_type,  &rec_node_type,    &rec_alive_type,  &rec_disk_type,
		&rec_diskstat_type, &rec_pool_type,    &rec_volume_type, &rec_volname_type,
		&rec_volmap_type,   &rec_volsync_type, &rec_volatt_type, &rec_job_type,
		&rec_vm_type,       &rec_vmrun_type,   &rec_policy_type,
		&rec_volmove_type,  &rec_cachestat_type, &rec_moved_type,
		&rec_diskload_type, &rec_nodenet_type,
	};

	return i < REC_TYPES ? all[i] : NULL;
}
