/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the replica service share: service.c keeps disks, connections and handles,
 * service_io.c serves reads and writes, pull.c copies that are fetched from another node. */
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
	struct metric *m_depth;
};

/* One opening, made by one connection. */
struct handle {
	struct list link; /* service.handles */
	struct repl_service *s;
	struct repl_slot *slot;
	struct repl_disk *d; /* NULL: the disk was removed, and its lane with it */
	struct lane *lane;
	uint8_t token[REPL_TOKEN]; /* whoever shows it may read on behalf of this opening (LEND) */
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
	struct rpc_peers *peers; /* NULL: it pulls nothing */
	struct list disks, conns, handles, free_ios;
	struct list pulls, pulls_waiting;
	uint32_t npulls;
	bool starting; /* one of them */
	uint32_t open; /* ops and fibers under way */
	uint32_t lane_busy;
	bool dead;     /* goes when the last of them ends */
};

struct svc_disk *svc_disk(struct repl_service *s, const struct uuid *u);
struct handle *svc_handle(struct rpc_conn *c, uint64_t n);
struct handle *svc_lent(struct repl_service *s, const void *token, uint32_t len); /* by its token; NULL: it is over */
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
const char *svc_explain(int status);
/* Takes the class out of the flags; LANE_CLASSES: there is none like it. */
enum lane_class svc_class(uint32_t *flags);

/* pull.c */
void svc_pull(void *arg, struct rpc_req *req);
void svc_pulls_cancel(struct repl_service *s);

#endif
