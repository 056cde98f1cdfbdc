/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The check of the check: bugs planted in the engine, each of which the seeds must find. A rule that can be broken
 * without anybody noticing is not tested.
 */
#ifndef TESTS_SIM_MUTATIONS_H
#define TESTS_SIM_MUTATIONS_H

#include "cache/cache.h"
#include "replica/replica.h"
#include "volume/volume.h"

static const struct mutation {
	const char *name;
	uint32_t volume, replica, cache; /* VOL_MUTATE_*, REPL_MUTATE_*, CACHE_MUTATE_* */
} mutations[] = {
	{ "ack-early", VOL_MUTATE_ACK_EARLY, 0, 0 },
	{ "left-late", VOL_MUTATE_LEFT_LATE, 0, 0 },
	{ "no-settle", VOL_MUTATE_NO_SETTLE, 0, 0 },
	{ "skip-region", VOL_MUTATE_SKIP_REGION, 0, 0 },
	{ "read-no-wait", VOL_MUTATE_READ_NO_WAIT, 0, 0 },
	{ "read-past-lease", VOL_MUTATE_READ_PAST_LEASE, 0, 0 },
	{ "no-compare", VOL_MUTATE_NO_COMPARE, 0, 0 },
	{ "no-lock", VOL_MUTATE_NO_LOCK, 0, 0 },
	{ "join-early", VOL_MUTATE_JOIN_EARLY, 0, 0 },
	{ "source-only", VOL_MUTATE_SOURCE_ONLY, 0, 0 },
	{ "no-flight-wait", VOL_MUTATE_NO_FLIGHT_WAIT, 0, 0 },
	{ "stable-early", VOL_MUTATE_STABLE_EARLY, 0, 0 },
	{ "settle-skips", VOL_MUTATE_SETTLE_SKIPS, 0, 0 },
	{ "keep-absent", VOL_MUTATE_KEEP_ABSENT, 0, 0 },
	{ "seq-anew", VOL_MUTATE_SEQ_ANEW, 0, 0 },
	{ "no-heal", VOL_MUTATE_NO_HEAL, 0, 0 },
	{ "resume-blind", VOL_MUTATE_RESUME_BLIND, 0, 0 },
	{ "pull-late", VOL_MUTATE_PULL_LATE, 0, 0 },
	{ "remove-early", VOL_MUTATE_REMOVE_EARLY, 0, 0 },
	{ "no-sums", VOL_MUTATE_NO_SUMS, 0, 0 },
	{ "foreign-map", VOL_MUTATE_FOREIGN_MAP, 0, 0 },
	{ "no-fence", 0, REPL_MUTATE_NO_FENCE, 0 },
	{ "fence-unsynced", 0, REPL_MUTATE_FENCE_UNSYNCED, 0 },
	{ "log-unsynced", 0, REPL_MUTATE_LOG_UNSYNCED, 0 },
	{ "torn-batch", 0, REPL_MUTATE_TORN_BATCH, 0 },
	{ "files-unsynced", 0, REPL_MUTATE_FILES_UNSYNCED, 0 },
	{ "old-epoch", 0, REPL_MUTATE_OLD_EPOCH, 0 },
	{ "recovery-unsynced", 0, REPL_MUTATE_RECOVERY_UNSYNCED, 0 },
	{ "rot-ends", 0, REPL_MUTATE_ROT_ENDS, 0 },
	{ "rot-unproven", 0, REPL_MUTATE_ROT_UNPROVEN, 0 },
	{ "numbers-older", 0, REPL_MUTATE_NUMBERS_OLDER, 0 },
	{ "seq-forgotten", 0, REPL_MUTATE_SEQ_FORGOTTEN, 0 },
	{ "log-renewed", 0, REPL_MUTATE_LOG_RENEWED, 0 },
	{ "log-needed", VOL_MUTATE_GIVE_UP_NEEDED, 0, 0 },
	{ "cache-keep-old", 0, 0, CACHE_MUTATE_KEEP_OLD },
	{ "cache-trust", 0, 0, CACHE_MUTATE_TRUST },
	{ "cache-no-check", 0, 0, CACHE_MUTATE_NO_CHECK },
};

#endif
