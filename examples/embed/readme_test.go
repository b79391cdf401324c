package main

import (
	"os"
	"strings"
	"testing"
)

// TestReadme: the program in README.md is this one.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "```go\n")
	snippet, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("no program in README.md")
	}
	at := 0
	for line := range strings.SplitSeq(snippet, "\n") {
		n := strings.Index(string(program[at:]), strings.TrimSpace(line))
		if n < 0 {
			t.Fatalf("%q of README.md is not in main.go, or not in that order", line)
		}
		at += n + len(strings.TrimSpace(line))
	}
}
