/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sqlite driver with several processes on one file: killed at any moment, in other namespaces,
 * with a lease, on a full disk. The other processes are this program again ("child MODE FILE").
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <check.h>

#include "sqlite_world.h"
#include "unit/harness.h"

extern char **environ;

static struct world W;

static uint64_t mono(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- the children: each line they print is one number ---- */

static void say(uint64_t v)
{
	char line[32];
	int n = snprintf(line, sizeof(line), "%llu\n", (unsigned long long)v);

	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		_exit(3);
}

/* Counts a key of its own up for ever; says each number once it is acknowledged. */
static void child_count(struct world *w)
{
	struct store *s = world_open(w);
	char key[32], v[32];

	snprintf(key, sizeof(key), "count/%d", (int)getpid());
	say((uint64_t)getpid());
	for (uint64_t i = 1;; i++) {
		snprintf(v, sizeof(v), "%llu", (unsigned long long)i);
		world_put(s, key, v);
		say(i);
	}
}

static void heard(void *arg, const struct store_event *ev, size_t n, uint64_t rev)
{
	(void)arg;
	(void)ev;
	(void)n;
	(void)rev;
	say(mono());
}

/* Says when it heard of each change below bell/. */
static void child_listen(struct world *w)
{
	struct store *s = world_open(w);
	struct store_result r;

	REQUIRE(store_get(s, "any", &r, NULL) == 0, "get");
	REQUIRE(store_watch(s, "bell/", r.revision, heard, NULL), "watch");
	fiber_sleep(w->env, 100 * NS_PER_MS);
	say(0);
	for (;;)
		fiber_sleep(w->env, NS_PER_S);
}

/* Holds a key by a lease of 2 s for as long as it lives. */
static void child_lease(struct world *w)
{
	struct store *s = world_open(w);
	uint64_t lease = 0;
	struct store_op op = { STORE_PUT, "holder", "me", 2, 0 };

	REQUIRE(store_lease_grant(s, 2 * NS_PER_S, &lease, NULL) == 0, "grant");
	op.lease = lease;
	REQUIRE(store_txn(s, NULL, 0, &op, 1, NULL, NULL) == 0, "put");
	say(0);
	for (;;) {
		fiber_sleep(w->env, 100 * NS_PER_MS);
		REQUIRE(store_lease_keepalive(s, lease, NULL) == 0, "keepalive");
	}
}

/* On a file system of 2 MiB: full is an error, what is there can be read, and it goes on after. */
static void child_full(struct world *w)
{
	struct store *s;
	char ballast[128], key[32], v[8];
	uint8_t *big = calloc(1, 60000);
	struct store_op op = { STORE_PUT, key, big, 60000, 0 };
	struct hci_error err = { 0 };
	int fd, rc = 0, i;

	snprintf(ballast, sizeof(ballast), "%s/ballast", w->dir);
	fd = open(ballast, O_WRONLY | O_CREAT, 0600);
	if (posix_fallocate(fd, 0, 1024 * 1024))
		_exit(4);
	s = world_open(w);
	world_put(s, "first", "1");
	for (i = 0; rc == 0 && i < 100; i++) {
		snprintf(key, sizeof(key), "big/%d", i);
		rc = store_txn(s, NULL, 0, &op, 1, NULL, &err);
	}
	REQUIRE(rc == HCI_E_NOSPACE && strstr(err.message, "full"), "%d %s", rc, err.message);
	REQUIRE(strcmp(world_get(s, "first", v, sizeof(v)), "1") == 0, "first");
	REQUIRE(world_get(s, "big/0", v, sizeof(v)), "big/0");
	REQUIRE(!world_get(s, key, v, sizeof(v)), "%s", key);
	close(fd);
	unlink(ballast);
	world_put(s, "first", "2");
	REQUIRE(strcmp(world_get(s, "first", v, sizeof(v)), "2") == 0, "first");
	store_close(s);
	free(big);
	say(0);
}

/* New mount, pid, net and uts namespaces, and the folder of the store at another path. */
static void enter_namespaces(struct world *w, bool tmpfs)
{
	char other[80];
	pid_t pid;
	int status;

	if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		_exit(77);
	if (tmpfs && mount("none", w->dir, "tmpfs", 0, "size=2m"))
		_exit(77);
	pid = fork();
	if (pid) {
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	snprintf(other, sizeof(other), "%s/elsewhere", w->dir);
	if (mkdir(other, 0700) || mount(w->dir, other, NULL, MS_BIND, NULL))
		_exit(77);
	if (!tmpfs)
		snprintf(w->file, sizeof(w->file), "%.64s/cluster.db", other);
}

static int child_main(const char *mode, const char *dir)
{
	struct world w = { 0 };

	snprintf(w.dir, sizeof(w.dir), "%s", dir);
	snprintf(w.file, sizeof(w.file), "%.60s/cluster.db", dir);
	if (strcmp(mode, "full") == 0 || strcmp(mode, "listen-ns") == 0)
		enter_namespaces(&w, strcmp(mode, "full") == 0);
	snprintf(w.url, sizeof(w.url), "sqlite:%s", w.file);
	if (strcmp(mode, "count") == 0)
		world_run(&w, child_count);
	else if (strncmp(mode, "listen", 6) == 0)
		world_run(&w, child_listen);
	else if (strcmp(mode, "lease") == 0)
		world_run(&w, child_lease);
	else
		world_run(&w, child_full);
	return 0;
}

/* ---- the parent ---- */

struct child {
	pid_t pid;
	int out; /* what it says, non-blocking */
	char buf[64];
	size_t len;
};

static void start(struct child *c, const char *mode)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	char name[] = "test", child[] = "child";
	char *argv[] = { name, child, (char *)mode, W.dir, NULL };
	int p[2];

	memset(c, 0, sizeof(*c));
	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, p[1], STDOUT_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(
		&attr, POSIX_SPAWN_SETPGROUP); /* so that a child's child can be killed with it */
	ck_assert_int_eq(posix_spawn(&c->pid, "/proc/self/exe", &fa, &attr, argv, environ), 0);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&attr);
	close(p[1]);
	c->out = p[0];
	fcntl(c->out, F_SETFL, O_NONBLOCK);
}

