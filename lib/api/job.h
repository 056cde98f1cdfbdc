/* SPDX-License-Identifier: Apache-2.0 */
/* Handles of jobs, for the calls that make one. */
#ifndef API_JOB_H
#define API_JOB_H

#include "api/api_impl.h"

int api_job_new(hci_job **out, hci_cluster *c, const char *id, struct hci_error *err);

#endif
