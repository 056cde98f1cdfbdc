/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/vm.h
 * Virtual machines whose disks are volumes, run by libvirt on the nodes.
 *
 * The store holds what is wanted; the node service of the VM's node makes it so. Calls that change what is
 * wanted return a job (hci/job.h) to wait for, watch or cancel.
 */
#ifndef HCI_VM_H
#define HCI_VM_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

#define HCI_VM_DISKS_MAX 8
#define HCI_VM_NICS_MAX 8
#define HCI_VM_USB_MAX 8
#define HCI_BRIDGE_MAX 16 /**< bytes of a bridge's or a port's name, with the closing NUL */
#define HCI_MAC_STR 18    /**< bytes of "02:00:00:00:00:01", with the closing NUL */

#define HCI_VM_NIC_VIRTIO 0 /**< model: fast, every guest of this century has a driver */
#define HCI_VM_NIC_E1000E 1 /**< an Intel 82574, emulated */

#define HCI_VM_LINK_UP 0
#define HCI_VM_LINK_DOWN 1 /**< the guest sees an unplugged cable */

/** A network interface of a VM: a port of a bridge that the node has. */
struct hci_vm_nic_opts {
	uint32_t size;      /**< sizeof(struct hci_vm_nic_opts), of all elements of an array alike */
	uint32_t model;     /**< HCI_VM_NIC_* */
	const char *bridge; /**< required; a Linux bridge of this name, which every node that is to run the VM has: 1..15 of
			     * [A-Za-z0-9._-]. libhci makes none. */
	const char *mac;    /**< "52:54:00:12:34:56", no other VM's; NULL: one is made from the VM's UUID, locally administered */
	uint32_t mtu;       /**< 68..65535, not above the bridge's: the guest is told it (virtio). 0: the bridge's, and the guest is not told */
	uint32_t link;      /**< HCI_VM_LINK_* */
};
#define HCI_VM_NIC_OPTS_INIT { (uint32_t)sizeof(struct hci_vm_nic_opts), 0, NULL, NULL, 0, 0 }

/**
 * A USB device of a VM, which may be plugged into any node: something there serves it by the usbredir protocol
 * (https://gitlab.freedesktop.org/spice/usbredir, docs/usb-redirection-protocol.md), as usbredirect does. The node services carry
 * it to where the VM runs, in their own channel. When the VM moves the guest sees it unplugged, and plugged in again some seconds later.
 */
struct hci_vm_usb_opts {
	uint32_t size;      /**< sizeof(struct hci_vm_usb_opts), of all elements of an array alike */
	uint32_t reserved;  /**< 0 */
	const char *name;   /**< required; no other of this VM's has it */
	const char *node;   /**< required; the node whose service reaches the server */
	const char *server; /**< required; where that listens, as seen from its node: "tcp:127.0.0.1:4000" or "unix:/path". Whoever can
			     * reach it can use the device, so let it listen on that machine only. It serves one VM at a time. */
};
#define HCI_VM_USB_OPTS_INIT { (uint32_t)sizeof(struct hci_vm_usb_opts), 0, NULL, NULL, NULL }

/** Options of hci_vm_define(). */
struct hci_vm_opts {
	uint32_t size;            /**< sizeof(struct hci_vm_opts) */
	uint32_t vcpus;           /**< at most 256; 0: 1 */
	const char *name;         /**< required */
	const char *node;         /**< where it is to run; NULL: the scheduler policy chooses at its first start. It stays there until it is
				   * migrated, or started elsewhere by hci_vm_start_on(). */
	uint64_t memory_bytes;    /**< 16 MiB to 16 TiB; 0: 256 MiB */
	const char *kernel;       /**< direct boot: absolute path of a kernel on every node; NULL: boots from its first disk */
	const char *initrd;       /**< likewise, with kernel only; NULL: none */
	const char *cmdline;      /**< with kernel only, at most 511 bytes; NULL: none */
	const char *volumes[HCI_VM_DISKS_MAX]; /**< names of volumes: virtio disks vda, vdb, ... */
	uint32_t nvolumes;
	uint32_t nnics;                      /**< 0..HCI_VM_NICS_MAX */
	const struct hci_vm_nic_opts *nics;  /**< so many, in the order in which the guest finds them; read during the call only */
	uint32_t nusb;                       /**< 0..HCI_VM_USB_MAX */
	uint32_t reserved;                   /**< 0 */
	const struct hci_vm_usb_opts *usb;   /**< so many; read during the call only */
};
#define HCI_VM_OPTS_INIT { (uint32_t)sizeof(struct hci_vm_opts), 0, NULL, NULL, 0, NULL, NULL, NULL, { NULL }, 0, 0, NULL, 0, 0, NULL }

