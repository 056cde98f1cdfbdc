/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a volume's copying visible: a job record ("resync") with progress while copying is under way.
 * Everybody who attaches a volume for long starts one.
 */
#ifndef CLUSTER_REPORT_H
#define CLUSTER_REPORT_H

#include "cluster/core.h"

struct core_report;

/* From a fiber. NULL when out of memory: the volume heals all the same. */
struct core_report *core_report_start(struct core *c, struct vol *v);
/* From a fiber, before the volume is detached. NULL is fine. */
void core_report_stop(struct core_report *r);

#endif