/* The next number it said; false: none within ms. */
static bool next(struct child *c, uint64_t *v, unsigned ms)
{
	char *nl;

	for (unsigned t = 0;; t++) {
		ssize_t n;

		nl = memchr(c->buf, '\n', c->len);
		if (nl)
			break;
		n = read(c->out, c->buf + c->len, sizeof(c->buf) - c->len);
		if (n > 0) {
			c->len += (size_t)n;
			continue;
		}
		if (n == 0 || t >= ms)
			return false;
		fiber_sleep(W.env, NS_PER_MS);
	}
	*v = strtoull(c->buf, NULL, 10);
	c->len -= (size_t)(nl + 1 - c->buf);
	memmove(c->buf, nl + 1, c->len);
	return true;
}

/* Kill -9 and wait; its exit status, or -1 when it had not exited by itself. */
static int end(struct child *c)
{
	int status = 0;

	kill(-c->pid, SIGKILL);
	while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void check_count(struct store *s, struct child *c, uint64_t pid)
{
	uint64_t said = 1, v; /* the first was read by the caller */
	char key[32], text[32];

	while (next(c, &v, 0))
		said = v;
	close(c->out);
	snprintf(key, sizeof(key), "count/%d", (int)pid);
	v = world_get(s, key, text, sizeof(text)) ? strtoull(text, NULL, 10) : 0;
	/* Nothing acknowledged is lost; at most the one under way is there as well. */
	ck_assert_msg(v == said || v == said + 1, "acknowledged %llu, stored %llu",
		      (unsigned long long)said, (unsigned long long)v);
}

#define KILLS 25

static void killed_body(struct world *w)
{
	struct store *s = world_open(w);

	for (int i = 0; i < KILLS; i++) {
		struct child a, b;
		uint64_t pa, pb, v, t;

		start(&a, "count");
		start(&b, "count");
		ck_assert(next(&a, &pa, 20000) && next(&b, &pb, 20000));
		ck_assert(next(&a, &v, 20000) && next(&b, &v, 20000));
		for (int j = 0; j < i % 7; j++)
			world_put(s, "parent", "also writes");
		fiber_sleep(w->env, (uint64_t)(i * 7919 % 20000) * NS_PER_US);
		end(&a);
		t = mono();
		world_put(s, "parent", "goes on"); /* the other child is still busy */
		ck_assert_uint_lt(mono() - t, 10 * NS_PER_S); /* no hang: of the store's patience it has 30 s */
		end(&b);
		world_put(s, "parent", "goes on");
		check_count(s, &a, pa);
		check_count(s, &b, pb);
	}
	store_close(s);
}

START_TEST(a_killed_process_harms_no_other_and_loses_nothing)
{
	world_run(&W, killed_body);
	/* All gone, then opened again: the log is recovered. */
	world_run(&W, killed_body);
}
END_TEST

static const char *listen_mode;

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

#define RINGS 100

static void listen_body(struct world *w)
{
	struct store *s = world_open(w);
	int64_t late[RINGS];
	struct child c;
	uint64_t v;

	start(&c, listen_mode);
	if (!next(&c, &v, 20000) && strcmp(listen_mode, "listen-ns") == 0) {
		ck_assert_int_eq(end(&c), 77); /* not allowed to make namespaces here */
		store_close(s);
		return;
	}
	for (int i = 0; i < RINGS; i++) {
		uint64_t acked;

		world_put(s, "bell/1", "x");
		acked = mono();
		ck_assert_msg(next(&c, &v, 5000), "change %d was not heard", i);
		late[i] = (int64_t)(v - acked);
		fiber_sleep(w->env, 3 * NS_PER_MS);
	}
	end(&c);
	close(c.out);
	qsort(late, RINGS, sizeof(late[0]), by_size);
	fprintf(stderr,
		"%s: heard after the acknowledgement: median %lld us, 90%% %lld us, worst %lld "
		"us\n",
		listen_mode, (long long)late[RINGS / 2] / 1000,
		(long long)late[RINGS * 9 / 10] / 1000, (long long)late[RINGS - 1] / 1000);
	ck_assert_int_lt(late[RINGS * 9 / 10], 50 * (int64_t)NS_PER_MS);
	store_close(s);
}

START_TEST(another_process_wakes_soon)
{
	listen_mode = "listen";
	world_run(&W, listen_body);
}
END_TEST

START_TEST(a_process_in_other_namespaces_wakes_soon)
{
	char other[80];

	listen_mode = "listen-ns";
	world_run(&W, listen_body);
	snprintf(other, sizeof(other), "%s/elsewhere", W.dir);
	rmdir(other);
}
END_TEST

static void lease_body(struct world *w)
{
	struct store *s = world_open(w);
	struct child c;
	uint64_t v, t;
	char text[8];

	start(&c, "lease");
	ck_assert(next(&c, &v, 20000));
	fiber_sleep(w->env, 3500 * NS_PER_MS);
	ck_assert_ptr_nonnull(world_get(s, "holder", text, sizeof(text))); /* kept alive */
	end(&c);
	close(c.out);
	t = mono();
	fiber_sleep(w->env, 800 * NS_PER_MS);
	ck_assert_ptr_nonnull(world_get(s, "holder", text, sizeof(text))); /* not before its time */
	while (world_get(s, "holder", text, sizeof(text))) {
		ck_assert_uint_lt(mono() - t, 4 * NS_PER_S);
		fiber_sleep(w->env, 5 * NS_PER_MS);
	}
	store_close(s);
}

START_TEST(the_lease_of_a_killed_process_ends)
{
	world_run(&W, lease_body);
}
END_TEST

static void full_body(struct world *w)
{
	struct child c;
	uint64_t v;
	bool ok;

	(void)w;
	start(&c, "full");
	ok = next(&c, &v, 30000);
	fiber_sleep(w->env, 50 * NS_PER_MS);
	if (!ok)
		ck_assert_int_eq(end(&c), 77);
	else
		end(&c);
	close(c.out);
}

START_TEST(a_full_disk_refuses_writes_and_keeps_reads)
{
	world_run(&W, full_body);
}
END_TEST

static void setup(void)
{
	world_make(&W);
}

static void teardown(void)
{
	world_remove(&W);
}

static Suite *make_suite(void)
{
	Suite *s = suite_create("store/sqlite processes");
	TCase *tc = tcase_create("processes");

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_killed_process_harms_no_other_and_loses_nothing);
	tcase_add_test(tc, another_process_wakes_soon);
	tcase_add_test(tc, a_process_in_other_namespaces_wakes_soon);
	tcase_add_test(tc, the_lease_of_a_killed_process_ends);
	tcase_add_test(tc, a_full_disk_refuses_writes_and_keeps_reads);
	suite_add_tcase(s, tc);
	return s;
}

static int run_suite(void)
{
	SRunner *r = srunner_create(make_suite());
	int failed;

	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "child") == 0)
		return child_main(argv[2], argv[3]);
	return run_suite();
}
