// SPDX-License-Identifier: Apache-2.0

// Package hci is libhci from Go, as far as a program needs it that reads and writes volumes. More calls are wrapped the
// same way: cgo reads include/hci as it is; an options struct begins with its own size, what is left zero is the default.
package hci

/*
#cgo LDFLAGS: -lhci
#include <stdlib.h>
#include <hci/hci.h>
*/
import "C"

import (
	"path/filepath"
	"unsafe"
)

// Error is what libhci said: Code is the negative HCI_E_*, Name its name.
type Error struct {
	Code          int
	Name, Message string
}

func (e *Error) Error() string { return e.Message + " (" + e.Name + ")" }

func failed(rc C.int, e *C.struct_hci_error) error {
	if rc >= 0 {
		return nil
	}
	return &Error{int(rc), C.GoString(C.hci_strerror(C.int32_t(rc))), C.GoString(&e.message[0])}
}

// Cluster is an open cluster. Safe for concurrent use.
type Cluster struct{ p *C.hci_cluster }

// Open opens the cluster whose metadata is in store, in the name of name. certs is the directory that `hcictl pki issue`
// filled for that name; "" is without TLS.
func Open(store, name, certs string) (*Cluster, error) {
	var lent []*C.char // libhci reads strings during the call only
	text := func(s string) *C.char {
		if s == "" {
			return nil
		}
		lent = append(lent, C.CString(s))
		return lent[len(lent)-1]
	}
	defer func() {
		for _, s := range lent {
			C.free(unsafe.Pointer(s))
		}
	}()
	o := C.struct_hci_cluster_opts{size: C.sizeof_struct_hci_cluster_opts, store_url: text(store), client_name: text(name)}
	if certs != "" {
		o.ca_file = text(filepath.Join(certs, "ca.crt"))
		o.cert_file = text(filepath.Join(certs, "node.crt"))
		o.key_file = text(filepath.Join(certs, "node.key"))
	}
	var e C.struct_hci_error
	c := &Cluster{}
	if err := failed(C.hci_cluster_open(&c.p, &o, &e), &e); err != nil {
		return nil, err
	}
	return c, nil
}

// Close gives the reference back; nobody may use c after that.
func (c *Cluster) Close() error {
	C.hci_cluster_unref(c.p)
	c.p = nil
	return nil
}

// Volume is an attached volume: an io.ReaderAt and io.WriterAt, safe for concurrent use. Offsets and lengths are multiples
// of BlockSize.
type Volume struct{ p *C.hci_volume }

// Attach makes us the volume's only writer until Close; it waits for a writer that died for up to waitMs.
func (c *Cluster) Attach(name string, waitMs uint32) (*Volume, error) {
	o := C.struct_hci_attach_opts{size: C.sizeof_struct_hci_attach_opts, wait_ms: C.uint32_t(waitMs)}
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	var e C.struct_hci_error
	v := &Volume{}
	if err := failed(C.hci_volume_attach(&v.p, c.p, s, &o, &e), &e); err != nil {
		return nil, err
	}
	return v, nil
}

// Close detaches.
func (v *Volume) Close() error {
	C.hci_volume_unref(v.p)
	v.p = nil
	return nil
}

// Size is that of the volume in bytes.
func (v *Volume) Size() int64 { return int64(C.hci_volume_size(v.p)) }

// BlockSize is the unit of offsets and lengths.
func (v *Volume) BlockSize() int { return int(C.hci_volume_block_size(v.p)) }

// WriteAt returns when every in-sync replica has b on stable media. The call blocks a thread, not the other goroutines.
func (v *Volume) WriteAt(b []byte, off int64) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	var e C.struct_hci_error
	if err := failed(C.hci_volume_pwrite(v.p, unsafe.Pointer(&b[0]), C.uint64_t(len(b)), C.uint64_t(off), &e), &e); err != nil {
		return 0, err
	}
	return len(b), nil
}

// ReadAt fills b.
func (v *Volume) ReadAt(b []byte, off int64) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	var e C.struct_hci_error
	if err := failed(C.hci_volume_pread(v.p, unsafe.Pointer(&b[0]), C.uint64_t(len(b)), C.uint64_t(off), &e), &e); err != nil {
		return 0, err
	}
	return len(b), nil
}
