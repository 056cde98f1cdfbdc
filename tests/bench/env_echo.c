/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a byte stream costs: two loops in two threads, TCP over loopback, plain and TLS. The client
 * keeps DEPTH messages of SIZE bytes open, the server answers each with 16 bytes once it has all of
 *it. Prints one JSON object a run: messages and MB per second, and the CPU time of each thread a
 *message.
 *
 *	env_echo [SECONDS]
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "env/env.h"
#include "env/pki.h"

#define ACK 16u
#define BUF (1u << 20)

struct side {
	struct env *env;
	struct env_conn *conn;
	struct env_listener *l;
	struct env_tls *tls;
	pthread_t thread;
	uint8_t *buf;
	uint32_t size, depth;
	uint64_t in; /* bytes of the message, or of acks, that came so far */
	uint64_t acks_owed, done;
	uint64_t want; /* client: messages to start */
	uint64_t part; /* client: bytes of the message that is partly sent */
	double cpu_us;
	struct env_timer end;
	struct env_task go;
	pthread_barrier_t *ready;
};

static double thread_cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_THREAD, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* ---- server ---- */

static void send_acks(struct side *s)
{
	while (s->acks_owed) {
		struct iovec v = { s->buf, MIN(s->acks_owed, BUF) };
		int64_t n = env_conn_send(s->conn, &v, 1);

		if (n < 0)
			return;
		s->acks_owed -= (uint64_t)n;
	}
}

static void server_readable(void *arg)
{
	struct side *s = arg;
	int64_t n;

	while ((n = env_conn_recv(s->conn, s->buf, MIN(s->size - s->in, BUF))) > 0) {
		s->in += (uint64_t)n;
		if (s->in == s->size) {
			s->in = 0;
			s->acks_owed += ACK;
		}
	}
	send_acks(s);
}

static void server_writable(void *arg)
{
	send_acks(arg);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void server_closed(void *arg, const struct hci_error *err)
{
	struct side *s = arg;

	(void)err;
	env_conn_close(s->conn, false);
	env_listener_close(s->l);
	env_tls_free(s->tls);
	env_stop(s->env);
}

static void on_accept(void *arg, struct env_conn *c)
{
	static const struct env_conn_ops ops = { nothing, server_readable, server_writable,
						 server_closed };
	struct side *s = arg;

	s->conn = c;
	env_conn_set_ops(c, &ops, s);
}

/* ---- client ---- */

static void send_messages(struct side *s)
{
	while (s->want) {
		struct iovec v = { s->buf, s->size - s->part };
		int64_t n = env_conn_send(s->conn, &v, 1);

		if (n < 0)
			return;
		s->part += (uint64_t)n;
		if (s->part == s->size) {
			s->part = 0;
			s->want--;
		}
	}
}

static void client_open(void *arg)
{
	struct side *s = arg;

	s->want = s->depth;
	send_messages(s);
}

static void client_readable(void *arg)
{
	struct side *s = arg;
	uint8_t acks[4096];
	int64_t n;

	while ((n = env_conn_recv(s->conn, acks, sizeof(acks))) > 0) {
		s->in += (uint64_t)n;
		s->want += s->in / ACK;
		s->done += s->in / ACK;
		s->in %= ACK;
	}
	send_messages(s);
}

static void client_writable(void *arg)
{
	send_messages(arg);
}

static void client_closed(void *arg, const struct hci_error *err)
{
	(void)arg;
	fprintf(stderr, "env_echo: %s\n", err->message);
	exit(1);
}

static void over(struct env_timer *t)
{
	struct side *s = container_of(t, struct side, end);

	env_conn_close(s->conn, true);
	env_tls_free(s->tls);
	env_stop(s->env);
}

/* ---- both ---- */

static void *run(void *arg)
{
	struct side *s = arg;
	double before;

	pthread_barrier_wait(s->ready);
	before = thread_cpu();
	env_run(s->env);
	s->cpu_us = thread_cpu() - before;
	return NULL;
}

static struct env_tls *make_tls(struct env *e, const char *dir)
{
	char f[3][300];

	snprintf(f[0], sizeof(f[0]), "%s/ca.crt", dir);
	snprintf(f[1], sizeof(f[1]), "%s/node.crt", dir);
	snprintf(f[2], sizeof(f[2]), "%s/node.key", dir);
	return env_tls_new(e, f[0], f[1], f[2], true, NULL);
}

static void bench(const char *pki, uint32_t size, uint32_t depth, double seconds)
{
	static const struct env_conn_ops ops = { client_open, client_readable, client_writable,
						 client_closed };
	struct env_real_opts o = { .name = "echo" };
	pthread_barrier_t ready;
	struct side s = { .size = size, .depth = depth, .ready = &ready }, c = s;
	struct hci_error err;

	pthread_barrier_init(&ready, NULL, 2);
	s.env = env_real_new(&o, &err);
	c.env = env_real_new(&o, &err);
	s.buf = calloc(1, BUF);
	c.buf = calloc(1, MAX(BUF, size));
	if (pki) {
		s.tls = make_tls(s.env, pki);
		c.tls = make_tls(c.env, pki);
	}
	s.l = env_listen(s.env, "tcp:127.0.0.1:0", s.tls, on_accept, &s, &err);
	c.conn = env_connect(c.env, env_listener_addr(s.l), c.tls, &ops, &c, &err);
	env_timer_init(&c.end, over);
	env_timer_arm(c.env, &c.end, env_now(c.env) + (uint64_t)(seconds * 1e9));
	pthread_create(&s.thread, NULL, run, &s);
	pthread_create(&c.thread, NULL, run, &c);
	pthread_join(c.thread, NULL);
	pthread_join(s.thread, NULL);
	printf("{\"tls\": %s, \"size\": %u, \"depth\": %u, \"per_second\": %.0f, "
	       "\"mb_per_second\": %.0f, "
	       "\"client_us\": %.2f, \"server_us\": %.2f}\n",
	       pki ? "true" : "false", size, depth, (double)c.done / seconds,
	       (double)c.done * size / seconds / 1e6, c.cpu_us / (double)c.done,
	       s.cpu_us / (double)c.done);
	fflush(stdout);
	env_free(c.env);
	env_free(s.env);
	free(s.buf);
	free(c.buf);
	pthread_barrier_destroy(&ready);
}

int main(int argc, char **argv)
{
	static const struct {
		uint32_t size, depth;
	} loads[] = { { 64, 1 }, { 4160, 1 }, { 4160, 32 }, { 65600, 8 }, { 1 << 20, 8 } };
	double seconds = argc > 1 ? atof(argv[1]) : 2;
	char dir[] = "/tmp/env_echo-XXXXXX", ca[64], node[64], cmd[100];
	struct hci_error err;
	size_t i;

	if (!mkdtemp(dir))
		return 1;
	snprintf(ca, sizeof(ca), "%s/ca", dir);
	snprintf(node, sizeof(node), "%s/node", dir);
	if (pki_create_ca(ca, "bench", &err) || pki_issue(ca, "bench", node, 1, NULL, &err)) {
		fprintf(stderr, "env_echo: %s\n", err.message);
		return 1;
	}
	for (i = 0; i < ARRAY_SIZE(loads); i++) {
		bench(NULL, loads[i].size, loads[i].depth, seconds);
		bench(node, loads[i].size, loads[i].depth, seconds);
	}
	snprintf(cmd, sizeof(cmd), "rm -r '%s'", dir);
	return system(cmd) ? 1 : 0;
}
