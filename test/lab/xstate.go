package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// preload returns the environment in which the guest's kernel runs: with
// guest/xstate.c, which says what it is for, before what LD_PRELOAD has.
func preload(t testing.TB, dir string) []string {
	t.Helper()
	source, err := guestFiles.ReadFile("guest/xstate.c")
	if err != nil {
		t.Fatal(err)
	}
	so := filepath.Join(dir, "xstate.so")
	BuildPreload(t, so, string(source))
	if more := os.Getenv("LD_PRELOAD"); more != "" {
		so += ":" + more
	}
	return append(os.Environ(), "LD_PRELOAD="+so)
}

// BuildPreload compiles C source to the shared object out, for LD_PRELOAD.
func BuildPreload(t testing.TB, out, source string) {
	t.Helper()
	NeedTools(t, "gcc")
	c := out + ".c"
	if err := os.WriteFile(c, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	gcc := exec.CommandContext(t.Context(), "gcc", "-shared", "-fPIC", "-O1", "-fno-builtin", "-Wall", "-Wextra", "-Werror", "-o", out, c)
	if b, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("lab: %v\n%s", err, b)
	}
}
