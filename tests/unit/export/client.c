/* SPDX-License-Identifier: Apache-2.0 */
/* The rig and the client of client.h. */
#include "unit/export/client.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "env/fiber.h"

struct rig rig;
static pthread_t thread;

static void *loop(void *arg)
{
	env_run(arg);
	return NULL;
}

/* ---- calls into the loop ---- */

struct call {
	struct env_task task;
	void (*fn)(void *arg);
	void *arg;
	sem_t sem;
};

static void run_call(struct env_task *t)
{
	struct call *c = container_of(t, struct call, task);

	c->fn(c->arg);
	sem_post(&c->sem);
}

void rig_call(void (*fn)(void *arg), void *arg)
{
	struct call c = { .fn = fn, .arg = arg };

	sem_init(&c.sem, 0, 0);
	env_task_init(&c.task, run_call);
	env_post(rig.env, &c.task);
	while (sem_wait(&c.sem))
		;
	sem_destroy(&c.sem);
}

static void in_fiber(void *arg)
{
	struct call *c = arg;

	c->fn(c->arg);
	sem_post(&c->sem);
}

static void start_fiber(struct env_task *t)
{
	ck_assert_int_eq(fiber_spawn(rig.env, in_fiber, container_of(t, struct call, task), "test"),
			 0);
}

void rig_fiber(void (*fn)(void *arg), void *arg)
{
	struct call c = { .fn = fn, .arg = arg };

	sem_init(&c.sem, 0, 0);
	env_task_init(&c.task, start_fiber);
	env_post(rig.env, &c.task);
	while (sem_wait(&c.sem))
		;
	sem_destroy(&c.sem);
}

static void take_stats(void *arg)
{
	nbd_export_stats(rig.export, arg);
}

void rig_stats(struct nbd_stats *out)
{
	rig_call(take_stats, out);
}

static void look(void *arg)
{
	*(struct rig_seen *)arg = (struct rig_seen){ rig.told, rig.ram.writes,
						     rig.ram.max_in_flight, rig.told_status, rig.told_writes };
}

struct rig_seen rig_look(void)
{
	struct rig_seen s;

	rig_call(look, &s);
	return s;
}

bool rig_until(bool (*fn)(const struct nbd_stats *s))
{
	struct nbd_stats s;

	for (int i = 0; i < 2500; i++) {
		rig_stats(&s);
		if (fn(&s))
			return true;
		usleep(2000);
	}
	return false;
}

/* ---- up and down ---- */

static void told(void *arg, struct nbd_export *x, int status)
{
	struct rig *g = arg;

	ck_assert_ptr_eq(x, g->export);
	g->told++;
	g->told_status = status;
}

static void told_write(void *arg, struct nbd_export *x)
{
	struct rig *g = arg;

	ck_assert_ptr_eq(x, g->export);
	g->told_writes++;
}

static void emit(void *arg, int level, const char *sub, const char *line)
{
	(void)arg;
	(void)level;
	if (getenv("VERBOSE"))
		fprintf(stderr, "%s: %s\n", sub, line);
}

void rig_defaults(struct rig_opts *o)
{
	memset(o, 0, sizeof(*o));
	o->export.name = "disk";
	o->export.description = "a RAM disk";
}

static void open_server(void *arg)
{
	struct rig_opts o = *(const struct rig_opts *)arg;
	struct nbd_backend b;
	struct hci_error err;

	ck_assert(ram_init(&rig.ram, rig.env, RIG_SIZE));
	ck_assert(ram_init(&rig.ram2, rig.env, RIG_SIZE));
	o.server.addr = rig.addr;
	rig.server = nbd_server_open(rig.env, &o.server, &err);
	ck_assert_msg(rig.server != NULL, "%s", err.message);
	if (o.no_export)
		return;
	ram_backend(&rig.ram, &b);
	if (!o.export.size)
		o.export.backend = &b;
	o.export.on_first_held_io = told;
	o.export.on_first_held_write = told_write;
	o.export.arg = &rig;
	rig.export = nbd_export_add(rig.server, &o.export, &err);
	ck_assert_msg(rig.export != NULL, "%s", err.message);
}

