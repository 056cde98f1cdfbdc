/* SPDX-License-Identifier: Apache-2.0 */
/* The records of volumes: what a volume is, where its segments are, who is in sync, who writes. */
#include "store/rec_codec.h"

#include "base/mem.h"
#include "base/uuid.h"

static const char *const volume_state[] = { "creating", "ready", "deleting" };
static const char *const on_full[] = { "wait", "fail" };
static const char *const att_purpose[] = { "user", "repair", "migrate" };

static const char *volume_check(const void *rec)
{
	const struct rec_volume *v = rec;

	if (v->segment_size & (v->segment_size - 1))
		return "segment size is not a power of two";
	if (v->size % HCI_BLOCK)
		return "size is not a multiple of the block size";
	return NULL;
}

static const struct rec_field volume_fields[] = {
	FIELD_UUID(struct rec_volume, uuid, "uuid"),
	FIELD_NAME(struct rec_volume, name, "name"),
	FIELD_NAME(struct rec_volume, pool, "pool"),
	FIELD_NAME_OPT(struct rec_volume, policy, "policy"),
	FIELD_U64(struct rec_volume, size, "size", HCI_BLOCK, REC_VOLUME_SIZE_MAX),
	FIELD_U64(struct rec_volume, segment_size, "segment", REC_SEGMENT_MIN, REC_SEGMENT_MAX),
	FIELD_U32(struct rec_volume, replicas, "replicas", 1, REC_REPLICAS_MAX),
	FIELD_ENUM(struct rec_volume, on_full, "on_full", on_full),
	FIELD_U64(struct rec_volume, write_timeout_ns, "write_timeout", 0, 0),
	FIELD_U64(struct rec_volume, read_timeout_ns, "read_timeout", 0, 0),
	FIELD_U64(struct rec_volume, rebuild_delay_ns, "rebuild_delay", 0, 0),
	FIELD_U32(struct rec_volume, rebuild_impact, "rebuild_impact", 0, REC_IMPACT_MAX),
	FIELD_U64(struct rec_volume, lease_ns, "lease", 0, 0),
	FIELD_ENUM(struct rec_volume, state, "state", volume_state),
	FIELD_U64(struct rec_volume, created, "created", 0, 0),
};
REC_TYPE(volume, volume_fields, volume_check);

static const struct rec_field volname_fields[] = {
	FIELD_UUID(struct rec_volname, uuid, "uuid"),
};
REC_TYPE(volname, volname_fields, NULL);

/*
 * The map is an array of two: the disks, 16 bytes each in one binary; the segments, each an array
 * of numbers, index of the disk * 2 + joining.
 */
#define MAP_DISKS_MAX ((size_t)REC_VOLMAP_CHUNK * REC_COPIES_MAX)

static uint32_t disk_index(struct uuid *table, uint32_t *n, const struct uuid *disk)
{
	uint32_t i;

	for (i = 0; i < *n; i++)
		if (uuid_eq(&table[i], disk))
			return i;
	table[(*n)++] = *disk;
	return i;
}

static const char *volmap_wrong(const struct rec_volmap *m)
{
	if (m->n > REC_VOLMAP_CHUNK)
		return "too many segments";
	for (uint32_t i = 0; i < m->n; i++)
		if (m->seg[i].n > REC_COPIES_MAX)
			return "too many replicas";
	return NULL;
}

static const char *volmap_encode(const void *rec, struct buf *out)
{
	const struct rec_volmap *m = rec;
	const char *why = volmap_wrong(m);
	struct uuid *table;
	uint32_t n = 0;

	if (why)
		return why;
	table = mem_calloc(MAP_DISKS_MAX, sizeof(*table));
	if (!table) {
		out->failed = true;
		return NULL;
	}
	for (uint32_t i = 0; i < m->n; i++)
		for (uint32_t j = 0; j < m->seg[i].n; j++)
			disk_index(table, &n, &m->seg[i].r[j].disk);
	pk_array(out, 2);
	pk_bin(out, table, n * sizeof(*table));
	pk_array(out, m->n);
	for (uint32_t i = 0; i < m->n; i++) {
		const struct rec_segment *s = &m->seg[i];

		pk_array(out, s->n);
		for (uint32_t j = 0; j < s->n; j++)
			pk_u64(out, disk_index(table, &n, &s->r[j].disk) * UINT64_C(2) +
					    s->r[j].joining);
	}
	mem_free(table);
	return NULL;
}

