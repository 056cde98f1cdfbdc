/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/plugin.h
 * The plugin ABI: what a shared object must export to be loaded by libhci.
 *
 * A plugin exports one symbol, hci_plugin_entry(), which returns a descriptor with static lifetime. It
 * links against nothing of libhci: what it needs of the host comes in struct hci_plugin_host. Every
 * struct that crosses begins with its size; a member is read only if the size covers it, so plugin and
 * host may be of different releases. Arrays cross with a stride for the same reason.
 *
 * Rules (docs/plugins.md): a policy is a pure function of the snapshot it is given. It does no I/O, starts no
 * thread, keeps no state between calls but its configuration, never blocks, and gives equal output for
 * equal input on every node. Whatever it returns is checked.
 */
#ifndef HCI_PLUGIN_H
#define HCI_PLUGIN_H

#include <hci/types.h>

HCI_BEGIN_DECLS

/** Changes only if old plugins cannot work any more. */
#define HCI_PLUGIN_ABI 1

#define HCI_PLUGIN_PLACEMENT 1
#define HCI_PLUGIN_SCHEDULER 2
#define HCI_PLUGIN_STORE 3 /**< a store driver, no policy: hci/plugin_store.h has its rules */

/**
 * Lent by the host for the life of the plugin instance; to be called only by the thread that is in one of the
 * plugin's operations, and only while it is.
 */
struct hci_plugin_host {
	uint32_t size; /**< bytes of this struct at the host */
	uint32_t abi;  /**< HCI_PLUGIN_ABI of the host */
	void *ctx;     /**< first argument of the calls below */
	/** One line for the log. level: HCI_LOG_* (hci/log.h). */
	void (*log)(void *ctx, int32_t level, const char *line);
	/** Why the call now under way fails; the last one counts. */
	void (*fail)(void *ctx, const char *message);
};

/** What hci_plugin_entry() returns. Static: it is read at any time after. */
struct hci_plugin {
	uint32_t abi;        /**< HCI_PLUGIN_ABI */
	uint32_t size;       /**< sizeof(struct hci_plugin) at the plugin */
	uint32_t kind;       /**< HCI_PLUGIN_* */
	uint32_t reserved;   /**< 0 */
	const char *name;    /**< 1..63 of [A-Za-z0-9._-] */
	const char *version; /**< likewise */
	const void *ops;     /**< struct hci_placement_ops, hci_scheduler_ops or hci_store_ops, by kind; static */
};

typedef const struct hci_plugin *(*hci_plugin_entry_fn)(void);

#define HCI_PLUGIN_ENTRY_NAME "hci_plugin_entry"
#define HCI_PLUGIN_EXPORT __attribute__((visibility("default")))

/** The one symbol, defined by the plugin (libhci has none of this name). May be called more than once; never blocks. */
HCI_PLUGIN_EXPORT const struct hci_plugin *hci_plugin_entry(void);

HCI_END_DECLS
#endif
