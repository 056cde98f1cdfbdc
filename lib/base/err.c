/* SPDX-License-Identifier: Apache-2.0 */
/* Filling struct hci_error, and the names of the codes. Decides nothing about what is an error. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

_Static_assert(sizeof(struct hci_error) == 512, "the layout of struct hci_error is frozen");

static const char *const names[] = {
	"HCI_OK",          "HCI_E_INVAL",       "HCI_E_NOMEM",
	"HCI_E_NOTFOUND",  "HCI_E_EXISTS",      "HCI_E_BUSY",
	"HCI_E_RANGE",     "HCI_E_ALIGN",       "HCI_E_READONLY",
	"HCI_E_IO",        "HCI_E_NOSPACE",     "HCI_E_TIMEOUT",
	"HCI_E_CANCELLED", "HCI_E_CLOSED",      "HCI_E_FENCED",
	"HCI_E_CONFLICT",  "HCI_E_UNAVAILABLE", "HCI_E_PROTO",
	"HCI_E_VERSION",   "HCI_E_AUTH",        "HCI_E_CORRUPT",
	"HCI_E_PLUGIN",    "HCI_E_NOPLACE",     "HCI_E_UNSUPPORTED",
	"HCI_E_STATE",     "HCI_E_LIBVIRT",     "HCI_E_SYS",
	"HCI_E_AGAIN",     "HCI_E_INTERNAL",
};

const char *hci_strerror(int32_t code)
{
	if (code > 0 || code <= -(int32_t)ARRAY_SIZE(names))
		return "HCI_E_?";
	return names[-code];
}

/* A message is one line whatever came in with its arguments, and whole UTF-8 where it was cut. */
static void tidy(char *s, size_t cap)
{
	size_t n = strlen(s), start = n, width;

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			s[i] = ' ';
	if (n + 1 < cap)
		return;
	while (start && ((unsigned char)s[start - 1] & 0xc0) == 0x80)
		start--;
	if (!start || !((unsigned char)s[start - 1] & 0x80))
		return;
	start--;
	width = (unsigned char)s[start] >= 0xf0 ? 4 : (unsigned char)s[start] >= 0xe0 ? 3 : 2;
	if (n - start < width)
		s[start] = 0;
}

/* Through a buffer: callers may quote the message that is there in the new one. */
static size_t format(struct hci_error *err, const char *fmt, va_list ap)
{
	char text[sizeof(err->message)];

	memset(text, 0,
	       sizeof(text)); /* all of it is copied out: nothing of the stack may go along */
	vsnprintf(text, sizeof(text), fmt, ap);
	memcpy(err->message, text, sizeof(text));
	return strlen(err->message);
}

int err_set(struct hci_error *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	format(err, fmt, ap);
	va_end(ap);
	err->code = code;
	err->os_errno = 0;
	tidy(err->message, sizeof(err->message));
	return code;
}

int err_sys(struct hci_error *err, int code, int os_errno, const char *fmt, ...)
{
	char text[128];
	va_list ap;
	size_t n;

	if (!err)
		return code;
	va_start(ap, fmt);
	n = format(err, fmt, ap);
	va_end(ap);
	err->code = code;
	err->os_errno = os_errno;
	/* strerror() shares a buffer between threads, strerror_r() does not. */
	snprintf(err->message + n, sizeof(err->message) - n, ": %s",
		 strerror_r(os_errno, text, sizeof(text)));
	tidy(err->message, sizeof(err->message));
	return code;
}

int err_prefix(struct hci_error *err, const char *fmt, ...)
{
	char old[sizeof(err->message)];
	va_list ap;
	size_t n;

	if (!err)
		return HCI_E_INTERNAL;
	memcpy(old, err->message, sizeof(old));
	old[sizeof(old) - 1] = 0;
	va_start(ap, fmt);
	vsnprintf(err->message, sizeof(err->message), fmt, ap);
	va_end(ap);
	n = strlen(err->message);
	snprintf(err->message + n, sizeof(err->message) - n, ": %s", old);
	tidy(err->message, sizeof(err->message));
	return err->code;
}

int err_copy(struct hci_error *dst, const struct hci_error *src, int code)
{
	if (!src) {
		if (dst)
			err_set(dst, code, "%s", hci_strerror(code));
		return code;
	}
	if (dst && dst != src)
		*dst = *src;
	return src->code;
}

int err_from_errno(int os_errno)
{
	switch (os_errno) {
	case 0:
		return HCI_OK;
	case EINVAL:
	case ENAMETOOLONG:
	case EBADF:
	case ENOTDIR:
	case EISDIR:
		return HCI_E_INVAL;
	case ENOMEM:
		return HCI_E_NOMEM;
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return HCI_E_NOTFOUND;
	case EEXIST:
	case EADDRINUSE:
		return HCI_E_EXISTS;
	case EBUSY:
	case ETXTBSY:
		return HCI_E_BUSY;
	case ERANGE:
	case EFBIG:
	case EOVERFLOW:
		return HCI_E_RANGE;
	case EROFS:
		return HCI_E_READONLY;
	case EIO:
	case EUCLEAN:
	case EREMOTEIO:
		return HCI_E_IO;
	case ENOSPC:
	case EDQUOT:
		return HCI_E_NOSPACE;
	case ETIMEDOUT:
		return HCI_E_TIMEOUT;
	case ECANCELED:
		return HCI_E_CANCELLED;
	case EPIPE:
	case ECONNRESET:
	case ECONNABORTED:
	case ESHUTDOWN:
		return HCI_E_CLOSED;
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENETDOWN:
		return HCI_E_UNAVAILABLE;
	case EOPNOTSUPP:
	case ENOSYS:
		return HCI_E_UNSUPPORTED;
	case EAGAIN:
		return HCI_E_AGAIN;
	default:
		return HCI_E_SYS;
	}
}
