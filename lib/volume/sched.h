/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is copied when: one budget for all volumes of an opened cluster. A job is one position of one
 * segment that lacks something; it is admitted (most endangered volume first), listed, and given to the
 * scheduler, which copies runs of its regions beside those of other jobs: the most endangered first, from and
 * to the disks with the fewest copies, as many bytes at a time as the pace allows (pace.h).
 *
 * Owns jobs, the load of disks and the budget. Which position needs a job is resync.c's, how a run is
 * copied copy.c's.
 */
#ifndef VOLUME_SCHED_H
#define VOLUME_SCHED_H

#include "replica/replica.h"
#include "volume/pace.h"

struct vol;
struct vol_ctx;
struct leg;
struct vol_io;

#define SCHED_JOBS 32u       /* of all volumes */
#define SCHED_JOBS_URGENT 48u /* when one is more endangered than those at work */
#define SCHED_DISK_COPIES 16u /* to one disk at a time: a slow one must not hold the whole budget */
#define COPY_MAX (1u << 20)  /* bytes of one copy */

/* One disk, as all volumes of the cluster see it. */
struct disk_load {
	struct list link;
	struct uuid disk;
	uint32_t refs;
	uint32_t ops;    /* requests of the volumes' users */
	uint32_t copies; /* being read from it or written to it */
	uint32_t filling; /* of these: written to it */
	uint32_t jobs;   /* that fill it */
	uint64_t lat;    /* of reads, ns, a moving average; 0: not known */
	uint64_t lat_at;
	uint64_t reads; /* it answered */
};

struct copy_job {
	struct list link; /* in sched.jobs, from sched_run to its end */
	struct vol *v;
	struct leg *to;
	uint32_t segment;
	unsigned pos;
	unsigned left;   /* copies of the segment that are in sync and up: the fewer, the more endangered */
	struct repl_region *regions;
	size_t n, next;
	uint32_t running;
	int status;
};

struct vol_sched {
	struct env *e;
	struct vol_ctx *x;
	uint32_t vols;
	struct list disks, jobs;
	struct list waiting;   /* volumes that were not admitted */
	uint32_t admitted[8];  /* jobs by copies left */
	uint32_t njobs;
	uint32_t running;      /* copies */
	uint64_t inflight;     /* bytes of them */
	struct pace pace;
	struct env_timer timer; /* the next copy, when it has to wait */
	struct env_timer tick;  /* of the pace, while there are jobs */
	void *bufs;            /* free buffers of COPY_MAX bytes, the next in the first word of each */
};

/* The cluster's scheduler; made by the first volume, gone with the last. NULL: out of memory. */
struct vol_sched *sched_get(struct vol_ctx *x);
void sched_put(struct vol_sched *s);
struct disk_load *sched_disk(struct vol_sched *s, const struct uuid *disk);
void sched_disk_put(struct disk_load *d);

/* May the volume begin one more job, for a segment with so many copies left? False: its `changed` is signalled
 * when it is worth asking again. Each admission is given back once. */
bool sched_admit(struct vol *v, unsigned left);
void sched_release(struct vol *v, unsigned left);
void sched_forget(struct vol *v); /* it waits no longer */

/* From a fiber: copies what is in the job's list; 0, or why it was given up. */
int sched_run(struct copy_job *j);
/* A user's request took so long. */
void sched_sample(struct vol *v, const struct vol_io *io, uint64_t ns);
/* Something changed that copies may have waited for. */
void sched_kick(struct vol_sched *s);

/* copy.c: n regions behind each other, from a fiber of its own. */
int copy_run(struct copy_job *j, const struct repl_region *r, uint32_t n);

void *sched_buf(struct vol_sched *s);
void sched_buf_put(struct vol_sched *s, void *buf);

#endif
