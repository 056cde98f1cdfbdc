// SPDX-License-Identifier: Apache-2.0

// Writes a block of a volume and reads it back: volume-io VOLUME; the cluster as hcictl takes it, from HCI_STORE, HCI_NAME
// and HCI_CERT_DIR.
package main

import (
	"bytes"
	"fmt"
	"os"

	"libhci-example/hci"
)

func run(name string) error {
	cluster, err := hci.Open(os.Getenv("HCI_STORE"), os.Getenv("HCI_NAME"), os.Getenv("HCI_CERT_DIR"))
	if err != nil {
		return err
	}
	defer cluster.Close()
	volume, err := cluster.Attach(name, 10000)
	if err != nil {
		return err
	}
	defer volume.Close()
	fmt.Printf("%d bytes in blocks of %d\n", volume.Size(), volume.BlockSize())

	block, read := make([]byte, volume.BlockSize()), make([]byte, volume.BlockSize())
	copy(block, "It was a bright cold day in April")
	at := int64(len(block))
	if _, err = volume.WriteAt(block, at); err != nil {
		return err
	}
	if _, err = volume.ReadAt(read, at); err != nil {
		return err
	}
	fmt.Printf("read: %s\n", bytes.TrimRight(read, "\x00"))
	if !bytes.Equal(read, block) {
		return fmt.Errorf("what was read is not what was written")
	}
	_, err = volume.WriteAt([]byte("short"), 0)
	if refused, ok := err.(*hci.Error); !ok || refused.Name != "HCI_E_ALIGN" {
		return fmt.Errorf("a write of five bytes was not refused: %v", err)
	}
	fmt.Println("refused:", err)
	return nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: volume-io VOLUME")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
