package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
)

const oneTarget = `
portal_group "p" {
  tag = 1
  portal "127.0.0.1:PORT" {
    TRANSPORT
  }
}
backend "memory" "m" { size = "16MiB" }
target "iqn.2026-11.com.example:one" {
  insecure = true
  lun "0" { backend = backend.memory.m }
}
`

// overISER logs in over iSER.
func (r *rig) overISER() (*initiator.Session, error) {
	c, err := rdma.Dial(r.t.Context(), softiwarp.New(softiwarp.Config{}), netip.MustParseAddrPort(r.addr), rdma.Options{})
	if err != nil {
		return nil, err
	}
	s, err := initiator.Login(r.t.Context(), c, initiator.Options{TargetName: "iqn.2026-11.com.example:one", Extra: rdma.Keys()})
	if err == nil {
		r.t.Cleanup(func() { s.Close() })
	}
	return s, err
}

func (r *rig) overTCP() (*initiator.Session, error) {
	u, err := initiator.ParseURL(fmt.Sprintf("iscsi://%s/iqn.2026-11.com.example:one/0", r.addr))
	if err != nil {
		return nil, err
	}
	s, err := initiator.Connect(r.t.Context(), u, nil)
	if err == nil {
		r.t.Cleanup(func() { s.Close() })
	}
	return s, err
}

// TestReloadTransport: a reload changes what a portal carries; sessions that are
// there go on.
func TestReloadTransport(t *testing.T) {
	text := func(transport string) string { return strings.Replace(oneTarget, "TRANSPORT", transport, 1) }
	r := newRig(t, text(""))
	var all []*initiator.Session
	for _, step := range []struct {
		transport string
		tcp, iser bool
	}{
		{"", true, true},
		{`transport = "tcp"`, true, false},
		{`transport = "iser"`, false, true},
		{`transport = "auto"`, true, true},
		{"iser {\n remote_invalidation = false \n}", true, true},
	} {
		r.write(text(step.transport))
		if _, _, err := r.ctl.reload(t.Context()); err != nil {
			t.Fatalf("%s: %v", step.transport, err)
		}
		p := r.ctl.d.server.Portals()
		if len(p) != 1 || p[0].TCP != step.tcp || (len(p[0].ISER) == 1) != step.iser {
			t.Fatalf("%s: portals %+v", step.transport, p)
		}
		if step.tcp {
			s, err := r.overTCP()
			if err != nil {
				t.Fatalf("%s: %v", step.transport, err)
			}
			all = append(all, s)
		}
		if step.iser {
			s, err := r.overISER()
			if err != nil {
				t.Fatalf("%s: %v", step.transport, err)
			}
			all = append(all, s)
		}
		for i, s := range all {
			if _, err := s.NOP(t.Context(), []byte("still there?")); err != nil {
				t.Errorf("%s: session %d: %v", step.transport, i, err)
			}
		}
	}
}
