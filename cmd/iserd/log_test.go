package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/config"
)

func TestLevels(t *testing.T) {
	var out strings.Builder
	log, closer, err := newLogger(config.Log{
		Level: "warn", Format: "text", Output: "stderr",
		Levels: map[string]string{"conn": "debug", "lun.disk": "error"},
	}, &out)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	tests := []struct {
		name string
		log  hclog.Logger
		want hclog.Level
	}{
		{"the root", log, hclog.Warn},
		{"another part", log.Named("portal"), hclog.Warn},
		{"a part", log.Named("conn"), hclog.Debug},
		{"below it", log.Named("conn").Named("x"), hclog.Debug},
		{"with values", log.With("node", "gw1").Named("conn").With("peer", "p"), hclog.Debug},
		{"above", log.Named("lun"), hclog.Warn},
		{"two names", log.Named("lun").Named("disk"), hclog.Error},
		{"a name that begins the same", log.Named("connection"), hclog.Warn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.log.GetLevel(); got != tt.want {
				t.Errorf("level %v, want %v", got, tt.want)
			}
		})
	}
	log.Named("conn").Debug("shown")
	log.Info("dropped")
	if got := out.String(); !strings.Contains(got, "iserd.conn: shown") || strings.Contains(got, "dropped") {
		t.Error(got)
	}
}

func TestLogFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "iserd.log")
	for range 2 { // the second time it is appended to
		log, closer, err := newLogger(config.Log{Level: "info", Format: "json", Output: "file:" + name}, os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("line", "key", 1)
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil || strings.Count(string(text), `"@message":"line"`) != 2 {
		t.Errorf("%v\n%s", err, text)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
