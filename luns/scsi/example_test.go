package scsi_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/luns/scsi"
)

// A logical unit over memory, and one READ of its first block.
func Example() {
	var b luns.Backend
	b, err := memory.New(memory.Options{Size: 1 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	unit, err := scsi.NewUnit(scsi.Config{Vendor: "ISERD", Product: "DISK", Serial: "1", Thin: true}, b)
	if err != nil {
		fmt.Println(err)
		return
	}
	port := scsi.NewPort()
	port.Publish(unit)
	nexus := port.Attach(&scsi.ITNexus{InitiatorName: "iqn.2024-01.org.example:host"})

	read := &scsi.Command{Nexus: nexus, CDB: []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}}
	for range 2 {
		if read.Decode() {
			read.TryExec() // memory never has to wait, so it is done
		}
		fmt.Println(read.Status, len(read.In), bytes.Equal(read.In, make([]byte, len(read.In))))
		fmt.Printf("% x\n", read.Sense)
		read.Release()
	}

	nexus.Detach()
	if err := port.Revoke(context.Background()); err != nil {
		fmt.Println(err)
	}
	unit.Close()
	fmt.Println(b.Close())
	// Output:
	// CHECK CONDITION 0 true
	// 70 00 06 00 00 00 00 0a 00 00 00 00 29 00 00 00 00 00
	// GOOD 512 true
	//
	// <nil>
}
