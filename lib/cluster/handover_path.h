/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The path of a live migration between two nodes: libvirt's own conversation and QEMU's memory stream, each over
 * streams of the nodes' channel (docs/wire-stream.md). libvirt and QEMU see unix sockets of their own machine only.
 *
 *	libvirtd  -> NAME.ctl  -> libhci  ==== control ====>  libhci -> libvirtd's socket
 *	QEMU      -> the path  -> libhci  ==== memory  ====>  libhci -> the path's socket, where QEMU listens
 *
 * All on the loop. The source has one from PREPARE until it knows how it ended, the destination as long as its hand-over.
 */
#ifndef CLUSTER_HANDOVER_PATH_H
#define CLUSTER_HANDOVER_PATH_H

#include "cluster/node.h"
#include "cluster/content.h"
#include "compute/compute.h"
#include "compute/memstream/memstream.h"
#include "rpc/stream.h"

struct ho_out;
struct ho_in;

/* ---- source ---- */

struct ho_out_opts {
	const char *to, *vm, *job;
	const char *memory;  /* path, as the destination named it */
	const char *libvirt; /* likewise: "/system" */
	uint64_t inflight_ns; /* of the memory's stream under way at most; 0: the codec's default */
	/* Nothing of the memory comes from QEMU any more, whyever. From inside; also after memory_over, and more than once. */
	void (*memory_end)(void *arg);
	void (*memory_over)(void *arg); /* QEMU has closed its stream, and the other QEMU had all of it */
	void *arg;
};
/* Before libvirt is told to go: what both ends have. It is ours from then on. */
void ho_out_content(struct ho_out *o, struct content_set *s);
int ho_out_open(struct node *n, const struct ho_out_opts *o, struct ho_out **out, struct hci_error *err);
/* What libvirt is to be given; valid as long as *o. */
const char *ho_out_peer_uri(const struct ho_out *o);
const char *ho_out_migrate_uri(const struct ho_out *o);
/* why: NULL, or what the other end is told. NULL is fine for o. */
void ho_out_close(struct ho_out *o, const struct hci_error *why);

/* As if the link were cut: libvirt and QEMU see their connections end. */
void ho_out_cut(struct ho_out *o, const struct hci_error *why);

struct ho_stat {
	uint64_t memory_ns; /* from QEMU's first byte until the other QEMU had the last */
	struct mst_stats memory; /* of QEMU's streams so far; its rate is that of the link, whatever the limit is */
	uint64_t limit;          /* as set, 0: none */
	struct hci_error err; /* code: what broke a stream, 0 nothing */
};
/* Bytes a second of memory that go to the other node at most; 0: as many as it takes. At any time. */
void ho_out_limit(struct ho_out *o, uint64_t bytes_per_s);
/* The guest runs over there before its memory is there: no page waits for what other migrations bring. */
void ho_out_hurry(struct ho_out *o);
void ho_out_stat(const struct ho_out *o, struct ho_stat *out);

/* ---- destination ---- */

void ho_in_content(struct ho_in *i, struct content_set *s);
int ho_in_open(struct node *n, struct ho_in **out, struct hci_error *err);
/* What the source is to be told; valid as long as *i. */
const char *ho_in_memory(const struct ho_in *i);
const char *ho_in_libvirt(const struct ho_in *i);
/* When the memory's stream broke before its end; 0: it has not. */
uint64_t ho_in_lost_at(const struct ho_in *i);
void ho_in_close(struct ho_in *i, const struct hci_error *why);

/* A stream that a source opens. */
#define HO_SERVICE "migrate"
struct ho_offer {
	char vm[HCI_NAME_MAX], job[HCI_NAME_MAX], kind[16];
	const char *source;
};
/* find: the hand-over that it is for; NULL: none such is prepared, and the stream is refused. */
void ho_in_take(struct rpc_stream *s, struct rd *args, struct ho_in *(*find)(void *arg, const struct ho_offer *o), void *arg);

/* At the start: what an earlier life left in the run directory. From a fiber. */
void ho_clean(struct node *n);

#endif
