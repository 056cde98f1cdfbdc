/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The marked points of the engine (env/mark.h) in an order that is the same in every build, and how often each was
 * reached: the coverage of its state machines.
 */
#ifndef TESTS_SIM_POINTS_H
#define TESTS_SIM_POINTS_H

#include <stdio.h>

#include "env/mark.h"
#include "env/sim.h"

#define POINT_STATES 8u

struct points;

struct points *points_new(void);
void points_free(struct points *p);
/* A target is a state of a point. */
uint32_t points_targets(const struct points *p);
uint32_t points_target(const struct points *p, const struct env_mark *m, unsigned state);
void points_hit(struct points *p, uint32_t target);
/* Name of the point, and of the state when there are several. */
const char *points_name(const struct points *p, uint32_t target, char *out, size_t cap);
/* Never reached, and there is no other test for it. */
bool points_missing(const struct points *p, uint32_t target);
/* One line each: "count name". */
void points_print(const struct points *p, FILE *f);

#endif
