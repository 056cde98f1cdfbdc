/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for libFuzzer where that is not linked: feeds the empty input and then every file named
 * on the command line, or found in a folder named there, to the fuzz target. Makes no inputs
 * itself.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static unsigned replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data;
	struct stat st;
	size_t n;

	if (!f || fstat(fileno(f), &st)) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(1);
	}
	/* Exactly as large as the input, so that ASan sees the first byte read past it. */
	data = malloc(st.st_size ? (size_t)st.st_size : 1);
	n = fread(data, 1, (size_t)st.st_size, f);
	fclose(f);
	LLVMFuzzerTestOneInput(data, n);
	free(data);
	return 1;
}

static unsigned replay(const char *path)
{
	unsigned n = 0;
	struct dirent *e;
	struct stat st;
	DIR *d;

	if (stat(path, &st))
		return 0; /* a target without a corpus yet */
	if (!S_ISDIR(st.st_mode))
		return replay_file(path);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		char *sub;

		if (e->d_name[0] == '.' || asprintf(&sub, "%s/%s", path, e->d_name) < 0)
			continue;
		n += replay(sub);
		free(sub);
	}
	if (d)
		closedir(d);
	return n;
}

int main(int argc, char **argv)
{
	uint8_t nothing;
	unsigned n = 0;

	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	LLVMFuzzerTestOneInput(&nothing, 0);
	for (int i = 1; i < argc; i++)
		n += replay(argv[i]);
	printf("%u inputs replayed\n", n);
	return 0;
}
