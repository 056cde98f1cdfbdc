/* SPDX-License-Identifier: Apache-2.0 */
/* Options of both sides, checked and with their defaults. */
#include "compute/memstream/opts.h"

#include "base/err.h"
#include "compute/memstream/aside.h"
#include "compute/memstream/codec.h"
#include "compute/memstream/hash.h"
#include "compute/memstream/wire.h"

#define WINDOW_DEFAULT (64 * MiB)
#define CACHE_DEFAULT (512 * MiB)
#define INFLIGHT_DEFAULT (100 * NS_PER_MS)
#define LINGER_DEFAULT (3 * NS_PER_MS)
#define WAIT_DEFAULT NS_PER_S
#define BATCH_MIN (64u << 10)
#define WORKERS_MAX 64u

static const char *const class_names[MST_CLASSES] = { "zero", "same", "ref", "delta", "new", "raw", "other" };

static const char *const kind_names[MST_KINDS] = { "others", "store", "volume", "guest" };

const char *mst_class_name(unsigned class)
{
	return class_names[class];
}

const char *mst_kind_name(unsigned kind)
{
	return kind_names[kind];
}

static bool is_name(const char *s, size_t n, const char *name)
{
	return strlen(name) == n && !strncmp(s, name, n);
}

uint32_t mst_class_bits(const char *names)
{
	uint32_t bits = 0;

	while (names && *names) {
		size_t n = strcspn(names, ",");

		for (unsigned c = 0; c < MST_CLASSES; c++)
			if (is_name(names, n, class_names[c]))
				bits |= 1u << c;
		for (unsigned k = 0; k < MST_KINDS; k++)
			if (is_name(names, n, kind_names[k]))
				bits |= 1u << (MST_CLASSES + k);
		names += n + (names[n] == ',');
	}
	return bits;
}

uint32_t mst_aside_mode(const char *name)
{
	static const char *const names[ASIDE_MODES] = { "follows", "never", "light", "plain", "dances" };

	for (uint32_t i = 0; name && i < ASIDE_MODES; i++)
		if (!strcmp(names[i], name))
			return i;
	return ASIDE_FOLLOWS;
}

int mst_opts_fill(struct mst_opts *o, const struct mst_opts *user, struct mst_provider *providers, struct hci_error *err)
{
	*o = user ? *user : (struct mst_opts){ 0 };
	if (o->workers > WORKERS_MAX || o->batch > MST_BATCH_MAX || (o->batch && o->batch < BATCH_MIN) || o->level < 0 ||
	    o->level > MST_LEVELS || o->aside >= ASIDE_MODES || o->n_providers > MST_PROVIDERS_MAX ||
	    o->cache / MST_PAGE > UINT32_MAX / 2 || o->cache_max / MST_PAGE > UINT32_MAX / 2)
		return err_set(err, HCI_E_INVAL, "memory stream: an option is out of its range; see memstream.h");
	if (o->n_providers)
		memcpy(providers, o->providers, o->n_providers * sizeof(*providers));
	o->providers = providers;
	o->cache = o->cache ? o->cache : CACHE_DEFAULT;
	o->cache_max = MAX(o->cache_max, o->cache);
	o->window = o->window ? MAX(o->window, MST_WINDOW_MIN) : WINDOW_DEFAULT;
	o->inflight_ns = o->inflight_ns ? o->inflight_ns : INFLIGHT_DEFAULT;
	o->linger_ns = o->linger_ns ? o->linger_ns : LINGER_DEFAULT;
	o->wait_ns = o->wait_ns ? o->wait_ns : WAIT_DEFAULT;
	o->batch = o->batch ? o->batch : MST_BATCH_DEFAULT;
	o->codecs = (o->codecs ? o->codecs : UINT32_MAX) & mst_codecs_built();
	o->codecs |= 1u << MST_ZLIB;
	/* Who sets a level wants that. */
	o->aside = o->level && !o->aside ? ASIDE_NEVER : o->aside;
	o->hash = o->hash ? o->hash : &mst_hash_real;
	return 0;
}
