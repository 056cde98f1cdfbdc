/* SPDX-License-Identifier: Apache-2.0 */
/* The records of the cluster, its nodes, disks, pools and policies: their fields and enums. */
#include "store/rec_codec.h"

static const char *const node_wanted[] = { "up", "maintenance" };
static const char *const disk_role[] = { "data", "spare" };
static const char *const disk_class[] = { "hdd", "ssd", "nvme" };
static const char *const disk_state[] = { "new",    "online",     "offline",
					  "failed", "evacuating", "removed" };

static const struct rec_field cluster_fields[] = {
	FIELD_NAME(struct rec_cluster, name, "name"),
	FIELD_UUID(struct rec_cluster, uuid, "uuid"),
	FIELD_U32(struct rec_cluster, format, "format", 1, 0),
};
REC_TYPE(cluster, cluster_fields, NULL);

static const struct rec_field moved_fields[] = {
	FIELD_STR(struct rec_moved, url, "url"),
};
REC_TYPE(moved, moved_fields, NULL);

static const struct rec_field node_fields[] = {
	FIELD_NAME(struct rec_node, name, "name"),
	FIELD_STR(struct rec_node, addr, "addr"),
	FIELD_UUID(struct rec_node, uuid, "uuid"),
	FIELD_ENUM(struct rec_node, wanted, "wanted", node_wanted),
	FIELD_U32(struct rec_node, migrations, "migrations", 0, 64),
	FIELD_U64(struct rec_node, migrate_bandwidth, "migrate_bandwidth", 0, UINT64_MAX),
};
REC_TYPE(node, node_fields, NULL);

static const struct rec_field alive_fields[] = {
	FIELD_STR(struct rec_alive, addr, "addr"),
	FIELD_STR(struct rec_alive, version, "version"),
	FIELD_U64(struct rec_alive, nonce, "nonce", 0, 0),
	FIELD_U64(struct rec_alive, started_at, "started", 0, 0),
};
REC_TYPE(alive, alive_fields, NULL);

static const struct rec_field disk_fields[] = {
	FIELD_UUID(struct rec_disk, uuid, "uuid"),
	FIELD_NAME(struct rec_disk, node, "node"),
	FIELD_STR(struct rec_disk, path, "path"),
	FIELD_NAME_OPT(struct rec_disk, pool, "pool"),
	FIELD_ENUM(struct rec_disk, role, "role", disk_role),
	FIELD_ENUM(struct rec_disk, class_, "class", disk_class),
	FIELD_ENUM(struct rec_disk, state, "state", disk_state),
	FIELD_U64(struct rec_disk, state_since, "since", 0, 0),
	FIELD_U64(struct rec_disk, capacity, "capacity", 0, 0),
	FIELD_STR(struct rec_disk, reason, "reason"),
	FIELD_I32(struct rec_disk, why, "why"),
	FIELD_STR(struct rec_disk, log, "log"),
	FIELD_U64(struct rec_disk, log_size, "log_size", 0, 0),
	FIELD_U64(struct rec_disk, log_wait_ns, "log_wait", 0, 0),
	FIELD_U32(struct rec_disk, log_level, "log_level", 0, 90),
	FIELD_U64(struct rec_disk, scrub_asked, "scrub_asked", 0, 0),
	FIELD_U64(struct rec_disk, scrub_period_ns, "scrub_period", 0, 0),
	FIELD_U64(struct rec_disk, scrub_rate, "scrub_rate", 0, 0),
	FIELD_UUID_OPT(struct rec_disk, replaces, "replaces"),
};
REC_TYPE(disk, disk_fields, NULL);

static const struct rec_field diskstat_fields[] = {
	FIELD_U64(struct rec_diskstat, capacity, "capacity", 0, 0),
	FIELD_U64(struct rec_diskstat, free, "free", 0, 0),
	FIELD_U64(struct rec_diskstat, segments, "segments", 0, 0),
	FIELD_U64(struct rec_diskstat, at, "at", 0, 0),
	FIELD_U64(struct rec_diskstat, scrub_started, "scrub_started", 0, 0),
	FIELD_U64(struct rec_diskstat, scrub_finished, "scrub_finished", 0, 0),
	FIELD_U64(struct rec_diskstat, scrub_done, "scrub_done", 0, 0),
	FIELD_U64(struct rec_diskstat, scrub_total, "scrub_total", 0, 0),
	FIELD_U64(struct rec_diskstat, scrub_corrupt, "scrub_corrupt", 0, 0),
	FIELD_U64(struct rec_diskstat, scrub_waiting, "scrub_waiting", 0, 0),
};
REC_TYPE(diskstat, diskstat_fields, NULL);