static const char *segment_decode(struct rd *r, struct rec_segment *s, const uint8_t *table,
				  uint32_t ndisks)
{
	uint32_t n = rd_array(r);

	if (r->bad || n > REC_COPIES_MAX)
		return "too many replicas";
	s->n = n;
	for (uint32_t j = 0; j < n; j++) {
		uint32_t v = rd_u32(r);

		if (r->bad || v / 2 >= ndisks)
			return "a replica on a disk that is not in the table";
		memcpy(s->r[j].disk.b, table + v / 2 * sizeof(struct uuid), sizeof(struct uuid));
		s->r[j].joining = v & 1;
	}
	return NULL;
}

static const char *volmap_decode(struct rd *r, void *rec)
{
	struct rec_volmap *m = rec;
	const uint8_t *table;
	uint32_t len = 0, n;
	const char *why = NULL;

	if (rd_array(r) != 2 || r->bad)
		return "not a map of segments";
	table = rd_bin(r, &len);
	if (r->bad || len % sizeof(struct uuid) || len / sizeof(struct uuid) > MAP_DISKS_MAX)
		return "table of disks has a wrong size";
	n = rd_array(r);
	if (r->bad || n > REC_VOLMAP_CHUNK)
		return "too many segments";
	m->n = n;
	for (uint32_t i = 0; i < n && !why; i++)
		why = segment_decode(r, &m->seg[i], table, len / (uint32_t)sizeof(struct uuid));
	return why;
}

static const struct rec_field volmap_fields[] = {
	FIELD_OWN("map", volmap_encode, volmap_decode),
};
REC_TYPE(volmap, volmap_fields, NULL);

static const struct rec_field out_fields[] = {
	FIELD_UUID(struct rec_out, disk, "disk"),
	FIELD_U64(struct rec_out, left_seq, "left", 0, 0),
	FIELD_U64(struct rec_out, since, "since", 0, 0),
	FIELD_BOOL(struct rec_out, syncing, "syncing"),
};

static const struct rec_field volsync_fields[] = {
	FIELD_U64(struct rec_volsync, generation, "generation", 0, 0),
	FIELD_LIST(struct rec_volsync, n, out, "out", out_fields),
};
REC_TYPE(volsync, volsync_fields, NULL);

struct rec_out *rec_volsync_out(const struct rec_volsync *s, const struct uuid *disk)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (uuid_eq(&s->out[i].disk, disk))
			return (struct rec_out *)(uintptr_t)&s->out[i];
	return NULL;
}

static const struct rec_field move_fields[] = {
	FIELD_U32(struct rec_move, segment, "segment", 0, 0),
	FIELD_UUID(struct rec_move, from, "from"),
	FIELD_UUID(struct rec_move, to, "to"),
};

static const struct rec_field volmove_fields[] = {
	FIELD_LIST(struct rec_volmove, n, m, "moves", move_fields),
};
REC_TYPE(volmove, volmove_fields, NULL);

static const struct rec_field volatt_fields[] = {
	FIELD_STR(struct rec_volatt, holder, "holder"),
	FIELD_U64(struct rec_volatt, generation, "generation", 0, 0),
	FIELD_STR(struct rec_volatt, export_addr, "export"),
	FIELD_ENUM(struct rec_volatt, purpose, "purpose", att_purpose),
};
REC_TYPE(volatt, volatt_fields, NULL);

const char *rec_volume_state_name(enum rec_volume_state v)
{
	return rec_enum_name(volume_state, ARRAY_SIZE(volume_state), v);
}

const char *rec_on_full_name(enum rec_on_full v)
{
	return rec_enum_name(on_full, ARRAY_SIZE(on_full), v);
}

int rec_on_full_parse(const char *s)
{
	return rec_enum_parse(on_full, ARRAY_SIZE(on_full), s);
}

const char *rec_att_purpose_name(enum rec_att_purpose v)
{
	return rec_enum_name(att_purpose, ARRAY_SIZE(att_purpose), v);
}
