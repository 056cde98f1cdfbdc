/* SPDX-License-Identifier: Apache-2.0 */
/* One request of a queue, between queue.c and whoever submits it. */
#ifndef API_QUEUE_H
#define API_QUEUE_H

#include <stdatomic.h>

#include "api/api_impl.h"
#include "volume/volume.h"

struct api_req {
	struct vol_io io;
	hci_queue *q;
	uint64_t tag;
	int32_t status;
	_Atomic uint64_t *open; /* counts the volume handle's open requests */
};

/* Of the queue's thread. NULL: all are open. */
struct api_req *api_req_get(hci_queue *q);
/* io is filled in but for done; exactly one completion follows. */
void api_req_submit(struct api_req *r);
hci_cluster *api_queue_cluster(const hci_queue *q);

#endif
