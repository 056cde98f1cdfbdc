/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The domain's XML: built from checked strings, every one escaped, and the few paths in it that differ
 * from node to node. Why each element is as it is: docs/compute.md.
 */
#include "compute/compute_impl.h"

#define MIB (UINT64_C(1) << 20)

/* A text or attribute value. Control characters have no place in XML, escaped or not. */
static bool escape(struct buf *b, const char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 && *s != '\t')
			return false;
		switch (*s) {
		case '&':
			buf_append(b, "&amp;", 5);
			break;
		case '<':
			buf_append(b, "&lt;", 4);
			break;
		case '>':
			buf_append(b, "&gt;", 4);
			break;
		case '\'':
			buf_append(b, "&apos;", 6);
			break;
		case '"':
			buf_append(b, "&quot;", 6);
			break;
		default:
			buf_append(b, s, 1);
		}
	}
	return true;
}

/* before, then s escaped, then after. NULL: nothing at all. */
static bool add(struct buf *b, const char *before, const char *s, const char *after)
{
	if (!s)
		return true;
	buf_append(b, before, strlen(before));
	if (!escape(b, s))
		return false;
	buf_append(b, after, strlen(after));
	return true;
}

static bool add_disk(struct buf *b, const struct compute_vm *vm, uint32_t i)
{
	const struct compute_disk *d = &vm->disks[i];
	/* QEMU's guess at a geometry reads the disk, which a migration's destination may not: say one. */
	uint64_t cyls = d->size / (UINT64_C(16) * 63 * 512);
	bool ok = true;

	buf_printf(b, "<disk type='network' device='disk'>"
		      "<driver name='qemu' type='raw' cache='none' discard='unmap' error_policy='stop' rerror_policy='stop'/>"
		      "<source protocol='nbd'");
	ok &= add(b, " name='", d->export_name, "'>");
	ok &= add(b, "<host transport='unix' socket='", d->socket, "'/>");
	buf_printf(b, "<reconnect delay='30'/></source><target dev='vd%c' bus='virtio'/>", (char)('a' + i));
	buf_printf(b, "<geometry cyls='%u' heads='16' secs='63'/>", (unsigned)MAX(1, MIN(cyls, 16383)));
	/* The guest sees 20 bytes of it: enough to tell the disks of one VM apart. */
	buf_printf(b, "<serial>hci%02x%02x%02x%02x%02x%02x-%u</serial>", vm->uuid.b[0], vm->uuid.b[1], vm->uuid.b[2],
		   vm->uuid.b[3], vm->uuid.b[4], vm->uuid.b[5], i);
	if (!vm->kernel)
		buf_printf(b, "<boot order='%u'/>", i + 1);
	buf_printf(b, "</disk>");
	return ok;
}

static bool add_nic(struct buf *b, const struct compute_nic *n)
{
	bool ok = true;

	ok &= add(b, "<interface type='bridge'><mac address='", n->mac, "'/>");
	ok &= add(b, "<source bridge='", n->bridge, "'/>");
	ok &= add(b, "<target dev='", n->port, "'/>");
	buf_printf(b, "<model type='%s'/>", n->e1000e ? "e1000e" : "virtio");
	if (n->mtu)
		buf_printf(b, "<mtu size='%u'/>", n->mtu);
	if (n->down)
		buf_printf(b, "<link state='down'/>");
	buf_printf(b, "<rom enabled='no'/></interface>");
	return ok;
}

/* QEMU tries again each second as long as nobody listens there. */
static bool add_usb(struct buf *b, const struct compute_usb *u)
{
	return add(b, "<redirdev bus='usb' type='unix'><source mode='connect' path='", u->socket,
		   "'><reconnect enabled='yes' timeout='1'/></source></redirdev>");
}

/*
 * Memory of a guest under TCG: a QEMU before 9.0 loses what such a guest writes while it is migrated ("physmem: Fix migration
 * dirty bitmap coherency with TCG memory access", QEMU, February 2024). Its fast way to look for changed pages
 * does not tell the translated code to report the next change. That way is taken for RAM blocks whose length is a multiple
 * of 64 pages; libvirt rounds to 1 MiB, so the guest gets a RAM block of our own, two pages longer.
 */
static void add_tcg_memory(struct buf *b, uint64_t memory)
{
	unsigned long long kib = (memory + MIB - 1) / MIB * 1024 + 8;

	buf_printf(b, "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
		      "<qemu:arg value='-object'/><qemu:arg value='memory-backend-ram,id=hci.ram,size=%lluK'/>"
		      "<qemu:arg value='-machine'/><qemu:arg value='memory-backend=hci.ram'/>"
		      "<qemu:arg value='-m'/><qemu:arg value='size=%lluk'/></qemu:commandline>", kib, kib);
}

