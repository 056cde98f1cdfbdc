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

START_TEST(all_that_would_stop_a_migration_is_said_at_once)
{
	struct compute_needs *n = MEM_NEW(struct compute_needs);

	ck_assert_int_eq(compute_needs(c, "nobody", n, &err), HCI_E_NOTFOUND);
	ck_assert_int_eq(compute_needs(c, "test", n, &err), 0);
	ck_assert(!n->kvm);
	n->memory_bytes = UINT64_C(1) << 60;
	n->kernel = "/nonexistent/vmlinuz";
	n->initrd = "";
	ck_assert_int_eq(compute_preflight(c, n, &err), HCI_E_STATE);
	ck_assert_ptr_nonnull(strstr(err.message, URI)); /* no libvirt of this machine */
	ck_assert_ptr_nonnull(strstr(err.message, "MiB of memory are free, it needs 1099511627776"));
	ck_assert_ptr_nonnull(strstr(err.message, "kernel /nonexistent/vmlinuz"));
	ck_assert_ptr_null(strstr(err.message, "initrd"));
	mem_free(n);
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
	tcase_add_test(t, threads_share_it);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
