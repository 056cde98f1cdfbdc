/* SPDX-License-Identifier: Apache-2.0 */
/* The domain's XML: whatever the strings hold, it stays well-formed and says what was meant. */
#include <check.h>
#include <stdlib.h>

#include "compute/compute_impl.h"

static struct compute_disk disk = { .socket = "/run/a.sock", .export_name = "vol", .size = 1 << 30 };

static struct compute_vm vm_of(void)
{
	return (struct compute_vm){ .name = "v1",
				    .uuid = { { 1, 2, 3, 4, 5, 6 } },
				    .vcpus = 2,
				    .memory_bytes = 256 << 20,
				    .console_log = "/run/v1.console",
				    .disks = &disk,
				    .ndisks = 1 };
}

static char *xml_of(const struct compute_vm *vm, bool kvm)
{
	struct buf b = BUF_INIT;
	struct hci_error err;

	ck_assert_msg(!domain_xml(vm, kvm, &b, &err), "%s", err.message);
	return (char *)b.data;
}

static void has(const char *xml, const char *what)
{
	ck_assert_msg(strstr(xml, what) != NULL, "no %s in %s", what, xml);
}

START_TEST(says_what_was_meant)
{
	struct compute_vm vm = vm_of();
	char *x = xml_of(&vm, false);

	has(x, "<domain type='qemu'><name>v1</name><uuid>01020304-0506-0000-0000-000000000000</uuid>");
	has(x, "xmlns:hci='" COMPUTE_NS "'");
	has(x, "<memory unit='b'>268435456</memory><vcpu>2</vcpu>");
	has(x, "<source protocol='nbd' name='vol'><host transport='unix' socket='/run/a.sock'/>");
	has(x, "cache='none'");
	has(x, "error_policy='stop' rerror_policy='stop'");
	has(x, "<target dev='vda' bus='virtio'/>");
	has(x, "<source path='/run/v1.console' append='on'/>");
	has(x, "<boot order='1'/>");
	ck_assert_ptr_null(strstr(x, "<kernel>"));
	ck_assert_ptr_null(strstr(x, "<cpu"));
	mem_free(x);
	x = xml_of(&vm, true);
	has(x, "<domain type='kvm'>");
	ck_assert_ptr_null(strstr(x, "hci.ram"));
	has(x, "<cpu mode='host-model'/>");
	mem_free(x);
}
END_TEST

/* Its RAM block is no multiple of 64 pages, or QEMU loses what the guest writes while it is migrated. */
START_TEST(memory_without_kvm)
{
	static const struct {
		uint64_t memory;
		const char *kib;
	} all[] = { { UINT64_C(256) << 20, "262152k" }, { (UINT64_C(256) << 20) - 1, "262152k" },
		    { (UINT64_C(256) << 20) + 1, "263176k" } };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct compute_vm vm = vm_of();
		char arg[64], *x;

		vm.memory_bytes = all[i].memory;
		x = xml_of(&vm, false);
		has(x, "<qemu:arg value='-machine'/><qemu:arg value='memory-backend=hci.ram'/>");
		snprintf(arg, sizeof(arg), "<qemu:arg value='-m'/><qemu:arg value='size=%s'/>", all[i].kib);
		has(x, arg);
		ck_assert_uint_ne(strtoull(all[i].kib, NULL, 10) % 256, 0);
		mem_free(x);
	}
}
END_TEST

START_TEST(boots_a_kernel)
{
	struct compute_vm vm = vm_of();
	char *x;

	vm.kernel = "/boot/vmlinuz";
	vm.initrd = "/boot/initrd";
	vm.cmdline = "console=ttyS0 quiet";
	x = xml_of(&vm, false);
	has(x, "<kernel>/boot/vmlinuz</kernel><initrd>/boot/initrd</initrd><cmdline>console=ttyS0 quiet</cmdline>");
	ck_assert_ptr_null(strstr(x, "<boot order"));
	mem_free(x);
}
END_TEST

