/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this floor share. Words:
 *   leg    one disk of the volume, as the writer sees it: a connection, a handle, a state
 *   pos    a position 0..n-1 in a segment's replica group
 *   piece  the part of a request that lies in one segment; what is ordered, sent and acknowledged
 *
 * Who owns what: io.c the pieces (io_read.c and io_write.c their two kinds), leg.c the connections
 * (leg_call.c what is sent), sync.c the in-sync set in the store, sync_map.c the map there, lease.c the
 * lease, resync.c who needs a copy, sched.c which goes next, copy.c copying, settle.c what was in flight when
 * the last writer died, mend.c damaged blocks, attach.c the beginning and the end.
 */
#ifndef VOLUME_IMPL_H
#define VOLUME_IMPL_H

#include <stdio.h>

#include "base/since.h"
#include "base/uuid.h"
#include "cache/cache.h"
#include "env/fiber.h"
#include "env/mark.h"
#include "replica/replica.h"
#include "replica/replica_proto.h"
#include "volume/sched.h"
#include "volume/volume.h"

#define LOG_SUB "volume"

/* Keys without a record type: volwant/<uuid> (who wants a volume that a repair holds; ends by itself) and tomb/<uuid> (deleted:
 * disks drop what they hold of it); values are names, for people. */
#define PREFIX_VOLWANT "volwant/"
#define PREFIX_TOMB "tomb/"
#define PREFIX_STRAY "stray/" /* <volume>/<disk>: stray.c */

#define VOL_LEASE_TTL (6 * NS_PER_S)
#define VOL_WRITE_TIMEOUT (5 * NS_PER_S)
#define VOL_REBUILD_DELAY (600 * NS_PER_S)
#define VOL_READ_TIMEOUT (500 * NS_PER_MS)
#define VOL_REBUILD_IMPACT 200u
#define VOL_LEGS_MAX 1024u
/*
 * No number is ever given out twice, also not one that nobody left knows of: copy.c and the read cache rely on it. Each
 * generation's numbers begin at its floor, above all that those before gave out. Where that has no room (0), or a writer
 * came past the next floor, a gap is left to the highest number found.
 */
#define VOL_SEQ_GAP (UINT64_C(1) << 32)
static inline uint64_t vol_seq_floor(uint64_t generation)
{
	return repl_seq_floor(generation);
}

/*
 * What a position holds. Only POS_IN is read from. From POS_PENDING on no write is acknowledged without
 * it: the store may already count on it, whether we have heard so or not.
 */
enum pos_state {
	POS_OUT,     /* stale, or new and empty */
	POS_SYNCING, /* gets every new write; what it missed is being copied */
	POS_SYNCED,  /* has everything, as long as its leg stays up */
	POS_PENDING, /* the transaction that takes it into the set is under way */
	POS_IN,
};

#define POS_MARK(v, what, pos) ENV_MARK_STATE((v)->e, what ":out,syncing,synced,pending,in", pos, 5)

static inline bool vol_mutated(const struct vol_ctx *x, uint32_t what)
{
	return x->mutate & what;
}

/*
 * The copies of one segment. A position keeps its index as long as its disk has the segment; when the copy goes away a
 * hole is left (leg LEG_NONE, pos POS_OUT), which a later copy may take. So whoever parks looks at seg_leg() again.
 */
#define SEG_POS_MAX 8u
#define LEG_NONE UINT16_MAX
_Static_assert(SEG_POS_MAX > REC_COPIES_MAX, "holes rest for a while");

struct seg {
	uint8_t n;                     /* positions, holes too */
	uint8_t busy;                  /* bit per position: a job is copying to it */
	uint16_t users;                /* requests of fibers under way to any of its legs (leg_read, leg_regions) */
	uint16_t dropping;             /* drops under way: no copying to it meanwhile */
	uint16_t leg[SEG_POS_MAX];
	uint8_t pos[SEG_POS_MAX];      /* enum pos_state */
	bool joining[SEG_POS_MAX];     /* as in the store: holds nothing from before */
	bool missed[SEG_POS_MAX];      /* out, and a write was acknowledged that it should have had, or one failed that it may have */
	struct list pieces;                 /* active and waiting, in the order of arrival */
};

