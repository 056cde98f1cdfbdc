/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of the replica service share: service.c keeps disks, connections and handles,
 * service_io.c serves reads and writes. */
#ifndef REPLICA_SERVICE_H
#define REPLICA_SERVICE_H

#include "replica/lane.h"
#include "replica/replica.h"
#include "replica/replica_proto.h"
#include "rpc/rpc.h"

#define HANDLES_MAX 65536u /* of one connection */
#define REGIONS_MAX 16384u /* entries of one reply */

struct svc_disk {
	struct list link;
	struct repl_disk *d;
	struct uuid uuid;
	struct lane *lane;
};

/* One opening, made by one connection. */
struct handle {
	struct list link; /* service.handles */
	struct repl_service *s;
	struct repl_slot *slot;
	struct repl_disk *d; /* NULL: the disk was removed, and its lane with it */
	struct lane *lane;
	uint32_t ops;        /* under way */
	bool closed;         /* goes when the last op ends */
};

struct svc_conn {
	struct list link; /* service.conns */
	struct rpc_conn *conn;
	struct handle **handles;
	uint32_t n;
};

struct repl_service {
	struct env *e;
	struct rpc *rpc;
	struct list disks, conns, handles, free_ios;
	uint32_t open; /* ops and fibers under way */
	uint32_t lane_busy;
	bool dead;     /* goes when the last of them ends */
};

struct svc_disk *svc_disk(struct repl_service *s, const struct uuid *u);
struct handle *svc_handle(struct rpc_conn *c, uint64_t n);
void svc_handle_put(struct handle *h);
void svc_end(struct repl_service *s); /* one less under way */
void svc_reply(struct rpc_req *req, int status, const char *message);

void svc_read(void *arg, struct rpc_req *req);
void svc_write(void *arg, struct rpc_req *req);
void svc_zero(void *arg, struct rpc_req *req);
void svc_stable(void *arg, struct rpc_req *req);
void svc_regions(void *arg, struct rpc_req *req);
void svc_rotten(void *arg, struct rpc_req *req);
#define ROTTEN_MAX 512u /* entries of one reply */
void svc_io_fini(struct repl_service *s);

#endif
