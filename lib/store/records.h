/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the cluster keeps in the store: one C struct a record, its key, its encoding. A value is a
 * msgpack map with short string keys and a version "v"; a reader skips keys it does not know and
 * refuses a newer "v" (HCI_E_VERSION). All sizes are fixed limits, checked in both directions: what
 * decodes also encodes. docs/store-format.md is the description for people.
 *
 * Owns keys and encodings only; what the states mean and who may change them is the matter of the
 * floors above. Most structs fit on a fiber's stack; rec_volmap (27 KiB) and rec_job (11 KiB) do
 * not belong there: allocate them.
 */
#ifndef STORE_RECORDS_H
#define STORE_RECORDS_H

#include <hci/types.h>

#include "base/base.h"
#include "base/buf.h"
#include "base/ether.h"
#include "store/store.h"

#define REC_VERSION 1u
#define REC_PATH_MAX 256u /* bytes of a path, address or URL, with the closing NUL */
#define REC_TEXT_MAX 512u /* bytes of a text for people, a config or a kernel command line */
#define REC_REPLICAS_MAX 5u
#define REC_COPIES_MAX (REC_REPLICAS_MAX + 1u) /* of one segment, while one of them moves */
#define REC_MOVES_MAX 64u     /* of one volume, asked for at the same time */
#define REC_VOLMAP_CHUNK 256u /* segments in one volmap key */
#define REC_OUT_MAX 32u       /* replicas of one volume out of sync at the same time */
#define REC_JOB_ARGS_MAX 16u
#define REC_IMPACT_MAX 100000u
#define REC_VM_DISKS_MAX 8u
#define REC_VM_NICS_MAX 8u
#define REC_VM_USB_MAX 8u
#define REC_MTU_MIN 68u
#define REC_MTU_MAX 65535u
#define REC_BRIDGES_MAX 64u   /* of one node that are told */
#define REC_SEGMENT_MIN MiB
#define REC_SEGMENT_MAX GiB
#define REC_VOLUME_SIZE_MAX (UINT64_C(1) << 50)

/* ---- the records ---- */

struct rec_cluster { /* meta/cluster */
	char name[HCI_NAME_MAX];
	struct uuid uuid;
	uint32_t format; /* of all keys and records together: REC_VERSION */
};

#define REC_URL_MAX 1024u

struct rec_moved { /* meta/moved: where the cluster went; meta/copying: where it is coming from */
	char url[REC_URL_MAX];
};

enum rec_node_wanted { REC_NODE_UP, REC_NODE_MAINTENANCE };

struct rec_node { /* node/<name> */
	char name[HCI_NAME_MAX];
	char addr[REC_PATH_MAX]; /* of its rpc server, "tcp:10.0.0.1:7400" */
	struct uuid uuid;
	enum rec_node_wanted wanted;
	uint32_t migrations;        /* VMs that leave it at a time; 0: the default */
	uint64_t migrate_bandwidth; /* bytes/s for all of them together, 0: no limit */
};

struct rec_alive { /* alive/<name>, leased: the heartbeat */
	char addr[REC_PATH_MAX];
	char version[HCI_NAME_MAX]; /* of libhci */
	uint64_t nonce;      /* drawn at the start of the node service: tells two lives apart */
	uint64_t started_at; /* ns since 1970, as are all times in records */
};

enum rec_disk_role { REC_DISK_DATA, REC_DISK_SPARE };
enum rec_disk_class { REC_DISK_HDD, REC_DISK_SSD, REC_DISK_NVME };
enum rec_disk_state {
	REC_DISK_NEW,
	REC_DISK_ONLINE,
	REC_DISK_OFFLINE,
	REC_DISK_FAILED,
	REC_DISK_EVACUATING,
	REC_DISK_REMOVED,
};

struct rec_disk { /* disk/<uuid> */
	struct uuid uuid;
	char node[HCI_NAME_MAX];
	char path[REC_PATH_MAX];
	char pool[HCI_NAME_MAX]; /* "": in none */
	enum rec_disk_role role;
	enum rec_disk_class class_;
	enum rec_disk_state state;
	uint64_t state_since;
	uint64_t capacity;         /* bytes */
	char reason[REC_TEXT_MAX]; /* why it is in this state, for people */
	int32_t why;               /* the same for programs: HCI_E_*, 0: no error */
	char log[REC_PATH_MAX];    /* "": its write log is on the disk itself; else a directory or block device */
	uint64_t log_size;         /* bytes, 0: as repl_disk_format() chooses */
	uint64_t log_wait_ns;      /* how long it waits for a log that is away before its content counts as lost, 0: 10 minutes */
	uint32_t log_level;        /* percent of the log from which on it is moved to its place, 0: 50 */
	uint64_t scrub_asked;      /* when somebody asked for a scrub, ns since 1970; 0: never */
	uint64_t scrub_period_ns;  /* 0: a week; UINT64_MAX: only when asked */
	uint64_t scrub_rate;       /* bytes a second at most, 0: 32 MiB */
	struct uuid replaces;      /* the disk that was here and lost its log; null: none, or this one was online since */
};

