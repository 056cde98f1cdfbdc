/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What would stop a migration, asked through the public calls of nodes that have libvirt's test driver: which runs a domain that no
 * QEMU is behind, shows it to all nodes of the process, and never migrates: so much is in the list. Real ones: tests/integration/vm.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../harness.h"
#include "api/api_impl.h"
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
	has("kernel", "node n2: kernel /nonexistent/vmlinuz");
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

static void two_nodes_with_libvirt(void)
{
	world_up(&w, 0);
	for (int i = 0; i < WORLD_NODES; i++)
		world_node_stop(&w, i);
	w.libvirt_uri = "test:///default";
	for (int i = 0; i < 2; i++)
		world_node_start(&w, i);
}

/* A migration that is under way, as far as the store tells: running, so that no node begins it. */
static int put_job(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct rec_job *r = MEM_NEW(struct rec_job);
	char key[REC_KEY];
	int rc;

	ck_assert_ptr_nonnull(r);
	snprintf(r->id, sizeof(r->id), "j1");
	snprintf(r->type, sizeof(r->type), "vm-migrate");
	snprintf(r->target, sizeof(r->target), "v1");
	snprintf(r->node, sizeof(r->node), "n1");
	r->state = *(enum rec_job_state *)arg;
	key_job(key, r->id);
	rc = rec_job_put(c->store, key, r, REC_REV_ANY, 0, NULL, err);
	mem_free(r);
	return rc;
}

START_TEST(of_one_vm_there_is_one_migration_at_a_time)
{
	struct hci_migrate_opts o = HCI_MIGRATE_OPTS_INIT;
	enum rec_job_state state = REC_JOB_RUNNING;
	hci_job *job;

	two_nodes_with_libvirt();
	define("v1", NULL, 64 << 20);
	ck_assert_int_eq(hci_vm_stop(w.client, "v1", HCI_VM_STOP_DESTROY, NULL, &w.err), HCI_E_STATE);
	ck_assert_ptr_nonnull(strstr(w.err.message, "nothing to stop"));
	ok(hci_vm_start(w.client, "v1", NULL, &w.err));
	ok(api_call(w.client, put_job, &state, &w.err));
	o.to = "n2";
	ck_assert_int_eq(hci_vm_migrate(w.client, "v1", &o, &job, &w.err), HCI_E_BUSY);
	ck_assert_msg(strstr(w.err.message, "VM v1: job j1 "), "%s", w.err.message);
	state = REC_JOB_DONE;
	ok(api_call(w.client, put_job, &state, &w.err));
	ok(hci_vm_migrate(w.client, "v1", &o, &job, &w.err));
	(void)hci_job_wait(job, -1, NULL);
	hci_job_unref(job);
	ok(hci_vm_stop(w.client, "v1", HCI_VM_STOP_DESTROY, NULL, &w.err));
	world_down(&w);
}
END_TEST

static void runs_at(const char *node)
{
	struct hci_vm_info *v;
	uint64_t n;

	ok(hci_vm_list(w.client, &v, &n, sizeof(*v), &w.err));
	ck_assert_uint_eq(n, 1);
	ck_assert_str_eq(v->node, node);
	ck_assert_int_eq(v->wanted, HCI_VM_RUNNING);
	ck_assert_int_eq(v->state, HCI_VM_RUNNING);
	hci_list_free(v);
}

START_TEST(a_vm_of_a_dead_node_is_started_elsewhere)
{
	struct hci_vm_start_opts o = HCI_VM_START_OPTS_INIT;
	struct hci_migrate_opts mo = HCI_MIGRATE_OPTS_INIT;
	struct hci_migrate_problem *p;
	uint64_t n;

	two_nodes_with_libvirt();
	define("v1", NULL, 64 << 20);
	ok(hci_vm_start(w.client, "v1", NULL, &w.err));
	o.node = "n2";
	ck_assert_int_eq(hci_vm_start_on(w.client, "v1", &o, NULL, &w.err), HCI_E_STATE); /* its node is alive */
	world_node_stop(&w, 0);
	/* All that is refused says what can be done. */
	mo.to = "n2";
	ck_assert_int_eq(hci_vm_start(w.client, "v1", NULL, &w.err), HCI_E_UNAVAILABLE);
	ck_assert_msg(strstr(w.err.message, "hcictl vm start v1 --node "), "%s", w.err.message);
	ck_assert_int_eq(hci_vm_stop(w.client, "v1", HCI_VM_STOP_DESTROY, NULL, &w.err), HCI_E_UNAVAILABLE);
	ck_assert_msg(strstr(w.err.message, "hcictl vm start v1 --node "), "%s", w.err.message);
	ck_assert_int_eq(hci_vm_migrate(w.client, "v1", &mo, NULL, &w.err), HCI_E_UNAVAILABLE);
	ck_assert_msg(strstr(w.err.message, "hcictl vm start v1 --node "), "%s", w.err.message);
	n = ask("v1", "n2", &p);
	has("VM", "its node n1 is down");
	ck_assert_ptr_nonnull(strstr(p->cure, "hcictl vm start v1 --node "));
	hci_list_free(p);
	/* And that works. */
	o.node = "n3";
	ck_assert_int_eq(hci_vm_start_on(w.client, "v1", &o, NULL, &w.err), HCI_E_UNAVAILABLE);
	o.node = "n9";
	ck_assert_int_eq(hci_vm_start_on(w.client, "v1", &o, NULL, &w.err), HCI_E_NOTFOUND);
	o.node = "n2";
	o.reserved = 1;
	ck_assert_int_eq(hci_vm_start_on(w.client, "v1", &o, NULL, &w.err), HCI_E_INVAL);
	o.reserved = 0;
	ok(hci_vm_start_on(w.client, "v1", &o, NULL, &w.err));
	runs_at("n2");
	ok(hci_vm_stop(w.client, "v1", HCI_VM_STOP_DESTROY, NULL, &w.err));
	world_down(&w);
}
END_TEST

START_TEST(a_volume_that_another_vm_has_names_that_vm)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;

	world_up(&w, 0);
	world_pool(&w, 0);
	world_node_stop(&w, 0);
	w.libvirt_uri = "test:///default";
	world_node_start(&w, 0);
	o.name = "vol";
	o.pool = "p";
	o.bytes = 4 << 20;
	ok(hci_volume_create(w.client, &o, &w.err));
	define("v1", "vol", 64 << 20);
	define("v2", "vol", 64 << 20);
	ok(hci_vm_start(w.client, "v1", NULL, &w.err));
	ck_assert_int_eq(hci_vm_start(w.client, "v2", NULL, &w.err), HCI_E_BUSY);
	ck_assert_msg(strstr(w.err.message, "VM v2: VM v1, which runs on node n1, has its volume vol"), "%s", w.err.message);
	ok(hci_vm_stop(w.client, "v1", HCI_VM_STOP_DESTROY, NULL, &w.err));
	ok(hci_vm_start(w.client, "v2", NULL, &w.err));
	ok(hci_vm_stop(w.client, "v2", HCI_VM_STOP_DESTROY, NULL, &w.err));
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_migrate");
	TCase *t = tcase_create("migrate");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, all_that_would_stop_it_is_in_one_list_beforehand);
	tcase_add_test(t, of_one_vm_there_is_one_migration_at_a_time);
	tcase_add_test(t, a_vm_of_a_dead_node_is_started_elsewhere);
	tcase_add_test(t, a_volume_that_another_vm_has_names_that_vm);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
