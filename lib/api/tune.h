/* SPDX-License-Identifier: Apache-2.0 */
/* What may be set when a thing is made and as well while it is in use: limits and defaults (tune.c). */
#ifndef API_TUNE_H
#define API_TUNE_H

#include <hci/error.h>

#define TUNE_REBUILD_DELAY_MS 600000u
#define TUNE_IMPACT 200u
#define TUNE_LOG_WAIT_MS 600000u
#define TUNE_LOG_LEVEL 50u

/* 0 is "not given" in all of them, for on_full -1 as well. what: "volume" or "pool". */
int tune_check(const char *volume, int32_t on_full, uint32_t write_timeout_ms, uint32_t read_timeout_ms, uint32_t impact,
	       uint32_t lease_ms, struct hci_error *err);
int tune_check_impact(const char *what, const char *name, uint32_t impact, struct hci_error *err);

#endif