enum leg_state {
	LEG_DOWN,
	LEG_OPENING,
	LEG_UP,
};

struct leg {
	struct vol *v;
	uint16_t idx;
	struct uuid disk;
	char node[HCI_NAME_MAX];
	bool local;         /* our own node's */
	enum leg_state state;
	bool used;          /* some segment has it */
	bool out;           /* the store says it is out of the set (left_seq, since), be it used or not */
	bool suspect;       /* lost contact or failed while in the set: leaves if other copies are up */
	bool leaving;       /* chosen to leave by the transaction under way */
	uint64_t left_seq;
	struct since out_for;   /* how long it is out */
	uint64_t down_since;    /* env_now(), 0 when up */
	uint64_t retry_at;
	uint64_t acked_max;     /* highest seq it acknowledged to us: it must still have it when it returns */
	uint64_t stable_told;   /* to it */
	struct rpc_conn *conn;
	uint32_t handle;
	struct repl_slot_state at_open;
	struct list ops;        /* struct leg_op sent and not answered */
	uint32_t nops;
	struct fiber_cond changed;
	bool running;           /* its fiber lives */
	int last_status;
	char why[sizeof(((struct hci_error *)0)->message)]; /* it could not be opened, the last time */
	bool lost_writes;       /* came back without what it had acknowledged */
	uint64_t tries, ups;    /* attempts to open it, and those that went well */
	uint64_t heal_at, replace_at; /* not before: after a failure */
	bool homeless;          /* others were to take over from it, and there was none that could; until it is up */
	uint32_t segments;      /* copies on it, when reconf.c counted last */
	bool evacuating;        /* likewise */
	uint64_t rotten_at;     /* when to ask next what its scrub has found */
	bool rotten_heard;      /* it was asked since it came up */
	struct disk_load *load; /* of its disk, shared by all volumes */
	uint8_t token[REPL_TOKEN]; /* with which others may read there for us */
	bool lends;                /* there is one */
	uint64_t pull_at, pull_wait; /* to it, copies are not pulled before; ns until the next attempt after one that failed */
	uint16_t turn;          /* of resync.c */
};

enum piece_kind { PIECE_IO, PIECE_LOCK };

struct piece {
	struct list seg_link;   /* in seg.pieces */
	struct list flight;     /* writes: in vol.flight, in order of seq; reads: in vol.reads, in order of sent_at */
	struct list stall;      /* in vol.stalled: waits for a leg, the lease, or space */
	struct vol *v;
	struct vol_io *io;
	enum piece_kind kind;
	enum vol_io_op op;
	uint32_t segment;
	uint64_t off, len;
	uint8_t *buf;
	uint64_t seq;
	bool active;
	bool wanted[SEG_POS_MAX]; /* sent, or to be sent, to this position */
	bool acked[SEG_POS_MAX];
	bool nospace[SEG_POS_MAX];
	uint32_t open_ops;             /* leg_ops in flight for it */
	uint16_t round;                /* writes: sent anew with other sums */
	uint8_t *own;                  /* the copy that is sent then */
	/* reads */
	uint16_t tried;                /* bit per position that failed, or has not answered */
	uint64_t sent_at;
	struct leg_op *asked[2];       /* the first, and the one after read_timeout */
	uint8_t *spare;                /* where the second one's answer goes */
	uint8_t answered;              /* by asked[answered - 1]; 0: not yet */
	uint8_t answered_by;           /* the position */
	bool damaged;                  /* the answer does not fit its sums */
	/* PIECE_LOCK */
	struct fiber *fiber;
	/* vcache.c */
	bool cache_asked;
	uint8_t *asked_buf;            /* the caller's, when the read was widened; off, len, buf are wider then */
	uint64_t asked_off, asked_len;
	union {
		struct cache_read read;
		struct cache_write write;
	} cached;
	/* Of each block of a write, made when it came in; the last member: only the used part is ever touched. */
	uint32_t sums[REPL_IO_MAX / HCI_BLOCK];
};

struct leg_op {
	struct rpc_call call;
	struct list link; /* in leg.ops */
	struct leg *leg;
	struct piece *piece;
	uint8_t pos;
	uint16_t round;
	uint64_t seq;
	uint64_t sent_at; /* reads */
};

