/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging: struct log is owned by whoever opened the cluster (or by a test) and is handed down
 * through struct env (env_log()). No output of its own: without a callback it is silent.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/base.h"

enum log_level { LOG_ERROR = 0, LOG_WARN = 1, LOG_INFO = 2, LOG_DEBUG = 3, LOG_TRACE = 4 };

struct log {
	enum log_level level;
	void (*emit)(void *arg, int level, const char *subsystem, const char *line);
	void *arg;
};

void log_write(const struct log *l, enum log_level level, const char *subsystem, const char *fmt,
	       ...) PRINTF(4, 5);

/* The subsystem is the file's LOG_SUB; arguments are not evaluated below the level. */
#define log_at(l, lv, ...)                                         \
	do {                                                       \
		const struct log *l_ = (l);                        \
		if (l_ && l_->emit && (lv) <= l_->level)           \
			log_write(l_, (lv), LOG_SUB, __VA_ARGS__); \
	} while (0)
#define log_error(l, ...) log_at(l, LOG_ERROR, __VA_ARGS__)
#define log_warn(l, ...)  log_at(l, LOG_WARN, __VA_ARGS__)
#define log_info(l, ...)  log_at(l, LOG_INFO, __VA_ARGS__)
#define log_debug(l, ...) log_at(l, LOG_DEBUG, __VA_ARGS__)
#define log_trace(l, ...) log_at(l, LOG_TRACE, __VA_ARGS__)

#endif
