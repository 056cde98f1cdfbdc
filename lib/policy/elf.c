/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is a file a whole shared object? The dynamic linker maps what the program headers promise without
 * asking for the file's size: a plugin whose copy was cut off would end the process with SIGBUS.
 * What else may be wrong with an ELF file (machine, symbols) the linker says itself.
 */
#include "policy/policy_impl.h"

#include <elf.h>
#include <link.h>
#include <unistd.h>

#include "base/err.h"

#define PHDRS_MAX 128

static int read_at(int fd, void *out, size_t n, uint64_t size, uint64_t offset)
{
	if (offset > size || n > size - offset)
		return -1;
	return pread(fd, out, n, (off_t)offset) == (ssize_t)n ? 0 : -1;
}

int plugin_check_elf(int fd, uint64_t size, const char *path, struct hci_error *err)
{
	ElfW(Phdr) ph[PHDRS_MAX];
	ElfW(Ehdr) eh;

	if (read_at(fd, &eh, sizeof(eh), size, 0) || memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 ||
	    eh.e_type != ET_DYN)
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: not a shared object: name the plugin's .so file", path);
	if (eh.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32))
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: made for machines of another word size: rebuild it",
			       path);
	if (eh.e_phentsize != sizeof(ph[0]) || !eh.e_phnum || eh.e_phnum > PHDRS_MAX)
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: damaged, its headers make no sense: install it again",
			       path);
	if (read_at(fd, ph, eh.e_phnum * sizeof(ph[0]), size, eh.e_phoff))
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: cut off, its headers are missing: install it again",
			       path);
	for (unsigned i = 0; i < eh.e_phnum; i++)
		if (ph[i].p_type == PT_LOAD &&
		    (ph[i].p_offset > size || ph[i].p_filesz > size - ph[i].p_offset))
			return err_set(err, HCI_E_PLUGIN,
				       "plugin %s: cut off after %llu bytes: install it again",
				       path, (unsigned long long)size);
	return 0;
}
