/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this floor share. Words:
 *   vol     what the disk holds of one volume; a struct repl_slot is one opening of it
 *   seg     one segment: two files and, in memory, its region tables and index
 *   node    the index of one region: which of its 16 blocks are in the log, and where
 *   frame   4 KiB of memory with a block that is in the log, so that it need not be read back
 *   sums    a page of checksums, of 62 regions; in memory while it is of use
 *   pass    one round of write-back: data, region tables, slot records, then the log's tail
 *
 * Who owns what: log.c the queue, batch.c the batches, direct.c writes that pass the log, index.c nodes and frames, segment.c files and
 * region tables, sums.c the checksums, read.c reads, writeback.c the passes (wb_take.c what they take, wb_data.c and
 * wb_back.c their data, wb_tables.c their tables), throttle.c the pace of writers, recover.c the way
 * back from the medium, slot.c openings and the fence, drop.c forgetting, space.c what is left,
 * logfile.c where the log is, disk.c the rest.
 */
#ifndef REPLICA_IMPL_H
#define REPLICA_IMPL_H

#include "env/mark.h"
#include "replica/in_memory.h"

#define LOG_SUB "replica"

/* disk.c */
/* Declares the disk failed, once; returns HCI_E_IO. what: of which file, for the message. */
int disk_fail(struct repl_disk *d, int os_errno, const char *what);
int super_write(struct repl_disk *d, uint32_t flags);
char *disk_path(struct repl_disk *d, const char *name); /* mem_free */
/* An error of the disk as a whole; returns its code. */
int disk_sys_error(const struct repl_disk *d, int rc, const char *what, struct hci_error *err);

/* A control call is in here: closing waits for its end. */
void disk_enter(struct repl_disk *d);
void disk_leave(struct repl_disk *d);

/* logfile.c */
/* How large the log will be; log: o->log_path, NULL for one in `disk`. */
int logfile_size(struct env *e, const char *disk, const struct repl_disk_opts *o, uint64_t *size, struct hci_error *err);
/* Makes it, empty: the first batch will be number lsn. */
int logfile_make(struct env *e, const char *disk, const struct repl_disk_opts *o, uint64_t size, uint64_t epoch,
		 uint64_t lsn, struct hci_error *err);
/* Removes the log of that disk, if there is one where o has its logs. */
void logfile_forget(struct env *e, const char *disk, const struct repl_disk_opts *o, const struct uuid *of);
/* Opens the log that belongs to d->super, as replica.h says of repl_disk_open(). */
int logfile_open(struct repl_disk *d, const struct repl_disk_opts *o, struct hci_error *err);

/* log.c */
int log_init(struct repl_disk *d);
void log_fini(struct repl_disk *d);
void log_fail_all(struct repl_disk *d);
void log_tell(struct repl_disk *d); /* the done() of all that is over */
void op_init(struct repl_op *op);
void op_finish(struct repl_disk *d, struct repl_op *op, int status);
/* more: blocks of the file system that it takes besides. */
int log_admit(struct repl_disk *d, struct repl_op *op, uint32_t more);
void log_unadmit(struct repl_disk *d, struct op_priv *p);
/* From a fiber: appends a control entry and waits until it is durable and applied. */
int log_control(struct repl_disk *d, struct ctl *c);

/* batch.c */
void log_kick(struct repl_disk *d); /* makes batches of what is queued, as far as may be */
void log_remember(struct repl_disk *d, const struct logf_hdr *h); /* of the newest batch */
int batch_init(struct repl_disk *d);
void batch_fini(struct repl_disk *d);

/* direct.c */
/* Takes the op at the head of the queue, if it can pass the log; it comes back to the head of the queue with
 * DIRECT_DONE, or DIRECT_NOT. */
bool direct_take(struct repl_disk *d, struct repl_op *op);
bool direct_blocks(const struct repl_op *op); /* it has to wait for one on its way */
void direct_keep(struct repl_disk *d); /* marks the nodes of which the pass that begins now must not punch the other side */
void direct_forget(struct seg *s); /* it was dropped: what was written for the queue is of no use, it takes the usual way */
void direct_opened(struct repl_op *op); /* the files it waited for are open, or cannot be */
void direct_fini(struct repl_disk *d);

