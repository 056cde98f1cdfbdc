/* SPDX-License-Identifier: Apache-2.0 */
/* The rule for names of objects. */
#include "base/names.h"

#include <stdio.h>

#include "base/err.h"

#define QUOTED_MAX 40 /* bytes of a wrong name that its message shows */

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* The name's first bytes, those that are not printable ASCII as \xNN. */
static void quote(const char *name, char *out, size_t cap)
{
	size_t n = 0, i;

	for (i = 0; name[i] && i < QUOTED_MAX; i++) {
		unsigned char c = (unsigned char)name[i];
		bool plain = c >= 0x20 && c < 0x7f && c != '\\' && c != '"';

		n += (size_t)snprintf(out + n, cap - n, plain ? "%c" : "\\x%02x", c);
	}
	if (name[i])
		snprintf(out + n, cap - n, "...");
}

int name_check(const char *name, const char *what, struct hci_error *err)
{
	char shown[QUOTED_MAX * 4 + 4] = "";
	size_t n;

	if (!name)
		return err_set(err, HCI_E_INVAL, "%s name is NULL: give it one", what);
	n = strnlen(name, HCI_NAME_MAX);
	quote(name, shown, sizeof(shown));
	if (!n)
		return err_set(err, HCI_E_INVAL,
			       "%s name \"\" is empty: give it 1 to %d characters", what,
			       HCI_NAME_MAX - 1);
	if (n == HCI_NAME_MAX)
		return err_set(err, HCI_E_INVAL,
			       "%s name \"%s\" is too long: at most %d characters", what, shown,
			       HCI_NAME_MAX - 1);
	if (!is_alnum(name[0]))
		return err_set(
			err, HCI_E_INVAL,
			"%s name \"%s\" begins with another character than a letter or digit", what,
			shown);
	for (size_t i = 1; i < n; i++)
		if (!is_alnum(name[i]) && !strchr("._-", name[i]))
			return err_set(
				err, HCI_E_INVAL,
				"%s name \"%s\" has an odd character at position %zu: use letters, "
				"digits, '.', '_' and '-'",
				what, shown, i + 1);
	return 0;
}
