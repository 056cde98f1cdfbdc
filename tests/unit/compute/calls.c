/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls, against libvirt's own test driver, which needs no daemon and runs no guest: what is not there,
 * what is not ours, what cannot be had. Guests are run by tests/integration/vm.
 */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "compute/compute_impl.h"

/* Gives every test the domain "test", running, which is not ours. */
#define URI "test:///default"

static struct compute *c;
static struct hci_error err;

static void setup(void)
{
	struct compute_opts o = { .uri = URI };

	ck_assert_msg(!compute_open(&o, &c, &err), "%s", err.message);
}

static void teardown(void)
{
	compute_close(c);
}

START_TEST(unreachable_libvirt_is_named)
{
	struct compute_opts o = { .uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock" };
	char path[] = "/tmp/hci-compute-XXXXXX", text[16];
	int fd = mkstemp(path), saved = dup(2);
	struct compute *x;

	/* And libvirt, which would say so on stderr, does not. */
	dup2(fd, 2);
	ck_assert_int_eq(compute_open(&o, &x, &err), HCI_E_LIBVIRT);
	dup2(saved, 2);
	ck_assert_ptr_null(x);
	ck_assert_ptr_nonnull(strstr(err.message, "/nonexistent/libvirt-sock"));
	ck_assert_int_eq(pread(fd, text, sizeof(text), 0), 0);
	close(saved);
	close(fd);
	unlink(path);
}
END_TEST

START_TEST(lists_only_ours)
{
	struct compute_state *st;
	size_t n = 7;

	ck_assert_int_eq(compute_list(c, &st, &n, &err), 0);
	ck_assert_uint_eq(n, 0);
	mem_free(st);
}
END_TEST

START_TEST(lists_what_it_started)
{
	struct compute_vm vm = { .name = "v1", .uuid = { { 1, 2, 3 } }, .memory_bytes = 64 << 20, .console_log = "/c" };
	struct compute_state *st;
	size_t n;

	ck_assert_msg(!compute_start(c, &vm, &err), "%s", err.message);
	ck_assert_int_eq(compute_list(c, &st, &n, &err), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_str_eq(st->name, "v1");
	ck_assert(uuid_eq(&st->uuid, &vm.uuid));
	ck_assert_int_eq(st->state, HCI_VM_RUNNING);
	mem_free(st);
	ck_assert_int_eq(compute_stop(c, "v1", HCI_VM_STOP_SHUTDOWN, NS_PER_S, &err), 0);
	ck_assert_int_eq(compute_list(c, &st, &n, &err), 0);
	ck_assert_uint_eq(n, 0);
	mem_free(st);
}
END_TEST

START_TEST(finds_by_name)
{
	struct compute_state st;

	ck_assert_int_eq(compute_find(c, "test", &st, &err), 0);
	ck_assert_int_eq(st.state, HCI_VM_RUNNING);
	ck_assert_int_eq(compute_find(c, "nobody", &st, &err), HCI_E_NOTFOUND);
	ck_assert_ptr_nonnull(strstr(err.message, "nobody"));
}
END_TEST

START_TEST(what_is_gone_is_stopped)
{
	ck_assert_int_eq(compute_stop(c, "nobody", HCI_VM_STOP_DESTROY, NS_PER_S, &err), 0);
	ck_assert_int_eq(compute_suspend(c, "nobody", &err), HCI_E_NOTFOUND);
	ck_assert_int_eq(compute_resume(c, "nobody", &err), HCI_E_NOTFOUND);
}
END_TEST

START_TEST(suspends_resumes_and_stops)
{
	struct compute_state st;

	ck_assert_int_eq(compute_suspend(c, "test", &err), 0);
	ck_assert_int_eq(compute_find(c, "test", &st, &err), 0);
	ck_assert_int_eq(st.state, HCI_VM_PAUSED);
	ck_assert_int_eq(compute_resume(c, "test", &err), 0);
	ck_assert_int_eq(compute_resume(c, "test", &err), 0);
	ck_assert_int_eq(compute_stop(c, "test", HCI_VM_STOP_DESTROY, NS_PER_S, &err), 0);
	ck_assert_int_eq(compute_find(c, "test", &st, &err) == 0 && st.state == HCI_VM_RUNNING, 0);
}
END_TEST

START_TEST(a_name_that_is_taken_is_refused)
{
	struct compute_vm vm = { .name = "test", .memory_bytes = 64 << 20 };

	ck_assert_int_eq(compute_start(c, &vm, &err), HCI_E_EXISTS);
}
END_TEST

START_TEST(a_domain_that_libvirt_refuses_says_why)
{
	struct compute_vm vm = { .name = "x", .memory_bytes = 64 << 20 };
	struct compute_state st;

	ck_assert_int_eq(compute_find(c, "test", &st, &err), 0);
	vm.uuid = st.uuid;
	ck_assert_int_eq(compute_start(c, &vm, &err), HCI_E_LIBVIRT);
	ck_assert_ptr_nonnull(strstr(err.message, "VM x cannot be started: "));
}
END_TEST

START_TEST(a_migration_that_libvirt_refuses_leaves_it_running)
{
	struct compute_migrate m = { .name = "test", .peer_uri = "test:///default" };
	struct compute_state st;

	ck_assert_int_eq(compute_migrate(c, &m, &err), HCI_E_LIBVIRT);
	ck_assert(!m.gone);
	ck_assert_int_eq(compute_find(c, "test", &st, &err), 0);
	ck_assert_int_eq(st.state, HCI_VM_RUNNING);
	m.name = "nobody";
	ck_assert_int_eq(compute_migrate(c, &m, &err), HCI_E_NOTFOUND);
}
END_TEST

static const struct hci_migrate_problem *find(const struct problems *p, const char *what, const char *why)
{
	for (uint32_t i = 0; i < p->n; i++)
		if (!strcmp(p->v[i].what, what) && strstr(p->v[i].why, why)) {
			ck_assert_msg(*p->v[i].cure, "%s has no cure", what);
			ck_assert_int_lt(p->v[i].code, 0);
			return &p->v[i];
		}
	return NULL;
}

START_TEST(all_that_would_stop_a_migration_is_said_at_once)
{
	struct compute_needs *n = MEM_NEW(struct compute_needs);
	struct problems p = { 0 };

	ck_assert_int_eq(compute_needs(c, "nobody", n, &err), HCI_E_NOTFOUND);
	ck_assert_int_eq(compute_needs(c, "test", n, &err), 0);
	ck_assert(!n->kvm);
	n->memory_bytes = UINT64_C(1) << 60;
	n->kernel = "/nonexistent/vmlinuz";
	n->initrd = "";
	snprintf(n->emulator, sizeof(n->emulator), "/nonexistent/qemu");
	compute_preflight(c, n, &p);
	ck_assert_ptr_nonnull(find(&p, "libvirt", URI)); /* no libvirt of this machine */
	ck_assert_ptr_nonnull(find(&p, "memory", "MiB of memory are free, it needs 1099511627776"));
	ck_assert_ptr_nonnull(find(&p, "kernel", "kernel /nonexistent/vmlinuz"));
	ck_assert_ptr_nonnull(find(&p, "QEMU", "/nonexistent/qemu"));
	ck_assert_ptr_null(find(&p, "initrd", ""));
	ck_assert_ptr_null(find(&p, "CPU", ""));
	ck_assert_ptr_null(find(&p, "KVM", ""));
	problems_free(&p);
	mem_free(n);
}
END_TEST

static int compare(virConnectPtr conn, const char *cpu, unsigned flags)
{
	(void)conn;
	ck_assert_uint_eq(flags, 0);
	return strstr(cpu, "Skylake") ? VIR_CPU_COMPARE_INCOMPATIBLE : strstr(cpu, "odd") ? VIR_CPU_COMPARE_ERROR : VIR_CPU_COMPARE_SUPERSET;
}

START_TEST(a_cpu_that_lacks_something_would_stop_it)
{
	struct compute_needs *n = MEM_NEW(struct compute_needs);
	struct problems p = { 0 };

	n->kvm = true;
	preflight_cpu(&p, NULL, n, compare); /* any will do */
	snprintf(n->cpu, sizeof(n->cpu), "<cpu mode='custom' match='exact'><model>qemu64</model></cpu>");
	preflight_cpu(&p, NULL, n, compare);
	snprintf(n->cpu, sizeof(n->cpu), "<cpu mode='custom' match='exact'><model>odd</model></cpu>");
	preflight_cpu(&p, NULL, n, compare); /* not known is no reason: libvirt will say */
	snprintf(n->cpu, sizeof(n->cpu), "<cpu mode='custom' match='exact'><model>Skylake-Server</model></cpu>");
	n->kvm = false; /* emulated: any will do */
	preflight_cpu(&p, NULL, n, compare);
	ck_assert_uint_eq(p.n, 0);
	n->kvm = true;
	preflight_cpu(&p, NULL, n, compare);
	ck_assert_ptr_nonnull(find(&p, "CPU", "lacks"));
	problems_free(&p);
	mem_free(n);
}
END_TEST

START_TEST(no_kvm_would_stop_a_guest_that_has_it)
{
	struct compute_needs n = { .kvm = true };
	struct problems p = { 0 };

	preflight_kvm(&p, &n, "/nonexistent/kvm");
	ck_assert_ptr_nonnull(find(&p, "KVM", "/nonexistent/kvm: No such file"));
	problems_free(&p);
	preflight_kvm(&p, &n, "/dev/null");
	n.kvm = false;
	preflight_kvm(&p, &n, "/nonexistent/kvm");
	ck_assert_uint_eq(p.n, 0);
}
END_TEST

START_TEST(a_machine_type_is_looked_for_in_its_architecture)
{
	const char *caps = "<guest><arch name='i686'><machine canonical='pc-q35-7.2'>q35</machine><machine>pc-q35-8.0</machine></arch>"
			   "</guest><guest><arch name='x86_64'><machine maxCpus='288'>pc-q35-7.2</machine></arch></guest>";

	ck_assert(preflight_has_machine(caps, "x86_64", "pc-q35-7.2"));
	ck_assert(!preflight_has_machine(caps, "x86_64", "pc-q35-8.0"));
	ck_assert(!preflight_has_machine(caps, "x86_64", "q35"));
	ck_assert(preflight_has_machine(caps, "i686", "q35"));
	ck_assert(preflight_has_machine(caps, "aarch64", "virt")); /* nothing is known of it */
	ck_assert(preflight_has_machine("<capabilities/>", "x86_64", "pc-q35-8.0"));
	ck_assert(preflight_has_machine("<arch name='x86_64'>", "x86_64", "pc-q35-8.0"));
}
END_TEST

START_TEST(qemu_may_lack_usb)
{
	ck_assert(preflight_has_usb("<domainCapabilities><devices/></domainCapabilities>"));
	ck_assert(preflight_has_usb("<devices><redirdev supported='yes'><enum name='bus'><value>usb</value></enum></redirdev></devices>"));
	ck_assert(!preflight_has_usb("<devices><redirdev supported='no'/></devices>"));
}
END_TEST

START_TEST(only_a_running_vm_may_leave)
{
	struct problems p = { 0 };

	compute_may_leave(c, "test", true, &p);
	ck_assert_ptr_null(find(&p, "VM", ""));
	problems_free(&p);
	ck_assert_int_eq(compute_suspend(c, "test", &err), 0);
	compute_may_leave(c, "test", false, &p);
	ck_assert_ptr_null(find(&p, "VM", ""));
	compute_may_leave(c, "test", true, &p);
	ck_assert_ptr_nonnull(find(&p, "VM", "paused"));
	compute_may_leave(c, "nobody", true, &p);
	ck_assert_ptr_nonnull(find(&p, "VM", "nobody"));
	problems_free(&p);
}
END_TEST

START_TEST(a_list_crosses_and_is_cut_between_entries_only_in_a_message)
{
	struct problems p = { 0 }, q = { 0 };
	struct buf b = BUF_INIT;
	struct rd r;
	char want[32];

	ck_assert_int_eq(problems_error(&p, "v", "n", &err), 0);
	for (unsigned i = 0; i < 20; i++)
		problems_add(&p, i ? HCI_E_STATE : HCI_E_EXISTS, "thing", "mend it", "thing %u is broken in some way that takes words", i);
	ck_assert_int_eq(problems_error(&p, "v", "n", &err), HCI_E_STATE);
	ck_assert_ptr_nonnull(strstr(err.message, "thing: thing 0 is broken in some way that takes words: mend it; "));
	snprintf(want, sizeof(want), "; and %d more: ", 20 - 5);
	ck_assert_msg(strstr(err.message, want) && strstr(err.message, "hcictl vm migrate v n --check"), "%s", err.message);
	problems_pack(&p, &b);
	r = rd_init(b.data, b.len);
	rd_skip(&r); /* the key */
	ck_assert_int_eq(problems_read(&q, &r), 0);
	ck_assert_uint_eq(q.n, 20);
	ck_assert_int_eq(memcmp(p.v, q.v, 20 * sizeof(*p.v)), 0);
	problems_free(&q);
	for (size_t cut = 1; cut + 1 < b.len; cut += 7) { /* any length, any end */
		r = rd_init(b.data, cut);
		rd_skip(&r);
		ck_assert_int_eq(problems_read(&q, &r), HCI_E_PROTO);
		problems_free(&q);
	}
	for (unsigned i = 0; i < 2 * PROBLEMS_MAX; i++)
		problems_add(&p, HCI_E_STATE, "more", "none", "%u", i);
	ck_assert_uint_eq(p.n, PROBLEMS_MAX);
	problems_free(&p);
	buf_free(&b);
}
END_TEST

static void *look(void *arg)
{
	struct compute_state st;
	struct hci_error e;

	for (unsigned i = 0; i < 50; i++)
		if (compute_find(c, "test", &st, &e))
			return arg;
	return NULL;
}

START_TEST(threads_share_it)
{
	pthread_t t[4];

	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, look, t), 0);
	for (unsigned i = 0; i < 4; i++) {
		void *bad;

		pthread_join(t[i], &bad);
		ck_assert_ptr_null(bad);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("compute_calls");
	TCase *t = tcase_create("calls");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, unreachable_libvirt_is_named);
	tcase_add_test(t, lists_only_ours);
	tcase_add_test(t, lists_what_it_started);
	tcase_add_test(t, finds_by_name);
	tcase_add_test(t, what_is_gone_is_stopped);
	tcase_add_test(t, suspends_resumes_and_stops);
	tcase_add_test(t, a_name_that_is_taken_is_refused);
	tcase_add_test(t, a_domain_that_libvirt_refuses_says_why);
	tcase_add_test(t, a_migration_that_libvirt_refuses_leaves_it_running);
	tcase_add_test(t, all_that_would_stop_a_migration_is_said_at_once);
	tcase_add_test(t, a_cpu_that_lacks_something_would_stop_it);
	tcase_add_test(t, no_kvm_would_stop_a_guest_that_has_it);
	tcase_add_test(t, a_machine_type_is_looked_for_in_its_architecture);
	tcase_add_test(t, qemu_may_lack_usb);
	tcase_add_test(t, only_a_running_vm_may_leave);
	tcase_add_test(t, a_list_crosses_and_is_cut_between_entries_only_in_a_message);
	tcase_add_test(t, threads_share_it);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
