/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP proxy with bad manners. It eats answers: what the client says arrives, what the server answers does not, then the
 * connection ends; so a request is done, and whoever asked cannot know. It holds requests: the connection ends, and what the
 * client said arrives later. Runs on threads of its own.
 */
#ifndef TESTS_STORE_EAT_PROXY_H
#define TESTS_STORE_EAT_PROXY_H

#include <pthread.h>
#include <stdbool.h>

struct eat_proxy {
	int listen_fd, port, to_port;
	pthread_t thread;
	/* atomic */
	int eat, hold; /* connections that are still to be treated so, from their next word on */
	int refuse;    /* let nobody in */
	int stop, running;
	unsigned eaten, held;
};

void eat_proxy_start(struct eat_proxy *p, int to_port);
void eat_proxy_stop(struct eat_proxy *p);
/* From the next word of the client, n times. */
void eat_proxy_eat(struct eat_proxy *p, int n);
/* The same; what is held arrives HOLD_MS later. */
#define HOLD_MS 2000
void eat_proxy_hold(struct eat_proxy *p, int n);
void eat_proxy_refuse(struct eat_proxy *p, bool refuse);

#endif