struct rec_diskstat {            /* diskstat/<uuid> */
	uint64_t capacity, free; /* bytes */
	uint64_t segments;       /* that hold data on it */
	uint64_t at;
	uint64_t scrub_started, scrub_finished; /* ns since 1970: of this pass or the last; start of the last that was completed */
	uint64_t scrub_done, scrub_total;       /* bytes of it */
	uint64_t scrub_corrupt;                 /* blocks that it found damaged */
	uint64_t scrub_waiting;                 /* regions of these that no writer has taken for repair yet */
};

#define REC_HOT_MAX 32u

struct rec_hot {
	struct uuid volume;
	uint32_t segment;
	uint64_t ops, bytes;
};
/* diskload/<uuid>: what users ask of the disk, numbers a second, averaged over a minute; told when it changed a good deal */
struct rec_diskload {
	uint64_t ops, bytes;
	uint64_t at;
	uint32_t n;
	struct rec_hot hot[REC_HOT_MAX]; /* the most used segments */
};

struct rec_cachestat {           /* cachestat/<holder>, leased: a read cache, as its process told lately */
	char path[REC_PATH_MAX];
	uint32_t block, ssd_failed;
	uint64_t ram_max, ram_used, ssd_size, ssd_used, memory; /* bytes */
	uint64_t blocks, hits_ram, hits_ssd, misses, shared, errors, corrupt, saved_ns;
	uint64_t at;
};

struct rec_pool { /* pool/<name> */
	char name[HCI_NAME_MAX];
	char policy[HCI_NAME_MAX]; /* of placement: policy/<policy> */
	char domain[HCI_NAME_MAX]; /* failure domain: "node" */
	uint64_t rebuild_delay_ns; /* from a replica's failure to its rebuild elsewhere; of volumes that say nothing themselves */
	uint32_t rebuild_impact;   /* likewise: percent, 0: the default */
	uint64_t created;
};

enum rec_volume_state { REC_VOLUME_CREATING, REC_VOLUME_READY, REC_VOLUME_DELETING };
enum rec_on_full { REC_FULL_WAIT, REC_FULL_FAIL };

struct rec_volume { /* volume/<uuid> */
	struct uuid uuid;
	char name[HCI_NAME_MAX];
	char pool[HCI_NAME_MAX];
	char policy[HCI_NAME_MAX]; /* "": the pool's */
	uint64_t size;             /* bytes, a multiple of HCI_BLOCK, at most REC_VOLUME_SIZE_MAX */
	uint64_t segment_size;     /* a power of two, REC_SEGMENT_MIN..REC_SEGMENT_MAX */
	uint32_t replicas;         /* 1..REC_REPLICAS_MAX */
	enum rec_on_full on_full;
	uint64_t write_timeout_ns;
	uint64_t read_timeout_ns; /* 0: the default, as in records of before it was there */
	uint64_t rebuild_delay_ns; /* 0: the pool's */
	uint32_t rebuild_impact;  /* percent of its idle latency that a request may take while copies are made; 0: the pool's */
	uint64_t lease_ns;        /* of attachments that ask for none themselves; 0: the default */
	enum rec_volume_state state;
	uint64_t created;
};

struct rec_volname { /* volname/<name> */
	struct uuid uuid;
};

struct rec_replica {
	struct uuid disk;
	bool joining; /* new here: holds nothing yet */
};
struct rec_segment {
	uint32_t n; /* 1..REC_COPIES_MAX; 0: not placed */
	struct rec_replica r[REC_COPIES_MAX];
};
/* Where the segments [chunk * REC_VOLMAP_CHUNK, + n) are. In the encoding the disks are in a table
 * of their own, each once, and the segments hold indices. */
struct rec_volmap { /* volmap/<uuid>/<chunk> */
	uint32_t n; /* segments in this chunk, at most REC_VOLMAP_CHUNK */
	struct rec_segment seg[REC_VOLMAP_CHUNK];
};

