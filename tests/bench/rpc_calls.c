/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request and its reply cost: two loops in two threads, TCP over loopback, plain and TLS.
 * Prints one JSON object a run: calls per second, latency, and the CPU time each side spent on a
 * call (its thread's, system time included).
 *
 *	rpc_calls [SECONDS]
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "env/env.h"
#include "env/fiber.h"
#include "env/pki.h"
#include "rpc/rpc.h"

enum { M_WRITE = 0xf00, M_READ = 0xf01 };

struct server {
	struct env *e;
	struct rpc *r;
	struct env_tls *tls;
	const char *pki;
	uint8_t *data;
	char addr[160];
	pthread_t thread;
	pthread_barrier_t ready;
};

struct load {
	const char *name;
	uint32_t method, size, depth;
};

struct client {
	struct env *e;
	struct rpc *r;
	struct rpc_conn *c;
	struct server *s;
	struct fiber *fiber;
	uint64_t until, done, lat, open;
	double seconds;
	bool tls;
};

struct slot {
	struct rpc_call call;
	struct client *cl;
	const struct load *l;
	uint64_t start;
	void *buf;
};

static void die(const char *what, const struct hci_error *err)
{
	fprintf(stderr, "rpc_calls: %s: %s\n", what, err ? err->message : "failed");
	exit(1);
}

static double cpu_of(pthread_t t)
{
	struct timespec ts;
	clockid_t id;

	pthread_getcpuclockid(t, &id);
	clock_gettime(id, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static struct env *make_env(const char *name)
{
	struct env_real_opts o = { .workers = 1, .name = name };
	struct hci_error err;
	struct env *e = env_real_new(&o, &err);

	if (!e)
		die("loop", &err);
	return e;
}

static struct env_tls *make_tls(struct env *e, const char *dir)
{
	char ca[200], crt[200], key[200];
	struct hci_error err;
	struct env_tls *t;

	if (!dir)
		return NULL;
	snprintf(ca, sizeof(ca), "%s/ca.crt", dir);
	snprintf(crt, sizeof(crt), "%s/node.crt", dir);
	snprintf(key, sizeof(key), "%s/node.key", dir);
	t = env_tls_new(e, ca, crt, key, true, &err);
	if (!t)
		die("TLS", &err);
	return t;
}

static void serve_write(void *arg, struct rpc_req *req)
{
	(void)arg;
	rpc_reply(req, 0, NULL, NULL, NULL, 0, NULL, NULL);
}

static void serve_read(void *arg, struct rpc_req *req)
{
	struct server *s = arg;

	rd_array(&req->args);
	rpc_reply(req, 0, NULL, NULL, s->data, rd_u32(&req->args), NULL, NULL);
}

static void *server_main(void *arg)
{
	struct server *s = arg;
	struct rpc_opts o = { .node_name = "bench" };
	struct hci_error err;

	s->e = make_env("server");
	o.tls = s->tls = make_tls(s->e, s->pki);
	s->r = rpc_new(s->e, &o);
	rpc_register(s->r, M_WRITE, serve_write, s);
	rpc_register(s->r, M_READ, serve_read, s);
	if (rpc_listen(s->r, "tcp:127.0.0.1:0", &err) < 0)
		die("listen", &err);
	snprintf(s->addr, sizeof(s->addr), "%s", rpc_listen_addr(s->r));
	pthread_barrier_wait(&s->ready);
	env_run(s->e);
	rpc_free(s->r);
	env_tls_free(s->tls);
	return NULL;
}

static void submit(struct slot *s)
{
	s->start = now_ns();
	buf_reset(&s->call.body);
	pk_array(&s->call.body, 4);
	pk_u64(&s->call.body, s->l->size);
	pk_u64(&s->call.body, 123456789);
	pk_u64(&s->call.body, 42);
	pk_u64(&s->call.body, s->start);
	rpc_submit(s->cl->c, &s->call);
}

static void on_done(struct rpc_call *call)
{
	struct slot *s = container_of(call, struct slot, call);
	struct client *cl = s->cl;
	uint64_t t = now_ns();

	if (call->status)
		die("call", &call->err);
	cl->done++;
	cl->lat += t - s->start;
	if (t < cl->until)
		submit(s);
	else if (--cl->open == 0)
		fiber_wake(cl->e, cl->fiber);
}

static void run(struct client *cl, const struct load *l)
{
	struct slot *slots = mem_calloc(l->depth, sizeof(*slots));
	double cc, cs, wall;
	uint64_t start;

	for (uint32_t i = 0; i < l->depth; i++) {
		struct slot *s = &slots[i];

		*s = (struct slot){ .cl = cl, .l = l, .buf = mem_alloc_aligned(l->size) };
		memset(s->buf, 7, l->size);
		s->call.method = l->method;
		s->call.done = on_done;
		s->call.timeout_ns = 10 * NS_PER_S;
		if (l->method == M_WRITE) {
			s->call.payload = s->buf;
			s->call.payload_len = l->size;
		} else {
			s->call.reply_buf = s->buf;
			s->call.reply_cap = l->size;
		}
	}
	cl->done = cl->lat = 0;
	cl->open = l->depth;
	start = now_ns();
	cl->until = start + (uint64_t)(cl->seconds * 1e9);
	cc = cpu_of(pthread_self());
	cs = cpu_of(cl->s->thread);
	for (uint32_t i = 0; i < l->depth; i++)
		submit(&slots[i]);
	while (cl->open)
		fiber_park(cl->e);
	wall = (double)(now_ns() - start) / 1e9;
	cc = cpu_of(pthread_self()) - cc;
	cs = cpu_of(cl->s->thread) - cs;
	printf("{\"load\": \"%s\", \"tls\": %s, \"bytes\": %u, \"depth\": %u, \"calls_per_s\": "
	       "%.0f, "
	       "\"MBps\": %.0f, \"latency_us\": %.1f, \"client_cpu_us\": %.2f, \"server_cpu_us\": "
	       "%.2f}\n",
	       l->name, cl->tls ? "true" : "false", l->size, l->depth, (double)cl->done / wall,
	       (double)cl->done * l->size / wall / 1e6, (double)cl->lat / (double)cl->done / 1e3,
	       cc / (double)cl->done * 1e6, cs / (double)cl->done * 1e6);
	fflush(stdout);
	for (uint32_t i = 0; i < l->depth; i++) {
		rpc_call_free(&slots[i].call);
		mem_free_aligned(slots[i].buf);
	}
	mem_free(slots);
}

static const struct load loads[] = {
	{ "write", M_WRITE, 4096, 1 },     { "write", M_WRITE, 4096, 32 },
	{ "write", M_WRITE, 4096, 256 },   { "read", M_READ, 4096, 1 },
	{ "read", M_READ, 4096, 32 },      { "read", M_READ, 4096, 256 },
	{ "write", M_WRITE, 65536, 32 },   { "read", M_READ, 65536, 32 },
	{ "write", M_WRITE, 1u << 20, 8 }, { "read", M_READ, 1u << 20, 8 },
};

static void client_fiber(void *arg)
{
	struct client *cl = arg;
	struct hci_error err;

	cl->fiber = fiber_self(cl->e);
	cl->c = rpc_connect(cl->r, cl->s->addr, "bench", &err);
	if (!cl->c || rpc_conn_wait(cl->c, &err) < 0)
		die("connect", &err);
	for (size_t i = 0; i < ARRAY_SIZE(loads); i++)
		run(cl, &loads[i]);
	rpc_conn_unref(cl->c);
	env_stop(cl->e);
}

static void bench(double seconds, const char *pki)
{
	struct server s = { .pki = pki, .data = mem_alloc_aligned(1u << 20) };
	struct client cl = { .s = &s, .seconds = seconds, .tls = pki };
	struct rpc_opts o = { .node_name = "bench" };
	struct env_tls *tls;

	memset(s.data, 5, 1u << 20);
	pthread_barrier_init(&s.ready, NULL, 2);
	pthread_create(&s.thread, NULL, server_main, &s);
	pthread_barrier_wait(&s.ready);
	cl.e = make_env("client");
	o.tls = tls = make_tls(cl.e, pki);
	cl.r = rpc_new(cl.e, &o);
	fiber_spawn(cl.e, client_fiber, &cl, "bench");
	env_run(cl.e);
	rpc_free(cl.r);
	env_tls_free(tls);
	env_free(cl.e);
	env_stop(s.e);
	pthread_join(s.thread, NULL);
	env_free(s.e);
	pthread_barrier_destroy(&s.ready);
	mem_free_aligned(s.data);
}

int main(int argc, char **argv)
{
	static const char *const addrs[] = { "127.0.0.1", NULL };
	double seconds = argc > 1 ? atof(argv[1]) : 1;
	char dir[] = "/tmp/rpc_calls.XXXXXX", cmd[100];
	struct hci_error err;

	if (!mkdtemp(dir))
		die(dir, NULL);
	if (pki_create_ca(dir, "bench", &err) < 0 ||
	    pki_issue(dir, "bench", dir, 1, addrs, &err) < 0)
		die("certificates", &err);
	bench(seconds, NULL);
	bench(seconds, dir);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd) ? 1 : 0;
}
