/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/cache.h
 * The read cache of this process: blocks of the volumes that are attached here, in memory and on an SSD, so that
 * reading them again asks no replica. It never hands out anything but what the volume holds at that moment, also
 * when the volume was attached elsewhere meanwhile, and its SSD's failures are nobody's I/O errors.
 */
#ifndef HCI_CACHE_H
#define HCI_CACHE_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

/** Options of hci_cache_open(). Strings are read during the call only. */
struct hci_cache_opts {
	uint32_t size;     /**< sizeof(struct hci_cache_opts) */
	uint32_t block;    /**< bytes cached as one, a power of two in 4096..65536; 0: 16384 */
	const char *path;  /**< absolute path of a file (made if need be) or a block device on an SSD; NULL: memory only */
	uint64_t bytes;    /**< of the SSD, 1 MiB..16 TiB; 0: all of the device, or of the file that is there */
	uint64_t ram;      /**< bound of the blocks in memory, bytes, 16 blocks at least; 0: 64 MiB */
};
#define HCI_CACHE_OPTS_INIT { (uint32_t)sizeof(struct hci_cache_opts), 0, NULL, 0, 0 }

/**
 * Open the read cache of an open cluster. Volumes that are attached from now on use it, until the cluster is
 * closed; what it holds then is there again for the next process that opens the same path.
 *
 * Besides @p opts.ram its index takes 8.5 MiB a GiB of SSD with blocks of 16 KiB, 34 MiB with 4 KiB.
 * An SSD that is missing, full or failed is passed by: the cache then works in memory alone, and the log and
 * hci_cache_info() say so. What must not be overwritten is refused.
 *
 * @param cluster  has none yet
 * @param opts     see struct hci_cache_opts
 * @param err      NULL, or filled in on failure
 *
 * @return 0, HCI_E_INVAL (options), HCI_E_STATE (there is one already, or the path holds the cache of another cluster),
 *   HCI_E_EXISTS (the path holds something that is no cache), HCI_E_VERSION (a cache of another version),
 *   HCI_E_BUSY (another process uses it), HCI_E_NOMEM.
 * Threads: any. Blocks until what was kept is read, about a second for 100 GiB. Since 0.1.
 */
HCI_API int hci_cache_open(hci_cluster *cluster, const struct hci_cache_opts *opts, struct hci_error *err);

/** A read cache, with counts since it was opened. */
struct hci_cache_info {
	char holder[HCI_NAME_MAX];  /**< the node or client whose it is */
	char path[256];             /**< "" in memory only */
	uint32_t block;             /**< bytes */
	uint32_t ssd_failed;        /**< 1: the SSD is passed by */
	uint64_t ssd_size;          /**< bytes of blocks that it can hold, also the next four */
	uint64_t ssd_used;
	uint64_t ram_max;
	uint64_t ram_used;
	uint64_t index_memory;      /**< bytes of memory besides ram_max */
	uint64_t blocks;            /**< addresses cached; equal blocks share a place */
	uint64_t hits_ram;          /**< reads */
	uint64_t hits_ssd;
	uint64_t misses;
	uint64_t shared;            /**< blocks that an equal one was found for */
	uint64_t errors;            /**< I/O of the SSD that failed or took too long */
	uint64_t corrupt;           /**< blocks that were not what had been written there; read from replicas instead */
	uint64_t saved_ms;          /**< time that misses would have taken, less that of the hits */
	uint64_t at;                /**< when this was so, ns since 1970 */
};

/**
 * The read cache of this open cluster, as it is now.
 *
 * @param cluster    an open cluster
 * @param out        filled in
 * @param info_size  sizeof(struct hci_cache_info) at the caller
 * @param err        NULL, or filled in on failure
 * @return 0, HCI_E_NOTFOUND (none was opened), HCI_E_INVAL. Threads: any. Does not wait for I/O. Since 0.1.
 */
HCI_API int hci_cache_info(hci_cluster *cluster, struct hci_cache_info *out, uint64_t info_size, struct hci_error *err);

/**
 * The read caches of all processes that have the cluster open, by holder, as each told lately (ten seconds).
 *
 * @param cluster    an open cluster
 * @param out        set to an array of @p n structs of @p info_size bytes each; hci_list_free()
 * @param n          set to the number
 * @param info_size  sizeof(struct hci_cache_info) at the caller
 * @param err        NULL, or filled in on failure
 * @return 0, HCI_E_UNAVAILABLE, HCI_E_NOMEM, HCI_E_INVAL. Threads: any. Blocks for store I/O. Since 0.1.
 */
HCI_API int hci_cache_list(hci_cluster *cluster, struct hci_cache_info **out, uint64_t *n, uint64_t info_size,
			   struct hci_error *err);

HCI_END_DECLS
#endif
