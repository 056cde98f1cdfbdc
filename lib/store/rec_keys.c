/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of records: building them and taking them apart. */
#include <stdio.h>

#include "base/uuid.h"
#include "store/records.h"

static void key_of_name(char out[REC_KEY], const char *prefix, const char *name)
{
	snprintf(out, REC_KEY, "%s%s", prefix, name);
}

static void key_of_uuid(char out[REC_KEY], const char *prefix, const struct uuid *u)
{
	char s[HCI_UUID_STR];

	uuid_print(u, s);
	snprintf(out, REC_KEY, "%s%s", prefix, s);
}

void key_node(char out[REC_KEY], const char *name)
{
	key_of_name(out, PREFIX_NODE, name);
}

void key_alive(char out[REC_KEY], const char *name)
{
	key_of_name(out, PREFIX_ALIVE, name);
}

void key_disk(char out[REC_KEY], const struct uuid *u)
{
	key_of_uuid(out, PREFIX_DISK, u);
}

void key_diskstat(char out[REC_KEY], const struct uuid *u)
{
	key_of_uuid(out, PREFIX_DISKSTAT, u);
}

void key_diskload(char out[REC_KEY], const struct uuid *u)
{
	key_of_uuid(out, PREFIX_DISKLOAD, u);
}

void key_cachestat(char out[REC_KEY], const char *name)
{
	key_of_name(out, PREFIX_CACHESTAT, name);
}

void key_pool(char out[REC_KEY], const char *name)
{
	key_of_name(out, PREFIX_POOL, name);
}

void key_volume(char out[REC_KEY], const struct uuid *u)
{
	key_of_uuid(out, PREFIX_VOLUME, u);
}

void key_volname(char out[REC_KEY], const char *name)
{
	key_of_name(out, PREFIX_VOLNAME, name);
}

void key_volmap(char out[REC_KEY], const struct uuid *u, uint32_t chunk)
{
	char s[HCI_UUID_STR];

	uuid_print(u, s);
	snprintf(out, REC_KEY, PREFIX_VOLMAP "%s/%08x", s, chunk);
}

void key_volmap_prefix(char out[REC_KEY], const struct uuid *u)
{
	char s[HCI_UUID_STR];

	uuid_print(u, s);
	snprintf(out, REC_KEY, PREFIX_VOLMAP "%s/", s);
}

void key_volsync(char out[REC_KEY], const struct uuid *u)
{
	key_of_uuid(out, PREFIX_VOLSYNC, u);
}

void key_volatt(char out[REC_KEY], const struct uuid *u)
{
	key_of_uuid(out, PREFIX_VOLATT, u);
}

void key_volmove(char out[REC_KEY], const struct uuid *u)
{
	key_of_uuid(out, PREFIX_VOLMOVE, u);
}

void key_job(char out[REC_KEY], const char *id)
{
	key_of_name(out, PREFIX_JOB, id);
}

void key_vm(char out[REC_KEY], const char *name)
{
	key_of_name(out, PREFIX_VM, name);
}

void key_vmrun(char out[REC_KEY], const char *name)
{
	key_of_name(out, PREFIX_VMRUN, name);
}

void key_nodenet(char out[REC_KEY], const char *name)
{
	key_of_name(out, PREFIX_NODENET, name);
}

void key_policy(char out[REC_KEY], const char *name)
{
	key_of_name(out, PREFIX_POLICY, name);
}

const char *key_tail(const char *key, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(key, prefix, n) == 0 ? key + n : NULL;
}

bool key_parse_uuid(const char *key, const char *prefix, struct uuid *out)
{
	const char *s = key_tail(key, prefix);

	return s && uuid_parse(s, out);
}

bool key_parse_volmap(const char *key, struct uuid *out, uint32_t *chunk)
{
	const char *s = key_tail(key, PREFIX_VOLMAP);
	char id[HCI_UUID_STR];
	uint32_t v = 0;

	if (!s || strlen(s) != HCI_UUID_STR + 8 || s[HCI_UUID_STR - 1] != '/')
		return false;
	memcpy(id, s, HCI_UUID_STR - 1);
	id[HCI_UUID_STR - 1] = '\0';
	for (s += HCI_UUID_STR; *s; s++) {
		const char *hex = "0123456789abcdef";
		const char *d = strchr(hex, *s);

		if (!d)
			return false;
		v = v << 4 | (uint32_t)(d - hex);
	}
	*chunk = v;
	return uuid_parse(id, out);
}
