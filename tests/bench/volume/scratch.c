/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A benchmark's folder: gigabytes that must not stay behind. Each holds a lock as long as its
 * process lives, so that the next run can tell what a killed one left from what is in use.
 */
#include "scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "hci-bench-volume-"

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	(void)st;
	(void)flag;
	(void)f;
	return remove(path);
}

void scratch_remove(const char *dir)
{
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static int lock_of(const char *dir, int flags)
{
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%.300s/lock", dir);
	fd = open(path, O_RDWR | O_CLOEXEC | flags, 0600);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void sweep(const char *dir)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	char path[400];
	int fd;

	while (d && (e = readdir(d))) {
		if (strncmp(e->d_name, PREFIX, strlen(PREFIX)))
			continue;
		snprintf(path, sizeof(path), "%.120s/%s", dir, e->d_name);
		fd = lock_of(path, 0); /* none yet: its process is just beginning */
		if (fd < 0)
			continue;
		fprintf(stderr, "removing %s, left by a run that was killed\n", path);
		scratch_remove(path);
		close(fd);
	}
	if (d)
		closedir(d);
}

int scratch_make(const char *dir, char *out, size_t cap)
{
	sweep(dir);
	snprintf(out, cap, "%.120s/" PREFIX "XXXXXX", dir);
	if (!mkdtemp(out) || lock_of(out, O_CREAT) < 0) { /* held until we end */
		perror(out);
		return -1;
	}
	return 0;
}