#define MEND_LOST 64u

struct vol {
	struct vol_ctx *x;
	struct env *e;
	struct rec_volume rec;
	struct rec_volsync *sync;
	uint64_t sync_rev;
	uint64_t gen;
	uint64_t lease, lease_ttl, lease_deadline;
	struct vol_attach_opts opts;
	struct rec_volatt att;
	bool ready, draining, closing, fenced, abandoned;
	struct leg **legs;
	uint32_t nlegs;
	struct leg none; /* of holes: never up */
	struct disk_load none_load;
	struct seg *segs;
	uint32_t nsegs;
	uint64_t seq;           /* last one given out */
	struct list flight;     /* active writes in order of seq */
	struct list stalled;
	struct list reads;      /* sent, by sent_at: those that wait for read_timeout */
	uint64_t read_timeout;  /* as are those below: what is in force, of settings.c */
	uint32_t rebuild_impact;
	struct env_timer hedge_timer;
	bool recheck;           /* for the kick: look at all writes in flight */
	uint32_t waiting_stable; /* copies that wait for the writes before them */
	struct env_task kick;   /* retries stalled pieces, completes failed requests */
	struct env_timer stall_timer, stable_timer;
	uint64_t stable_told;
	uint64_t open_ios;
	struct list failed_ios; /* to be completed from the kick task */
	struct list free_pieces, free_ops;
	struct fiber_mutex set_lock; /* one change of the set at a time */
	struct fiber_cond changed;   /* legs, set, flight: whoever waits looks again */
	uint32_t fibers;
	struct vol_sched *sched;
	struct list heal_wait;  /* in sched.waiting */
	unsigned heal_left;     /* with so many copies left */
	uint32_t heal_jobs;
	uint64_t join_at;
	struct list strays;     /* of stray.c */
	bool strays_known;      /* the store was asked for them */
	bool set_fiber;         /* the fiber that takes legs out is running or about to */
	struct reconf *reconf;
	struct cache_vol *cache; /* NULL: not cached */
	vol_written_fn *written;
	void *written_arg;
	struct vol_status st;
	struct list mend;            /* regions with damaged blocks: struct mend_region */
	uint32_t nmend;
	struct mend_lost {
		uint32_t segment, region;
		uint64_t until;
	} lost[MEND_LOST]; /* regions that no replica has right, the latest ones; tried again after that */
	unsigned nlost; /* places taken in turn */
	bool mending;                /* its fiber runs */
	struct metric *m_read, *m_write, *m_resync, *m_mended, *m_lost, *m_hedged;
};

/* io.c */
void io_leg_up(struct leg *l);           /* send it what it must still get */
void io_recheck(struct vol *v);          /* the set or a leg changed: soon look at all that waits */
void io_op_done(struct leg_op *op);
void io_mended(struct piece *p, int status); /* the read is over: the end of mend_piece() */
uint64_t io_stable(const struct vol *v); /* all writes up to here are complete */
/* Nobody writes the range until io_unlock. Parks. NULL: out of memory. */
struct piece *io_lock(struct vol *v, uint32_t segment, uint64_t off, uint64_t len);
void io_unlock(struct piece *p);
/* The position gets every write from now on. Those in flight it does not: wait for them. */
void io_sync_begin(struct vol *v, uint32_t segment, unsigned pos);
/* The position missed nothing: it gets the writes in flight too, and they wait for it. */
void io_readmit(struct vol *v, uint32_t segment, unsigned pos);
/* Is a write of this segment up to seq still in flight? */
bool io_in_flight(struct vol *v, uint32_t segment, uint64_t seq);
void io_init(struct vol *v);
void io_fini(struct vol *v);

