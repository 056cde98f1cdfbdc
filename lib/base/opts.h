/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sized options: the one helper through which every options struct of the public API comes in.
 * A caller built against an older header passes a smaller struct: the rest is filled from the
 * defaults. One built against a newer header passes a larger one: fine if what we do not know is
 * all zero, refused otherwise.
 */
#ifndef BASE_OPTS_H
#define BASE_OPTS_H

#include <hci/error.h>

#include "base/base.h"

/*
 * Copies *user into out (ours bytes big, first preset from defaults).
 * user == NULL: the defaults. min: the struct's size in its first release, by OPTS_UP_TO() and never
 * sizeof, which grows with the struct and would turn older callers away.
 * what: name of the struct, for the message.
 */
int opts_take(void *out, const void *defaults, size_t ours, const void *user, size_t min,
	      const char *what, struct hci_error *err);

/* The i-th of an array of such structs, which are all as long as the first says that it is, whatever we know of them. */
int opts_take_nth(void *out, const void *defaults, size_t ours, const void *array, uint32_t i, size_t min, const char *what,
		  struct hci_error *err);

/* A field of such a struct that has no meaning yet must be 0, or it could never get one. what: as above. */
int opts_reserved(int64_t value, const char *what, struct hci_error *err);

/* The size of a struct when `last` was its last member. */
#define OPTS_UP_TO(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))

#endif
