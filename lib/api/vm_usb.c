/* SPDX-License-Identifier: Apache-2.0 */
/* hci/vm.h: the USB devices of VMs, from options to records and back. */
#include "api/api_impl.h"

_Static_assert(HCI_VM_USB_MAX == REC_VM_USB_MAX, "one limit");
_Static_assert(sizeof(((struct hci_vm_usb_info *)0)->server) == REC_PATH_MAX, "one length");

static int take(const struct hci_vm_opts *o, uint32_t i, struct hci_vm_usb_opts *out, struct hci_error *err)
{
	static const struct hci_vm_usb_opts defaults = HCI_VM_USB_OPTS_INIT;
	int rc = opts_take_nth(out, &defaults, sizeof(*out), o->usb, i, OPTS_UP_TO(struct hci_vm_usb_opts, server), "hci_vm_usb_opts", err);

	return rc ? err_prefix(err, "VM %s", o->name) : 0;
}

static int check(const struct hci_vm_opts *o, uint32_t i, const struct hci_vm_usb_opts *x, struct hci_error *err)
{
	struct hci_vm_usb_opts other;
	int rc = opts_reserved(x->reserved, "hci_vm_usb_opts", err);

	if (rc)
		return rc;
	if (!x->name || !x->node || !x->server)
		return err_set(err, HCI_E_INVAL, "VM %s: USB device %u: its %s is missing", o->name, i,
			       !x->name ? "name" : !x->node ? "node" : "server");
	rc = name_check(x->name, "USB device", err);
	if (!rc)
		rc = name_check(x->node, "node", err);
	if (!rc && (strlen(x->server) >= REC_PATH_MAX || !rec_usb_server(x->server)))
		rc = err_set(err, HCI_E_INVAL, "VM %s: USB device %s: server \"%.80s\" is no address: \"tcp:HOST:PORT\" or \"unix:/path\"",
			     o->name, x->name, x->server);
	for (uint32_t k = 0; !rc && k < i; k++) {
		rc = take(o, k, &other, err);
		if (!rc && !strcmp(other.name, x->name))
			rc = err_set(err, HCI_E_INVAL, "VM %s: two USB devices are named %s", o->name, x->name);
	}
	return rc;
}

int api_vm_usb_check(const struct hci_vm_opts *o, struct hci_error *err)
{
	struct hci_vm_usb_opts x;
	int rc = opts_reserved(o->reserved, "hci_vm_opts", err);

	if (rc)
		return rc;
	if (o->nusb > HCI_VM_USB_MAX)
		return err_set(err, HCI_E_INVAL, "VM %s: %u USB devices: at most %d", o->name, o->nusb, HCI_VM_USB_MAX);
	if (o->nusb && !o->usb)
		return api_null("usb", err);
	for (uint32_t i = 0; !rc && i < o->nusb; i++) {
		rc = take(o, i, &x, err);
		if (!rc)
			rc = check(o, i, &x, err);
	}
	return rc;
}

int api_vm_usb_fill(hci_cluster *c, const struct hci_vm_opts *o, struct rec_vm *r, struct hci_error *err)
{
	struct hci_vm_usb_opts x;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < o->nusb; i++) {
		rc = take(o, i, &x, err);
		if (!rc && !core_node(c->core, x.node))
			rc = err_set(err, HCI_E_NOTFOUND, "VM %s: USB device %s: there is no node %s: hcictl node list shows those there are",
				     o->name, x.name, x.node);
		if (rc)
			break;
		API_TEXT(r->usb[i].name, x.name);
		API_TEXT(r->usb[i].node, x.node);
		API_TEXT(r->usb[i].server, x.server);
	}
	r->nusb = o->nusb;
	return rc;
}

/* ---- what there is ---- */

struct usb_args {
	const char *name;
	struct api_list l;
};

static int usb_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct usb_args *a = arg;
	struct rec_vm *r = MEM_NEW(struct rec_vm);
	int rc = r ? api_vm_get(c, a->name, r, NULL, err) : err_set(err, HCI_E_NOMEM, "VM %s: out of memory", a->name);

	for (uint32_t i = 0; !rc && i < r->nusb; i++) {
		struct hci_vm_usb_info x = { 0 };

		API_TEXT(x.name, r->usb[i].name);
		API_TEXT(x.node, r->usb[i].node);
		API_TEXT(x.server, r->usb[i].server);
		rc = api_list_add(&a->l, &x, sizeof(x), err);
	}
	mem_free(r);
	return rc;
}

int hci_vm_usb(hci_cluster *c, const char *name, struct hci_vm_usb_info **out, uint64_t *n, uint64_t info_size,
	       struct hci_error *err)
{
	struct usb_args a = { .name = name };
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = name_check(name, "VM", err);
	return rc ? rc : api_list_call(c, usb_on_loop, &a, &a.l, out, n, info_size, sizeof(struct hci_vm_usb_info), err);
}
