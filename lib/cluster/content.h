/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both nodes of a migration have already, and need not send: the blocks of the VM's volumes, of which the destination
 * has copies on its own disks or in its read cache; pages that came to it with guests before; and pages of the guests that run there. They are providers for the codec
 * (compute/memstream): what either side says here may be wrong or old at any moment, the codec compares.
 *
 *   content.c         the set for one migration
 *   handover_pages.c  a node's store of pages, and what it knows of others' stores
 *   content_index.c   source: which block of an attached volume has which content, made in the background, kept by its writes
 *   content_blocks.c  destination: reads blocks from the copies on this node's disks and from its read cache
 *
 * All of it belongs to the loop; only the providers' functions are called by the codec's threads.
 */
#ifndef CLUSTER_CONTENT_H
#define CLUSTER_CONTENT_H

#include "cluster/node_impl.h"
#include "compute/memstream/store.h"
#include "volume/volume.h"

struct content;
struct nvm;

int content_new(struct node *n, struct content **out, struct hci_error *err);
/* No set is open, no index is there. */
void content_free(struct content *c);
/* These domains are here at present. */
struct compute_state;
void content_guests(struct content *c, const struct compute_state *st, size_t n);

/* ---- one migration ---- */

struct content_set;

#define CONTENT_WITHOUT "HCI_MIGRATE_WITHOUT" /* classes and kinds of content that are not used, to see what they bring: docs/compute.md */

/* Source, from a fiber: for a VM that goes to that node. Waits a moment for indexes that are being made. */
int content_set_out(struct content *c, struct nvm *m, const char *to, struct content_set **out, struct hci_error *err);
/* Destination, from a fiber: m's disks were looked up. */
int content_set_in(struct content *c, struct nvm *m, struct content_set **out, struct hci_error *err);
/* What the codec is given; valid as long as the set. NULL has none. */
const struct mst_provider *content_set_providers(const struct content_set *s, uint32_t *n);
/* The codec's hashes. NULL: the real ones; else a test wants them to collide (HCI_MIGRATE_COLLIDE in the environment). */
const struct mst_hash *content_hash(void);
/* Whoever waits for a block gets an error from now on. To be called before the codec is freed, which waits for its threads. */
void content_set_quit(struct content_set *s);
/* After the codec is gone. NULL is fine. */
void content_set_free(struct content_set *s);

/* ---- content_index.c ---- */

struct content_index;

/* Of a volume that was attached. NULL: no memory, or that for indexes is used up; then there is none. */
struct content_index *content_index_start(struct content *c, struct vol *v);
/* From a fiber, before the volume is detached. Sets go on to use what it knows. NULL is fine. */
void content_index_stop(struct content_index *x);

/* For content.c. hurry: a migration begins. False: nothing to be had from it (yet). */
void content_index_hurry(struct content_index *x);
bool content_index_ready(const struct content_index *x);
bool content_index_over(const struct content_index *x); /* it makes no progress any more: all is read, or it failed */
void content_index_provider(struct content_index *x, struct mst_provider *out);
void content_index_ref(struct content_index *x);
void content_index_unref(struct content_index *x);

/* ---- content_blocks.c ---- */

#define CONTENT_RUNS_MAX (512u << 10) /* of a volume's blocks, that are told and kept: 4 MiB at each end */

struct content_blocks;

/* From a fiber. *out NULL with 0: nothing of it is here. */
int content_blocks_open(struct node *n, const struct uuid *volume, struct content_blocks **out, struct hci_error *err);
void content_blocks_provider(struct content_blocks *b, struct mst_provider *out);
void content_blocks_quit(struct content_blocks *b);
void content_blocks_close(struct content_blocks *b); /* from a fiber */

#endif