/**
 * Make a VM known; it is stopped. Whether a node has the bridges of its interfaces is looked at when it starts, and before it migrates.
 *
 * @return 0, HCI_E_INVAL, HCI_E_EXISTS (a VM of this name; one that has this MAC address: looked for among all VMs, so two programs
 *   that define VMs with one address at the same moment may both succeed), HCI_E_NOTFOUND (node or volume, a node of a USB device).
 * Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_vm_define(hci_cluster *c, const struct hci_vm_opts *opts, struct hci_error *err);

/**
 * Forget a stopped VM; its volumes stay.
 *
 * @return 0, HCI_E_NOTFOUND, HCI_E_STATE (it runs, or is to run: also on a node that is down, where its guest may run on), HCI_E_CONFLICT
 *   (changed by somebody else at that moment), HCI_E_UNAVAILABLE. Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_vm_undefine(hci_cluster *c, const char *name, struct hci_error *err);

/** Start it. @param job set to the job, hci_job_unref() it; NULL: wait for the end here. @return 0, HCI_E_NOTFOUND, HCI_E_STATE (it runs),
 * HCI_E_UNAVAILABLE (its node is down: hci_vm_start_on()), HCI_E_NOPLACE (the scheduler finds no node), and when waiting the job's error.
 * Threads: any. Blocks for store I/O. Since 0.1. */
HCI_API int hci_vm_start(hci_cluster *c, const char *name, hci_job **job, struct hci_error *err);

/** Options of hci_vm_start_on(). */
struct hci_vm_start_opts {
	uint32_t size;     /**< sizeof(struct hci_vm_start_opts) */
	uint32_t reserved; /**< 0 */
	const char *node;  /**< where; from then on it is this node's. NULL: as hci_vm_start() */
};
#define HCI_VM_START_OPTS_INIT { (uint32_t)sizeof(struct hci_vm_start_opts), 0, NULL }

/**
 * Start it on a node of the caller's choice: also one that ran on a node which is down, as after a power cut. The job waits until that
 * node's right to run it has ended, a few heartbeats after the last one. A guest that still runs there, as only its node service or its
 * network has ended, has no disks any more, but may be on the guests' network until the service is back and ends it: make sure that
 * the machine is off.
 *
 * @param c     the cluster
 * @param name  the VM
 * @param opts  see struct hci_vm_start_opts; NULL: as hci_vm_start()
 * @param job   as of hci_vm_start()
 * @param err   NULL, or filled in
 * @return 0, HCI_E_INVAL, HCI_E_NOTFOUND (the VM, the node), HCI_E_UNAVAILABLE (the node is down), HCI_E_STATE (it runs, or the node that it
 *   is to run on is alive and starts it now), and when waiting the job's error.
 * Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_vm_start_on(hci_cluster *c, const char *name, const struct hci_vm_start_opts *opts, hci_job **job,
			    struct hci_error *err);

#define HCI_VM_STOP_SHUTDOWN 0 /**< ask the guest (ACPI); after 60 s as DESTROY */
#define HCI_VM_STOP_DESTROY 1  /**< as pulling the plug */

/**
 * Stop it. A migration of it under way is cancelled, one that waits for its turn is, too; if one can no more be the VM is stopped at the
 * node that it has come to. When the job is done it does not run anywhere.
 *
 * @param how  HCI_VM_STOP_*
 * @param job  as of hci_vm_start()
 * @return 0, HCI_E_INVAL, HCI_E_NOTFOUND, HCI_E_STATE (it does not run), HCI_E_UNAVAILABLE (its node is down: its guest may run on there), and
 *   when waiting the job's error. Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_vm_stop(hci_cluster *c, const char *name, uint32_t how, hci_job **job, struct hci_error *err);

/**
 * Options of hci_vm_migrate(). A guest that changes its memory faster than the link takes it is helped in steps: the codec keeps more
 * of what it sent to send differences; the guest is slowed down (auto_converge); post-copy (postcopy_passes, postcopy_ms); and
 * what has not ended by timeout_ms is given up, with the guest where it was.
 */
