package iserd_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/luns/scsi"
)

func TestSessionsAreCounted(t *testing.T) {
	srv, addr := start(t)
	s := connect(t, addr, nil)
	ready(t, s)
	data := make([]byte, 4096)
	for range 16 {
		if r, err := s.Exec(t.Context(), 0, cdb10(write10, 0, 8), data, 0); err != nil || r.Status != 0 {
			t.Fatal(err, r)
		}
		if r, err := s.Exec(t.Context(), 0, cdb10(read10, 0, 8), nil, 4096); err != nil || r.Status != 0 {
			t.Fatal(err, r)
		}
	}
	// A command is counted at the end of the connection's turn, a moment after its
	// initiator has the answer.
	var all []iserd.Session
	eventually(t, "16 reads are not counted", func() bool {
		all = sessions(t, srv)
		return len(all) == 1 && len(all[0].LUNs) == 1 && all[0].LUNs[0].Stats.Ops[scsi.OpRead] == 16
	})
	for where, st := range map[string]scsi.Stats{
		"session": all[0].LUNs[0].Stats, "LUN": srv.Target(testTarget).Info().LUNs[0].Stats,
	} {
		if st.Ops[scsi.OpRead] != 16 || st.Ops[scsi.OpWrite] != 16 || st.BytesRead != 16*4096 || st.BytesWritten != 16*4096 {
			t.Errorf("%s: %v reads, %v writes, %d and %d bytes", where, st.Ops[scsi.OpRead], st.Ops[scsi.OpWrite], st.BytesRead, st.BytesWritten)
		}
		if st.Latency[scsi.LatencyRead][scsi.StageTotal].Count() == 0 || st.InFlight != 0 {
			t.Errorf("%s: latency %+v, in flight %d", where, st.Latency[scsi.LatencyRead][scsi.StageTotal], st.InFlight)
		}
		if st.Sense[scsi.UnitAttention] == 0 {
			t.Errorf("%s: the unit attention of the login is not counted", where)
		}
	}
	if n := srv.LoginTotals()[0]; n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestRefusalsAreKept(t *testing.T) {
	srv, addr := start(t, iserd.Access(iserd.Allow("iqn.2026-11.com.example:friend")))
	refusedOnce := func() {
		u, _ := initiator.ParseURL("iscsi://" + addr + "/" + testTarget + "/0")
		if s, err := initiator.Connect(t.Context(), u, func(o *initiator.Options) { o.InitiatorName = "iqn.2026-11.com.example:foe" }); err == nil {
			s.Close()
			t.Fatal("let in")
		}
	}
	refusedOnce()
	refusedOnce()
	all := srv.Refusals()
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	r := all[0]
	if r.Initiator != "iqn.2026-11.com.example:foe" || r.Target != testTarget || r.Count != 2 || !r.Address.IsLoopback() ||
		!strings.Contains(r.Reason, "list of initiator names") || r.Portal != addr || r.Status != 0x0202 {
		t.Errorf("%+v", r)
	}
	if n := srv.LoginTotals()[0x0202]; n != 2 {
		t.Errorf("%d refusals counted", n)
	}
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func sessions(t *testing.T, srv *iserd.Server) []iserd.Session {
	t.Helper()
	all, err := srv.Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestReplaceKeepsSessions(t *testing.T) {
	srv, addr := start(t)
	s := connect(t, addr, func(o *initiator.Options) { o.InitiatorName = "iqn.2026-11.com.example:a" })
	ready(t, s)
	before := sessions(t, srv)[0].TSIH
	r, err := srv.Target(testTarget).Replace(iserd.Access(iserd.Allow("iqn.2026-11.com.example:a")), iserd.Alias("new"))
	if err != nil {
		t.Fatal(err)
	}
	r.Settle()
	if r, err := s.Exec(t.Context(), 0, cdb10(read10, 0, 8), nil, 4096); err != nil || r.Status != 0 {
		t.Fatal(err, r)
	}
	if all := sessions(t, srv); len(all) != 1 || all[0].TSIH != before {
		t.Fatalf("%+v", all)
	}
	if _, err := srv.Target(testTarget).Replace(); err == nil {
		t.Error("a target that admits nobody was taken")
	}
	r, err = srv.Target(testTarget).Replace(iserd.Access(iserd.Allow("iqn.2026-11.com.example:b")))
	if err != nil {
		t.Fatal(err)
	}
	r.Settle()
	eventually(t, "the session of an initiator that is not admitted any more goes on", func() bool { return len(sessions(t, srv)) == 0 })
}

func TestOffline(t *testing.T) {
	srv, addr := start(t)
	s := connect(t, addr, nil)
	ready(t, s)
	data := bytes.Repeat([]byte{7}, 512)
	if r, err := s.Exec(t.Context(), 0, cdb10(write10, 9, 1), data, 0); err != nil || r.Status != 0 {
		t.Fatal(err, r)
	}
	tg := srv.Target(testTarget)
	if err := tg.SetLUNOffline(t.Context(), 0, true); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Exec(t.Context(), 0, cdb10(read10, 9, 1), nil, 512); err != nil || r.Status == 0 {
		t.Errorf("read while offline: %v %+v", err, r)
	}
	if st := tg.Info().LUNs[0].State; st != "offline" {
		t.Error(st)
	}
	if err := tg.SetLUNOffline(t.Context(), 0, false); err != nil {
		t.Fatal(err)
	}
	ready(t, s)
	r, err := s.Exec(t.Context(), 0, cdb10(read10, 9, 1), nil, 512)
	if err != nil || !bytes.Equal(r.Data, data) {
		t.Errorf("after offline and online: %v %+v", err, r)
	}
	if err := tg.SetLUNOffline(t.Context(), 5, true); !errors.Is(err, iserd.ErrNotFound) {
		t.Error(err)
	}
	tg.SetOffline(true)
	u, _ := initiator.ParseURL("iscsi://" + addr + "/" + testTarget + "/0")
	if s, err := initiator.Connect(t.Context(), u, func(o *initiator.Options) { o.InitiatorName = "iqn.2026-11.com.example:later" }); err == nil {
		s.Close()
		t.Error("an offline target let somebody in")
	}
}

func TestResizeTo(t *testing.T) {
	srv, addr := start(t)
	s := connect(t, addr, nil)
	ready(t, s)
	tg := srv.Target(testTarget)
	if err := tg.ResizeTo(t.Context(), 0, 32<<20); err == nil {
		t.Error("shrunk")
	}
	b, err := memory.New(memory.Options{Size: 1 << 20, MaxSize: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	if err := tg.AttachLUN(t.Context(), 1, b); err != nil {
		t.Fatal(err)
	}
	if err := tg.ResizeTo(t.Context(), 1, 8<<20); err != nil {
		t.Fatal(err)
	}
	if i := tg.Info().LUNs[1]; i.Blocks != 8<<20/512 {
		t.Errorf("%+v", i)
	}
}

func TestLogoutSession(t *testing.T) {
	srv, addr := start(t)
	s := connect(t, addr, nil)
	ready(t, s)
	all := sessions(t, srv)
	if err := srv.LogoutSession(t.Context(), 0xFFFF, true); !errors.Is(err, iserd.ErrNotFound) {
		t.Error(err)
	}
	if err := srv.LogoutSession(t.Context(), all[0].TSIH, true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session goes on", func() bool { return len(sessions(t, srv)) == 0 })
}

func TestActorsByHand(t *testing.T) {
	srv, addr := start(t)
	s := connect(t, addr, nil)
	ready(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for _, a := range srv.Actors() {
		if _, _, err := srv.DescribeActor(ctx, a.Path); err != nil {
			t.Errorf("%s: %v", a.Path, err)
		}
	}
	lun := srv.Target(testTarget).Info().LUNs[0].ActorPath
	if err := srv.RestartActor(lun); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no supervision event", func() bool { return len(srv.Faults()) == 1 })
	if f := srv.Faults()[0]; f.Path != lun || f.Action != "restarted" {
		t.Errorf("%+v", f)
	}
	eventually(t, "the LUN is not back", func() bool { return srv.Target(testTarget).Info().LUNs[0].State == "online" })
	if err := srv.RestartActor("node"); !errors.Is(err, iserd.ErrForbidden) {
		t.Error(err)
	}
	if err := srv.StopActor(lun); !errors.Is(err, iserd.ErrForbidden) {
		t.Error(err)
	}
	if err := srv.StopActor("node/nothing"); !errors.Is(err, iserd.ErrNotFound) {
		t.Error(err)
	}
	if err := srv.Ping(ctx); err != nil {
		t.Error(err)
	}
}