int domain_xml(const struct compute_vm *vm, bool kvm, struct buf *b, struct hci_error *err)
{
	char id[HCI_UUID_STR];
	bool ok = true;

	if (vm->ndisks > 26)
		return err_set(err, HCI_E_RANGE, "VM %s: %u disks are more than 26", vm->name, vm->ndisks);
	uuid_print(&vm->uuid, id);
	buf_printf(b, "<domain type='%s'>", kvm ? "kvm" : "qemu");
	ok &= add(b, "<name>", vm->name, "</name>");
	buf_printf(b, "<uuid>%s</uuid><metadata><hci:vm xmlns:hci='" COMPUTE_NS "'/></metadata>", id);
	buf_printf(b, "<memory unit='b'>%llu</memory><vcpu>%u</vcpu>", (unsigned long long)vm->memory_bytes,
		   vm->vcpus ? vm->vcpus : 1);
	buf_printf(b, "<os><type arch='x86_64' machine='q35'>hvm</type>");
	ok &= add(b, "<kernel>", vm->kernel, "</kernel>");
	ok &= add(b, "<initrd>", vm->initrd, "</initrd>");
	ok &= add(b, "<cmdline>", vm->kernel ? vm->cmdline : NULL, "</cmdline>");
	buf_printf(b, "</os><features><acpi/><apic/></features>");
	if (kvm)
		buf_printf(b, "<cpu mode='host-model'/>");
	buf_printf(b, "<clock offset='utc'/><on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot>"
		      "<on_crash>destroy</on_crash><devices>");
	for (uint32_t i = 0; i < vm->ndisks; i++)
		ok &= add_disk(b, vm, i);
	for (uint32_t i = 0; i < vm->nnics; i++)
		ok &= add_nic(b, &vm->nics[i]);
	if (vm->nusb)
		buf_printf(b, "<controller type='usb' model='qemu-xhci' ports='%u'/>", (unsigned)HCI_VM_USB_MAX);
	else
		buf_printf(b, "<controller type='usb' model='none'/>");
	for (uint32_t i = 0; i < vm->nusb; i++)
		ok &= add_usb(b, &vm->usb[i]);
	ok &= add(b, "<serial type='file'><source path='", vm->console_log, "' append='on'/><target port='0'/></serial>");
	buf_printf(b, "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
		      "<memballoon model='virtio'/></devices>");
	if (!kvm)
		add_tcg_memory(b, vm->memory_bytes);
	buf_printf(b, "</domain>");
	if (!ok)
		return err_set(err, HCI_E_INVAL, "VM %s: a path, the kernel's command line or a name holds a control character",
			       vm->name);
	buf_append(b, "", 1);
	return b->failed ? err_set(err, HCI_E_NOMEM, "VM %s: out of memory", vm->name) : 0;
}

/* All occurrences of attribute='from', as libvirt prints it. */
static int replace(char **xml, const char *attr, const struct compute_path *p, struct hci_error *err)
{
	struct buf from = BUF_INIT, to = BUF_INIT, out = BUF_INIT;
	const char *at = *xml, *hit;
	int rc = 0;

	buf_printf(&from, " %s='", attr);
	buf_printf(&to, " %s='", attr);
	if (!escape(&from, p->here) || !escape(&to, p->there))
		rc = err_set(err, HCI_E_INVAL, "path %s or %s holds a control character", p->here, p->there);
	buf_append(&from, "'", 2);
	buf_append(&to, "'", 2);
	if (!rc && (from.failed || to.failed))
		rc = err_set(err, HCI_E_NOMEM, "out of memory");
	while (!rc && (hit = strstr(at, (const char *)from.data))) {
		buf_append(&out, at, (size_t)(hit - at));
		buf_append(&out, to.data, to.len - 1);
		at = hit + from.len - 1;
	}
	buf_append(&out, at, strlen(at) + 1);
	if (!rc && out.failed)
		rc = err_set(err, HCI_E_NOMEM, "out of memory");
	if (!rc) {
		mem_free(*xml);
		*xml = (char *)out.data;
	} else {
		buf_free(&out);
	}
	buf_free(&from);
	buf_free(&to);
	return rc;
}

bool domain_xml_is_kvm(const char *xml)
{
	return strstr(xml, "<domain type='kvm'");
}

int domain_xml_move(const char *xml, const struct compute_path *paths, uint32_t n, char **out, struct hci_error *err)
{
	int rc = 0;

	*out = mem_strdup(xml);
	if (!*out)
		return err_set(err, HCI_E_NOMEM, "out of memory");
	for (uint32_t i = 0; i < n && !rc; i++) {
		rc = replace(out, "socket", &paths[i], err);
		if (!rc)
			rc = replace(out, "path", &paths[i], err);
	}
	if (rc) {
		mem_free(*out);
		*out = NULL;
	}
	return rc;
}
