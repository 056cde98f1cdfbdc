/* SPDX-License-Identifier: Apache-2.0 */
#include "eat_proxy.h"

#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "sqlite_world.h"

#define MEAL_MS 300 /* time for the request to be carried out */

static struct sockaddr_in local(int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool pass(int from, int to, bool throw_away)
{
	char chunk[16384];
	ssize_t n = recv(from, chunk, sizeof(chunk), 0);

	return n > 0 && (throw_away || send(to, chunk, (size_t)n, MSG_NOSIGNAL) == n);
}

static bool take_one(int *count)
{
	if (__atomic_load_n(count, __ATOMIC_RELAXED) <= 0)
		return false;
	return __atomic_fetch_sub(count, 1, __ATOMIC_RELAXED) > 0;
}

/* What the client says in the next moments goes to the server long after. */
static void hold(struct eat_proxy *p, int client, int server)
{
	static const struct timespec a_moment = { 0, MEAL_MS * 1000000 }, later = { HOLD_MS / 1000, 0 };
	char words[65536];
	ssize_t n;

	nanosleep(&a_moment, NULL);
	n = recv(client, words, sizeof(words), MSG_DONTWAIT);
	shutdown(client, SHUT_RDWR);
	nanosleep(&later, NULL);
	if (n > 0)
		(void)!send(server, words, (size_t)n, MSG_NOSIGNAL);
	nanosleep(&a_moment, NULL);
	__atomic_add_fetch(&p->held, 1, __ATOMIC_RELAXED);
}

static void serve(struct eat_proxy *p, int client, int server)
{
	struct pollfd fds[2] = { { .fd = client, .events = POLLIN }, { .fd = server, .events = POLLIN } };
	bool eating = false, open = true;
	int64_t until = 0;

	while (open && !__atomic_load_n(&p->stop, __ATOMIC_RELAXED)) {
		poll(fds, 2, 20);
		if (fds[0].revents && take_one(&p->hold)) {
			hold(p, client, server);
			return;
		}
		if (fds[0].revents)
			open = pass(client, server, false);
		if (!eating && fds[0].revents && take_one(&p->eat)) {
			eating = true;
			until = now_ms() + MEAL_MS;
		}
		if (open && fds[1].revents)
			open = pass(server, client, eating);
		if (eating && now_ms() >= until) {
			__atomic_add_fetch(&p->eaten, 1, __ATOMIC_RELAXED);
			open = false;
		}
	}
}

struct one {
	struct eat_proxy *p;
	int client;
};

static void *one_main(void *arg)
{
	struct one *o = arg;
	struct sockaddr_in to = local(o->p->to_port);
	int server = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(server, (void *)&to, sizeof(to)) == 0)
		serve(o->p, o->client, server);
	close(o->client);
	close(server);
	__atomic_sub_fetch(&o->p->running, 1, __ATOMIC_RELEASE);
	free(o);
	return NULL;
}

static void *proxy_main(void *arg)
{
	struct eat_proxy *p = arg;
	struct pollfd l = { .fd = p->listen_fd, .events = POLLIN };
	pthread_t t;

	while (!__atomic_load_n(&p->stop, __ATOMIC_RELAXED)) {
		struct one *o;

		if (poll(&l, 1, 20) <= 0)
			continue;
		o = calloc(1, sizeof(*o));
		REQUIRE(o, "no memory");
		*o = (struct one){ p, accept(p->listen_fd, NULL, NULL) };
		if (__atomic_load_n(&p->refuse, __ATOMIC_RELAXED)) {
			close(o->client);
			free(o);
			continue;
		}
		__atomic_add_fetch(&p->running, 1, __ATOMIC_RELAXED);
		REQUIRE(pthread_create(&t, NULL, one_main, o) == 0, "no thread");
		pthread_detach(t);
	}
	return NULL;
}

void eat_proxy_start(struct eat_proxy *p, int to_port)
{
	struct sockaddr_in a = local(0);
	socklen_t len = sizeof(a);

	memset(p, 0, sizeof(*p));
	p->to_port = to_port;
	p->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(!bind(p->listen_fd, (void *)&a, sizeof(a)) && !listen(p->listen_fd, 8) &&
			!getsockname(p->listen_fd, (void *)&a, &len),
		"proxy");
	p->port = ntohs(a.sin_port);
	REQUIRE(!pthread_create(&p->thread, NULL, proxy_main, p), "proxy");
}

void eat_proxy_stop(struct eat_proxy *p)
{
	__atomic_store_n(&p->stop, 1, __ATOMIC_RELAXED);
	pthread_join(p->thread, NULL);
	while (__atomic_load_n(&p->running, __ATOMIC_ACQUIRE))
		usleep(1000);
	close(p->listen_fd);
}

void eat_proxy_eat(struct eat_proxy *p, int n)
{
	__atomic_store_n(&p->eat, n, __ATOMIC_RELAXED);
}

void eat_proxy_hold(struct eat_proxy *p, int n)
{
	__atomic_store_n(&p->hold, n, __ATOMIC_RELAXED);
}

void eat_proxy_refuse(struct eat_proxy *p, bool refuse)
{
	__atomic_store_n(&p->refuse, refuse, __ATOMIC_RELAXED);
}
