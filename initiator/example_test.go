package initiator_test

import (
	"context"
	"fmt"
	"time"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// Log in, read the first block, log out.
func ExampleConnect() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	u, err := initiator.ParseURL("iscsi://127.0.0.1/iqn.2026-11.com.example:disk/0")
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := initiator.Connect(ctx, u, func(o *initiator.Options) { o.HeaderDigest = "CRC32C" })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	read10 := []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}
	r, err := s.Exec(ctx, pdu.LUNOf(u.LUN), read10, nil, 512)
	if err == nil {
		err = r.Err() // CHECK CONDITION and the like
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("% x\n", r.Data[:16])
	_ = s.Logout(ctx)
}
