/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/types.h
 * What every other header needs: export marker, opaque handles, identifiers.
 *
 * ABI rules (docs/conventions.md): fixed-width integers only; handles are opaque and reference
 * counted; every options struct begins with its size in bytes.
 */
#ifndef HCI_TYPES_H
#define HCI_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define HCI_BEGIN_DECLS extern "C" {
#define HCI_END_DECLS }
#else
#define HCI_BEGIN_DECLS
#define HCI_END_DECLS
#endif

#if defined(__GNUC__)
#define HCI_API __attribute__((visibility("default")))
#else
#define HCI_API
#endif

HCI_BEGIN_DECLS

typedef struct hci_cluster hci_cluster;
typedef struct hci_node hci_node;
typedef struct hci_volume hci_volume;
typedef struct hci_queue hci_queue;
typedef struct hci_job hci_job;
typedef struct hci_export hci_export;
typedef struct hci_vm hci_vm;

/** Bytes of a name in its buffer, with the closing NUL: names are 1..63 of [A-Za-z0-9._-], first one a letter or digit. */
#define HCI_NAME_MAX 64
/** Bytes of a printed UUID with the closing NUL. */
#define HCI_UUID_STR 37

HCI_END_DECLS
#endif
