/* SPDX-License-Identifier: Apache-2.0 */
/* The thread: takes what came in, moves the connection, the session, watches and calls on, sleeps. */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "etcd.h"

#define OPEN_WITHIN (10 * SEC)
#define CLOSE_WITHIN (1 * SEC)

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SEC + (uint64_t)t.tv_nsec;
}

uint64_t random_id(void)
{
	uint64_t v = 0;

	while (getrandom(&v, sizeof(v), 0) != sizeof(v) || !(v >> 1))
		;
	return v >> 1;
}

void say(struct etcd *e, int level, const char *fmt, ...)
{
	char line[360];
	va_list ap;
	int n = snprintf(line, sizeof(line), "etcd: ");

	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
	va_end(ap);
	e->host->log(e->host->ctx, level, line);
}

void engine_opened(struct etcd *e, const struct failure *f)
{
	pthread_mutex_lock(&e->lock);
	if (!e->open_over && f)
		e->open_err = *f;
	e->open_over = true;
	pthread_cond_broadcast(&e->opened);
	pthread_mutex_unlock(&e->lock);
}

/* False: it is to end. */
static bool take_inbox(struct etcd *e)
{
	bool stop;

	pthread_mutex_lock(&e->lock);
	TAILQ_CONCAT(&e->waiting, &e->inbox, link);
	stop = e->stop;
	pthread_mutex_unlock(&e->lock);
	return !stop;
}

static uint64_t min_time(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int sleep_ms(struct etcd *e, uint64_t now, uint64_t until)
{
	uint64_t t = min_time(until, call_next_time(e, now));
	struct call *c = TAILQ_FIRST(&e->sent);

	if (e->more || e->doom || e->queued)
		return 0;
	if (e->state == CONN_CONNECTING)
		t = min_time(t, now + 100 * MS);
	if (e->state != CONN_READY)
		t = min_time(t, e->conn_at);
	else
		t = min_time(t, min_time(session_next_time(e), watch_next_time(e)));
	if (c && e->state == CONN_READY)
		t = min_time(t, (c->sent_at > e->answered_at ? c->sent_at : e->answered_at) + e->stall);
	if (t <= now)
		return 0;
	return t - now > 10 * SEC ? 10000 : (int)((t - now + MS - 1) / MS);
}

static void wait_for_work(struct etcd *e, int ms)
{
	struct pollfd p[2] = { { .fd = e->wake_fd, .events = POLLIN }, { .fd = e->net.fd, .events = POLLIN } };
	uint64_t count;

	if (e->state == CONN_CONNECTING)
		p[1].events = e->net.want_write ? POLLOUT : POLLIN;
	else if (e->net.want_write)
		p[1].events |= POLLOUT;
	poll(p, e->state == CONN_DOWN ? 1 : 2, ms);
	if (p[0].revents)
		(void)!read(e->wake_fd, &count, sizeof(count));
}

static void turn(struct etcd *e, uint64_t until)
{
	uint64_t now = now_ns();

	call_expire(e, now);
	conn_step(e, now);
	if (e->state == CONN_READY && !e->closing) {
		session_step(e, now);
		watch_step(e, now);
	}
	if (e->state == CONN_READY)
		call_send_waiting(e, now);
	else
		e->queued = false;
	conn_flush(e);
	wait_for_work(e, sleep_ms(e, now_ns(), until));
}

/* Waits a moment for etcd to forget the session; its keys would go by themselves later. */
static void say_goodbye(struct etcd *e)
{
	uint64_t until = now_ns() + CLOSE_WITHIN;

	e->closing = true;
	if (e->state == CONN_READY)
		session_end(e);
	if (e->session_call)
		e->session_call->deadline = until;
	while (e->session_call && e->state == CONN_READY && now_ns() < until)
		turn(e, until);
}

void *engine_main(void *arg)
{
	struct etcd *e = arg;
	uint64_t open_until = now_ns() + OPEN_WITHIN;

	while (take_inbox(e)) {
		turn(e, e->open_over ? NEVER : open_until);
		if (!e->open_over && now_ns() >= open_until) {
			e->why.code = HCI_E_UNAVAILABLE;
			engine_opened(e, &e->why);
		}
	}
	call_cancel_all(e);
	say_goodbye(e);
	call_cancel_all(e);
	conn_close(e);
	watch_free_all(e);
	return NULL;
}