struct rec_out {
	struct uuid disk;
	uint64_t left_seq; /* the disk holds everything up to this sequence number */
	uint64_t since;
	bool syncing; /* what it missed is being copied to it */
};
/* Disks of the volume that are not in its in-sync set. */
struct rec_volsync { /* volsync/<uuid> */
	uint64_t generation;
	uint32_t n;
	struct rec_out out[REC_OUT_MAX];
};
/* NULL: the disk is in the set, if it has a copy. */
struct rec_out *rec_volsync_out(const struct rec_volsync *s, const struct uuid *disk);

struct rec_move {
	uint32_t segment;
	struct uuid from, to;
};
/*
 * There is something to change in where the volume's copies are: its writer (or a repair) makes the map match the
 * number of replicas in the volume's record, and does these moves; when nothing is left it deletes the record.
 */
struct rec_volmove { /* volmove/<uuid> */
	uint32_t n;
	struct rec_move m[REC_MOVES_MAX];
};

enum rec_att_purpose { REC_ATT_USER, REC_ATT_REPAIR, REC_ATT_MIGRATE };

struct rec_volatt {                /* volatt/<uuid>, leased: the writer */
	char holder[HCI_NAME_MAX]; /* node or client */
	uint64_t generation;
	char export_addr[REC_PATH_MAX]; /* "": not exported */
	enum rec_att_purpose purpose;
};

enum rec_job_state {
	REC_JOB_PENDING,
	REC_JOB_RUNNING,
	REC_JOB_DONE,
	REC_JOB_FAILED,
	REC_JOB_CANCELLED
};

struct rec_arg {
	char key[HCI_NAME_MAX];
	char value[REC_TEXT_MAX];
};
struct rec_job { /* job/<id> */
	char id[HCI_NAME_MAX];
	char type[HCI_NAME_MAX];
	char target[REC_PATH_MAX]; /* the object worked on */
	uint32_t nargs;
	struct rec_arg args[REC_JOB_ARGS_MAX];
	char node[HCI_NAME_MAX]; /* that executes it; "": any */
	enum rec_job_state state;
	uint64_t done, total; /* in unit */
	char unit[HCI_NAME_MAX];
	char phase[REC_PATH_MAX];
	int32_t error; /* HCI_E_* or 0 */
	char message[REC_TEXT_MAX];
	uint64_t created, updated;
	bool cancel_requested;
};

enum rec_vm_wanted { REC_VM_STOPPED, REC_VM_RUNNING };
enum rec_vm_runs { REC_VM_RUNS, REC_VM_PAUSED, REC_VM_CRASHED };

struct rec_vm_disk {
	char volume[HCI_NAME_MAX]; /* name or UUID */
	char bus[HCI_NAME_MAX];    /* "virtio", "scsi", ... */
};
enum rec_nic_model { REC_NIC_VIRTIO, REC_NIC_E1000E };
struct rec_vm_nic {
	char bridge[ETHER_IF_NAME]; /* of the node that it is a port of */
	char mac[ETHER_MAC_STR];    /* as ether_mac() gives it */
	enum rec_nic_model model;
	uint32_t mtu; /* 0: the bridge's */
	bool down;    /* no carrier */
};
struct rec_vm_usb {
	char name[HCI_NAME_MAX];
	char node[HCI_NAME_MAX];   /* where the server is reached */
	char server[REC_PATH_MAX]; /* there: "tcp:127.0.0.1:4000" or "unix:/path" */
};
struct rec_vm { /* vm/<name> */
	char name[HCI_NAME_MAX];
	struct uuid uuid;
	char node[HCI_NAME_MAX]; /* where it is to run; "": to be chosen */
	enum rec_vm_wanted wanted;
	bool crashed; /* stopped, and not because anybody wanted so: its QEMU was gone */
	uint32_t vcpus;
	uint64_t memory_bytes;
	char kernel[REC_PATH_MAX], initrd[REC_PATH_MAX]; /* "": boots from its first disk */
	char cmdline[REC_TEXT_MAX];
	uint32_t ndisks;
	struct rec_vm_disk disks[REC_VM_DISKS_MAX];
	uint32_t nnics;
	struct rec_vm_nic nics[REC_VM_NICS_MAX];
	uint32_t nusb;
	struct rec_vm_usb usb[REC_VM_USB_MAX];
	char console_log[REC_PATH_MAX];
	uint64_t created;
};

struct rec_vmrun { /* vmrun/<name>, leased: where it runs */
	char node[HCI_NAME_MAX];
	uint64_t since;
	enum rec_vm_runs runs; /* how its domain is, as that node saw it last */
};

