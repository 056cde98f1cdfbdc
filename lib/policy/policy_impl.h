/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader and the asking share. */
#ifndef POLICY_IMPL_H
#define POLICY_IMPL_H

#include "policy/policy.h"

#define LOG_SUB "policy"

struct policy {
	unsigned refs; /* atomic */
	char name[HCI_NAME_MAX], plugin_name[HCI_NAME_MAX], plugin_version[HCI_NAME_MAX];
	uint32_t kind;
	struct log log;
	struct hci_plugin_host host;
	char failed[256]; /* what the plugin said with host->fail() in the call under way */
	union {
		struct hci_placement_ops placement;
		struct hci_scheduler_ops scheduler;
		struct hci_store_ops store; /* of a plugin that is no policy: plugin_load_store() */
	} ops; /* copied, the part that the plugin does not have is zero */
	void *instance;
};

/* No descriptor and no table of operations is larger: a size that is came from something else. */
#define PLUGIN_STRUCT_MAX 65536

/*
 * Is this a descriptor (struct hci_plugin) we can work with? Its first `readable` bytes are
 * readable memory, and so is what its pointers point at: texts to their NUL or HCI_NAME_MAX,
 * operations to the size they state. Copies out what is used, of whatever alignment. Pure: fuzzed.
 */
int plugin_validate(const void *desc, size_t readable, const char *path, struct policy *out,
		    struct hci_error *err);

/* Is the open file of so many bytes a shared object, with all that its headers promise? */
int plugin_check_elf(int fd, uint64_t size, const char *path, struct hci_error *err);

/* One line of valid UTF-8 with its NUL within cap, whatever was there. */
void policy_clean_text(char *text, size_t cap);

#endif
