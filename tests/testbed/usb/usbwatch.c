// SPDX-License-Identifier: Apache-2.0
/*
 * Tells on the console what USB disk the guest sees, and reads and writes it all the time, past every cache of the guest. What it
 * says of a disk can be held against the file behind the real device (usb-host.sh).
 *
 * usage: usbwatch
 * It is started from the initramfs and stays when the root file system takes over: it keeps the mounts it began with.
 *
 * On the console, a line each; a line is one write(2), so lines of several programs do not mix:
 *   HCI-USB in SERIAL bus=N dev=N size=BYTES counter=N text=TEXT   there is one, and it can be read: TEXT is its first line
 *   HCI-USB wrote N read N      each 200 ms: written to the device, then read from it. N goes on from what the device held
 *   HCI-USB err CALL ERRNO      of the disk, while it is there and when it goes
 *   HCI-USB out SERIAL          it is gone. Also when another one, or the same anew, came within one look
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define COUNTER_AT (1 << 20) /* usb-host.sh reads it in the file behind the device */
#define LOOK_MS 50
#define WRITE_MS 200

struct disk {
	char name[16]; /* sda */
	char serial[64];
	unsigned bus, dev; /* dev is another after each plugging */
};

static char *block;

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	char line[256];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	if (write(1, line, (size_t)n) < 0)
		return;
}

static void sleep_ms(unsigned ms)
{
	struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* The first word of a file of sysfs. */
static int attribute(const char *dir, const char *name, char *out, size_t size)
{
	char path[PATH_MAX];
	ssize_t n;
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -1;
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -1;
	n = read(fd, out, size - 1);
	close(fd);
	if (n <= 0)
		return -1;
	out[n] = '\0';
	out[strcspn(out, " \n")] = '\0';
	return 0;
}

/* Of a disk at .../usb1/1-1/1-1:1.0/host0/...: is it USB, and which device. */
static int describe(const char *name, struct disk *d)
{
	char path[PATH_MAX], real[PATH_MAX], number[16], *interface;

	snprintf(path, sizeof(path), "/sys/block/%s", name);
	if (strlen(name) >= sizeof(d->name) || !realpath(path, real) || !strstr(real, "/usb"))
		return -1;
	interface = strstr(strstr(real, "/usb"), ":1.");
	if (!interface)
		return -1;
	*interface = '\0';
	*strrchr(real, '/') = '\0';
	strcpy(d->name, name);
	if (attribute(real, "busnum", number, sizeof(number)))
		return -1;
	d->bus = (unsigned)atoi(number);
	if (attribute(real, "devnum", number, sizeof(number)))
		return -1;
	d->dev = (unsigned)atoi(number);
	if (attribute(real, "serial", d->serial, sizeof(d->serial)))
		strcpy(d->serial, "-");
	return 0;
}

static int find(struct disk *d)
{
	DIR *dir = opendir("/sys/block");
	struct dirent *e;
	int rc = -1;

	while (dir && rc && (e = readdir(dir)))
		if (!strncmp(e->d_name, "sd", 2))
			rc = describe(e->d_name, d);
	if (dir)
		closedir(dir);
	return rc;
}

/* Negative: what failed was said, unless the disk is only not there yet. */
static int open_disk(const struct disk *d, uint64_t *size)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", d->name);
	fd = open(path, O_RDWR | O_DIRECT | O_SYNC);
	if (fd < 0) {
		if (errno != ENOENT && errno != ENXIO)
			say("HCI-USB err open %d", errno);
		return -1;
	}
	if (ioctl(fd, BLKGETSIZE64, size) || *size < COUNTER_AT + BLOCK) {
		close(fd);
		return -1;
	}
	return fd;
}

static int read_block(int fd, off_t at)
{
	ssize_t n = pread(fd, block, BLOCK, at);

	if (n != BLOCK)
		say("HCI-USB err read %d", n < 0 ? errno : 0);
	return n == BLOCK ? 0 : -1;
}

static int greet(const struct disk *d, uint64_t *counter)
{
	char text[64];
	uint64_t size;
	int fd = open_disk(d, &size), rc;

	if (fd < 0)
		return -1;
	rc = read_block(fd, 0);
	if (!rc) {
		snprintf(text, sizeof(text), "%.*s", (int)strcspn(block, "\n"), block);
		rc = read_block(fd, COUNTER_AT);
	}
	close(fd);
	if (rc)
		return -1;
	*counter = strtoull(block, NULL, 10);
	say("HCI-USB in %s bus=%u dev=%u size=%llu counter=%llu text=%s", d->serial, d->bus, d->dev, (unsigned long long)size,
	    (unsigned long long)*counter, text);
	return 0;
}

/* It is opened each time: a disk that is held open keeps its name when it is gone. */
static void count(const struct disk *d, uint64_t *counter)
{
	uint64_t size;
	int fd = open_disk(d, &size);
	ssize_t n;

	if (fd < 0)
		return;
	memset(block, 0, BLOCK);
	snprintf(block, BLOCK, "%llu\n", (unsigned long long)*counter + 1);
	n = pwrite(fd, block, BLOCK, COUNTER_AT);
	if (n != BLOCK) {
		say("HCI-USB err write %d", n < 0 ? errno : 0);
	} else {
		++*counter;
		memset(block, 0, BLOCK);
		if (!read_block(fd, COUNTER_AT))
			say("HCI-USB wrote %llu read %llu", (unsigned long long)*counter, strtoull(block, NULL, 10));
	}
	close(fd);
}

int main(void)
{
	struct disk now, is = { 0 };
	uint64_t counter = 0;
	int in = 0;

	if (unshare(CLONE_NEWNS) || posix_memalign((void **)&block, BLOCK, BLOCK + 1)) {
		say("HCI-USB err start %d", errno);
		return 1;
	}
	block[BLOCK] = '\0';
	for (unsigned ms = 0;; ms += LOOK_MS, sleep_ms(LOOK_MS)) {
		int there = !find(&now);

		if (in && (!there || now.bus != is.bus || now.dev != is.dev)) {
			say("HCI-USB out %s", is.serial);
			in = 0;
		}
		if (there && !in && !greet(&now, &counter)) {
			is = now;
			in = 1;
			ms = 0;
		}
		if (in && ms >= WRITE_MS) {
			count(&is, &counter);
			ms = 0;
		}
	}
}
