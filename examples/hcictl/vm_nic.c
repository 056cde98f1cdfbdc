/* SPDX-License-Identifier: Apache-2.0 */
/* vm define --nic, vm show, vm nics: network interfaces of VMs (USB devices: vm_usb.c) */
#include "vm.h"

#include <stdlib.h>
#include <string.h>

static const char *const models[] = { "virtio", "e1000e" };
static const char *const links[] = { "up", "down" };

static uint32_t word(const char *what, const char *value, const char *const names[2])
{
	for (uint32_t i = 0; i < 2; i++)
		if (!strcmp(value, names[i]))
			return i;
	usage_error("--nic %s=%s: say %s or %s", what, value, names[0], names[1]);
}

/* "bridge=br0,mac=..": cut up where it stands. */
static void parse(char *text, struct hci_vm_nic_opts *o)
{
	char *save, *end;

	for (char *p = strtok_r(text, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
		char *value = strchr(p, '=');

		if (!value)
			usage_error("--nic: '%s' is no key=value: bridge=br0[,mac=..][,mtu=..][,model=..][,link=..]", p);
		*value++ = '\0';
		if (!strcmp(p, "bridge")) {
			o->bridge = value;
		} else if (!strcmp(p, "mac")) {
			o->mac = value;
		} else if (!strcmp(p, "mtu")) {
			o->mtu = (uint32_t)strtoul(value, &end, 10);
			if (!*value || *end || strlen(value) > 6)
				usage_error("--nic mtu=%s: give a number of bytes", value);
		} else if (!strcmp(p, "model")) {
			o->model = word(p, value, models);
		} else if (!strcmp(p, "link")) {
			o->link = word(p, value, links);
		} else {
			usage_error("--nic: '%s' is not known: bridge, mac, mtu, model, link", p);
		}
	}
	if (!o->bridge)
		usage_error("--nic: which bridge? --nic bridge=br0");
}

void take_nics(struct cli *cli, struct hci_vm_opts *o, struct hci_vm_nic_opts nics[HCI_VM_NICS_MAX])
{
	for (int i = 0; i < cli->nopts; i++) {
		char *text;

		if (strcmp(cli->opts[i].name, "nic"))
			continue;
		if (o->nnics == HCI_VM_NICS_MAX)
			usage_error("vm %s: at most %d interfaces", o->name, HCI_VM_NICS_MAX);
		text = strdup(cli->opts[i].value); /* until the program ends */
		if (!text)
			usage_error("out of memory");
		nics[o->nnics] = (struct hci_vm_nic_opts)HCI_VM_NIC_OPTS_INIT;
		parse(text, &nics[o->nnics++]);
	}
	o->nics = nics;
}

static const char *name_of(uint32_t i, const char *const names[2])
{
	return i < 2 ? names[i] : "?";
}

int vm_nics(struct cli *cli)
{
	struct hci_vm_nic_info *v;
	struct table *t;
	uint64_t n;

	if (hci_vm_nics(cli->cluster, cli->args[0], &v, &n, sizeof(*v), &cli->err))
		return failed(cli);
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		table_row(t);
		cell_number(t, "NIC", i);
		cell_text(t, "BRIDGE", "%s", v[i].bridge);
		cell_text(t, "MAC", "%s", v[i].mac);
		cell_text(t, "MODEL", "%s", name_of(v[i].model, models));
		cell_number(t, "MTU", v[i].mtu);
		cell_text(t, "LINK", "%s", name_of(v[i].link, links));
		cell_text(t, "PORT", "%s", v[i].port);
	}
	hci_list_free(v);
	return table_print(t);
}

static void show_nics(struct table *t, const struct hci_vm_nic_info *v, uint64_t n)
{
	for (uint64_t i = 0; i < n && i < HCI_VM_NICS_MAX; i++) {
		char key[16], mtu[24] = "";

		snprintf(key, sizeof(key), "NIC %u", (unsigned)i);
		if (v[i].mtu)
			snprintf(mtu, sizeof(mtu), " mtu=%u", v[i].mtu);
		cell_text(t, key, "bridge=%s mac=%s model=%s%s link=%s port=%s", v[i].bridge, v[i].mac, name_of(v[i].model, models), mtu,
			  name_of(v[i].link, links), v[i].port);
	}
}

int vm_show(struct cli *cli)
{
	struct hci_vm_nic_info *nics;
	struct hci_vm_usb_info *usb;
	struct hci_vm_info *v, *vm = NULL;
	struct table *t;
	uint64_t n, nnics, nusb;

	if (hci_vm_nics(cli->cluster, cli->args[0], &nics, &nnics, sizeof(*nics), &cli->err) ||
	    hci_vm_usb(cli->cluster, cli->args[0], &usb, &nusb, sizeof(*usb), &cli->err) ||
	    hci_vm_list(cli->cluster, &v, &n, sizeof(*v), &cli->err))
		return failed(cli);
	for (uint64_t i = 0; i < n && !vm; i++)
		if (!strcmp(v[i].name, cli->args[0]))
			vm = &v[i];
	if (!vm)
		return complain("vm %s: it was undefined just now", cli->args[0]);
	t = table_new(cli, true);
	vm_cells(t, vm);
	cell_text(t, "UUID", "%s", vm->uuid);
	show_nics(t, nics, nnics);
	show_usb(t, usb, nusb);
	hci_list_free(v);
	hci_list_free(usb);
	hci_list_free(nics);
	return table_print(t);
}
