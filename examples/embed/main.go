// Command embed is a whole program with an iSCSI target in it: 1 GiB of memory on
// 127.0.0.1:3260, until Ctrl-C.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/luns/memory"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context) error {
	srv, err := iserd.NewServer()
	if err != nil {
		return err
	}
	defer func() {
		bye, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := srv.Shutdown(bye); err != nil {
			log.Print(err)
		}
	}()
	disk, err := memory.New(memory.Options{Size: 1 << 30})
	if err != nil {
		return err
	}
	// The server takes disk, and closes it in Shutdown.
	_, err = srv.AddTarget(ctx, "iqn.2026-11.com.example:scratch",
		iserd.AnyInitiator(),
		iserd.LUN(0, disk))
	if err != nil {
		return err
	}
	return srv.ListenAndServe(ctx, "127.0.0.1:3260")
}
