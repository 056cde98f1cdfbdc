/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many requests in flight from one thread: submit until the queue is full, sleep on its descriptor,
 * reap. A request that was accepted has exactly one completion; one that was refused has none.
 */
#include "../common/lab.h"

#include <poll.h>
#include <string.h>

#define BLOCKS 1024
#define DEPTH 32

int main(void)
{
	struct hci_completion done[DEPTH];
	unsigned submitted = 0, finished = 0, failed = 0;
	struct hci_error err;
	struct pollfd fd = { .events = POLLIN };
	struct lab lab;
	hci_volume *vol;
	hci_queue *q;
	char *buf;

	lab_up(&lab);
	lab_volume(&lab, "v", BLOCKS * 4096);
	must(hci_volume_attach(&vol, lab.client, "v", NULL, &err));
	must(hci_queue_create(&q, lab.client, DEPTH, &err));
	must(hci_buffer_alloc((void **)&buf, BLOCKS * 4096, &err));
	memset(buf, 'x', BLOCKS * 4096);

	fd.fd = hci_queue_fd(q); /* any event loop can have it */
	while (finished < BLOCKS) {
		int n;

		while (submitted < BLOCKS) {
			uint64_t at = submitted * 4096u;
			int rc = hci_volume_submit_write(vol, q, buf + at, 4096, at, submitted,
							 NULL, &err);

			if (rc == HCI_E_BUSY)
				break; /* full: nothing was queued, reap first */
			must(rc);
			submitted++;
		}
		poll(&fd, 1, -1);
		n = hci_queue_reap(q, done, DEPTH, 0);
		for (int i = 0; i < n; i++)
			failed += done[i].status != 0;
		finished += (unsigned)n;
	}
	printf("%u writes of 4 KiB, %u at a time: %u failed\n", finished, DEPTH, failed);

	hci_queue_unref(q);
	hci_buffer_free(buf);
	hci_volume_unref(vol);
	lab_down(&lab);
	return failed != 0;
}
