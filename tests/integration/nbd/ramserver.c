/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nbd_ramserver: exports a RAM disk with the library's NBD server, for clients we did not write and
 *for measurements.
 *
 *	nbd_ramserver ADDR SIZE_MIB [-r] [-f] [-d DELAY_US] [-H] [--tls DIR] [--any-client]
 *
 * Prints "ready ADDR" when it listens, and a line of statistics when SIGTERM or SIGINT ends it. -f:
 *full of data; -H: hold every I/O until SIGUSR1 (hold again: SIGUSR2). DIR: ca.crt, node.crt,
 *node.key.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <pthread.h>
#include <unistd.h>

#include "unit/export/ram.h"

static struct env *env;
static struct nbd_server *server;
static struct nbd_export *export;
static struct ram ram;
static struct env_tls *tls;
static int got_signal;
static struct env_task signal_task;

static void emit(void *arg, int level, const char *sub, const char *line)
{
	(void)arg;
	(void)level;
	fprintf(stderr, "%s: %s\n", sub, line);
}

static void closed(void *arg)
{
	(void)arg;
	env_stop(env);
}

static void statistics(void)
{
	struct rusage u;
	struct nbd_stats s;

	nbd_export_stats(export, &s);
	getrusage(RUSAGE_SELF, &u);
	printf("{\"requests\":%llu,\"reads\":%llu,\"writes\":%llu,\"errors\":%llu,\"rmw\":%llu,"
	       "\"user_us\":%lld,\"system_us\":%lld}\n",
	       (unsigned long long)s.requests, (unsigned long long)s.reads,
	       (unsigned long long)s.writes, (unsigned long long)s.errors,
	       (unsigned long long)s.rmw, u.ru_utime.tv_sec * 1000000LL + u.ru_utime.tv_usec,
	       u.ru_stime.tv_sec * 1000000LL + u.ru_stime.tv_usec);
	fflush(stdout);
}

static void on_signal(struct env_task *t)
{
	(void)t;
	if (got_signal == SIGUSR1) {
		nbd_export_resume(export, NULL, NULL);
	} else if (got_signal == SIGUSR2) {
		nbd_export_hold(export);
	} else {
		statistics();
		nbd_server_close(server, closed, NULL);
	}
}

/* Signals come to a thread of their own, which asks the loop. */
static void *signals(void *arg)
{
	int sig;

	do {
		if (sigwait(arg, &sig))
			break;
		got_signal = sig;
		env_post(env, &signal_task);
		usleep(10000);
	} while (sig == SIGUSR1 || sig == SIGUSR2);
	return NULL;
}

static void fail(const char *what)
{
	fprintf(stderr, "nbd_ramserver: %s\n", what);
	exit(1);
}

static void open_all(const char *addr, uint64_t size, struct nbd_export_opts *o, bool fill)
{
	struct nbd_server_opts so = { .addr = addr, .tls = tls };
	struct nbd_backend b;
	struct hci_error err;

	if (!ram_init(&ram, env, size))
		fail("no memory");
	if (fill) {
		memset(ram.mem, 0x5a, size);
		memset(ram.data, 1, size / RAM_RUN);
	}
	ram_backend(&ram, &b);
	server = nbd_server_open(env, &so, &err);
	if (!server)
		fail(err.message);
	o->backend = &b;
	export = nbd_export_add(server, o, &err);
	if (!export)
		fail(err.message);
	printf("ready %s\n", nbd_server_addr(server));
	fflush(stdout);
}

static void open_tls(const char *dir, bool verify)
{
	char ca[300], crt[300], key[300];
	struct hci_error err;

	snprintf(ca, sizeof(ca), "%s/ca.crt", dir);
	snprintf(crt, sizeof(crt), "%s/node.crt", dir);
	snprintf(key, sizeof(key), "%s/node.key", dir);
	tls = env_tls_new(env, ca, crt, key, verify, &err);
	if (!tls)
		fail(err.message);
}

struct args {
	struct nbd_export_opts x;
	const char *tls_dir;
	bool verify, fill;
	uint64_t delay_ns;
};

static void parse(int argc, char **argv, struct args *a)
{
	if (argc < 3)
		fail("usage: nbd_ramserver ADDR SIZE_MIB [-r] [-f] [-d DELAY_US] [-H] [--tls DIR] "
		     "[--any-client]");
	for (int i = 3; i < argc; i++) {
		if (!strcmp(argv[i], "-r"))
			a->x.read_only = true;
		else if (!strcmp(argv[i], "-f"))
			a->fill = true;
		else if (!strcmp(argv[i], "-H"))
			a->x.held = true;
		else if (!strcmp(argv[i], "--any-client"))
			a->verify = false;
		else if (!strcmp(argv[i], "--tls") && i + 1 < argc)
			a->tls_dir = argv[++i];
		else if (!strcmp(argv[i], "-d") && i + 1 < argc)
			a->delay_ns = strtoull(argv[++i], NULL, 10) * NS_PER_US;
		else
			fail("unknown option");
	}
}

static void block_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGUSR1);
	sigaddset(set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, set, NULL);
}

int main(int argc, char **argv)
{
	struct env_real_opts eo = { .log = { LOG_INFO, emit, NULL }, .workers = 1, .name = "nbd" };
	struct args a = { .x = { .name = "ram", .description = "a RAM disk", .max_conns = 64 },
			  .verify = true };
	struct hci_error err;
	pthread_t thread;
	sigset_t set;

	parse(argc, argv, &a);
	block_signals(&set);
	env = env_real_new(&eo, &err);
	if (!env)
		fail(err.message);
	if (a.tls_dir)
		open_tls(a.tls_dir, a.verify);
	env_task_init(&signal_task, on_signal);
	open_all(argv[1], strtoull(argv[2], NULL, 10) * MiB, &a.x, a.fill);
	ram.delay_ns = a.delay_ns;
	pthread_create(&thread, NULL, signals, &set);
	env_run(env);
	pthread_join(thread, NULL);
	env_tls_free(tls);
	ram_fini(&ram);
	env_free(env);
	return 0;
}
