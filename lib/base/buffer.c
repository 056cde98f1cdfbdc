/* SPDX-License-Identifier: Apache-2.0 */
/* Public I/O buffers (hci/buffer.h): aligned memory, zeroed so that nothing old gets to a disk. */
#include <hci/buffer.h>

#include "base/err.h"
#include "base/mem.h"

_Static_assert(HCI_BUFFER_ALIGN == HCI_BLOCK, "public buffers are aligned as our disks want them");

int hci_buffer_alloc(void **out, uint64_t len, struct hci_error *err)
{
	if (!out)
		return err_set(err, HCI_E_INVAL,
			       "hci_buffer_alloc: out is NULL: pass where to put the buffer");
	*out = NULL;
	if (!len)
		return err_set(err, HCI_E_INVAL,
			       "hci_buffer_alloc: length is 0: ask for at least 1 byte");
	if (len > HCI_BUFFER_MAX)
		return err_set(
			err, HCI_E_RANGE,
			"hci_buffer_alloc: %llu bytes asked for, at most %d: use several buffers",
			(unsigned long long)len, HCI_BUFFER_MAX);
	*out = mem_alloc_aligned((size_t)len);
	if (!*out)
		return err_set(err, HCI_E_NOMEM,
			       "hci_buffer_alloc: no memory for %llu bytes: free some, or use "
			       "smaller buffers",
			       (unsigned long long)len);
	memset(*out, 0, ROUND_UP((size_t)len, HCI_BLOCK));
	return 0;
}

void hci_buffer_free(void *buf)
{
	mem_free_aligned(buf);
}
