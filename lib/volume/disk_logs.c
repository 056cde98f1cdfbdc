/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write logs that lie on an SSD and are needed by nobody: a disk was given up, or removed while it was away, and its log's file
 * stayed, or came back with the SSD later. They take the room of new ones, so they go when a log is to be made beside them.
 *
 * What the record of a disk that was removed says is final: no node opens it again, no set takes it in. So what its log has is of use
 * only as long as a volume has it in its in-sync set: its other copies may all be worse, and somebody may yet help himself
 * by hand. Files of which there is no record belong to another cluster. All these stay, and are named to who lacks room.
 */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "volume/disk_keep.h"

#define LOG_SUB "disk"

#define BEGIN "hci-"
#define END ".log"

/* logfile.c gives it its name. */
static bool is_log(const char *name, struct uuid *id)
{
	char u[HCI_UUID_STR];
	size_t at = strlen(BEGIN) + HCI_UUID_STR - 1;

	if (strlen(name) != at + strlen(END) || strncmp(name, BEGIN, strlen(BEGIN)) != 0 || strcmp(name + at, END) != 0)
		return false;
	memcpy(u, name + strlen(BEGIN), sizeof(u) - 1);
	u[sizeof(u) - 1] = '\0';
	return uuid_parse(u, id);
}

static void stays(struct disk_logs *left, const char *name, const char *why, const char *of)
{
	if (!left->n++)
		snprintf(left->first, sizeof(left->first), "%s, %s%s", name, why, of);
}

/* Its node has it open yet if it is locked; then it goes another time. */
static void drop(const struct disk_keep_how *h, const char *name)
{
	char *path = mem_printf("%s/%s", h->rec->log, name);
	struct env_file *f;

	if (path && !env_open(h->env, path, ENV_O_DIRECT | ENV_O_LOCK, &f)) {
		int rc = env_unlink(h->env, path);

		env_close(h->env, f);
		if (!rc)
			rc = env_sync_dir(h->env, h->rec->log);
		if (rc)
			log_warn(env_log(h->env), "the write log %s of a disk that was removed is still there: delete it", path);
		else
			log_info(env_log(h->env), "the write log %s of a disk that was removed is deleted: no volume counts on it", path);
	}
	mem_free(path);
}

static void look(const struct disk_keep_how *h, struct rec_disk *r, const char *name, const struct uuid *id, struct disk_logs *left)
{
	char key[REC_KEY], volume[HCI_NAME_MAX];
	int rc;

	key_disk(key, id);
	rc = rec_disk_get(h->store, key, r, NULL, NULL);
	if (rc == HCI_E_NOTFOUND)
		stays(left, name, "of no disk of this cluster: delete it if nobody needs it", "");
	if (rc || r->state != REC_DISK_REMOVED || strcmp(r->node, h->rec->node) != 0)
		return;
	rc = disk_keep_needed(h, id, volume, NULL);
	if (rc == HCI_E_BUSY)
		stays(left, name, "of a removed disk that is still counted on by volume ", volume);
	else if (!rc)
		drop(h, name);
}

void disk_logs_drop(const struct disk_keep_how *h, struct disk_logs *left)
{
	struct rec_disk *r = MEM_NEW(struct rec_disk);
	char **names = NULL;

	*left = (struct disk_logs){ 0 };
	if (r && env_listdir(h->env, h->rec->log, &names))
		names = NULL;
	for (unsigned i = 0; names && names[i]; i++) {
		struct uuid id;

		/* What it replaces goes when that is wiped; its own it finds, or makes. */
		if (!*h->stopping && is_log(names[i], &id) && !uuid_eq(&id, &h->rec->uuid) && !uuid_eq(&id, &h->rec->replaces))
			look(h, r, names[i], &id, left);
		mem_free(names[i]);
	}
	mem_free(names);
	mem_free(r);
}
