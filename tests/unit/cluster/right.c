/* SPDX-License-Identifier: Apache-2.0 */
/* The right to run a VM, when the lease under it is renewed and the VM is given up at one moment. */
#include "cluster/node_vm_impl.h"
#include "unit/cluster/alone.h"

#define VM "v1"

enum how { KEEP, DROP, GIVE };

struct world {
	struct alone a;
	struct store *store;
	struct node n;
	struct node_vm_state s;
	struct nvm m;
	enum how how;
	uint64_t keep_at, drop_at;
	unsigned left;
	bool there;
	char node[HCI_NAME_MAX]; /* of the record */
};

static void set_up(struct world *w)
{
	struct rec_cluster cluster = { .format = REC_VERSION, .name = "c" };
	struct core_opts o = { .env = w->a.e, .self = "a" };
	struct rec_vm *vm = MEM_NEW(struct rec_vm);
	struct hci_error err;
	char key[REC_KEY];

	w->n.e = w->a.e;
	ck_assert_int_eq(simstore_open(w->a.ss, w->a.e, &w->store), 0);
	ck_assert_int_eq(rec_cluster_put(w->store, KEY_CLUSTER, &cluster, 0, 0, NULL, &err), 0);
	o.store = w->store;
	ck_assert_msg(!core_open(&o, &w->n.core, &err), "%s", err.message);
	snprintf(w->n.name, sizeof(w->n.name), "a");
	w->n.vms = &w->s;
	w->m.n = &w->n;
	snprintf(w->m.name, sizeof(w->m.name), VM);
	snprintf(vm->name, sizeof(vm->name), VM);
	snprintf(vm->node, sizeof(vm->node), "a");
	vm->uuid.b[0] = 1;
	vm->vcpus = 1;
	vm->memory_bytes = 64 * MiB;
	key_vm(key, VM);
	ck_assert_msg(!rec_vm_put(w->store, key, vm, 0, 0, NULL, &err), "%s", err.message);
	mem_free(vm);
}

/* Its key is gone with the lease that it hung on. */
static void lose_lease(struct world *w)
{
	struct hci_error err;

	ck_assert_int_eq(store_lease_grant(w->store, 60 * NS_PER_S, &w->s.lease, &err), 0);
	ck_assert_int_eq(nvm_take_run(&w->m, NULL, &err), 0);
	ck_assert_int_eq(store_lease_revoke(w->store, w->s.lease, &err), 0);
	ck_assert_int_eq(store_lease_grant(w->store, 60 * NS_PER_S, &w->s.lease, &err), 0);
	ck_assert(w->m.owned && w->m.run_lease != w->s.lease);
}

static void keep_fiber(void *arg)
{
	struct world *w = arg;
	struct hci_error err;

	fiber_sleep(w->n.e, w->keep_at);
	ck_assert_int_eq(w->m.owned ? nvm_keep_run(&w->m, &err) : 0, 0);
	w->left--;
}

static void drop_fiber(void *arg)
{
	struct world *w = arg;
	struct hci_error err;

	fiber_sleep(w->n.e, w->drop_at);
	if (w->how == DROP)
		nvm_drop_run(&w->m);
	else if (w->how == GIVE)
		ck_assert_int_eq(nvm_give_run(&w->m, "b", &err), 0);
	w->left--;
}

static void test_fiber(void *arg)
{
	struct rec_vm *vm = MEM_NEW(struct rec_vm);
	struct world *w = arg;
	struct hci_error err;
	char runner[HCI_NAME_MAX], key[REC_KEY];

	set_up(w);
	lose_lease(w);
	w->left = 2;
	ck_assert_int_eq(fiber_spawn(w->n.e, keep_fiber, w, "keep"), 0);
	ck_assert_int_eq(fiber_spawn(w->n.e, drop_fiber, w, "drop"), 0);
	while (w->left)
		fiber_sleep(w->n.e, NS_PER_MS);
	w->there = !nvm_runner(&w->m, runner, &err);
	key_vm(key, VM);
	ck_assert_int_eq(rec_vm_get(w->store, key, vm, NULL, &err), 0);
	snprintf(w->node, sizeof(w->node), "%s", vm->node);
	mem_free(vm);
	core_close(w->n.core);
	store_close(w->store);
}

static void play(struct world *w, uint64_t seed, enum how how, uint64_t keep_at, uint64_t drop_at)
{
	*w = (struct world){ .how = how, .keep_at = keep_at, .drop_at = drop_at };
	alone_run(&w->a, seed, test_fiber, w);
}

START_TEST(it_hangs_on_the_present_lease)
{
	struct world *w = MEM_NEW(struct world);

	play(w, 1, KEEP, 0, 0);
	ck_assert(w->there && w->m.owned && w->m.run_lease == w->s.lease);
	mem_free(w);
}
END_TEST

/* Whatever the order in which the store hears of both: what was given up is nobody's, and no later life of the lease brings it back. */
START_TEST(what_is_given_up_at_that_moment_stays_so)
{
	struct world *w = MEM_NEW(struct world);
	unsigned met = 0;

	for (uint64_t seed = 0; seed < 200; seed++) {
		enum how how = seed % 2 ? DROP : GIVE;
		uint64_t at = seed * 37 % 4000 * NS_PER_MS / 1000;

		play(w, seed, how, 2 * NS_PER_MS, at);
		ck_assert_msg(!w->there && !w->m.owned, "seed %u: the key is %s", (unsigned)seed, w->there ? "there" : "counted as ours");
		ck_assert_str_eq(w->node, how == GIVE ? "b" : "a");
		met += at > NS_PER_MS;
	}
	ck_assert_uint_gt(met, 50);
	mem_free(w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cluster_right");
	TCase *t = tcase_create("right");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, it_hangs_on_the_present_lease);
	tcase_add_test(t, what_is_given_up_at_that_moment_stays_so);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
