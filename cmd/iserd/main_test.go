package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	// No daemon of a test makes a console that it was not asked for.
	if _, ok := os.LookupEnv(consoleEnv); !ok {
		os.Setenv(consoleEnv, "off")
	}
	// Puts a program "iserd", this test binary, on the PATH of all tests.
	testscript.Main(m, map[string]func(){"iserd": main})
}

// TestScripts runs the command lines in testdata/script and compares what they
// print and their exit codes.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: freePorts,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":   exits,
			"waitfor": waitFor,
		},
		RequireExplicitExec: true,
	})
}

// exits CODE PROGRAM ARG… runs a program and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = exitCodeOf(err)
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s (%v)\n%s%s", code, args[0], err, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// waitFor FILE waits until there is a file.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfor FILE")
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(args[0]); err == nil {
			return
		}
	}
	ts.Fatalf("there is no %s", args[0])
}

// freePorts puts a port that is free now into the place of PORT in *.hcl.
func freePorts(env *testscript.Env) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(env.WorkDir, "*.hcl"))
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(name, bytes.ReplaceAll(text, []byte("PORT"), []byte(port)), 0o600); err != nil {
			return err
		}
	}
	return err
}
