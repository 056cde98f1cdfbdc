/* SPDX-License-Identifier: Apache-2.0 */
/* hci/vm.h: the network interfaces of VMs, from options to records and back. */
#include "api/api_impl.h"

_Static_assert(HCI_VM_NICS_MAX == REC_VM_NICS_MAX, "one limit");
_Static_assert(HCI_BRIDGE_MAX == ETHER_IF_NAME && HCI_MAC_STR == ETHER_MAC_STR, "as Ethernet has them");
_Static_assert((int)HCI_VM_NIC_VIRTIO == (int)REC_NIC_VIRTIO && (int)HCI_VM_NIC_E1000E == (int)REC_NIC_E1000E, "one numbering");

static int take(const struct hci_vm_opts *o, uint32_t i, struct hci_vm_nic_opts *out, struct hci_error *err)
{
	static const struct hci_vm_nic_opts defaults = HCI_VM_NIC_OPTS_INIT;
	int rc = opts_take_nth(out, &defaults, sizeof(*out), o->nics, i, OPTS_UP_TO(struct hci_vm_nic_opts, link), "hci_vm_nic_opts", err);

	return rc ? err_prefix(err, "VM %s", o->name) : 0;
}

static int check(const struct hci_vm_opts *o, uint32_t i, const struct hci_vm_nic_opts *x, struct hci_error *err)
{
	char mac[ETHER_MAC_STR];
	const char *why;

	if (!x->bridge)
		return err_set(err, HCI_E_INVAL, "VM %s: interface %u: the bridge that it is a port of is missing", o->name, i);
	if (!ether_if_name(x->bridge))
		return err_set(err, HCI_E_INVAL,
			       "VM %s: interface %u: bridge \"%.40s\" is no valid name: 1 to 15 letters, digits, '.', '_' and '-', the "
			       "first a letter or digit", o->name, i, x->bridge);
	why = x->mac ? ether_mac(x->mac, mac) : NULL;
	if (why)
		return err_set(err, HCI_E_INVAL, "VM %s: interface %u: \"%.40s\" %s", o->name, i, x->mac, why);
	if (x->mtu && (x->mtu < REC_MTU_MIN || x->mtu > REC_MTU_MAX))
		return err_set(err, HCI_E_INVAL, "VM %s: interface %u: MTU %u is not in %u..%u", o->name, i, x->mtu, REC_MTU_MIN,
			       REC_MTU_MAX);
	if (x->model > HCI_VM_NIC_E1000E)
		return err_set(err, HCI_E_INVAL, "VM %s: interface %u: model %u is not known: HCI_VM_NIC_*", o->name, i, x->model);
	if (x->link > HCI_VM_LINK_DOWN)
		return err_set(err, HCI_E_INVAL, "VM %s: interface %u: link %u is not known: HCI_VM_LINK_*", o->name, i, x->link);
	return 0;
}

int api_vm_nics_check(const struct hci_vm_opts *o, struct hci_error *err)
{
	struct hci_vm_nic_opts x;
	int rc = 0;

	if (o->nnics > HCI_VM_NICS_MAX)
		return err_set(err, HCI_E_INVAL, "VM %s: %u interfaces: at most %d", o->name, o->nnics, HCI_VM_NICS_MAX);
	if (o->nnics && !o->nics)
		return api_null("nics", err);
	for (uint32_t i = 0; !rc && i < o->nnics; i++) {
		rc = take(o, i, &x, err);
		if (!rc)
			rc = check(o, i, &x, err);
	}
	return rc;
}

/* ---- addresses ---- */

/* The interface of r that has it, before the n-th; n if none does. */
static uint32_t holder(const struct rec_vm *r, uint32_t n, const char *mac)
{
	uint32_t i = 0;

	while (i < n && strcmp(r->nics[i].mac, mac))
		i++;
	return i;
}

static const struct rec_vm *other_holder(const struct rec_list *vms, const char *mac)
{
	for (size_t i = 0; i < vms->n; i++) {
		const struct rec_vm *v = REC_AT(vms, i, struct rec_vm);

		if (holder(v, v->nnics, mac) < v->nnics)
			return v;
	}
	return NULL;
}

