/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What would stop a migration, asked through the public calls of nodes that have libvirt's test driver: which runs a domain that no
 * QEMU is behind, shows it to all nodes of the process, and never migrates: so much is in the list. Real ones: tests/integration/vm.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "world.h"

static struct world w;

static const struct hci_migrate_problem *find(const struct hci_migrate_problem *p, uint64_t n, const char *what, const char *why)
{
	for (uint64_t i = 0; i < n; i++)
		if (!strcmp(p[i].what, what) && strstr(p[i].why, why))
			return &p[i];
	return NULL;
}

#define has(what, why)                                                                                       \
	do {                                                                                                 \
		const struct hci_migrate_problem *x_ = find(p, n, what, why);                                \
		ck_assert_msg(x_, "nothing of " what " (" why "): %d entries", (int)n);                    \
		ck_assert_msg(*x_->cure && x_->code < 0, what " has no cure or code");                       \
	} while (0)

static void define(const char *name, const char *volume, uint64_t memory)
{
	struct hci_vm_opts o = HCI_VM_OPTS_INIT;

	o.name = name;
	o.node = "n1";
	o.kernel = "/nonexistent/vmlinuz";
	o.memory_bytes = memory;
	if (volume)
		o.volumes[o.nvolumes++] = volume;
	ok(hci_vm_define(w.client, &o, &w.err));
}

static uint64_t ask(const char *vm, const char *to, struct hci_migrate_problem **p)
{
	struct hci_migrate_opts o = HCI_MIGRATE_OPTS_INIT;
	uint64_t n;

	o.to = to;
	ok(hci_vm_check_migrate(w.client, vm, &o, p, &n, sizeof(**p), &w.err));
	return n;
}

START_TEST(all_that_would_stop_it_is_in_one_list_beforehand)
{
	struct hci_migrate_opts o = HCI_MIGRATE_OPTS_INIT;
	struct hci_migrate_problem *p;
	uint64_t n;

	world_up(&w, 1);
	for (int i = 0; i < WORLD_NODES; i++)
		world_node_stop(&w, i);
	w.libvirt_uri = "test:///default";
	for (int i = 0; i < 2; i++)
		world_node_start(&w, i);
	define("v1", NULL, 64 << 20);
	o.to = "n2";
	ck_assert_int_eq(hci_vm_check_migrate(w.client, "nobody", &o, &p, &n, sizeof(*p), &w.err), HCI_E_NOTFOUND);
	ck_assert_int_eq(hci_vm_check_migrate(w.client, "v1", NULL, &p, &n, sizeof(*p), &w.err), HCI_E_INVAL);
	o.auto_converge = HCI_AUTO_CONVERGE_NEVER + 1;
	ck_assert_int_eq(hci_vm_migrate(w.client, "v1", &o, NULL, &w.err), HCI_E_INVAL);
	ck_assert_ptr_nonnull(strstr(w.err.message, "auto_converge"));
	o.auto_converge = HCI_AUTO_CONVERGE_NEVER;
	o.inflight_ms = HCI_MIGRATE_INFLIGHT_MAX + 1;
	ck_assert_int_eq(hci_vm_migrate(w.client, "v1", &o, NULL, &w.err), HCI_E_INVAL);
	ck_assert_ptr_nonnull(strstr(w.err.message, "inflight_ms"));
	o.inflight_ms = HCI_MIGRATE_INFLIGHT_MAX;
	o.to = "n9";
	ck_assert_int_eq(hci_vm_check_migrate(w.client, "v1", &o, &p, &n, sizeof(*p), &w.err), HCI_E_NOTFOUND);
	n = ask("v1", "n2", &p);
	has("VM", "does not run");
	hci_list_free(p);

	ok(hci_vm_start(w.client, "v1", NULL, &w.err));
	n = ask("v1", "n2", &p);
	has("domain", "v1");                         /* libvirt of both is one */
	has("kernel", "/nonexistent/vmlinuz");
	has("libvirt", "test:///default");           /* of no machine */
	has("memory", "it needs 64");                /* the test driver has 3 MiB */
	ck_assert_ptr_null(find(p, n, "VM", ""));
	hci_list_free(p);
	n = ask("v1", "n1", &p);
	has("node n1", "there already");
	hci_list_free(p);
	n = ask("v1", "n3", &p);
	has("node n3", "not alive");
	hci_list_free(p);

	/* The job says the same, and nothing has moved. */
	o.to = "n2";
	ck_assert_int_lt(hci_vm_migrate(w.client, "v1", &o, NULL, &w.err), 0);
	ck_assert_msg(strstr(w.err.message, "; libvirt: ") && strstr(w.err.message, " more: hcictl vm migrate v1 n2 --check"), "%s",
		      w.err.message);
	ok(hci_vm_stop(w.client, "v1", HCI_VM_STOP_DESTROY, NULL, &w.err));
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_migrate");
	TCase *t = tcase_create("migrate");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, all_that_would_stop_it_is_in_one_list_beforehand);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
