/* SPDX-License-Identifier: Apache-2.0 */
#include "record_samples.h"

/* Padding is never touched: tests compare whole structs. */
static struct uuid id(uint8_t n)
{
	struct uuid u = { { n, 1, 2, 3, 4, 5, 0x46, 7, 0x88, 9, 10, 11, 12, 13, 14, 15 } };

	return u;
}

static void text(char *out, size_t cap, int full, const char *usual)
{
	size_t n = strlen(usual);

	if (full)
		memset(out, 'x', cap - 1);
	else
		memcpy(out, usual, n < cap ? n : cap - 1);
}

#define TEXT(field, usual) text(field, sizeof(field), full, usual)
#define NUMBER(usual) (full ? UINT64_MAX : (uint64_t)(usual))

static void fill_cluster(struct rec_cluster *r, int full)
{
	TEXT(r->name, "test");
	r->uuid = id(1);
	r->format = full ? UINT32_MAX : 1;
}

static void fill_node(struct rec_node *r, int full)
{
	TEXT(r->name, "n1");
	TEXT(r->addr, "tcp:10.0.0.1:7400");
	r->uuid = id(2);
	r->wanted = full ? REC_NODE_MAINTENANCE : REC_NODE_UP;
	r->migrations = full ? 64 : 0;
	r->migrate_bandwidth = NUMBER(50000000);
}

static void fill_alive(struct rec_alive *r, int full)
{
	TEXT(r->addr, "tcp:10.0.0.1:7400");
	TEXT(r->version, "0.1.0");
	r->nonce = NUMBER(0x1234567890abcdef);
	r->started_at = NUMBER(1700000000000000000);
}

static void fill_disk(struct rec_disk *r, int full)
{
	r->uuid = id(3);
	TEXT(r->node, "n1");
	TEXT(r->path, "/var/lib/hci/d1");
	TEXT(r->pool, "");
	r->role = full ? REC_DISK_SPARE : REC_DISK_DATA;
	r->class_ = full ? REC_DISK_NVME : REC_DISK_HDD;
	r->state = full ? REC_DISK_REMOVED : REC_DISK_ONLINE;
	r->state_since = NUMBER(1700000000000000000);
	r->capacity = NUMBER(1 << 30);
	TEXT(r->reason, "added by hand");
	TEXT(r->log, "/ssd/logs");
	r->log_size = NUMBER(1 << 30);
	r->log_wait_ns = NUMBER(600000000000);
	r->log_level = full ? 90 : 0;
	r->scrub_asked = NUMBER(1700000000000000000);
	r->scrub_period_ns = NUMBER(604800000000000);
	r->scrub_rate = NUMBER(1 << 25);
	if (full)
		r->replaces = id(4);
}

static void fill_diskstat(struct rec_diskstat *r, int full)
{
	r->capacity = NUMBER(100);
	r->free = NUMBER(50);
	r->segments = NUMBER(3);
	r->at = NUMBER(1);
	r->scrub_started = NUMBER(2);
	r->scrub_finished = NUMBER(3);
	r->scrub_done = NUMBER(4);
	r->scrub_total = NUMBER(5);
	r->scrub_corrupt = NUMBER(6);
	r->scrub_waiting = NUMBER(7);
}

static void fill_diskload(struct rec_diskload *r, int full)
{
	r->ops = NUMBER(1);
	r->bytes = NUMBER(2);
	r->at = NUMBER(3);
	r->n = full ? REC_HOT_MAX : 0;
	for (uint32_t i = 0; i < r->n; i++)
		r->hot[i] = (struct rec_hot){ id(i), UINT32_MAX - i, NUMBER(4), NUMBER(5) };
}

static void fill_cachestat(struct rec_cachestat *r, int full)
{
	TEXT(r->path, "/ssd/cache");
	r->block = full ? UINT32_MAX : 16384;
	r->ssd_failed = full ? 1 : 0;
	r->ram_max = NUMBER(1);
	r->ram_used = NUMBER(2);
	r->ssd_size = NUMBER(3);
	r->ssd_used = NUMBER(4);
	r->memory = NUMBER(5);
	r->blocks = NUMBER(6);
	r->hits_ram = NUMBER(7);
	r->hits_ssd = NUMBER(8);
	r->misses = NUMBER(9);
	r->shared = NUMBER(10);
	r->errors = NUMBER(11);
	r->corrupt = NUMBER(12);
	r->saved_ns = NUMBER(13);
	r->at = NUMBER(14);
}