/* throttle.c */
void throttle_init(struct repl_disk *d);
void throttle_fini(struct repl_disk *d);
uint32_t throttle_level(const struct repl_disk *d);   /* in blocks */
unsigned throttle_urgency(const struct repl_disk *d); /* of write-back, 0..100 */
/* A node comes to disk.dirty, leaves it. */
void throttle_list(struct repl_disk *d, struct node *n);
void throttle_unlist(struct repl_disk *d, struct node *n);
/* A pass takes the snap's blocks; those that still are where it found them go back, or leave the log. */
void throttle_take(struct repl_disk *d, const struct snap *sn);
void throttle_untake(struct repl_disk *d, const struct snap *sn);
/* A block's place changes from one to the other. */
void throttle_block(struct node *n, unsigned i, uint32_t loc);
/* A pass begins; will write so many blocks, a step each; finds more steps to do; does some; is over. */
void throttle_pass_begin(struct repl_disk *d);
void throttle_pass_takes(struct repl_disk *d, uint64_t blocks);
void throttle_steps(struct repl_disk *d, uint32_t more);
void throttle_progress(struct repl_disk *d, uint32_t steps);
void throttle_pass_end(struct repl_disk *d, bool ok);
/* How many blocks the next batch may have; 0: none yet, log_kick() is called when it is time. */
uint32_t throttle_budget(struct repl_disk *d);
void throttle_freed(struct repl_disk *d, uint32_t blocks); /* the tail has moved over them */
/* Regions are moved as a whole, which pays where a stroke below costs more than reading from the log: its medium is another one. */
static inline bool wb_whole(const struct repl_disk *d)
{
	return d->super->flags & SUPER_EXT_LOG;
}
bool throttle_steady(const struct repl_disk *d); /* write-back goes on below the level */
void throttle_took(struct repl_disk *d, uint32_t blocks);

/* ring.c: places in the log */
bool ring_place(const struct ring *r, uint32_t blocks, uint32_t keep, uint32_t *pos);
int ring_reserve(struct ring *r); /* memory for one more; HCI_E_NOMEM */
void ring_take(struct ring *r, uint32_t pos, uint32_t blocks); /* the next lsn is there */
void ring_release(struct ring *r, uint64_t tail_lsn);
uint32_t ring_pos_of(const struct ring *r, uint64_t lsn); /* head for next_lsn */
uint32_t ring_used(const struct ring *r);
static inline uint32_t ring_dist(const struct ring *r, uint32_t pos) /* from the tail */
{
	return pos >= r->tail ? pos - r->tail : r->blocks - r->tail + pos;
}
uint64_t ring_after(const struct ring *r, uint64_t from, uint32_t blocks); /* the first lsn so far behind that one, or applied + 1 */
static inline uint64_t ring_off(uint32_t block)
{
	return RING_OFF + (uint64_t)block * HCI_BLOCK;
}

/* index.c */
bool index_promise(struct repl_disk *d, uint32_t n);
void index_unpromise(struct repl_disk *d, uint32_t n);
struct node *index_node(const struct seg *s, uint32_t region);
/* Room in the tables for the regions of [block, block + n). */
int seg_prepare(struct seg *s, uint32_t block, uint32_t n);
/* n blocks are in the ring from pos on; data NULL: not in memory (recovery). */
int index_write(struct seg *s, uint32_t block, uint32_t n, uint32_t pos, const uint8_t *data,
		const uint32_t *sums, uint64_t lsn);
/* Whole regions that are in the segment file, on that side. */
/* known: what the tables say of the other side is so (not while the log is replayed). */
int index_direct(struct seg *s, uint32_t block, uint32_t n, unsigned side, const uint32_t *sums, uint64_t lsn, bool known);
bool index_all_direct(const struct node *n); /* nothing but what a write that passed the log left */
int index_zero(struct seg *s, uint32_t block, uint32_t n, uint64_t lsn);
void index_seq(struct seg *s, uint32_t block, uint32_t n, bool zero, uint64_t seq, bool set);
void index_valid(struct seg *s, uint32_t region, uint16_t mask);
void index_page_dirty(struct seg *s, struct mpage *p, uint64_t lsn);
/* Blocks of the file system that a write of these would newly take. */
uint32_t index_new_blocks(const struct seg *s, uint32_t block, uint32_t n);
void index_forget_seg(struct seg *s); /* all nodes, but for those that the pass has */
void index_node_done(struct node *n, uint64_t lsn,
		     struct list *before);                    /* the pass is over for it */
void index_node_requeue(struct node *n, struct list *before); /* the pass failed */
void index_trim(struct repl_disk *d);                         /* gives memory back when idle */
void index_fini(struct repl_disk *d);
void frame_put(struct repl_disk *d, uint8_t *f);
static inline uint16_t seg_valid(const struct seg *s, uint32_t region)
{
	const struct mpage *p = s->pages[region / MAP_REGIONS];

	return p ? p->valid[region % MAP_REGIONS] : 0;
}

