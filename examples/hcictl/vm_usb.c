/* SPDX-License-Identifier: Apache-2.0 */
/* vm define --usb, vm usb, a part of vm show: USB devices of VMs */
#include "vm.h"

#include <stdlib.h>
#include <string.h>

/* "name=key1,node=n3,server=..": cut up where it stands. */
static void parse(char *text, struct hci_vm_usb_opts *o)
{
	char *save;

	for (char *p = strtok_r(text, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
		char *value = strchr(p, '=');

		if (!value)
			usage_error("--usb: '%s' is no key=value: name=key1,node=n3,server=tcp:127.0.0.1:4000", p);
		*value++ = '\0';
		if (!strcmp(p, "name"))
			o->name = value;
		else if (!strcmp(p, "node"))
			o->node = value;
		else if (!strcmp(p, "server"))
			o->server = value;
		else
			usage_error("--usb: '%s' is not known: name, node, server", p);
	}
	if (!o->name || !o->node || !o->server)
		usage_error("--usb: name, node and server are needed: --usb name=key1,node=n3,server=tcp:127.0.0.1:4000");
}

void take_usb(struct cli *cli, struct hci_vm_opts *o, struct hci_vm_usb_opts usb[HCI_VM_USB_MAX])
{
	for (int i = 0; i < cli->nopts; i++) {
		char *text;

		if (strcmp(cli->opts[i].name, "usb"))
			continue;
		if (o->nusb == HCI_VM_USB_MAX)
			usage_error("vm %s: at most %d USB devices", o->name, HCI_VM_USB_MAX);
		text = strdup(cli->opts[i].value); /* until the program ends */
		if (!text)
			usage_error("out of memory");
		usb[o->nusb] = (struct hci_vm_usb_opts)HCI_VM_USB_OPTS_INIT;
		parse(text, &usb[o->nusb++]);
	}
	o->usb = usb;
}

int vm_usb(struct cli *cli)
{
	struct hci_vm_usb_info *v;
	struct table *t;
	uint64_t n;

	if (hci_vm_usb(cli->cluster, cli->args[0], &v, &n, sizeof(*v), &cli->err))
		return failed(cli);
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		table_row(t);
		cell_text(t, "NAME", "%s", v[i].name);
		cell_text(t, "NODE", "%s", v[i].node);
		cell_text(t, "SERVER", "%s", v[i].server);
	}
	hci_list_free(v);
	return table_print(t);
}

void show_usb(struct table *t, const struct hci_vm_usb_info *v, uint64_t n)
{
	for (uint64_t i = 0; i < n && i < HCI_VM_USB_MAX; i++) {
		char key[16];

		snprintf(key, sizeof(key), "USB %u", (unsigned)i);
		cell_text(t, key, "name=%s node=%s server=%s", v[i].name, v[i].node, v[i].server);
	}
}
