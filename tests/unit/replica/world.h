/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the disk share: a simulated node with a disk, a disk in a real directory, and
 * requests that a fiber waits for. */
#ifndef TESTS_UNIT_REPLICA_WORLD_H
#define TESTS_UNIT_REPLICA_WORLD_H

#include "env/fiber.h"
#include "env/sim.h"
#include "replica/replica.h"
#include "unit/harness.h"

extern const struct uuid disk_uuid, cluster_uuid;
struct repl_disk_opts disk_opts(void); /* of the simulated disks: log 4 MiB, reserve 1 MiB */

/* Runs fn as a fiber of a real env; path is an empty directory that is removed afterwards. */
void real_run(void (*fn)(struct env *e, const char *path));
/* The same on a simulated node with one disk at /d1. */
struct simw {
	struct sim *sim;
	struct sim_node *node;
	struct sim_disk *disk;
	uint64_t marks_left;
	bool mark_power;
};
void simw_begin(struct simw *w, uint64_t seed, uint64_t capacity);
void simw_end(struct simw *w);
/* Runs fn on the node (booting it) until it ends; false when the node went down first. */
bool simw_run(struct simw *w, void (*fn)(struct env *e, void *arg), void *arg);
void simw_crash_at(struct simw *w, uint64_t in_ns, bool power);
/* When one of the engine's marked points (env/mark.h) has been reached n more times. */
void simw_crash_at_mark(struct simw *w, uint64_t n, bool power);

/* One request and its end. data: aligned. */
int io(struct env *e, struct repl_slot *s, enum repl_op_kind kind, uint32_t segment, uint64_t off,
       uint64_t len, void *data, uint64_t seq, uint32_t flags);
int io_sums(struct env *e, struct repl_slot *s, enum repl_op_kind kind, uint32_t segment, uint64_t off, uint64_t len,
	    void *data, uint64_t seq, uint32_t flags, uint32_t *sums);
int write_fill(struct env *e, struct repl_slot *s, uint32_t segment, uint64_t off, uint64_t len,
	       int c, uint64_t seq);
/* Fails the test unless all of it is c. */
void read_expect(struct env *e, struct repl_slot *s, uint32_t segment, uint64_t off, uint64_t len,
		 int c);
void disk_settle(struct env *e, struct repl_disk *d); /* until all that is in its log is in its place */
struct repl_disk *must_format_open(struct env *e, const char *path, const struct repl_disk_opts *o);
struct repl_disk *must_open(struct env *e, const char *path, const struct repl_disk_opts *o);
struct repl_slot *must_slot(struct repl_disk *d, unsigned vol, uint64_t gen, uint64_t segsize);
struct uuid vol_uuid(unsigned n);
/* The batch whose header this is was made before any from `lsn` on was durable: so is one that was in flight with it. */
void in_flight_with(void *header, uint64_t lsn);

#endif