/* leg.c */
struct leg *leg_find(struct vol *v, const struct uuid *disk);
int leg_add(struct vol *v, const struct uuid *disk, struct leg **out);
int leg_start(struct leg *l); /* its fiber: connects, opens, reconnects */
void leg_fail(struct leg *l, int status, const char *why);
void leg_stop_all(struct vol *v);
void leg_free(struct leg *l);
/* Sends a write to the leg at this position. False when memory is short (treated as a failed leg). */
bool leg_send(struct leg *l, struct piece *p, uint8_t pos);
/* The sums that a reply to READ carries; false when it is not as it should be. */
bool leg_reply_sums(const struct rpc_call *c, uint64_t len, uint32_t *sums);
/* The same of a read, whose data go to `into`. NULL: no memory. */
struct leg_op *leg_send_read(struct leg *l, struct piece *p, uint8_t pos, void *into);
/* From a fiber: one request to the leg, with its status. buf: payload to write or to fill. */
/* With the sums that the data should have: the caller compares. flags: REPL_F_VERIFY */
int leg_read(struct leg *l, uint32_t segment, uint64_t off, void *buf, uint32_t len, uint32_t flags, uint32_t *sums);
/* flags: REPL_F_SETSEQ, REPL_F_ASIS */
int leg_copy_in(struct leg *l, uint32_t segment, uint64_t off, const void *buf_or_null, uint32_t len, uint64_t seq,
		uint32_t flags, const uint32_t *sums);
/* The leg fetches whole regions from where `from` is. 0: it has them, durably. HCI_E_UNAVAILABLE, HCI_E_UNSUPPORTED,
 * HCI_E_CORRUPT: it has not and will not, for reasons that need not be its own; others as leg_copy_in(). */
int leg_pull(struct leg *l, struct leg *from, uint32_t segment, uint64_t off, uint32_t len, uint64_t seq, uint32_t flags);
int leg_regions(struct leg *l, uint64_t since, uint32_t segment, struct repl_region **out, size_t *n);
/* The first segment from *segment on that the disk holds something of. HCI_E_NOTFOUND: there is none. */
int leg_next_segment(struct leg *l, uint32_t *segment);
/* From a fiber: what its scrub has found damaged is queued for repair. HCI_E_AGAIN: there is more than fits in the queue now. */
int leg_rotten(struct leg *l);
void leg_tell_stable(struct leg *l, uint64_t stable);
void leg_tell_close(struct leg *l);

/* sync.c */
void sync_check(struct vol *v);          /* takes suspect legs out of the set if that is possible now */
int sync_leave_now(struct vol *v, uint64_t stable, struct hci_error *err); /* the same at attach, waiting for it */
int sync_rejoin(struct leg *l, struct hci_error *err);                  /* copied: out -> in-sync, durable */
int sync_forget_unused(struct vol *v, struct hci_error *err); /* out entries of disks that no segment has any more */
bool sync_has_unused(const struct vol *v);
void sync_fenced(struct vol *v, const char *why);

/* sync_map.c */
/*
 * Reads a chunk of the map, lets fn change it, writes it back if it and volsync are unchanged, and brings memory up to
 * what the store has then; tries that until the store answers. fn runs with set_lock held and must not park.
 */
typedef bool map_change_fn(struct vol *v, uint32_t segment, struct rec_segment *r, void *arg);
int sync_map_change(struct vol *v, uint32_t chunk, map_change_fn *fn, void *arg, struct hci_error *err);
int sync_joined(struct vol *v, uint32_t chunk, struct hci_error *err);  /* SYNCED joining positions of a chunk */
int sync_replace(struct vol *v, uint32_t chunk, struct leg *bad, uint32_t *moved, struct hci_error *err);

/* settings.c */
void settings_take(struct vol *v, const struct rec_volume *r); /* the record has changed */
void settings_refresh(struct vol *v); /* the pool's may have; does not park */
uint64_t settings_rebuild_delay(const struct vol *v);

/* lease.c */
int lease_start(struct vol *v);          /* the fiber that keeps it */

/* mend.c */
/* The leg has a block of that region damaged. It is repaired soon. */
void mend_queue(struct vol *v, uint32_t segment, uint32_t region, const struct leg *l);
bool mend_has_room(const struct vol *v, uint32_t n); /* for n more */
void mend_kick(struct vol *v);
/* A read that met with damaged blocks at this position goes on by itself. False: no memory. */
bool mend_piece(struct piece *p, uint8_t pos);
/*
 * From a fiber: reads from the position, and what does not fit from others of the set; queues what is damaged.
 * HCI_E_CORRUPT: buf has all but some blocks that nobody has right; sums are those that they should have.
 */
