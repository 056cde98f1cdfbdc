/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etcd for tests: a cluster of one to three members on ports of their own, with its data in memory where there is
 * /dev/shm; members that are killed, stopped, started again. They end with the process that started them.
 */
#ifndef TESTS_STORE_ETCD_WORLD_H
#define TESTS_STORE_ETCD_WORLD_H

#include <sys/types.h>

#include "sqlite_world.h"

#define MEMBERS_MAX 3
#define EXIT_SKIP 77

struct member {
	pid_t pid; /* 0: not running */
	int client, peer;
};

struct etcd_world {
	char dir[64];
	unsigned n;
	bool tls, clocks;
	int64_t monotonic; /* with clocks: of members that are started from now on, clock_step.h */
	struct member m[MEMBERS_MAX];
	unsigned prefixes;
};

/* The main() of a suite with etcd: EXIT_SKIP when it is not installed; removes what failed cases left. */
struct Suite;
int etcd_suite_main(struct Suite *(*make)(void));
bool etcd_installed(void);
/* Returns when it answers. tls: the folder gets ca.pem, NAME.pem and NAME.key for server, client; clients need one. */
void etcd_world_make(struct etcd_world *w, unsigned members, bool tls);
/* The same without TLS, with members whose clocks can be made to step: clock_step(m[i].pid, ...). */
void etcd_world_make_clocks(struct etcd_world *w, unsigned members);
void etcd_world_remove(struct etcd_world *w);
/* A URL with all members and a prefix that nobody has had; more: further text for it, such as "?ca=...", or NULL. */
void etcd_world_url(struct etcd_world *w, char *out, size_t cap, const char *more);
void etcd_member_start(struct etcd_world *w, unsigned i);
void etcd_member_kill(struct etcd_world *w, unsigned i);
/* SIGSTOP, SIGCONT: it is there and says nothing. */
void etcd_member_freeze(struct etcd_world *w, unsigned i, bool frozen);
/* The member that leads, or -1. */
int etcd_leader(struct etcd_world *w);
/* Until all members answer and have a leader. */
void etcd_world_settle(struct etcd_world *w);
/* Runs etcdctl with the cluster's addresses and certificates; its exit status. What it printed is in out, if not NULL. */
int etcdctl(struct etcd_world *w, char *out, size_t cap, const char *fmt, ...) PRINTF(4, 5);

#endif