static inline unsigned seg_side(const struct seg *s, uint32_t region)
{
	const struct mpage *p = s->pages[region / MAP_REGIONS];
	unsigned i = region % MAP_REGIONS;

	return p ? p->side[i / 8] >> (i % 8) & 1u : 0;
}
static inline uint64_t seg_place(const struct seg *s, unsigned side, uint64_t off)
{
	return (side ? s->vol->segsize : 0) + off;
}
/* Where a block is in the segment file. */
static inline uint64_t seg_off(const struct seg *s, uint32_t block)
{
	return seg_place(s, seg_side(s, block / REGION_BLOCKS), (uint64_t)block * HCI_BLOCK);
}

/* sums.c */
static inline uint32_t sums_page(uint32_t region)
{
	return region / SUM_REGIONS;
}
/* Of a block of the segment; its page must be in memory. */
static inline uint32_t *sums_at(const struct seg *s, uint32_t block)
{
	struct sums *x = s->sums[block / SUM_BLOCKS];

	return &x->sum[block % SUM_BLOCKS];
}
static inline bool sums_ready(const struct seg *s, uint32_t page)
{
	return s->sums[page] && s->sums[page]->ready;
}
static inline uint64_t sums_off(const struct seg *s, uint32_t page)
{
	return ((uint64_t)s->npages + page) * PAGE_PAIR;
}
/* The files are open. Starts to bring a page in, if it is not there; NULL: no memory. */
struct sums *sums_want(struct seg *s, uint32_t page);
int sums_lost(struct seg *s, uint32_t page, uint64_t serial, bool both); /* nothing counts of what was parsed; -errno */
/* The read goes on when the page is there. */
void sums_wait_read(struct sums *x, struct repl_op *op);
void sums_touch(struct sums *x);
/* From a fiber, which holds it: until it is there. -errno. */
int sums_wait(struct sums *x);
void sums_hold(struct sums *x);
void sums_put(struct sums *x);
void sums_trim(struct repl_disk *d); /* down to what is allowed */
void sums_fill_page(const struct sums *x, struct sum_page *out);
void sums_free_seg(struct seg *s);
/* What the pair says, and what is wrong with it; *both: there is nothing left. Changes the pair. */
enum page_damage sums_parse(const struct seg *s, uint32_t page, uint8_t *pair, uint32_t *out, uint64_t *serial, uint64_t *side,
			    bool *both);

/* segment.c */
struct seg *seg_find(const struct vol *v, uint32_t no);
struct seg *seg_get(struct vol *v, uint32_t no); /* made if need be; NULL: no memory */
void seg_real(struct seg *s);
void seg_dirty(struct seg *s);
void seg_unref(struct seg *s);
void seg_free(struct repl_disk *d, struct seg *s); /* from a fiber: closes its files */
int seg_open_files(struct seg *s, bool create);    /* from a fiber; -errno */
void seg_want_file(struct seg *s, struct repl_op *op);
void seg_opener(void *disk); /* a fiber */
void seg_close_some(struct repl_disk *d, uint32_t keep);
char *seg_path(const struct seg *s, const char *suffix);
static inline uint32_t seg_blocks(const struct seg *s)
{
	return (uint32_t)(s->vol->segsize / HCI_BLOCK);
}
uint32_t seg_files_blocks(uint64_t segsize);
static inline uint64_t seg_map_bytes(const struct seg *s)
{
	return ((uint64_t)s->npages + s->nsums) * PAGE_PAIR;
}

/* slot.c */
int slot_note_drop(struct repl_slot *s, uint32_t segment);
bool slot_has_dropped(const struct repl_slot *s, uint32_t segment);

/* vol.c */
struct vol *vol_find(struct repl_disk *d, const struct uuid *u);
struct vol *vol_new(struct repl_disk *d, const struct uuid *u, uint64_t segsize);
void vol_put(struct vol *v);
void vol_free(struct vol *v);
char *vol_path(const struct vol *v, const char *name);
int vol_write_meta(struct vol *v); /* from a fiber; -errno */
bool op_stale(const struct repl_op *op, int *status);
static inline bool vol_real(const struct vol *v)
{
	return v->gen > 0;
}

/* read.c */
void read_submit(struct repl_op *op);
void read_go(struct repl_op *op);
void read_behind(struct repl_op *op, struct list *last);
bool readers_gone(const struct repl_disk *d, uint64_t begun); /* the first so many */
void readers_wait(struct repl_disk *d); /* until all reads of before are over; one at a time */
void read_fini(struct repl_disk *d);