int mend_read(struct vol *v, uint32_t segment, unsigned from, uint64_t off, void *buf, uint32_t len, uint32_t flags,
	      uint32_t *sums);
/* The second half of it: buf and sums are what `from` has. */
int mend_fill(struct vol *v, uint32_t segment, unsigned from, uint64_t off, void *buf, uint32_t len, uint32_t *sums);
void mend_fini(struct vol *v);

/* reconf.c */
int reconf_start(struct vol *v, struct hci_error *err);
void reconf_stop(struct vol *v);

/* resync.c */
int resync_start(struct vol *v);
unsigned seg_copies_left(struct vol *v, uint32_t segment); /* whole and up, taken into the set or about to be */

/* stray.c */
void key_stray(char out[REC_KEY], const struct uuid *volume, const struct uuid *disk_or_null);
/* The disk may hold copies that the map has not any more; the store says so as well. False: no memory. */
bool stray_note(struct vol *v, const struct uuid *disk);
void stray_run(struct vol *v);
void stray_fini(struct vol *v);

/* settle.c */
int resync_settle(struct vol *v, struct hci_error *err);

/* copy.c */
uint32_t seg_best_source(struct vol *v, uint32_t segment, int not_pos); /* position that is in and up, or UINT32_MAX */
/* The one for the same region in an ascending list, or NULL. */
const struct repl_region *region_at(const struct repl_region *a, size_t n, const struct repl_region *key);
/* The union of two lists; of a region in both the larger seq stays. Frees both. */
int region_union(struct repl_region *a, size_t na, struct repl_region *b, size_t nb, struct repl_region **out, size_t *n);
/* Length of a region in bytes: the last one may be cut by the segment's end, never by the volume's. */
uint32_t region_len(const struct vol *v, uint32_t region);
/* The regions that the position must get: what source or target wrote after L, and an earlier copy did not bring. */
int list_missed(struct vol *v, uint32_t segment, unsigned pos, struct repl_region **out, size_t *n);
/* Whole regions from a position to a leg; seq as the target shall remember it. */
int copy_regions(struct vol *v, unsigned from, struct leg *to, uint32_t segment, uint64_t off, uint32_t len, void *buf,
		 uint64_t seq);

/* vcache.c */
void vcache_attach(struct vol *v);        /* settled, before the first request */
void vcache_widen(struct piece *p);       /* before it is ordered */
bool vcache_read(struct piece *p);        /* true: the cache answers, or sends it on to the replicas */
void vcache_fill(struct piece *p);        /* a replica answered */
bool vcache_narrow(struct piece *p);      /* it was widened: it begins anew as it was asked for */
void vcache_write_begin(struct piece *p); /* it has its number and was sent to nobody */
void vcache_end(struct piece *p, int status);

/* map.c */
/* Segments up to the n-th, all or none of them. Parks. */
int map_load(struct vol *v, uint32_t n, struct hci_error *err);
/* Memory follows the store for one chunk: replicas that moved or joined. set_lock is held. */
int map_refresh(struct vol *v, uint32_t chunk, struct hci_error *err);
uint32_t map_segments(const struct rec_volume *r);
/* The position of a disk in a segment, -1: none. */
int map_pos(struct vol *v, const struct seg *s, const struct uuid *disk);
/* Whoever chose a disk for a copy did so before he had the lock: is it still none of those that have one, nor on the node
 * of one? except: the copy that is to go, may be NULL. */
bool map_takes(struct vol *v, const struct rec_segment *r, const struct uuid *disk, const struct uuid *except);

static inline struct leg *seg_leg(struct vol *v, const struct seg *s, unsigned pos)
{
	return s->leg[pos] == LEG_NONE ? &v->none : v->legs[s->leg[pos]];
}

/* The end of a fiber of the volume: vol_detach waits for the count. */
static inline void vol_fiber_end(struct vol *v)
{
	v->fibers--;
	fiber_cond_signal(v->e, &v->changed);
}

/* A repair attachment goes when somebody says that he wants the volume (attach.c). */
void vol_want(struct vol_ctx *x, const struct uuid *id);

#endif
