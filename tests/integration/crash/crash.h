/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the crash test share: the cluster it runs on (names and places), what the writer
 * process reports of its requests, and what a block holds. Every block written says which block it is
 * and which write it comes from; the rest of it follows from these two.
 */
#ifndef TESTS_CRASH_H
#define TESTS_CRASH_H

#include <hci/hci.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define BLOCK 4096u
#define BLOCKS 4096u       /* of the volume */
#define SEGMENT (4u << 20)
#define NODES 3
#define LEASE_MS 500
#define HEARTBEAT_MS 200
#define VOLUME "crash"

/* From the writer, in one write() each. SENT comes before the request, DONE after its completion. */
enum { EV_READY = 1, EV_SENT, EV_DONE, EV_FAILED };
struct event {
	uint32_t kind, block, n;
	int32_t status;
	uint64_t version;
};

/* How a process of the cluster opens it: certificates and store are in dir. */
hci_cluster *crash_open(const char *dir, const char *name);
void crash_store(const char *dir, char *out, size_t size);
double crash_now(void);

void block_fill(uint8_t *p, uint32_t block, uint64_t version);
/* The version that p holds, 0 for zeroes, UINT64_MAX when it is no block of ours. */
uint64_t block_version(const uint8_t *p, uint32_t block);

/* The roles that are processes of their own; they end when they are killed. */
int writer_main(const char *dir, uint64_t first_version, uint64_t seed, uint32_t lease_ms);
int node_main(const char *dir, int i);
int exporter_main(const char *dir, const char *socket);

/* Children of the test: they run this program in a role, and die with it. */
struct child {
	pid_t pid;
	int fd; /* its standard output */
};
struct child crash_spawn(const char *role, const char *a, const char *b);
void crash_kill(struct child *c);
uint32_t crash_dice(uint32_t n);

/* fio.c: one round is one kill of the exporter; fio_end: waits for fio and says how many of its jobs were clean. */
void fio_begin(const char *dir);
void fio_round(const char *dir);
unsigned fio_end(void);
void fio_stop(void);

#define die(...)                              \
	do {                                  \
		fprintf(stderr, __VA_ARGS__); \
		fprintf(stderr, "\n");        \
		exit(1);                      \
	} while (0)

#endif
