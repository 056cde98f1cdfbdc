/* SPDX-License-Identifier: Apache-2.0 */
/* Formatting of log lines. Where they go is the business of the callback in struct log. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

/* Lines live on the stack, and fibers have small ones. */
#define LINE_MAX_BYTES 1024

void log_write(const struct log *l, enum log_level level, const char *subsystem, const char *fmt,
	       ...)
{
	char line[LINE_MAX_BYTES];
	va_list ap;

	if (!l || !l->emit || level > l->level)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	/* What peers and guests say ends up in lines: it must not forge others. */
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = ' ';
	l->emit(l->arg, (int)level, subsystem, line);
}
