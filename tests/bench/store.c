/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store: latency of single requests, and how many a second when many wait at once. Prints JSON.
 * Usage: bench_store [FOLDER], a folder on the medium to measure the sqlite store on, /var/tmp by default;
 * or bench_store URL, an empty store of any driver.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "env/fiber.h"
#include "store/store.h"

#define SAMPLES 2000

struct bench {
	struct env *env;
	struct store *s;
	uint64_t lease;
	const char *url;
	char sep;
};

static uint64_t mono(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void die(const char *what, const struct hci_error *err)
{
	fprintf(stderr, "%s: %s\n", what, err->message);
	exit(1);
}

static void do_get(struct bench *b, unsigned i)
{
	struct store_result r;
	struct hci_error err;
	char key[32];

	snprintf(key, sizeof(key), "bench/%u", i % 100);
	if (store_get(b->s, key, &r, &err))
		die("get", &err);
	store_result_free(&r);
}

static void do_put(struct bench *b, unsigned i)
{
	static const char value[200];
	struct hci_error err;
	char key[32];
	struct store_op op = { STORE_PUT, key, value, sizeof(value), 0 };

	snprintf(key, sizeof(key), "bench/%u", i % 100);
	if (store_txn(b->s, NULL, 0, &op, 1, NULL, &err))
		die("put", &err);
}

static void do_keepalive(struct bench *b, unsigned i)
{
	struct hci_error err;

	(void)i;
	if (store_lease_keepalive(b->s, b->lease, &err))
		die("keepalive", &err);
}

/* How long until a change is heard of: counts what a watch is told. */
static void count_event(void *arg, const struct store_event *ev, size_t n, uint64_t revision)
{
	(void)ev;
	(void)revision;
	*(uint64_t *)arg += n;
}

struct run {
	struct bench *b;
	void (*op)(struct bench *b, unsigned i);
	unsigned started;
	uint64_t *ns;
	struct fiber_cond done;
	unsigned running;
};

static void worker(void *arg)
{
	struct run *r = arg;

	while (r->started < SAMPLES) {
		unsigned i = r->started++;
		uint64_t t = mono();

		r->op(r->b, i);
		r->ns[i] = mono() - t;
	}
	if (--r->running == 0)
		fiber_cond_signal(r->b->env, &r->done);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void measure(struct bench *b, const char *name, void (*op)(struct bench *b, unsigned i),
		    unsigned depth)
{
	struct run r = { .b = b, .op = op, .running = depth };
	uint64_t t;

	r.ns = calloc(SAMPLES, sizeof(*r.ns));
	if (!r.ns)
		exit(1);
	fiber_cond_init(&r.done);
	t = mono();
	for (unsigned i = 0; i < depth; i++)
		if (fiber_spawn(b->env, worker, &r, "worker"))
			exit(1);
	fiber_cond_wait(b->env, &r.done);
	t = mono() - t;
	qsort(r.ns, SAMPLES, sizeof(*r.ns), by_size);
	printf("%c\n  {\"name\": \"%s\", \"depth\": %u, \"per_second\": %.0f, \"p50_us\": %.1f, "
	       "\"p99_us\": %.1f}",
	       b->sep, name, depth, SAMPLES * 1e9 / (double)t, (double)r.ns[SAMPLES / 2] / 1000,
	       (double)r.ns[SAMPLES * 99 / 100] / 1000);
	b->sep = ',';
	free(r.ns);
}

static void bench_main(void *arg)
{
	struct bench *b = arg;
	uint64_t events = 0, until = mono() + 30 * NS_PER_S;
	struct store_watch *watched;
	struct hci_error err;

	if (store_open(b->env, b->url, &b->s, &err))
		die("open", &err);
	measure(b, "put", do_put, 1);
	measure(b, "put", do_put, 32);
	measure(b, "get", do_get, 1);
	measure(b, "get", do_get, 32);
	if (store_lease_grant(b->s, 60 * NS_PER_S, &b->lease, &err))
		die("grant", &err);
	measure(b, "keepalive", do_keepalive, 1);
	measure(b, "keepalive", do_keepalive, 32);
	measure(b, "keepalive", do_keepalive, 256);
	watched = store_watch(b->s, "", 0, count_event, &events);
	measure(b, "put, watched", do_put, 32);
	while (events < SAMPLES && mono() < until)
		fiber_sleep(b->env, NS_PER_MS);
	store_watch_close(watched);
	store_close(b->s);
	env_stop(b->env);
}

int main(int argc, char **argv)
{
	static const char *const files[] = { "db", "db-wal", "db-shm", "db-bell" };
	char dir[200], url[300], path[300];
	struct env_real_opts o = { .name = "bench" };
	struct bench b = { .url = url, .sep = '[' };
	struct hci_error err;

	if (argc > 1 && argv[1][0] != '/') {
		b.url = argv[1];
	} else {
		snprintf(dir, sizeof(dir), "%.150s/hci-bench-XXXXXX", argc > 1 ? argv[1] : "/var/tmp");
		if (!mkdtemp(dir)) {
			perror(dir);
			return 1;
		}
		snprintf(url, sizeof(url), "sqlite:%s/db", dir);
	}
	b.env = env_real_new(&o, &err);
	if (!b.env)
		die("env", &err);
	if (fiber_spawn(b.env, bench_main, &b, "bench"))
		return 1;
	env_run(b.env);
	env_free(b.env);
	printf("\n]\n");
	for (size_t i = 0; b.url == url && i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		unlink(path);
	}
	if (b.url == url)
		rmdir(dir);
	return 0;
}
