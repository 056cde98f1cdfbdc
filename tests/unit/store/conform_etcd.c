/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite against the etcd driver: test_store_conform_etcd MEMBERS. Each case has a prefix of its own. */
#include "conformance.h"
#include "etcd_world.h"
#include "unit/harness.h"

static struct etcd_world etcd;
static char url[300];

struct run {
	struct world world; /* for its loop; the folder is not used */
	void (*body)(struct conf *c);
};

static void in_world(struct world *w)
{
	struct conf c = { .env = w->env };

	((struct run *)w->arg)->body(&c);
}

static void run(const struct conf_driver *d, void (*body)(struct conf *c))
{
	struct run r = { .body = body };

	(void)d;
	etcd_world_url(&etcd, url, sizeof(url), NULL);
	r.world.arg = &r;
	world_run(&r.world, in_world);
}

static int open_client(struct conf *c, struct store **out, struct hci_error *err)
{
	int rc = store_open(c->env, url, out, err);

	if (!rc)
		store_set_timeout(*out, 30 * NS_PER_S);
	return rc;
}

static Suite *make_suite(void)
{
	/* etcd's shortest lease has 2 s, and it looks for those that are over every half second. */
	static const struct conf_driver d = {
		.name = "etcd",
		.run = run,
		.open = open_client,
		.lease_late = 3 * NS_PER_S,
		.news_within = NS_PER_S,
	};
	Suite *s = suite_create("store/etcd conformance");

	conf_add(s, &d);
	return s;
}

int main(int argc, char **argv)
{
	SRunner *runner;
	int failed;

	if (!etcd_installed()) {
		fprintf(stderr, "etcd and etcdctl are not installed: skipped\n");
		return EXIT_SKIP;
	}
	etcd_world_make(&etcd, argc > 1 ? (unsigned)atoi(argv[1]) : 1, false);
	runner = srunner_create(make_suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	etcd_world_remove(&etcd);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