struct hci_migrate_opts {
	uint32_t size;            /**< sizeof(struct hci_migrate_opts) */
	uint32_t max_downtime_ms; /**< 0: QEMU's default, 300 */
	const char *to;           /**< node; required */
	uint64_t bandwidth_bytes; /**< a second, at most; 0: no limit */
	uint64_t timeout_ms;      /**< after which it is cancelled and the VM goes on where it is; waiting for its turn does not count; 0: none */
	uint32_t with_storage;    /**< 0 or 1; 1: then take a copy of each of its volumes to that node, as hci_volume_move() does; the job ends
				   * with that. Cancelled or failed there, the VM runs on at the new node. */
	uint32_t postcopy_ms;     /**< 0: never. Not over after so long, as the guest changes its memory faster than the link takes it: the
				   * guest goes on at the destination and gets the rest of its memory from there as it needs it (slowly).
				   * From then on there is no way back, no cancel and no timeout, and if the link or a node is lost the guest
				   * ends as in a power cut and is started anew. */
	uint32_t postcopy_passes; /**< 0: not for that. So many passes over the memory in a row left as much to send as the one before, or
				   * less than a tenth less: post-copy, as with postcopy_ms; with both, whichever comes first. */
	uint32_t auto_converge;   /**< HCI_AUTO_CONVERGE_* */
	uint32_t inflight_ms;     /**< so much of its memory's stream is under way at most, in what the link carries in this time; less:
				   * QEMU knows the link's pace sooner; more: longer waits of the other node are bridged. 1..10000; 0: 100 */
	uint32_t reserved;        /**< 0 */
};
#define HCI_MIGRATE_OPTS_INIT { (uint32_t)sizeof(struct hci_migrate_opts), 0, NULL, 0, 0, 0, 0, 0, 0, 0, 0 }

#define HCI_MIGRATE_INFLIGHT_MAX 10000 /**< ms */

#define HCI_AUTO_CONVERGE_AS_NEEDED 0 /**< QEMU slows the guest down when it twice changed more than half of what a pass carried */
#define HCI_AUTO_CONVERGE_NEVER 1     /**< the guest keeps its pace */

/**
 * Move a running VM live to another node, its disks' attachment with it. If it fails at any point the VM runs on at the
 * source as before (but see postcopy_ms). hci_job_cancel() and hci_vm_stop() end it.
 *
 * @param job  as of hci_vm_start()
 * @return 0, HCI_E_INVAL (options; it is on that node already), HCI_E_NOTFOUND (the VM, the node), HCI_E_STATE (it does not run),
 *   HCI_E_UNAVAILABLE (its node is down, or the other one), HCI_E_BUSY (a job migrates it already, or is to, which the message
 *   names; not one that has moved it and copies its volumes now), and when waiting the job's error: among them that of the problems of
 *   hci_vm_check_migrate() (HCI_E_STATE if they differ), HCI_E_TIMEOUT (timeout_ms), HCI_E_CANCELLED. Threads: any. Blocks for store I/O.
 *   Since 0.1.
 *
 * A job that has to wait for its turn (hci_node_limit()) says so as its phase. While its memory is copied the job's message is JSON of whole
 * numbers, renewed about every 300 ms; "" before the first:
 *
 * - "pass": over the guest's memory, the first is 1
 * - "remaining": bytes of it that are left to send in this pass
 * - "dirty_rate": bytes a second that the guest changes
 * - "downtime_ms": pause of the guest that QEMU expects
 * - "postcopy": 1: the guest runs at the destination already
 * - "rate": bytes a second that the path carries: the link, or what the migration may have of it (bandwidth_bytes, its share of the
 *   node's limit), whichever is less; the job's phase says if it is a limit
 * - "bytes", "wire": of QEMU's stream so far, and what went to the other node for them
 * - "saved": bytes of pages that were not sent, an object by class: "zero" (all zeroes), "same" (as a page of this stream), "ref" (as
 *   what the destination has), "delta" (only what changed was sent), "new" and "raw" (by compression)
 * - "refs": pages so far of the class "ref", an object by where the destination has them: "store" (pages that came there with others),
 *   "volume" (its copies of the VM's volumes, or its read cache), "guest" (memory of guests that run there)
 *
 * Of the finished job it is JSON, too. What is not known is 0 or not there (after a restart of the service amid it):
 *
 * - "total_ms", "downtime_ms", "bytes": of the migration, of the guest's pause, of QEMU's stream, as libvirt has them
 * - "io_pause_ms": how long the guest's disks waited
 * - "postcopy": 1, only if it went on as post-copy
 * - "memory_ms": from the first byte that QEMU wrote until the other QEMU had the last
 * - "wire": bytes that went to the other node for its memory
 * - "codec_cpu_ms": processor time of the codec at the source
 * - "refused": references to what the destination turned out not to have: these pages were sent after all
 * - "coming": references to pages that were on their way with another migration
 * - "aside": two numbers: messages that went lightly compressed, and plain, as the link was faster than the codec
 * - "pages": how many pages of the stream were of each class, an object: names as in "saved"
 * - "refs": of those of the class "ref", as above
 */
HCI_API int hci_vm_migrate(hci_cluster *c, const char *name, const struct hci_migrate_opts *opts, hci_job **job,
			   struct hci_error *err);

/** Something that would stop a migration. */
struct hci_migrate_problem {
	char what[HCI_NAME_MAX]; /**< the object: "memory", "CPU", "kernel", "volume web1-root", "node n2", ... */
	char why[256];           /**< what is wrong with it, on which node */
	char cure[188];          /**< what to do about it */
	int32_t code;            /**< HCI_E_* that hci_vm_migrate()'s job would end with if it were the only one; of several that differ: HCI_E_STATE */
};

