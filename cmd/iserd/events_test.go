package main

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
)

// TestOperatorSeesRestart: a fault that is injected from the command line is
// answered by supervision, and the operator sees what crashed, on what, and what
// was done, in each of the places.
func TestOperatorSeesRestart(t *testing.T) {
	r := newRig(t, reloadA+"console { fault_injection = true }\n")
	r.open(config.Console{}, nil)
	s := r.connect("iqn.2026-11.com.example:still")
	const lun = "node/lun-iqn.2026-11.com.example:still:0"
	out, errs, code := r.command("debug", "inject", lun, "panic")
	if code != 0 || out != lun+": panic injected\n" {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	var a api.Actor
	for end := time.Now().Add(patience); a.Restarts == 0 || a.State != "running"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not restarted: %+v", a)
		}
		out, _, _ := r.command("actors", "describe", lun, "-o", "json")
		if err := json.Unmarshal([]byte(out), &a); err != nil {
			t.Fatal(err, out)
		}
	}
	if len(a.Faults) != 1 || a.Faults[0].Panic != "injected fault" || a.Faults[0].Action != "restarted" || !strings.Contains(a.Faults[0].Stack, "goroutine ") {
		t.Errorf("%+v", a.Faults)
	}
	for args, want := range map[string]string{
		"actors " + lun:         `(?m)^restarts +1$[\s\S]*injected fault +restarted`,
		"actors":                `lun-iqn.2026-11.com.example:still:0 +online +0 +1 `,
		"actors faults --stack": `(?s)lun-iqn.2026-11.com.example:still:0  on actors.crash: injected fault; restarted\ngoroutine .*fallible`,
		"events":                `(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  fault +` + lun + ` panicked on crash: injected fault; restarted after \d+ms$`,
		"status":                `(?m)^faults +1$`,
	} {
		if out, _, code := r.command(strings.Fields(args)...); code != 0 || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: %d, no %s in\n%s", args, code, want, out)
		}
	}
	// The session has survived it.
	for range 10 {
		if res, err := s.Exec(t.Context(), 0, make([]byte, 6), nil, 0); err != nil {
			t.Fatal(err)
		} else if res.Status == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the LUN does not come back")
}

// TestInject: the other faults, and what is refused.
func TestInject(t *testing.T) {
	r := newRig(t, reloadA+"console { fault_injection = true }\n")
	cl := r.open(config.Console{}, nil)
	s := r.connect("iqn.2026-11.com.example:still")
	const sessions = "node/sessions"
	begun := time.Now()
	if _, errs, code := r.command("debug", "inject", sessions, "delay", "--for", "300ms"); code != 0 {
		t.Fatal(errs)
	}
	if _, err := cl.Sessions(t.Context()); err != nil || time.Since(begun) < 250*time.Millisecond {
		t.Errorf("an actor that is delayed answers after %v: %v", time.Since(begun), err)
	}
	all, err := cl.Sessions(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatal(err, all)
	}
	if _, errs, code := r.command("debug", "inject", all[0].Actor, "stop"); code != 0 {
		t.Fatal(errs)
	}
	<-s.Done()
	r.connect("iqn.2026-11.com.example:still") // they come back
	for _, x := range []struct {
		args string
		code int
		want string
	}{
		{"node panic", exitRuntime, "daemon itself"},
		{"node stop", exitRuntime, "daemon itself"},
		{"node/nobody panic", exitNotFound, "node/nobody"},
		{sessions + " tickle", exitConfig, "panic, stop or delay"},
		{sessions + " delay --for 1h", exitConfig, "at most 30s"},
	} {
		if _, errs, code := r.command(append([]string{"debug", "inject"}, strings.Fields(x.args)...)...); code != x.code || !strings.Contains(errs, x.want) {
			t.Errorf("%s: %d %s", x.args, code, errs)
		}
	}
}

// TestInjectIsGuarded: nothing without the configuration's word.
func TestInjectIsGuarded(t *testing.T) {
	r := newRig(t, reloadA)
	r.open(config.Console{}, nil)
	for _, kind := range []string{"panic", "stop", "delay"} {
		_, errs, code := r.command("debug", "inject", "node/sessions", kind)
		if code != exitRuntime || !strings.Contains(errs, "console { fault_injection = true }") {
			t.Errorf("%s: %d %s", kind, code, errs)
		}
	}
	if out, _, _ := r.command("events"); strings.Contains(out, "fault") {
		t.Error(out)
	}
}

// TestKeptEvents: what has happened is told to those that come later, each event
// once.
func TestKeptEvents(t *testing.T) {
	r := newRig(t, reloadA)
	cl := r.open(config.Console{}, nil)
	reload := func(text string) {
		t.Helper()
		r.write(text)
		r.command("config", "reload")
	}
	reload(strings.Replace(reloadA, `"one"`, `"two"`, 1))
	reload("nonsense {")
	if out, code := readSome(t, r.addr, "iqn.2026-11.com.example:none"); code == "0" {
		t.Fatal("there is such a target:", out)
	}
	reload(strings.Replace(reloadA, `"one"`, `"two"`, 1))
	out, _, code := r.command("events")
	for _, want := range []string{
		`config +applied: 1 change\n`,
		`config +not applied, the old one stays in force: .*iserd.hcl:1`,
		`refusal +iqn\.\S+:bench from 127\.0\.0\.1: there is no target iqn.2026-11.com.example:none\n`,
		`config +reloaded, nothing has changed\n`,
	} {
		if code != 0 || !regexp.MustCompile(`\d  `+want).MatchString(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen []string
	err := cl.Events(ctx, api.EventOptions{Kept: true, Follow: true}, func(e api.Event) {
		seen = append(seen, e.Name)
		switch len(seen) {
		case 4:
			go func() { _, _ = cl.Reload(ctx) }()
		case 5:
			cancel()
		}
	})
	if !slices.Equal(seen, []string{"config", "config", "refusal", "config", "config"}) {
		t.Errorf("%v %v", seen, err)
	}
}
