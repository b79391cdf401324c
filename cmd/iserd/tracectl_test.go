package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
)

// keepBusy sends TEST UNIT READY to a LUN, and an unknown command now and then,
// until the test ends. Some have been answered when it returns.
func (r *rig) keepBusy(target string) {
	s := r.connect(target)
	for range 32 { // one in eight is measured
		if _, err := s.Exec(r.t.Context(), 0, make([]byte, 6), nil, 0); err != nil {
			r.t.Fatal(err)
		}
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			cdb := make([]byte, 6)
			if i%8 == 0 {
				cdb[0] = 0xC1
			}
			if _, err := s.Exec(r.t.Context(), 0, cdb, nil, 0); err != nil {
				return
			}
		}
	}()
	r.t.Cleanup(func() { close(stop); <-done })
}

// TestTraceCommand: lines for people and for programs.
func TestTraceCommand(t *testing.T) {
	r := newRig(t, reloadA)
	r.open(config.Console{}, nil)
	const still = "iqn.2026-11.com.example:still"
	r.keepBusy(still)
	out, errs, code := r.command("trace", "--count", "12", "--lun", still+"/0")
	if code != 0 || errs != "" {
		t.Fatalf("%d %s", code, errs)
	}
	rows := strings.Split(strings.TrimSpace(out), "\n")
	if len(rows) != 13 || !strings.HasPrefix(rows[0], "TIME") {
		t.Fatalf("%d lines:\n%s", len(rows), out)
	}
	good := regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{6}  initiator +still/0 +(TEST UNIT READY .* GOOD|opcode c1h .* CHECK CONDITION ILLEGAL REQUEST 20h/00h)$`)
	for _, row := range rows[1:] {
		if !good.MatchString(row) {
			t.Errorf("%q", row)
		}
	}
	out, _, code = r.command("trace", "--count", "1", "--errors", "-o", "json")
	var line api.Trace
	if err := json.Unmarshal([]byte(out), &line); err != nil || code != 0 || line.Command == nil || line.Command.CDB != "c10000000000"+strings.Repeat("00", 10) {
		t.Errorf("%d %v %s", code, err, out)
	}
	out, _, code = r.command("trace", "--duration", "200ms", "--slower-than", "1h")
	if code != 0 || strings.Count(out, "\n") != 1 {
		t.Errorf("%d %s", code, out)
	}
	out, _, _ = r.command("trace", "--duration", "1500ms", "--per-second", "3")
	if !regexp.MustCompile(`(?m)^… \d+ not shown$`).MatchString(out) {
		t.Errorf("nothing is said of what is not shown:\n%s", out)
	}
	for _, x := range []struct {
		args []string
		code int
	}{
		{[]string{"--lun", still + "/7"}, exitNotFound},
		{[]string{"--lun", still + "/0", "--target", "iqn.x"}, exitUsage},
		{[]string{"--session", "0x0999"}, exitNotFound},
	} {
		if _, errs, code := r.command(append([]string{"trace"}, x.args...)...); code != x.code {
			t.Errorf("%v: %d %s", x.args, code, errs)
		}
	}
}