/* QEMU would read sector 0 to guess it, at a migration's destination as well. */
START_TEST(every_disk_has_a_geometry)
{
	static const struct {
		uint64_t size;
		const char *cyls;
	} t[] = { { 4096, "cyls='1'" },
		  { 16 * 63 * 512 * 100, "cyls='100'" },
		  { UINT64_C(1) << 50, "cyls='16383'" } };

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		struct compute_vm vm = vm_of();
		struct compute_disk d = disk;
		char *x;

		d.size = t[i].size;
		vm.disks = &d;
		x = xml_of(&vm, false);
		has(x, t[i].cyls);
		has(x, "heads='16' secs='63'");
		mem_free(x);
	}
}
END_TEST

START_TEST(strings_are_escaped)
{
	struct compute_vm vm = vm_of();
	struct compute_disk d = { .socket = "/a'/><evil x='", .export_name = "<&\">", .size = 4096 };
	char *x;

	vm.disks = &d;
	vm.kernel = "/k";
	vm.cmdline = "a</cmdline><x>&'\"\t";
	x = xml_of(&vm, false);
	has(x, "socket='/a&apos;/&gt;&lt;evil x=&apos;'");
	has(x, "name='&lt;&amp;&quot;&gt;'");
	has(x, "<cmdline>a&lt;/cmdline&gt;&lt;x&gt;&amp;&apos;&quot;\t</cmdline>");
	mem_free(x);
}
END_TEST

START_TEST(interfaces_are_ports_of_bridges)
{
	struct compute_vm vm = vm_of();
	struct compute_nic n[2] = {
		{ .bridge = "br0", .port = "hci01020304-0", .mac = "02:00:00:00:00:01" },
		{ .bridge = "a'/><x", .port = "<p>", .mac = "&", .e1000e = true, .down = true, .mtu = 9000 },
	};
	char *x = xml_of(&vm, false);

	ck_assert_ptr_null(strstr(x, "<interface"));
	mem_free(x);
	vm.nics = n;
	vm.nnics = 2;
	x = xml_of(&vm, true);
	has(x, "<interface type='bridge'><mac address='02:00:00:00:00:01'/><source bridge='br0'/><target dev='hci01020304-0'/>"
	       "<model type='virtio'/><rom enabled='no'/></interface>");
	has(x, "<interface type='bridge'><mac address='&amp;'/><source bridge='a&apos;/&gt;&lt;x'/><target dev='&lt;p&gt;'/>"
	       "<model type='e1000e'/><mtu size='9000'/><link state='down'/><rom enabled='no'/></interface>");
	mem_free(x);
}
END_TEST

START_TEST(usb_devices_are_sockets)
{
	struct compute_vm vm = vm_of();
	struct compute_usb u[2] = { { .socket = "/run/v1-usb:a.sock" }, { .socket = "/a'/><x" } };
	struct compute_path p = { "/run/v1-usb:a.sock", "/there/v1-usb:a.sock" };
	struct hci_error err;
	char *x = xml_of(&vm, false), *moved;

	has(x, "<controller type='usb' model='none'/>");
	ck_assert_ptr_null(strstr(x, "<redirdev"));
	mem_free(x);
	vm.usb = u;
	vm.nusb = 2;
	x = xml_of(&vm, false);
	has(x, "<controller type='usb' model='qemu-xhci' ports='8'/>");
	has(x, "<redirdev bus='usb' type='unix'><source mode='connect' path='/run/v1-usb:a.sock'><reconnect enabled='yes' timeout='1'/>"
	       "</source></redirdev>");
	has(x, "path='/a&apos;/&gt;&lt;x'");
	ck_assert_int_eq(domain_xml_move(x, &p, 1, &moved, &err), 0);
	has(moved, "<source mode='connect' path='/there/v1-usb:a.sock'>");
	mem_free(moved);
	mem_free(x);
}
END_TEST

