package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/iserd/iserd/config"
)

// FuzzConfig: no input makes the loader panic, and a configuration comes with no
// errors or not at all; everything can be printed.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(full))
	for _, w := range wrong {
		f.Add([]byte(strings.Replace(w.src, "‸", "", 1)))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 8<<10 || bytes.Count(src, []byte("for")) > 3 || bytes.Count(src, []byte("local")) > 40 {
			t.Skip("would only cost time")
		}
		c, diags := config.Parse("fuzz.hcl", src, config.WithHost(testHost()))
		if (c == nil) != diags.HasErrors() {
			t.Fatalf("configuration %v with errors %v", c != nil, diags.HasErrors())
		}
		if err := diags.WriteText(io.Discard, 78, false); err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(diags); err != nil {
			t.Fatal(err)
		}
		_ = fmt.Sprintf("%+v", c)
		if c == nil {
			return
		}
		for i := range c.Targets {
			for j := range c.Targets[i].LUNs {
				if c.Backend(c.Targets[i].LUNs[j].Backend) == nil {
					t.Fatal("a LUN without backend was taken")
				}
			}
		}
	})
}

// FuzzParseSize: what is taken reads the same once written.
func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"1", "1.5GiB", "40GiBx", "8EiB", "1e9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := config.ParseSize(s)
		if err != nil {
			return
		}
		if m, err := config.ParseSize(config.FormatSize(n)); n < 0 || err != nil || m != n {
			t.Fatalf("ParseSize(%q) = %d; written and read again %d, %v", s, n, m, err)
		}
	})
}