struct rec_bridge {
	char name[ETHER_IF_NAME];
	uint32_t mtu;
};
struct rec_nodenet { /* nodenet/<name>, leased: what a node that runs VMs has for their interfaces */
	uint32_t n;
	struct rec_bridge bridges[REC_BRIDGES_MAX];
	bool more; /* than are told: what is not among these may be there */
};

struct rec_policy { /* policy/<name> */
	char name[HCI_NAME_MAX];
	char plugin[REC_PATH_MAX]; /* path of the plugin */
	char config[REC_TEXT_MAX];
};

/* ---- keys: out holds REC_KEY bytes; names must have passed name_check() ---- */

#define REC_KEY (STORE_KEY_MAX + 1u)

#define KEY_CLUSTER "meta/cluster"
#define KEY_MOVED "meta/moved"
#define KEY_COPYING "meta/copying"
#define PREFIX_NODE "node/"
#define PREFIX_ALIVE "alive/"
#define PREFIX_DISK "disk/"
#define PREFIX_DISKSTAT "diskstat/"
#define PREFIX_DISKLOAD "diskload/"
#define PREFIX_POOL "pool/"
#define PREFIX_VOLUME "volume/"
#define PREFIX_VOLNAME "volname/"
#define PREFIX_VOLMAP "volmap/"
#define PREFIX_VOLSYNC "volsync/"
#define PREFIX_VOLATT "volatt/"
#define PREFIX_VOLMOVE "volmove/"
#define PREFIX_JOB "job/"
#define PREFIX_VM "vm/"
#define PREFIX_VMRUN "vmrun/"
#define PREFIX_NODENET "nodenet/"
#define PREFIX_POLICY "policy/"
#define PREFIX_CACHESTAT "cachestat/"

void key_node(char out[REC_KEY], const char *name);
void key_alive(char out[REC_KEY], const char *name);
void key_disk(char out[REC_KEY], const struct uuid *u);
void key_diskstat(char out[REC_KEY], const struct uuid *u);
void key_diskload(char out[REC_KEY], const struct uuid *u);
void key_pool(char out[REC_KEY], const char *name);
void key_volume(char out[REC_KEY], const struct uuid *u);
void key_volname(char out[REC_KEY], const char *name);
void key_volmap(char out[REC_KEY], const struct uuid *u, uint32_t chunk);
void key_volmap_prefix(char out[REC_KEY], const struct uuid *u); /* of all its chunks */
void key_volsync(char out[REC_KEY], const struct uuid *u);
void key_volatt(char out[REC_KEY], const struct uuid *u);
void key_volmove(char out[REC_KEY], const struct uuid *u);
void key_job(char out[REC_KEY], const char *id);
void key_vm(char out[REC_KEY], const char *name);
void key_vmrun(char out[REC_KEY], const char *name);
void key_nodenet(char out[REC_KEY], const char *name);
void key_policy(char out[REC_KEY], const char *name);
void key_cachestat(char out[REC_KEY], const char *name);
/* The part of key after prefix; NULL when it does not start with it. */
const char *key_tail(const char *key, const char *prefix);
bool key_parse_uuid(const char *key, const char *prefix, struct uuid *out);
bool key_parse_volmap(const char *key, struct uuid *out, uint32_t *chunk);

/* ---- encoding ---- */

struct rec_type;
/* Appends to out. HCI_E_INVAL when a field is outside its limits, HCI_E_NOMEM, or 0. */
int rec_encode(const struct rec_type *t, const void *rec, struct buf *out, struct hci_error *err);
/* Fills all of *rec. HCI_E_CORRUPT (naming the field) or HCI_E_VERSION; *rec is then zeroed. */
int rec_decode(const struct rec_type *t, const void *data, size_t len, void *rec,
	       struct hci_error *err);
size_t rec_size(const struct rec_type *t); /* of the struct */
const char *rec_type_name(const struct rec_type *t);
#define REC_TYPES 20
/* All of them, for tests and dumps; NULL from REC_TYPES on. */
const struct rec_type *rec_type_at(unsigned i);

