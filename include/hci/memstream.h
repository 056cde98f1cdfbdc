/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/memstream.h
 * Moving the memory of a virtual machine, or of anything else, to another machine while it changes.
 *
 * For hypervisors that are not run by libhci: the source is fed with pages and dirty bitmaps, the sink gives the same
 * pages in the same order. In between pages of zeroes, repeats, and what was sent before and changed little cost next to
 * nothing, the rest is compressed. The bytes between the two travel over whatever connection the caller has; they must
 * arrive whole and in order, and there must be a way back. They are neither encrypted nor authenticated here.
 *
 *     source: put pages ... finish;  send -> connection -> receive  :sink -> next
 *                                    receive <- connection <- send
 *
 * Each side: whenever hci_memstream_fd() is readable, the connection can be written or something came on it, call
 * hci_memstream_send() for bytes to write and hci_memstream_receive() with what was read, until hci_memstream_done().
 *
 * A handle belongs to one thread at a time. No call blocks, except for the computing when there are no workers.
 */
#ifndef HCI_MEMSTREAM_H
#define HCI_MEMSTREAM_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

typedef struct hci_memstream hci_memstream;

/** Bytes of a page. */
#define HCI_MEMSTREAM_PAGE 4096

/** The most workers. */
#define HCI_MEMSTREAM_WORKERS_MAX 64

/** Options of hci_memstream_source() and hci_memstream_sink(). */
struct hci_memstream_opts {
	uint32_t size;          /**< sizeof(struct hci_memstream_opts) */
	uint32_t workers;       /**< threads that compute, 0..HCI_MEMSTREAM_WORKERS_MAX; 0: the calls do it */
	uint64_t cache_bytes;   /**< pages kept at both ends to send changes only; the smaller side counts; 0: 512 MiB */
	uint64_t window_bytes;  /**< pages on their way, at most; also what is kept in memory for them; 0: 64 MiB */
	uint32_t inflight_ms;   /**< of these no more than the connection carries in this time; 0: 100 (source) */
	uint32_t level;         /**< 1 (fast) .. 8 (small); 0: follows connection and processor, and with workers has pages go as they are where that is faster (source) */
};
#define HCI_MEMSTREAM_OPTS_INIT { (uint32_t)sizeof(struct hci_memstream_opts), 0, 0, 0, 0, 0 }

/** What hci_memstream_next() found. */
#define HCI_MEMSTREAM_NOTHING 0 /**< nothing now */
#define HCI_MEMSTREAM_IS_PAGE 1 /**< a page */
#define HCI_MEMSTREAM_IS_ZERO 2 /**< a page of zeroes; there is no data */
#define HCI_MEMSTREAM_IS_BYTES 3 /**< a piece of hci_memstream_put_bytes(); pieces need not be those that were put */
#define HCI_MEMSTREAM_IS_END 4 /**< the source is finished, nothing follows */

/** A record at the sink. */
struct hci_memstream_record {
	uint32_t kind;     /**< HCI_MEMSTREAM_IS_... */
	uint32_t region;   /**< of a page, as it was put */
	uint64_t address;  /**< likewise */
	uint64_t len;      /**< bytes at data */
	const void *data;  /**< valid until the next call with the handle */
};

/** Counters; all since the handle was made. */
struct hci_memstream_info {
	uint64_t stream_bytes;  /**< pages and bytes, with eight bytes a page of their own */
	uint64_t done_bytes;    /**< of these: taken at the sink */
	uint64_t wire_bytes;    /**< sent from the source to the sink */
	uint64_t rate;          /**< bytes a second that the connection was seen to carry (source) */
	uint64_t pages_zero;    /**< all zeroes */
	uint64_t pages_same;    /**< repeats */
	uint64_t pages_delta;   /**< changes only were sent */
	uint64_t pages_new;     /**< sent compressed */
	uint64_t pages_raw;     /**< sent as they are: compression would not gain */
	uint64_t cpu_ns;        /**< of workers, or of the calls when there are none */
};

/**
 * Make the source of a stream.
 *
 * @param out   set to the handle
 * @param opts  NULL for the defaults; read during the call only
 * @param err   NULL, or filled in on failure
 * @return 0, HCI_E_INVAL (an option is out of range), HCI_E_NOMEM, HCI_E_SYS (no thread or descriptor). Threads: any. Since 0.1.
 */
HCI_API int hci_memstream_source(hci_memstream **out, const struct hci_memstream_opts *opts, struct hci_error *err);