/**
 * Say all that would stop a migration, before anything moves and without changing anything. The job of hci_vm_migrate() asks
 * for the same list, and fails with its beginning when it is not empty.
 *
 * @param c          the cluster
 * @param name       the VM
 * @param opts       as for hci_vm_migrate(), all of it is checked; what is asked for is said by @c to, @c postcopy_ms and @c postcopy_passes
 * @param out        set to an array, hci_list_free() it; NULL when there is nothing: it may begin
 * @param n          set to its length
 * @param info_size  sizeof(struct hci_migrate_problem)
 * @param err        NULL, or filled in
 * @return 0, also with a list: that of now, so what is refused may still happen later. HCI_E_INVAL, HCI_E_NOTFOUND (the VM, the
 *   node), HCI_E_UNAVAILABLE, HCI_E_CLOSED or HCI_E_TIMEOUT (the VM's node does not answer), HCI_E_UNSUPPORTED (its service knows
 *   no such question). What a destination that does not answer lacks is not known: that it does not is in the list.
 * Threads: any. Blocks for calls to both nodes and their libvirt, 40 s at most. Since 0.1.
 */
HCI_API int hci_vm_check_migrate(hci_cluster *c, const char *name, const struct hci_migrate_opts *opts,
				 struct hci_migrate_problem **out, uint64_t *n, uint64_t info_size, struct hci_error *err);

#define HCI_VM_STOPPED 0
#define HCI_VM_RUNNING 1
#define HCI_VM_PAUSED 2  /**< its processors stand: somebody had libvirt suspend it (virsh resume lets it go on), or its disks fail again and
			  * again. Not for the moment that a migration takes, or an error of a disk that is over soon. */
#define HCI_VM_CRASHED 3 /**< it does not run, and nobody wanted that: its QEMU was killed or failed. hci_vm_start() starts it again. Only known
			  * of VMs with volumes, and if its node's service was there then: without volumes it counts as
			  * STOPPED; a service that finds it gone when it starts, starts it again. */
#define HCI_VM_UNKNOWN 4 /**< its node does not answer */

struct hci_vm_info {
	char name[HCI_NAME_MAX];
	char uuid[HCI_UUID_STR];
	char reserved[3];
	char node[HCI_NAME_MAX];        /**< where it runs, or is to run */
	char console_log[256];          /**< file on that node */
	int32_t wanted;                 /**< HCI_VM_STOPPED or HCI_VM_RUNNING */
	int32_t state;                  /**< HCI_VM_*, as its node saw it some two seconds ago at most; STOPPED while RUNNING is wanted: it
					     waits for its node */
	uint32_t vcpus;
	uint32_t nvolumes;
	uint64_t memory_bytes;
	char volumes[HCI_VM_DISKS_MAX][HCI_NAME_MAX];
	uint32_t nnics;                 /**< hci_vm_nics() has more of them */
	uint32_t nusb;                  /**< hci_vm_usb() likewise */
};

/** All VMs, by name. As hci_node_list(). Since 0.1. */
HCI_API int hci_vm_list(hci_cluster *c, struct hci_vm_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err);

struct hci_vm_nic_info {
	char bridge[HCI_BRIDGE_MAX];
	char port[HCI_BRIDGE_MAX]; /**< the host's end on the node where it runs, the same on every node: "hci0a1b2c3d-0" */
	char mac[HCI_MAC_STR];     /**< lower case */
	char reserved[2];
	uint32_t model;            /**< HCI_VM_NIC_* */
	uint32_t mtu;              /**< 0: the bridge's */
	uint32_t link;             /**< HCI_VM_LINK_* */
	uint32_t reserved2;
};

/** The interfaces of a VM, in its order. As hci_node_list(); HCI_E_NOTFOUND: there is no such VM. Since 0.1. */
HCI_API int hci_vm_nics(hci_cluster *c, const char *name, struct hci_vm_nic_info **out, uint64_t *n, uint64_t info_size,
			struct hci_error *err);

struct hci_vm_usb_info {
	char name[HCI_NAME_MAX];
	char node[HCI_NAME_MAX];
	char server[256];
};

/**
 * The USB devices of a VM, in its order. As hci_node_list(); HCI_E_NOTFOUND: there is no such VM. Whether one is connected now the metric
 * hci_vm_usb_connected of the VM's node tells. Since 0.1.
 */
HCI_API int hci_vm_usb(hci_cluster *c, const char *name, struct hci_vm_usb_info **out, uint64_t *n, uint64_t info_size,
		       struct hci_error *err);

HCI_END_DECLS
#endif