static int check_free(const struct rec_list *vms, const struct rec_vm *r, uint32_t i, struct hci_error *err)
{
	const char *mac = r->nics[i].mac;
	const struct rec_vm *v = other_holder(vms, mac);
	uint32_t k = holder(r, i, mac);

	if (v)
		return err_set(err, HCI_E_EXISTS, "VM %s: interface %u: MAC address %s is VM %s's: choose another, or none", r->name, i,
			       mac, v->name);
	return k < i ? err_set(err, HCI_E_INVAL, "VM %s: interfaces %u and %u have one MAC address, %s", r->name, k, i, mac) : 0;
}

/* The given ones first, so that a made one gives way to them. */
static int addresses(const struct hci_vm_opts *o, const struct rec_list *vms, struct rec_vm *r, struct hci_error *err)
{
	struct hci_vm_nic_opts x;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < o->nnics; i++) {
		rc = take(o, i, &x, err);
		if (!rc && x.mac) {
			(void)ether_mac(x.mac, r->nics[i].mac);
			rc = check_free(vms, r, i, err);
		}
	}
	for (uint32_t i = 0, attempt = 0; !rc && i < o->nnics; i++) {
		char mac[ETHER_MAC_STR];

		if (*r->nics[i].mac)
			continue;
		do
			ether_mac_of(&r->uuid, i, attempt++, mac);
		while (attempt < UINT16_MAX && (other_holder(vms, mac) || holder(r, o->nnics, mac) < o->nnics));
		API_TEXT(r->nics[i].mac, mac);
	}
	return rc;
}

int api_vm_nics_fill(hci_cluster *c, const struct hci_vm_opts *o, struct rec_vm *r, struct hci_error *err)
{
	struct hci_vm_nic_opts x;
	struct rec_list vms;
	int rc = 0;

	if (!o->nnics)
		return 0;
	for (uint32_t i = 0; !rc && i < o->nnics; i++) {
		rc = take(o, i, &x, err);
		if (rc)
			break;
		API_TEXT(r->nics[i].bridge, x.bridge);
		r->nics[i].model = (enum rec_nic_model)x.model;
		r->nics[i].mtu = x.mtu;
		r->nics[i].down = x.link == HCI_VM_LINK_DOWN;
	}
	r->nnics = o->nnics;
	if (!rc)
		rc = rec_vm_list(c->store, PREFIX_VM, &vms, err);
	if (rc)
		return rc;
	rc = addresses(o, &vms, r, err);
	rec_list_free(&vms);
	return rc;
}

/* ---- what there is ---- */

struct nics_args {
	const char *name;
	struct api_list l;
};

static int nics_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct nics_args *a = arg;
	struct rec_vm *r = MEM_NEW(struct rec_vm);
	int rc = r ? api_vm_get(c, a->name, r, NULL, err) : err_set(err, HCI_E_NOMEM, "VM %s: out of memory", a->name);

	for (uint32_t i = 0; !rc && i < r->nnics; i++) {
		struct hci_vm_nic_info x = { .model = r->nics[i].model, .mtu = r->nics[i].mtu };

		x.link = r->nics[i].down ? HCI_VM_LINK_DOWN : HCI_VM_LINK_UP;
		API_TEXT(x.bridge, r->nics[i].bridge);
		API_TEXT(x.mac, r->nics[i].mac);
		ether_port(&r->uuid, i, x.port);
		rc = api_list_add(&a->l, &x, sizeof(x), err);
	}
	mem_free(r);
	return rc;
}

int hci_vm_nics(hci_cluster *c, const char *name, struct hci_vm_nic_info **out, uint64_t *n, uint64_t info_size,
		struct hci_error *err)
{
	struct nics_args a = { .name = name };
	int rc;

	if (!c || !name)
		return api_null(c ? "name" : "c", err);
	rc = name_check(name, "VM", err);
	return rc ? rc : api_list_call(c, nics_on_loop, &a, &a.l, out, n, info_size, sizeof(struct hci_vm_nic_info), err);
}
