package native_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/iser/verbs/native"
	"github.com/iserd/iserd/iser/verbs/verbstest"
)

// The acceptance suite, between two addresses that RDMA devices have. The VM
// of test/vmlab, which has soft-RoCE, runs it.
func TestVerbs(t *testing.T) {
	target, initiator := os.Getenv("ISERD_VERBS_TARGET"), os.Getenv("ISERD_VERBS_INITIATOR")
	if target == "" || initiator == "" {
		t.Skip("set ISERD_VERBS_TARGET and ISERD_VERBS_INITIATOR to addresses of RDMA devices (test/vmlab does)")
	}
	p := native.New()
	verbstest.Run(t, verbstest.Config{
		Provider:  p,
		Target:    netip.MustParseAddr(target),
		Initiator: netip.MustParseAddr(initiator),
	})
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// The target's device goes away and comes back: soft-RoCE on the interface
// ISERD_VERBS_NETDEV.
func TestRemoval(t *testing.T) {
	netdev := os.Getenv("ISERD_VERBS_NETDEV")
	if netdev == "" {
		t.Skip("set ISERD_VERBS_NETDEV to the target's interface, with device rxe0 (test/vmlab does)")
	}
	p := native.New()
	run := func(args ...string) func() error {
		return func() error {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%v: %w: %s", args, err, out)
			}
			return nil
		}
	}
	verbstest.RunRemoval(t, verbstest.Config{
		Provider:  p,
		Target:    netip.MustParseAddr(os.Getenv("ISERD_VERBS_TARGET")),
		Initiator: netip.MustParseAddr(os.Getenv("ISERD_VERBS_INITIATOR")),
	}, verbstest.Link{
		Remove: run("rdma", "link", "delete", "rxe0"),
		Add:    run("rdma", "link", "add", "rxe0", "type", "rxe", "netdev", netdev),
		Down:   run("ip", "link", "set", netdev, "down"),
		Up:     run("ip", "link", "set", netdev, "up"),
	})
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// Where there is no device, or no library, all that happens is a message.
func TestWithoutDevice(t *testing.T) {
	p := native.New()
	devices, err := p.Devices()
	if len(devices) > 0 {
		t.Skip("this machine has an RDMA device")
	}
	t.Log(err)
	if !errors.Is(err, verbs.ErrNoDevice) && !errors.Is(err, verbs.ErrUnavailable) {
		t.Errorf("Devices: %v", err)
	}
	_, err = p.NewCM()
	t.Log(err)
	if !errors.Is(err, verbs.ErrNoDevice) && !errors.Is(err, verbs.ErrUnavailable) {
		t.Errorf("NewCM: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}