void rig_start(const struct rig_opts *o)
{
	struct env_real_opts ro = { .workers = 1, .name = "nbd-test" };
	struct rig_opts copy = *o;
	struct hci_error err;

	memset(&rig, 0, sizeof(rig));
	snprintf(rig.path, sizeof(rig.path), "/tmp/nbd-unit-%d", (int)getpid());
	snprintf(rig.addr, sizeof(rig.addr), "unix:%s", rig.path);
	rig.metrics = metrics_new();
	ro.metrics = rig.metrics;
	ro.log = (struct log){ LOG_TRACE, emit, &rig };
	rig.env = env_real_new(&ro, &err);
	ck_assert_msg(rig.env != NULL, "%s", err.message);
	ck_assert_int_eq(pthread_create(&thread, NULL, loop, rig.env), 0);
	rig_call(open_server, &copy);
}

void rig_setup(void)
{
	struct rig_opts o;

	rig_defaults(&o);
	rig_start(&o);
}

static void closed(void *arg)
{
	sem_post(arg);
}

static void close_server(void *arg)
{
	rig.ram.stall = rig.ram2.stall = false;
	ram_go(&rig.ram);
	ram_go(&rig.ram2);
	nbd_server_close(rig.server, closed, arg);
}

static void drop_ram(void *arg)
{
	(void)arg;
	ck_assert_uint_eq(rig.ram.in_flight, 0);
	ck_assert_uint_eq(rig.ram2.in_flight, 0);
	ram_fini(&rig.ram);
	ram_fini(&rig.ram2);
}

void rig_teardown(void)
{
	sem_t sem;

	sem_init(&sem, 0, 0);
	rig_call(close_server, &sem);
	while (sem_wait(&sem))
		;
	rig_call(drop_ram, NULL);
	env_stop(rig.env);
	pthread_join(thread, NULL);
	env_free(rig.env);
	metrics_free(rig.metrics);
	ck_assert_int_ne(access(rig.path, F_OK), 0);
}

/* ---- the client ---- */

