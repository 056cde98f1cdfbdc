/* SPDX-License-Identifier: Apache-2.0 */
/* Tables for people, JSON for programs, from the same calls. */
#include "cli.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COLS 24

struct cell {
	char *text, *json;
};

struct table {
	bool json, single;
	char *keys[COLS]; /* headings */
	char *json_keys[COLS];
	int ncols, at;
	struct cell (*rows)[COLS];
	size_t n, cap;
};

static void *grab(void *p)
{
	if (!p) {
		fputs("hcictl: out of memory\n", stderr);
		exit(EXIT_FAILED);
	}
	return p;
}

struct table *table_new(const struct cli *cli, bool single)
{
	struct table *t = grab(calloc(1, sizeof(*t)));

	t->json = cli->json;
	t->single = single;
	if (single)
		table_row(t);
	return t;
}

void table_row(struct table *t)
{
	if (t->n == t->cap) {
		t->cap = t->cap ? 2 * t->cap : 16;
		t->rows = grab(reallocarray(t->rows, t->cap, sizeof(*t->rows)));
	}
	memset(&t->rows[t->n++], 0, sizeof(*t->rows));
	t->at = 0;
}

/* Takes over text and json. */
static void cell(struct table *t, const char *key, const char *json_suffix, char *text, char *json)
{
	if (t->at >= COLS)
		abort();
	if (t->at == t->ncols) {
		size_t len = strlen(key) + strlen(json_suffix) + 1;

		t->keys[t->ncols] = grab(strdup(key));
		t->json_keys[t->ncols] = grab(malloc(len));
		snprintf(t->json_keys[t->ncols], len, "%s%s", key, json_suffix);
		for (char *p = t->json_keys[t->ncols]; *p; p++)
			*p = *p == ' ' ? '_' : (char)tolower(*p);
		t->ncols++;
	}
	t->rows[t->n - 1][t->at++] = (struct cell){ text, json };
}

static char *quoted(const char *s)
{
	char *out = NULL;
	size_t len;
	FILE *f = grab(open_memstream(&out, &len));

	json_string(f, s);
	fclose(f);
	return grab(out);
}

static char *printed(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return grab(s);
}

void cell_text(struct table *t, const char *key, const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	grab(s);
	cell(t, key, "", s, quoted(s));
}

void cell_number(struct table *t, const char *key, uint64_t v)
{
	cell(t, key, "", printed("%llu", (unsigned long long)v),
	     printed("%llu", (unsigned long long)v));
}

void cell_real(struct table *t, const char *key, double v)
{
	cell(t, key, "", printed("%.2f", v), printed("%.6g", v));
}

void cell_bool(struct table *t, const char *key, bool v)
{
	cell(t, key, "", printed("%s", v ? "yes" : "no"), printed("%s", v ? "true" : "false"));
}

const char *size_text(uint64_t bytes, char buf[24])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	int u = 0;

	while (v >= 1024 && u < 6) {
		v /= 1024;
		u++;
	}
	snprintf(buf, 24, v < 10 && u && v != (double)(int)v ? "%.1f %s" : "%.0f %s", v, units[u]);
	return buf;
}

void cell_size(struct table *t, const char *key, uint64_t bytes)
{
	char buf[24];

	cell(t, key, "_bytes", printed("%s", size_text(bytes, buf)),
	     printed("%llu", (unsigned long long)bytes));
}

void cell_time(struct table *t, const char *key, uint64_t ns)
{
	time_t s = (time_t)(ns / 1000000000u);
	char buf[40] = "-";
	struct tm tm;

	if (ns)
		strftime(buf, sizeof(buf), "%F %T", localtime_r(&s, &tm));
	cell(t, key, "", printed("%s", buf),
	     printed("%llu.%03llu", (unsigned long long)s,
		     (unsigned long long)(ns / 1000000 % 1000)));
}

void json_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(f, "\\u%04x", c);
		else
			fputc(c, f);
	}
	fputc('"', f);
}

static void print_json(const struct table *t)
{
	if (!t->single)
		putchar('[');
	for (size_t r = 0; r < t->n; r++) {
		printf("%s{", r ? ",\n " : "");
		for (int c = 0; c < t->ncols; c++) {
			printf("%s", c ? ", " : "");
			json_string(stdout, t->json_keys[c]);
			printf(": %s", t->rows[r][c].json ? t->rows[r][c].json : "null");
		}
		putchar('}');
	}
	puts(t->single ? "" : "]");
}

/* Columns, so that multi-byte characters do not push the rest aside. */
static int width(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void print_padded(const char *s, int w)
{
	printf("%s%*s", s, w > width(s) ? w - width(s) : 0, "");
}

static void print_table(const struct table *t)
{
	int w[COLS] = { 0 };

	for (int c = 0; c < t->ncols; c++) {
		w[c] = width(t->keys[c]);
		for (size_t r = 0; r < t->n; r++)
			if (t->rows[r][c].text && width(t->rows[r][c].text) > w[c])
				w[c] = width(t->rows[r][c].text);
	}
	for (int c = 0; c < t->ncols; c++)
		print_padded(t->keys[c], c + 1 < t->ncols ? w[c] + 2 : 0);
	if (t->ncols)
		putchar('\n');
	for (size_t r = 0; r < t->n; r++) {
		for (int c = 0; c < t->ncols; c++)
			print_padded(t->rows[r][c].text ? t->rows[r][c].text : "",
				     c + 1 < t->ncols ? w[c] + 2 : 0);
		putchar('\n');
	}
	if (!t->n)
		puts("(none)");
}

static void print_single(const struct table *t)
{
	int w = 0;

	for (int c = 0; c < t->ncols; c++)
		if (width(t->keys[c]) > w)
			w = width(t->keys[c]);
	for (int c = 0; c < t->ncols; c++) {
		print_padded(t->keys[c], w + 2);
		puts(t->rows[0][c].text);
	}
}

int table_print(struct table *t)
{
	if (t->json)
		print_json(t);
	else if (t->single)
		print_single(t);
	else
		print_table(t);
	fflush(stdout);
	for (size_t r = 0; r < t->n; r++) {
		for (int c = 0; c < t->ncols; c++) {
			free(t->rows[r][c].text);
			free(t->rows[r][c].json);
		}
	}
	for (int c = 0; c < t->ncols; c++) {
		free(t->keys[c]);
		free(t->json_keys[c]);
	}
	free(t->rows);
	free(t);
	return EXIT_FINE;
}