/* Names of enum values, as in the encoding; "?" when out of range. Parse: -1 when unknown. */
const char *rec_node_wanted_name(enum rec_node_wanted v);
const char *rec_disk_role_name(enum rec_disk_role v);
const char *rec_disk_class_name(enum rec_disk_class v);
const char *rec_disk_state_name(enum rec_disk_state v);
const char *rec_volume_state_name(enum rec_volume_state v);
const char *rec_on_full_name(enum rec_on_full v);
const char *rec_att_purpose_name(enum rec_att_purpose v);
const char *rec_job_state_name(enum rec_job_state v);
/* "tcp:HOST:PORT" with a port, or "unix:/path". */
bool rec_usb_server(const char *s);
const char *rec_vm_wanted_name(enum rec_vm_wanted v);
const char *rec_vm_runs_name(enum rec_vm_runs v);
int rec_disk_role_parse(const char *s);
int rec_disk_class_parse(const char *s);
int rec_on_full_parse(const char *s);

/* ---- against the store; all park ---- */

#define REC_REV_ANY UINT64_MAX

/* HCI_E_NOTFOUND (the message names type and key) when the key is absent. mod_rev may be NULL. */
int rec_get(struct store *s, const struct rec_type *t, const char *key, void *out,
	    uint64_t *mod_rev, struct hci_error *err);
/* rev: the mod_rev the key must have (else HCI_E_CONFLICT), 0: must be absent, REC_REV_ANY.
 * revision may be NULL. */
int rec_put(struct store *s, const struct rec_type *t, const char *key, const void *rec,
	    uint64_t rev, uint64_t lease, uint64_t *revision, struct hci_error *err);
int rec_delete(struct store *s, const char *key, uint64_t rev, uint64_t *revision,
	       struct hci_error *err);

/* Every record below a prefix, in key order, read page by page. revision is of the first page: a
 * watch from there misses nothing. Freed with rec_list_free. Record i: REC_AT(&list, i, struct
 * rec_disk). */
struct rec_list {
	void *recs;
	char **keys;
	uint64_t *mod_revs;
	size_t n;
	uint64_t revision;
};
int rec_list(struct store *s, const struct rec_type *t, const char *prefix, struct rec_list *out,
	     struct hci_error *err);
void rec_list_free(struct rec_list *l);
#define REC_AT(list, i, type) (&((type *)(list)->recs)[i])

/* For each type: rec_X_type, rec_X_encode(rec, buf), rec_X_decode(data, len, out, err),
 * rec_X_get(store, key, out, mod_rev, err), rec_X_put(store, key, rec, rev, lease, revision, err),
 * rec_X_list(store, prefix, list, err). */
#define REC_DECLARE(name)                                                                     \
	extern const struct rec_type rec_##name##_type;                                       \
	static inline int rec_##name##_encode(const struct rec_##name *rec, struct buf *out)  \
	{                                                                                     \
		return rec_encode(&rec_##name##_type, rec, out, NULL);                        \
	}                                                                                     \
	static inline int rec_##name##_decode(const void *data, size_t len,                   \
					      struct rec_##name *out, struct hci_error *err)  \
	{                                                                                     \
		return rec_decode(&rec_##name##_type, data, len, out, err);                   \
	}                                                                                     \
	static inline int rec_##name##_get(struct store *s, const char *key,                  \
					   struct rec_##name *out, uint64_t *mod_rev,         \
					   struct hci_error *err)                             \
	{                                                                                     \
		return rec_get(s, &rec_##name##_type, key, out, mod_rev, err);                \
	}                                                                                     \
	static inline int rec_##name##_put(                                                   \
		struct store *s, const char *key, const struct rec_##name *rec, uint64_t rev, \
		uint64_t lease, uint64_t *revision, struct hci_error *err)                    \
	{                                                                                     \
		return rec_put(s, &rec_##name##_type, key, rec, rev, lease, revision, err);   \
	}                                                                                     \
	static inline int rec_##name##_list(struct store *s, const char *prefix,              \
					    struct rec_list *out, struct hci_error *err)      \
	{                                                                                     \
		return rec_list(s, &rec_##name##_type, prefix, out, err);                     \
	}

REC_DECLARE(cluster)
REC_DECLARE(moved)
REC_DECLARE(node)
REC_DECLARE(alive)
REC_DECLARE(disk)
REC_DECLARE(diskstat)
REC_DECLARE(diskload)
REC_DECLARE(pool)
REC_DECLARE(volume)
REC_DECLARE(volname)
REC_DECLARE(volmap)
REC_DECLARE(volsync)
REC_DECLARE(volatt)
REC_DECLARE(volmove)
REC_DECLARE(job)
REC_DECLARE(vm)
REC_DECLARE(vmrun)
REC_DECLARE(nodenet)
REC_DECLARE(policy)
REC_DECLARE(cachestat)

#endif
