/* SPDX-License-Identifier: Apache-2.0 */
/* Checks a plugin's descriptor before anything of it is used. */
#include "policy/policy_impl.h"

#include <stdatomic.h>

#include <hci/policy.h>

#include "base/err.h"
#include "base/names.h"

void policy_clean_text(char *s, size_t cap)
{
	s[cap - 1] = '\0';
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = ' ';
}

/* A name or version of the plugin: static memory, but its end is not to be trusted. */
static int take_text(char out[HCI_NAME_MAX], const char *s, const char *what, const char *path, struct hci_error *err)
{
	size_t n;

	if (!s)
		return err_set(err, HCI_E_PLUGIN, "plugin %s: its descriptor has no %s", path, what);
	n = strnlen(s, HCI_NAME_MAX);
	if (n == HCI_NAME_MAX)
		return err_set(err, HCI_E_PLUGIN, "plugin %s: its %s is longer than %d bytes", path, what, HCI_NAME_MAX - 1);
	memcpy(out, s, n + 1);
	if (name_check(out, what, err)) {
		out[0] = '\0';
		return err_prefix(err, "plugin %s", path), HCI_E_PLUGIN;
	}
	return 0;
}

/* The ops begin with their size; what lies beyond it reads as zero, what we do not know is ignored. */
static int take_ops(void *out, size_t ours, size_t required_end, const void *ops, const char *path, struct hci_error *err)
{
	uint32_t size;

	if (!ops)
		return err_set(err, HCI_E_PLUGIN, "plugin %s: it has no operations", path);
	memcpy(&size, ops, sizeof(size));
	if (size < required_end || size > 65536)
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: its operations are %u bytes, at least %zu are needed: build it against this "
			       "libhci's headers",
			       path, size, required_end);
	memset(out, 0, ours);
	memcpy(out, ops, MIN((size_t)size, ours));
	return 0;
}

#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

int plugin_validate(const struct hci_plugin *desc, size_t readable, const char *path, struct policy *out,
		    struct hci_error *err)
{
	int rc;

	if (!desc || readable < END_OF(struct hci_plugin, size))
		return err_set(err, HCI_E_PLUGIN, "plugin %s: it returned no descriptor", path);
	if (desc->abi != HCI_PLUGIN_ABI)
		return err_set(err, HCI_E_PLUGIN, "plugin %s: made for plugin ABI %u, this libhci has %u: rebuild it", path,
			       desc->abi, HCI_PLUGIN_ABI);
	if (desc->size < sizeof(*desc) || readable < sizeof(*desc) || desc->size > 65536)
		return err_set(err, HCI_E_PLUGIN, "plugin %s: its descriptor is %u bytes, %zu are needed: rebuild it", path,
			       desc->size, sizeof(*desc));
	rc = take_text(out->plugin_name, desc->name, "name", path, err);
	if (!rc)
		rc = take_text(out->plugin_version, desc->version, "version", path, err);
	if (rc)
		return rc;
	out->kind = desc->kind;
	switch (desc->kind) {
	case HCI_PLUGIN_PLACEMENT:
		rc = take_ops(&out->ops.placement, sizeof(out->ops.placement), END_OF(struct hci_placement_ops, place),
			      desc->ops, path, err);
		if (!rc && !out->ops.placement.place)
			rc = err_set(err, HCI_E_PLUGIN, "plugin %s: the required operation place() is missing", path);
		return rc;
	case HCI_PLUGIN_SCHEDULER:
		rc = take_ops(&out->ops.scheduler, sizeof(out->ops.scheduler), END_OF(struct hci_scheduler_ops, schedule),
			      desc->ops, path, err);
		if (!rc && !out->ops.scheduler.schedule)
			rc = err_set(err, HCI_E_PLUGIN, "plugin %s: the required operation schedule() is missing", path);
		return rc;
	default:
		return err_set(err, HCI_E_PLUGIN, "plugin %s: kind %u is not known: 1 is placement, 2 scheduler", path,
			       desc->kind);
	}
}