/* drop.c */
void drop_apply(struct vol *v, uint32_t segment); /* in the order of the log */
int drop_unlink(struct repl_disk *d);             /* from a fiber, under wb_lock; -errno */
bool drop_blocks(const struct vol *v,
		 uint32_t segment); /* files of that name are still to be removed */
void seg_detach(struct seg *s);

/* load.c */
/* What users ask for; not copies, nor what the disk does by itself. */
static inline void load_count(struct seg *s, const struct repl_op *op)
{
	if (op->flags & (REPL_F_BACKGROUND | REPL_F_LENT | REPL_F_SETSEQ))
		return;
	s->load.ops++;
	s->load.bytes += op->kind == REPL_ZERO ? 0 : op->len;
}

/* space.c */
bool space_has(const struct repl_disk *d, uint64_t blocks);
int space_refresh(struct repl_disk *d); /* from a fiber */

/* writeback.c */
struct wb;
void wb_fiber(void *disk);
int wb_pass(struct repl_disk *d); /* under wb_lock; -errno */
bool wb_records_lag(struct repl_disk *d);
int wb_take(struct repl_disk *d, struct wb *w, const struct list *end); /* the snapshots of a pass; -errno */
int wb_checkpoint(struct repl_disk *d, uint64_t tail_lsn);

int wb_sync(struct wb *w, bool maps); /* files of the segments that the pass has touched; -errno */

/* wb_tables.c */
int wb_write_tables(struct repl_disk *d, struct wb *w); /* and checksums; -errno */

/* wb_data.c */
struct snap {
	struct node *node;
	uint32_t loc[REGION_BLOCKS];
	uint32_t sum[REGION_BLOCKS];
	uint8_t *mem[REGION_BLOCKS];
	uint16_t written, filed,
		cleared; /* blocks that the pass put in the file, that were there, that are zeroes from now on */
	bool part;       /* blocks of the node that lie further on in the log were left out */
	bool direct;     /* of the node */
	bool kept;       /* its other side must not be punched */
};
struct wb {
	struct repl_disk *d;
	struct snap *snaps;
	uint32_t n, cap;
	struct list segs; /* touched */
	struct sums **sums; /* held by the pass */
	uint32_t nsums, sums_cap;
	uint32_t sums_seen; /* the first so many have been waited for */
	uint64_t blocks; /* that it moves */
	uint32_t most;   /* that it would move, in blocks: also of what is read back for it at once */
	struct list rest; /* in disk.dirty: before it comes what the pass left out, which is no older than rest_lsn */
	uint64_t rest_lsn;
	struct back *backs; /* wb_back.c */
	uint32_t nbacks;
	uint64_t tail; /* what is older will be in the tables */
	uint32_t inflight;
	int err; /* -errno, the first */
	bool again; /* pages of which the other place has to be healed as well */
	struct fiber_cond cond;
	struct list free_units, free_ios;
	uint32_t nunits;
};
int wb_write_data(struct wb *w); /* all snaps; -errno */
uint32_t wb_depth(const struct repl_disk *d); /* requests in flight beside those of users */
/* wb_back.c: of the snaps, what is in the log only; between the first two wb_back() tells where. */
int wb_read_back(struct wb *w); /* -errno */
void wb_back_free(struct wb *w);
const uint8_t *wb_back(const struct wb *w, uint32_t loc);
/* Submits and returns; wb_wait waits for all. */
int wb_io(struct wb *w, enum env_io_op op, struct env_file *f, void *buf, uint64_t len,
	  uint64_t off); /* takes buf over */
int wb_read(struct wb *w, struct env_file *f, void *buf, uint64_t len, uint64_t off); /* does not */
int wb_wait(struct wb *w);
struct sums *wb_sums(struct wb *w, struct seg *s, uint32_t page); /* begins to bring it in, and holds it; parks; NULL: no memory */
struct wb *wb_new(struct repl_disk *d);
void wb_free(struct wb *w);

/* scrub.c */
void scrub_init(struct repl_disk *d);
void scrub_fini(struct repl_disk *d);
void scrub_fiber(void *disk);
void scrub_forget(struct repl_disk *d, const struct uuid *volume, uint32_t segment); /* LOGF_ALL: of all; it is dropped */
uint64_t seg_bytes(const struct seg *s); /* slot.c; regions are given room as a whole */

/* rebuild.c */
int rebuild_valid(struct seg *s, uint32_t page, bool lost); /* from a fiber: valid bits from the checksums; -errno */
void rebuild_seqs(struct vol *v); /* of damaged pages, when the log was applied */

/* recover.c */
int recover(struct repl_disk *d, struct hci_error *err); /* from a fiber */

#endif