/** Make the sink of a stream; as hci_memstream_source(). Since 0.1. */
HCI_API int hci_memstream_sink(hci_memstream **out, const struct hci_memstream_opts *opts, struct hci_error *err);

/** Free it, at any moment; waits for what workers have in hand. NULL is fine. Since 0.1. */
HCI_API void hci_memstream_unref(hci_memstream *s);

/** A descriptor (eventfd) that becomes readable when workers made something new; poll it, do not read it. The handle's. Since 0.1. */
HCI_API int hci_memstream_fd(const hci_memstream *s);

/**
 * Put one page.
 *
 * @param s        a source
 * @param region   any number; with the address it says where the page lies
 * @param address  bytes, a multiple of HCI_MEMSTREAM_PAGE
 * @param page     HCI_MEMSTREAM_PAGE bytes, copied
 * @param err      NULL, or filled in on failure
 * @return 0; HCI_E_BUSY (as much as may be is on its way: send and receive first), HCI_E_INVAL, HCI_E_STATE (not a source,
 *   or finished), or what ended the stream. Since 0.1.
 */
HCI_API int hci_memstream_put_page(hci_memstream *s, uint32_t region, uint64_t address, const void *page, struct hci_error *err);

/**
 * Put the pages that a bitmap names, lowest first, and clear their bits.
 *
 * @param s        a source
 * @param region   as above
 * @param address  of the first page of the bitmap
 * @param memory   its bytes; those of the others follow it
 * @param bitmap   bit i % 64 of word i / 64 is page i
 * @param npages   pages that the bitmap is about
 * @param err      NULL, or filled in on failure
 * @return how many were put: fewer than were set when no more may be on its way (send and receive, then call again), or as
 *   hci_memstream_put_page(), except for HCI_E_BUSY. A page that is written while the call runs may come out half: so begin to
 *   watch for writes anew before the call, and put the page again. Since 0.1.
 */
HCI_API int64_t hci_memstream_put_dirty(hci_memstream *s, uint32_t region, uint64_t address, const void *memory,
		uint64_t *bitmap, uint64_t npages, struct hci_error *err);

/**
 * Put bytes that are no page, such as the state of devices. They keep their place among the pages.
 *
 * @return how many were taken from the front of @p data, 0 when no more may be on its way; or as hci_memstream_put_page(). Since 0.1.
 */
HCI_API int64_t hci_memstream_put_bytes(hci_memstream *s, const void *data, uint64_t len, struct hci_error *err);

/** Do not wait for more to be packed with what was put. Workers do so by themselves after some milliseconds. @return 0, or as above. Since 0.1. */
HCI_API int hci_memstream_flush(hci_memstream *s, struct hci_error *err);

/** Nothing more will be put; flushes. @return 0, or as above (HCI_E_BUSY: later). Since 0.1. */
HCI_API int hci_memstream_finish(hci_memstream *s, struct hci_error *err);

/** Bytes for the other side, at most @p cap, copied to @p buf. @return how many, 0 for none now, or what ended the stream. Since 0.1. */
HCI_API int64_t hci_memstream_send(hci_memstream *s, void *buf, uint64_t cap, struct hci_error *err);

/**
 * Bytes from the other side, in any portions.
 *
 * @return 0, or what ended the stream: HCI_E_PROTO (not from a stream's other end), HCI_E_VERSION, HCI_E_CORRUPT, HCI_E_NOMEM. Since 0.1.
 */
HCI_API int hci_memstream_receive(hci_memstream *s, const void *data, uint64_t len, struct hci_error *err);

/**
 * The next record at a sink.
 *
 * @param s       a sink
 * @param out     filled in; kind HCI_MEMSTREAM_NOTHING when there is none now
 * @param size    sizeof(struct hci_memstream_record) of the caller
 * @param err     NULL, or filled in on failure
 * @return 0, HCI_E_STATE (not a sink), or what ended the stream. Since 0.1.
 */
HCI_API int hci_memstream_next(hci_memstream *s, struct hci_memstream_record *out, uint64_t size, struct hci_error *err);

/** 1: finished, and every record was taken at the sink; at a sink: send what hci_memstream_send() still gives. 0: not yet. Since 0.1. */
HCI_API int hci_memstream_done(hci_memstream *s);

/** Counters. @return 0, HCI_E_INVAL. Since 0.1. */
HCI_API int hci_memstream_info(hci_memstream *s, struct hci_memstream_info *out, uint64_t size, struct hci_error *err);

HCI_END_DECLS
#endif
