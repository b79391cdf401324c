package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/iserd/iserd/config"
)

var update = flag.Bool("update", false, "write testdata/json.txt")

// shape lists the members of a JSON value with their types, sorted: lists by
// their elements, empty ones and null as such.
func shape(path string, v any, out map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if counter(path) {
				k = "*"
			}
			shape(path+"."+k, x, out)
		}
	case []any:
		for _, x := range v {
			shape(path+"[]", x, out)
		}
		if len(v) == 0 {
			out[path+"[] (empty)"] = true
		}
	default:
		out[fmt.Sprintf("%s %s", path, strings.TrimPrefix(fmt.Sprintf("%T", v), "<nil>"))] = true
	}
}

// counter reports whether the names of a member are data, such as those of
// commands that were counted, and not a part of the shape.
func counter(path string) bool {
	for _, s := range []string{".ops", ".errors", ".levels", ".details", ".data"} {
		if strings.HasSuffix(path, s) || strings.Contains(path, s+".") {
			return true
		}
	}
	return false
}

// jsonCases are what is asked of each command that prints JSON. It is in order:
// what one makes the next shows.
func jsonCases(r *rig, dir string) [][]string {
	const still, made = "iqn.2026-11.com.example:still", "iqn.2026-11.com.example:made"
	file := filepath.Join(dir, "c.pcapng")
	lun := "node/lun-" + still + ":0"
	return [][]string{
		{"status"},
		{"ls"},
		{"target ls"},
		{"target show", still},
		{"target create", made, "--insecure", "--portal-group", "lan"},
		{"lun attach", made + "/0", "--kind", "memory", "--size", "1MiB"},
		{"lun ls"},
		{"lun show", still + "/0"},
		{"lun resize", made + "/0", "--size", "2MiB"},
		{"lun offline", made + "/0"},
		{"lun online", made + "/0"},
		{"lun detach", made + "/0"},
		{"target offline", made},
		{"target online", made},
		{"target delete", made},
		{"session ls"},
		{"session show", "1"},
		{"session logout", "1"},
		{"pr show", still + "/0"},
		{"pr clear", still + "/0"},
		{"alua show", still + "/0"},
		{"alua set", still + "/0", "lan", "active/non-optimized"},
		{"actors"},
		{"actors describe", lun},
		{"actors restart", lun},
		{"actors faults"},
		{"actors stop", "node/sessions/conn-2"},
		{"debug inject", lun, "delay", "--for", "1ms"},
		{"logins"},
		{"events"},
		{"trace", "--count", "1", "--errors"},
		{"capture", "-w", file, "--duration", "10ms"},
		{"config print"},
		{"config diff"},
		{"config reload"},
		{"plan", r.file},
		{"log level"},
		{"debug goroutines"},
		{"debug heap"},
		{"debug metrics"},
		{"debug api"},
		{"check", r.file},
		{"version"},
		{"rdma"},
	}
}

// noJSON are the commands that have no result to print, and those whose JSON is
// tested elsewhere.
var noJSON = []string{
	"serve", "top", "man", "bench", // internal/bench
	"console",                                                                                     // that of the commands in it
	"debug profile",                                                                               // takes ten seconds; as debug heap
	"completion", "completion bash", "completion zsh", "completion fish", "completion powershell", // scripts
}

// TestJSON: every command prints JSON of the same shape today as yesterday. What is
// not listed above fails.
func TestJSON(t *testing.T) {
	r := newRig(t, aluaConfig(freePort(t), aluaBlock)+"console { fault_injection = true }\n")
	r.open(config.Console{FaultInjection: true, Capture: true}, nil)
	r.keepBusy("iqn.2026-11.com.example:still")
	r.keepBusy("iqn.2026-11.com.example:changes")
	if out, code := readSome(t, r.addr, "iqn.2026-11.com.example:none"); code == "0" {
		t.Fatal("there is such a target:", out)
	}
	var got strings.Builder
	seen := slices.Clone(noJSON)
	for _, x := range jsonCases(r, t.TempDir()) {
		seen = append(seen, x[0])
		args := append(append(strings.Fields(x[0]), x[1:]...), "-o", "json")
		out, errs, code := r.command(args...)
		if code != 0 || errs != "" {
			t.Errorf("%v: %d %s", args, code, errs)
			continue
		}
		switch x[0] {
		case "debug api", "rdma":
			out = "{}" // the description, which has its own test, and what the machine has
		case "actors restart":
			for end := time.Now().Add(patience); len(r.ctl.d.server.Faults()) == 0 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		}
		all := map[string]bool{}
		dec := json.NewDecoder(strings.NewReader(out))
		for dec.More() {
			var v any
			if err := dec.Decode(&v); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
			shape("", v, all)
		}
		fmt.Fprintf(&got, "%s\n", x[0])
		for _, line := range slices.Sorted(maps.Keys(all)) {
			fmt.Fprintf(&got, "\t%s\n", line)
		}
	}
	compareFile(t, "testdata/json.txt", got.String())
	started := false
	root := newRoot(&started)
	root.InitDefaultCompletionCmd()
	for _, name := range runnable(root, "") {
		if !slices.Contains(seen, name) {
			t.Errorf("no case for %q", name)
		}
	}
}

// runnable are the names of the commands that do something themselves.
func runnable(cmd *cobra.Command, prefix string) (out []string) {
	for _, sub := range cmd.Commands() {
		name := strings.TrimSpace(prefix + " " + sub.Name())
		if sub.Name() == "help" {
			continue
		}
		if sub.Runnable() {
			out = append(out, name)
		}
		out = append(out, runnable(sub, name)...)
	}
	return out
}

func compareFile(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("programs rely on it; run with -update if that is meant:\n%s", d)
	}
}
