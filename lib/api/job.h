/* SPDX-License-Identifier: Apache-2.0 */
/* Handles of jobs, for the calls that make one. */
#ifndef API_JOB_H
#define API_JOB_H

#include "api/api_impl.h"

/*
 * Runs fn on the loop, which makes a job record and writes its id; then *out is its handle, or, out NULL, its end
 * is waited for. For calls that make a job.
 */
int api_job_start(hci_cluster *c, int (*fn)(hci_cluster *c, void *arg, struct hci_error *err), void *arg, const char *id,
		  hci_job **out, struct hci_error *err);
int api_job_new(hci_job **out, hci_cluster *c, const char *id, struct hci_error *err);

#endif
