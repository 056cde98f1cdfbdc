/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/job.h
 * Jobs: long operations with progress, cancel and a result. They live in the store: any program on the
 * cluster sees them, and they outlive the one that started them.
 */
#ifndef HCI_JOB_H
#define HCI_JOB_H

#include <hci/error.h>
#include <hci/types.h>

HCI_BEGIN_DECLS

#define HCI_JOB_PENDING 0
#define HCI_JOB_RUNNING 1
#define HCI_JOB_DONE 2
#define HCI_JOB_FAILED 3
#define HCI_JOB_CANCELLED 4

struct hci_job_info {
	char id[HCI_NAME_MAX];
	char type[HCI_NAME_MAX];  /**< "vm-start", "vm-stop", "vm-migrate", "volume-set", "volume-move", "disk-evacuate",
				   "node-evacuate", "pool-balance"; "resync": copies of a volume are being made */
	char target[256];         /**< the object worked on */
	char node[HCI_NAME_MAX];  /**< that executes it */
	char phase[256];          /**< for people */
	char unit[HCI_NAME_MAX];  /**< of done and total, "bytes", ... */
	char message[512];        /**< of the error, or the result as JSON; while it runs: figures as JSON, for types that have such (hci_vm_migrate()) */
	int32_t state;            /**< HCI_JOB_* */
	int32_t error;            /**< HCI_E_* when failed */
	uint64_t done, total;     /**< total 0: not known */
	uint64_t created;         /**< ns since 1970 */
	uint64_t updated;         /**< likewise, when its record was last written: no sign of life, as some are at work for long without that */
};

/** Find a job. @param out set to a handle, hci_job_unref() it. @return 0, HCI_E_NOTFOUND. Threads: any. Blocks for store I/O. Since 0.1. */
HCI_API int hci_job_open(hci_job **out, hci_cluster *c, const char *id, struct hci_error *err);

/** Give the handle back; the job goes on. NULL is fine. Threads: any. Since 0.1. */
HCI_API void hci_job_unref(hci_job *job);

/** @return 0 and its present state in @p out, HCI_E_NOTFOUND, HCI_E_UNAVAILABLE. Threads: any. Blocks for store I/O. Since 0.1. */
HCI_API int hci_job_info(hci_job *job, struct hci_job_info *out, uint64_t info_size, struct hci_error *err);

/**
 * Wait for the end.
 *
 * @param job         the job
 * @param timeout_ms  -1: for ever
 * @param err         NULL, or filled in: also with the job's own error
 * @return 0: done. The job's HCI_E_* when it failed, HCI_E_CANCELLED, HCI_E_TIMEOUT (it goes on; or it failed with that, as a migration does by
 *   its time limit: hci_job_info() has its state). HCI_E_NOTFOUND, HCI_E_UNAVAILABLE. Threads: any. Blocks. Since 0.1.
 */
HCI_API int hci_job_wait(hci_job *job, int64_t timeout_ms, struct hci_error *err);

/** Ask it to stop; it ends as cancelled, or done if that came first. @return 0, HCI_E_STATE (it has ended). Threads: any. Blocks for store I/O. Since 0.1. */
HCI_API int hci_job_cancel(hci_job *job, struct hci_error *err);

/** All jobs of the last day, newest first. As hci_node_list(). Since 0.1. */
HCI_API int hci_job_list(hci_cluster *c, struct hci_job_info **out, uint64_t *n, uint64_t info_size, struct hci_error *err);

HCI_END_DECLS
#endif