START_TEST(qemus_user_is_what_the_security_driver_names)
{
	static const char *const none[] = { "", "<secmodel><model>apparmor</model><baselabel type='qemu'>+1:+2</baselabel></secmodel>",
					    "<secmodel><model>dac</model></secmodel><x><baselabel type='qemu'>+1:+2</baselabel></x>",
					    "<secmodel><model>dac</model><baselabel type='qemu'>+1</baselabel></secmodel>" };
	uid_t uid;
	gid_t gid;

	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		ck_assert_msg(!local_qemu_user(none[i], &uid, &gid), "%s", none[i]);
	ck_assert(local_qemu_user("<secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>+64055:+108</baselabel>"
				  "<baselabel type='qemu'>+64055:+108</baselabel></secmodel>", &uid, &gid));
	ck_assert_uint_eq(uid, 64055);
	ck_assert_uint_eq(gid, 108);
}
END_TEST

START_TEST(control_characters_are_refused)
{
	struct compute_vm vm = vm_of();
	struct buf b = BUF_INIT;
	struct hci_error err;

	vm.kernel = "/k";
	vm.cmdline = "a\nb";
	ck_assert_int_eq(domain_xml(&vm, false, &b, &err), HCI_E_INVAL);
	ck_assert_ptr_nonnull(strstr(err.message, "VM v1"));
	buf_free(&b);
}
END_TEST

START_TEST(too_many_disks_are_refused)
{
	struct compute_vm vm = vm_of();
	struct buf b = BUF_INIT;
	struct hci_error err;

	vm.ndisks = 27;
	ck_assert_int_eq(domain_xml(&vm, false, &b, &err), HCI_E_RANGE);
	buf_free(&b);
}
END_TEST

START_TEST(paths_are_moved)
{
	const struct compute_path p[] = { { "/n1/a'b.sock", "/n2/longer/a'b.sock" }, { "/n1/v.console", "/n2/v.console" } };
	const char *xml = "<host transport='unix' socket='/n1/a&apos;b.sock'/><source path='/n1/v.console' append='on'/>"
			  "<log file='/n1/v.console.old'/><host socket='/n1/a&apos;b.sock'/>";
	struct hci_error err;
	char *out;

	ck_assert_int_eq(domain_xml_move(xml, p, 2, &out, &err), 0);
	ck_assert_str_eq(out, "<host transport='unix' socket='/n2/longer/a&apos;b.sock'/>"
			      "<source path='/n2/v.console' append='on'/>"
			      "<log file='/n1/v.console.old'/><host socket='/n2/longer/a&apos;b.sock'/>");
	mem_free(out);
}
END_TEST

START_TEST(out_of_memory_is_an_error)
{
	const struct compute_path p = { "/a", "/b" };
	struct compute_vm vm = vm_of();
	struct hci_error err;
	int rc;

	for (uint64_t nth = 1; nth < 40; nth++) {
		struct buf b = BUF_INIT;
		char *out;

		mem_fail_nth(nth);
		rc = domain_xml(&vm, false, &b, &err);
		mem_fail_nth(0);
		ck_assert_int_eq(rc == 0 || rc == HCI_E_NOMEM, 1);
		buf_free(&b);
		mem_fail_nth(nth);
		rc = domain_xml_move("<a socket='/a'/>", &p, 1, &out, &err);
		mem_fail_nth(0);
		if (rc)
			ck_assert_int_eq(rc, HCI_E_NOMEM);
		else
			mem_free(out);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("compute_xml");
	TCase *t = tcase_create("xml");
	SRunner *r;
	int failed;

	tcase_add_test(t, says_what_was_meant);
	tcase_add_test(t, memory_without_kvm);
	tcase_add_test(t, boots_a_kernel);
	tcase_add_test(t, every_disk_has_a_geometry);
	tcase_add_test(t, strings_are_escaped);
	tcase_add_test(t, interfaces_are_ports_of_bridges);
	tcase_add_test(t, usb_devices_are_sockets);
	tcase_add_test(t, qemus_user_is_what_the_security_driver_names);
	tcase_add_test(t, control_characters_are_refused);
	tcase_add_test(t, too_many_disks_are_refused);
	tcase_add_test(t, paths_are_moved);
	tcase_add_test(t, out_of_memory_is_an_error);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
