/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the sqlite driver share: a scratch folder, a real loop with a fiber on it. */
#ifndef TESTS_STORE_SQLITE_WORLD_H
#define TESTS_STORE_SQLITE_WORLD_H

#include <stdio.h>
#include <stdlib.h>

#include "env/fiber.h"
#include "store/store.h"

/* For code that also runs in child processes, where Check's assertions cannot be used. */
#define REQUIRE(cond, ...)                                                         \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond); \
			fprintf(stderr, __VA_ARGS__);                              \
			fputc('\n', stderr);                                       \
			abort();                                                   \
		}                                                                  \
	} while (0)

struct world {
	char dir[64];
	char file[96];
	char url[128];
	struct env *env;
	void (*body)(struct world *w);
	void *arg;
};

/* A new folder below /tmp with no store in it yet. */
void world_make(struct world *w);
void world_remove(struct world *w); /* with all that is in it */
/* Runs body in a fiber on a loop of its own; returns when it has returned. May be called again. */
void world_run(struct world *w, void (*body)(struct world *w));
struct store *world_open(struct world *w);
void world_put(struct store *s, const char *key, const char *value);
char *world_get(struct store *s, const char *key, char *out, size_t cap); /* NULL: absent */

#endif