static void fill_pool(struct rec_pool *r, int full)
{
	TEXT(r->name, "p");
	TEXT(r->policy, "spread");
	TEXT(r->domain, "node");
	r->rebuild_delay_ns = NUMBER(60);
	r->rebuild_impact = full ? REC_IMPACT_MAX : 0;
	r->created = NUMBER(1);
}

static void fill_volume(struct rec_volume *r, int full)
{
	r->uuid = id(4);
	TEXT(r->name, "vol-1");
	TEXT(r->pool, "p");
	TEXT(r->policy, "");
	r->size = full ? REC_VOLUME_SIZE_MAX : 8192;
	r->segment_size = full ? REC_SEGMENT_MAX : REC_SEGMENT_MIN;
	r->replicas = full ? REC_REPLICAS_MAX : 1;
	r->on_full = full ? REC_FULL_FAIL : REC_FULL_WAIT;
	r->write_timeout_ns = NUMBER(0);
	r->read_timeout_ns = NUMBER(0);
	r->rebuild_delay_ns = NUMBER(0);
	r->rebuild_impact = full ? REC_IMPACT_MAX : 0;
	r->lease_ns = NUMBER(0);
	r->state = full ? REC_VOLUME_DELETING : REC_VOLUME_CREATING;
	r->created = NUMBER(7);
}

static void fill_volmap(struct rec_volmap *r, int full)
{
	r->n = full ? REC_VOLMAP_CHUNK : 2;
	for (uint32_t i = 0; i < r->n; i++) {
		r->seg[i].n = full ? REC_COPIES_MAX : i; /* the first is not placed */
		for (uint32_t j = 0; j < r->seg[i].n; j++) {
			r->seg[i].r[j].disk = id((uint8_t)(full ? i : j));
			r->seg[i].r[j].disk.b[1] = (uint8_t)j;
			r->seg[i].r[j].joining = (i + j) & 1;
		}
	}
}

static void fill_volsync(struct rec_volsync *r, int full)
{
	r->generation = NUMBER(9);
	r->n = full ? REC_OUT_MAX : 1;
	for (uint32_t i = 0; i < r->n; i++) {
		r->out[i].disk = id((uint8_t)i);
		r->out[i].left_seq = NUMBER(1000);
		r->out[i].since = NUMBER(1);
		r->out[i].syncing = i & 1;
	}
}

static void fill_volatt(struct rec_volatt *r, int full)
{
	TEXT(r->holder, "n1");
	r->generation = NUMBER(9);
	TEXT(r->export_addr, "unix:/run/hci/vol-1.sock");
	r->purpose = full ? REC_ATT_MIGRATE : REC_ATT_USER;
}

static void fill_volmove(struct rec_volmove *r, int full)
{
	r->n = full ? REC_MOVES_MAX : 1;
	for (uint32_t i = 0; i < r->n; i++)
		r->m[i] = (struct rec_move){ full ? UINT32_MAX - i : i, id((uint8_t)i), id((uint8_t)(i + 1)) };
}

static void fill_job(struct rec_job *r, int full)
{
	TEXT(r->id, "job-1");
	TEXT(r->type, "volume-create");
	TEXT(r->target, "volume vol-1");
	r->nargs = full ? REC_JOB_ARGS_MAX : 1;
	for (uint32_t i = 0; i < r->nargs; i++) {
		TEXT(r->args[i].key, "size");
		TEXT(r->args[i].value, "10G");
	}
	TEXT(r->node, "");
	r->state = full ? REC_JOB_CANCELLED : REC_JOB_RUNNING;
	r->done = NUMBER(1);
	r->total = NUMBER(2);
	TEXT(r->unit, "bytes");
	TEXT(r->phase, "copying");
	r->error = full ? INT32_MIN : HCI_E_NOSPACE;
	TEXT(r->message, "");
	r->created = NUMBER(1);
	r->updated = NUMBER(2);
	r->cancel_requested = full;
}

