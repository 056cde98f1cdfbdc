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
	} ops; /* copied, the part that the plugin does not have is zero */
	void *instance;
};

/*
 * Is this a descriptor we can work with? desc and what it points at must be readable memory: the first
 * `readable` bytes of desc. Copies out what is used. Pure: fuzzed.
 */
int plugin_validate(const struct hci_plugin *desc, size_t readable, const char *path, struct policy *out,
		    struct hci_error *err);

/* Leaves no text without its end, replaces control bytes. */
void policy_clean_text(char *s, size_t cap);

#endif