int cl_connect(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct timeval limit = { 10, 0 };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_ge(fd, 0);
	strcpy(a.sun_path, rig.path);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

void cl_put(int fd, const void *p, size_t n)
{
	const char *s = p;

	while (n) {
		ssize_t k = send(fd, s, n, MSG_NOSIGNAL);

		ck_assert_int_gt(k, 0);
		s += k;
		n -= (size_t)k;
	}
}

void cl_get(int fd, void *p, size_t n)
{
	char *s = p;

	while (n) {
		ssize_t k = recv(fd, s, n, 0);

		if (k < 0 && errno == EINTR) /* stopped and continued within a recv with a limit */
			continue;
		ck_assert_int_gt(k, 0);
		s += k;
		n -= (size_t)k;
	}
}

bool cl_closed(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char sink[65536];

	for (;;) {
		int n = poll(&pfd, 1, 5000);
		ssize_t k;

		if (n < 0 && errno == EINTR)
			continue;
		if (n != 1)
			return false;
		k = recv(fd, sink, sizeof(sink), 0);
		if (!k || (k < 0 && errno != EINTR))
			return true;
	}
}

void cl_option(int fd, uint32_t opt, const void *data, uint32_t len)
{
	uint8_t h[16];

	nbd_put64(h, NBD_OPT_MAGIC);
	nbd_put32(h + 8, opt);
	nbd_put32(h + 12, len);
	cl_put(fd, h, sizeof(h));
	cl_put(fd, data, len);
}

uint32_t cl_option_reply(int fd, uint32_t opt, void *data, uint32_t *len)
{
	uint8_t h[20];

	cl_get(fd, h, sizeof(h));
	ck_assert_uint_eq(nbd_get64(h), NBD_REP_MAGIC);
	ck_assert_uint_eq(nbd_get32(h + 8), opt);
	ck_assert_uint_le(nbd_get32(h + 16), *len);
	*len = nbd_get32(h + 16);
	cl_get(fd, data, *len);
	return nbd_get32(h + 12);
}

static uint32_t last_reply(int fd, uint32_t opt)
{
	uint8_t data[4096];
	uint32_t type, len;

	do {
		len = sizeof(data);
		type = cl_option_reply(fd, opt, data, &len);
	} while (type == NBD_REP_INFO || type == NBD_REP_META_CONTEXT || type == NBD_REP_SERVER);
	return type;
}

void cl_go(int fd, const char *name)
{
	uint8_t b[300];
	size_t n = strlen(name);

	nbd_put32(b, (uint32_t)n);
	memcpy(b + 4, name, n);
	nbd_put16(b + 4 + n, 0);
	cl_option(fd, NBD_OPT_GO, b, (uint32_t)(n + 6));
	ck_assert_uint_eq(last_reply(fd, NBD_OPT_GO), NBD_REP_ACK);
}

int cl_open(const char *name, unsigned what)
{
	int fd = cl_connect();
	uint8_t b[300];
	size_t n = strlen(name);

	cl_get(fd, b, 18);
	ck_assert_mem_eq(b, "NBDMAGICIHAVEOPT", 16);
	cl_put(fd, "\0\0\0\3", 4);
	if (what & CL_STRUCTURED) {
		cl_option(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
		ck_assert_uint_eq(last_reply(fd, NBD_OPT_STRUCTURED_REPLY), NBD_REP_ACK);
	}
	if (what & CL_META) {
		nbd_put32(b, (uint32_t)n);
		memcpy(b + 4, name, n);
		nbd_put32(b + 4 + n, 1);
		nbd_put32(b + 8 + n, 15);
		memcpy(b + 12 + n, "base:allocation", 15);
		cl_option(fd, NBD_OPT_SET_META_CONTEXT, b, (uint32_t)(n + 27));
		ck_assert_uint_eq(last_reply(fd, NBD_OPT_SET_META_CONTEXT), NBD_REP_ACK);
	}
	cl_go(fd, name);
	return fd;
}

void cl_request(int fd, uint16_t type, uint16_t flags, uint64_t cookie, uint64_t off, uint32_t len)
{
	uint8_t b[NBD_REQUEST_SIZE];

	nbd_put32(b, NBD_REQUEST_MAGIC);
	nbd_put16(b + 4, flags);
	nbd_put16(b + 6, type);
	nbd_put64(b + 8, cookie);
	nbd_put64(b + 16, off);
	nbd_put32(b + 24, len);
	cl_put(fd, b, sizeof(b));
}

void cl_reply(int fd, struct cl_reply *r, uint32_t data_len)
{
	uint8_t h[NBD_CHUNK_SIZE];

	cl_get(fd, h, NBD_SIMPLE_SIZE);
	r->cookie = nbd_get64(h + 8);
	r->structured = nbd_get32(h) == NBD_CHUNK_MAGIC;
	r->type = 0;
	r->error = 0;
	if (!r->structured) {
		ck_assert_uint_eq(nbd_get32(h), NBD_SIMPLE_MAGIC);
		r->error = nbd_get32(h + 4);
		r->len = r->error ? 0 : data_len;
		cl_get(fd, r->data, r->len);
		return;
	}
	cl_get(fd, h + NBD_SIMPLE_SIZE, 4);
	ck_assert_uint_eq(nbd_get16(h + 4), NBD_REPLY_DONE);
	r->type = nbd_get16(h + 6);
	r->len = nbd_get32(h + 16);
	ck_assert_uint_le(r->len, sizeof(r->data));
	cl_get(fd, r->data, r->len);
	if (r->type & 0x8000) {
		r->error = nbd_get32(r->data);
		ck_assert_uint_ne(r->error, 0);
		ck_assert_uint_eq(nbd_get16(r->data + 4), r->len - 6);
	}
}

uint32_t cl_do(int fd, uint16_t type, uint16_t flags, uint64_t off, uint32_t len)
{
	static struct cl_reply r;

	cl_request(fd, type, flags, 0xabcd, off, len);
	cl_reply(fd, &r, 0);
	ck_assert_uint_eq(r.cookie, 0xabcd);
	return r.error;
}

uint32_t cl_read(int fd, void *buf, uint64_t off, uint32_t len)
{
	static struct cl_reply r;

	cl_request(fd, NBD_CMD_READ, 0, 0x1234, off, len);
	cl_reply(fd, &r, len);
	ck_assert_uint_eq(r.cookie, 0x1234);
	if (r.error)
		return r.error;
	if (!r.structured) {
		memcpy(buf, r.data, len);
	} else if (r.type == NBD_REPLY_OFFSET_DATA) {
		ck_assert_uint_eq(r.len, len + 8);
		ck_assert_uint_eq(nbd_get64(r.data), off);
		memcpy(buf, r.data + 8, len);
	} else if (r.type == NBD_REPLY_OFFSET_HOLE) {
		ck_assert_uint_eq(nbd_get64(r.data), off);
		ck_assert_uint_eq(nbd_get32(r.data + 8), len);
		memset(buf, 0, len);
	} else {
		ck_assert_uint_eq(len, 0);
	}
	return 0;
}

uint32_t cl_write(int fd, const void *buf, uint64_t off, uint32_t len)
{
	static struct cl_reply r;

	cl_request(fd, NBD_CMD_WRITE, 0, 0x77, off, len);
	cl_put(fd, buf, len);
	cl_reply(fd, &r, 0);
	ck_assert_uint_eq(r.cookie, 0x77);
	return r.error;
}