static void fill_vm(struct rec_vm *r, int full)
{
	TEXT(r->name, "vm-1");
	r->uuid = id(5);
	TEXT(r->node, "n1");
	r->wanted = full ? REC_VM_RUNNING : REC_VM_STOPPED;
	r->crashed = full;
	r->vcpus = full ? UINT32_MAX : 2;
	r->memory_bytes = NUMBER(1 << 28);
	TEXT(r->kernel, "/boot/vmlinuz");
	TEXT(r->initrd, "/boot/initrd");
	TEXT(r->cmdline, "console=ttyS0 root=/dev/vda");
	r->ndisks = full ? REC_VM_DISKS_MAX : 1;
	for (uint32_t i = 0; i < r->ndisks; i++) {
		TEXT(r->disks[i].volume, "vol-1");
		TEXT(r->disks[i].bus, "virtio");
	}
	r->nnics = full ? REC_VM_NICS_MAX : 1;
	for (uint32_t i = 0; i < r->nnics; i++) {
		TEXT(r->nics[i].bridge, full ? "br-0123456789ab" : "br0");
		ether_mac_of(&r->uuid, i, 0, r->nics[i].mac);
		r->nics[i].model = full ? REC_NIC_E1000E : REC_NIC_VIRTIO;
		r->nics[i].mtu = full ? REC_MTU_MAX : 0;
		r->nics[i].down = full;
	}
	r->nusb = full ? REC_VM_USB_MAX : 1;
	for (uint32_t i = 0; i < r->nusb; i++) {
		TEXT(r->usb[i].name, "key-1");
		r->usb[i].name[4] = (char)('1' + i);
		TEXT(r->usb[i].node, "node-1");
		strcpy(r->usb[i].server, full ? "unix:/run/usb/key" : "tcp:127.0.0.1:4000");
	}
	TEXT(r->console_log, "/var/log/vm-1");
	r->created = NUMBER(1);
}

void sample_fill(const struct rec_type *t, void *rec, int full)
{
	if (t == &rec_cluster_type)
		fill_cluster(rec, full);
	else if (t == &rec_moved_type)
		strcpy(((struct rec_moved *)rec)->url, full ? "etcd://a,b,c/hci" : "");
	else if (t == &rec_node_type)
		fill_node(rec, full);
	else if (t == &rec_alive_type)
		fill_alive(rec, full);
	else if (t == &rec_disk_type)
		fill_disk(rec, full);
	else if (t == &rec_diskstat_type)
		fill_diskstat(rec, full);
	else if (t == &rec_diskload_type)
		fill_diskload(rec, full);
	else if (t == &rec_cachestat_type)
		fill_cachestat(rec, full);
	else if (t == &rec_pool_type)
		fill_pool(rec, full);
	else if (t == &rec_volume_type)
		fill_volume(rec, full);
	else if (t == &rec_volname_type)
		((struct rec_volname *)rec)->uuid = id(6);
	else if (t == &rec_volmap_type)
		fill_volmap(rec, full);
	else if (t == &rec_volsync_type)
		fill_volsync(rec, full);
	else if (t == &rec_volatt_type)
		fill_volatt(rec, full);
	else if (t == &rec_volmove_type)
		fill_volmove(rec, full);
	else if (t == &rec_job_type)
		fill_job(rec, full);
	else if (t == &rec_vm_type)
		fill_vm(rec, full);
	else if (t == &rec_vmrun_type) {
		TEXT(((struct rec_vmrun *)rec)->node, "n1");
		((struct rec_vmrun *)rec)->since = NUMBER(1);
		((struct rec_vmrun *)rec)->runs = full ? REC_VM_CRASHED : REC_VM_RUNS;
	} else if (t == &rec_nodenet_type) {
		struct rec_nodenet *r = rec;

		r->n = full ? REC_BRIDGES_MAX : 1;
		for (uint32_t i = 0; i < r->n; i++) {
			TEXT(r->bridges[i].name, full ? "br-0123456789ab" : "br0");
			r->bridges[i].mtu = NUMBER(1500) % UINT32_MAX;
		}
		r->more = full;
	} else if (t == &rec_policy_type) {
		TEXT(((struct rec_policy *)rec)->name, "spread");
		TEXT(((struct rec_policy *)rec)->plugin,
		     "/usr/lib/hci/plugins/placement-spread.so");
		TEXT(((struct rec_policy *)rec)->config, "");
	}
}
