/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conformance suite against the etcd driver: test_store_conform_etcd MEMBERS [clocks]. Each case has a prefix of its own. clocks:
 * the members' wall clocks step forward all the while, each by itself, by up to a day. (Back: etcd_clocks.c.)
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock_step.h"
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

static Suite *make_suite(bool clocks)
{
	/* etcd's shortest lease has 2 s, and it looks for those that are over every half second; 3.4 after a step 3 s later. */
	static struct conf_driver d = {
		.name = "etcd",
		.run = run,
		.open = open_client,
		.lease_late = 3 * NS_PER_S,
		.news_within = NS_PER_S,
	};
	Suite *s = suite_create("store/etcd conformance");

	if (clocks)
		d.lease_late += 3 * NS_PER_S;
	conf_add(s, &d);
	return s;
}

static pid_t start_stepping(void)
{
	int64_t ahead[MEMBERS_MAX] = { 0 };
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned n = 0;; n++) {
		ahead[n % etcd.n] += random() % (24 * 3600);
		clock_step(etcd.m[n % etcd.n].pid, ahead[n % etcd.n]);
		usleep(150000);
	}
}

int main(int argc, char **argv)
{
	SRunner *runner;
	bool clocks = argc > 2 && !strcmp(argv[2], "clocks");
	pid_t stepper = 0;
	int failed;

	if (!etcd_installed()) {
		fprintf(stderr, "etcd and etcdctl are not installed: skipped\n");
		return EXIT_SKIP;
	}
	if (clocks) {
		etcd_world_make_clocks(&etcd, (unsigned)atoi(argv[1]));
		stepper = start_stepping();
	} else {
		etcd_world_make(&etcd, argc > 1 ? (unsigned)atoi(argv[1]) : 1, false);
	}
	runner = srunner_create(make_suite(clocks));
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	if (stepper > 0) {
		kill(stepper, SIGKILL);
		waitpid(stepper, NULL, 0);
	}
	etcd_world_remove(&etcd);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