static const struct rec_field hot_fields[] = {
	FIELD_UUID(struct rec_hot, volume, "volume"),
	FIELD_U32(struct rec_hot, segment, "segment", 0, 0),
	FIELD_U64(struct rec_hot, ops, "ops", 0, 0),
	FIELD_U64(struct rec_hot, bytes, "bytes", 0, 0),
};
static const struct rec_field diskload_fields[] = {
	FIELD_U64(struct rec_diskload, ops, "ops", 0, 0),
	FIELD_U64(struct rec_diskload, bytes, "bytes", 0, 0),
	FIELD_U64(struct rec_diskload, at, "at", 0, 0),
	FIELD_LIST(struct rec_diskload, n, hot, "hot", hot_fields),
};
REC_TYPE(diskload, diskload_fields, NULL);

static const struct rec_field cachestat_fields[] = {
	FIELD_STR(struct rec_cachestat, path, "path"),
	FIELD_U32(struct rec_cachestat, block, "block", 0, 0),
	FIELD_U32(struct rec_cachestat, ssd_failed, "failed", 0, 1),
	FIELD_U64(struct rec_cachestat, ram_max, "ram_max", 0, 0),
	FIELD_U64(struct rec_cachestat, ram_used, "ram_used", 0, 0),
	FIELD_U64(struct rec_cachestat, ssd_size, "ssd_size", 0, 0),
	FIELD_U64(struct rec_cachestat, ssd_used, "ssd_used", 0, 0),
	FIELD_U64(struct rec_cachestat, memory, "memory", 0, 0),
	FIELD_U64(struct rec_cachestat, blocks, "blocks", 0, 0),
	FIELD_U64(struct rec_cachestat, hits_ram, "hits_ram", 0, 0),
	FIELD_U64(struct rec_cachestat, hits_ssd, "hits_ssd", 0, 0),
	FIELD_U64(struct rec_cachestat, misses, "misses", 0, 0),
	FIELD_U64(struct rec_cachestat, shared, "shared", 0, 0),
	FIELD_U64(struct rec_cachestat, errors, "errors", 0, 0),
	FIELD_U64(struct rec_cachestat, corrupt, "corrupt", 0, 0),
	FIELD_U64(struct rec_cachestat, saved_ns, "saved", 0, 0),
	FIELD_U64(struct rec_cachestat, at, "at", 0, 0),
};
REC_TYPE(cachestat, cachestat_fields, NULL);

static const struct rec_field pool_fields[] = {
	FIELD_NAME(struct rec_pool, name, "name"),
	FIELD_NAME_OPT(struct rec_pool, policy, "policy"),
	FIELD_NAME_OPT(struct rec_pool, domain, "domain"),
	FIELD_U64(struct rec_pool, rebuild_delay_ns, "rebuild_delay", 0, 0),
	FIELD_U32(struct rec_pool, rebuild_impact, "rebuild_impact", 0, REC_IMPACT_MAX),
	FIELD_U64(struct rec_pool, created, "created", 0, 0),
};
REC_TYPE(pool, pool_fields, NULL);

static const struct rec_field policy_fields[] = {
	FIELD_NAME(struct rec_policy, name, "name"),
	FIELD_STR(struct rec_policy, plugin, "plugin"),
	FIELD_STR(struct rec_policy, config, "config"),
};
REC_TYPE(policy, policy_fields, NULL);

const char *rec_node_wanted_name(enum rec_node_wanted v)
{
	return rec_enum_name(node_wanted, ARRAY_SIZE(node_wanted), v);
}

const char *rec_disk_role_name(enum rec_disk_role v)
{
	return rec_enum_name(disk_role, ARRAY_SIZE(disk_role), v);
}

const char *rec_disk_class_name(enum rec_disk_class v)
{
	return rec_enum_name(disk_class, ARRAY_SIZE(disk_class), v);
}

const char *rec_disk_state_name(enum rec_disk_state v)
{
	return rec_enum_name(disk_state, ARRAY_SIZE(disk_state), v);
}

int rec_disk_role_parse(const char *s)
{
	return rec_enum_parse(disk_role, ARRAY_SIZE(disk_role), s);
}

int rec_disk_class_parse(const char *s)
{
	return rec_enum_parse(disk_class, ARRAY_SIZE(disk_class), s);
}
