/* SPDX-License-Identifier: Apache-2.0 */
/* Checks a plugin's descriptor before anything of it is used, and cleans the texts that plugins
 * hand out. */
#include "policy/policy_impl.h"

#include <hci/policy.h>

#include "base/err.h"
#include "base/names.h"

_Static_assert(HCI_PLUGIN_PLACEMENT == HCI_POLICY_PLACEMENT &&
		       HCI_PLUGIN_SCHEDULER == HCI_POLICY_SCHEDULER,
	       "policies and plugins count their kinds alike");

/* Bytes of the UTF-8 character at s, 0: none (RFC 3629). The text ends with a NUL, so no read goes
 * past it. */
static size_t utf8_width(const unsigned char *s)
{
	size_t n = s[0] < 0x80                   ? 1
		   : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
		   : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
		   : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
						 : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

void policy_clean_text(char *text, size_t cap)
{
	unsigned char *s = (unsigned char *)text;
	size_t n;

	text[cap - 1] = '\0';
	for (; *s; s += n) {
		n = utf8_width(s);
		if (*s < 0x20 || *s == 0x7f)
			*s = ' ';
		if (!n) {
			*s = '?';
			n = 1;
		}
	}
}

/* A name or version of the plugin: static memory, but its end is not to be trusted. */
static int take_text(char out[HCI_NAME_MAX], const char *s, const char *what, const char *path,
		     struct hci_error *err)
{
	size_t n;

	if (!s)
		return err_set(err, HCI_E_PLUGIN, "plugin %s: its descriptor has no %s", path,
			       what);
	n = strnlen(s, HCI_NAME_MAX);
	if (n == HCI_NAME_MAX)
		return err_set(err, HCI_E_PLUGIN, "plugin %s: its %s is longer than %d bytes", path,
			       what, HCI_NAME_MAX - 1);
	memcpy(out, s, n + 1);
	if (name_check(out, what, err)) {
		out[0] = '\0';
		err_prefix(err, "plugin %s", path);
		if (err)
			err->code = HCI_E_PLUGIN;
		return HCI_E_PLUGIN;
	}
	return 0;
}

/*
 * The ops begin with their size; what lies beyond it reads as zero, operations that we do not know
 * are not called. first: what the first release had, which every plugin has.
 */
static int take_ops(void *out, size_t ours, size_t first, const void *ops, const char *path,
		    struct hci_error *err)
{
	uint32_t head[2]; /* size, reserved: of every kind */

	if (!ops)
		return err_set(err, HCI_E_PLUGIN, "plugin %s: it has no operations", path);
	memcpy(head, ops, sizeof(head[0]));
	if (head[0] < first || head[0] > PLUGIN_STRUCT_MAX)
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: its operations are %u bytes, at least %zu are needed: "
			       "build it with this libhci's "
			       "headers",
			       path, head[0], first);
	memcpy(head, ops, sizeof(head));
	if (head[1])
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: the reserved field of its operations is %u: set it to 0",
			       path, head[1]);
	memset(out, 0, ours);
	memcpy(out, ops, MIN((size_t)head[0], ours));
	return 0;
}

#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

static int take_by_kind(const struct hci_plugin *d, const char *path, struct policy *out,
			struct hci_error *err)
{
	int rc;

	switch (d->kind) {
	case HCI_PLUGIN_PLACEMENT:
		rc = take_ops(&out->ops.placement, sizeof(out->ops.placement),
			      END_OF(struct hci_placement_ops, place), d->ops, path, err);
		if (!rc && !out->ops.placement.place)
			rc = err_set(err, HCI_E_PLUGIN,
				     "plugin %s: the required operation place() is missing", path);
		return rc;
	case HCI_PLUGIN_SCHEDULER:
		rc = take_ops(&out->ops.scheduler, sizeof(out->ops.scheduler),
			      END_OF(struct hci_scheduler_ops, schedule), d->ops, path, err);
		if (!rc && !out->ops.scheduler.schedule)
			rc = err_set(err, HCI_E_PLUGIN,
				     "plugin %s: the required operation schedule() is missing",
				     path);
		return rc;
	case HCI_PLUGIN_STORE:
		rc = take_ops(&out->ops.store, sizeof(out->ops.store), END_OF(struct hci_store_ops, unwatch),
			      d->ops, path, err);
		if (!rc && (!out->ops.store.open || !out->ops.store.close || !out->ops.store.submit ||
			    !out->ops.store.watch || !out->ops.store.unwatch))
			rc = err_set(err, HCI_E_PLUGIN,
				     "plugin %s: a required operation of open(), close(), submit(), watch(), "
				     "unwatch() is missing",
				     path);
		return rc;
	default:
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: kind %u is not known: 1 is placement, 2 scheduler, 3 store", path,
			       d->kind);
	}
}

int plugin_validate(const void *desc, size_t readable, const char *path, struct policy *out,
		    struct hci_error *err)
{
	/* The first release's length: a plugin of that time stays good when the descriptor grows.
	 */
	const size_t first = END_OF(struct hci_plugin, ops);
	struct hci_plugin d = { 0 };
	int rc;

	if (!desc || readable < END_OF(struct hci_plugin, size))
		return err_set(err, HCI_E_PLUGIN, "plugin %s: it returned no descriptor", path);
	memcpy(&d, desc, END_OF(struct hci_plugin, size));
	if (d.abi != HCI_PLUGIN_ABI)
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: made for plugin ABI %u, this libhci has %u: rebuild it",
			       path, d.abi, HCI_PLUGIN_ABI);
	if (d.size < first || readable < first || d.size > PLUGIN_STRUCT_MAX)
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: its descriptor is %u bytes, at least %zu are needed: "
			       "rebuild it",
			       path, d.size, first);
	memcpy(&d, desc, MIN(MIN((size_t)d.size, readable), sizeof(d)));
	if (d.reserved)
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: the reserved field of its descriptor is %u: set it to 0",
			       path, d.reserved);
	rc = take_text(out->plugin_name, d.name, "name", path, err);
	if (!rc)
		rc = take_text(out->plugin_version, d.version, "version", path, err);
	if (rc)
		return rc;
	out->kind = d.kind;
	return take_by_kind(&d, path, out, err);
}
