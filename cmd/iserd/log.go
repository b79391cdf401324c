package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/config"
)

// newLogger returns the daemon's logger. The caller closes what is returned
// with it after the last message.
func newLogger(c config.Log, stderr io.Writer) (hclog.Logger, io.Closer, error) {
	out, closer := stderr, io.Closer(io.NopCloser(nil))
	if path, ok := strings.CutPrefix(c.Output, "file:"); ok {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
		if err != nil {
			return nil, nil, fmt.Errorf("log: %w", err)
		}
		out, closer = f, f
	}
	return hclog.New(&hclog.LoggerOptions{
		Name:              "iserd",
		Level:             hclog.LevelFromString(c.Level),
		Output:            out,
		JSONFormat:        c.Format == "json",
		IndependentLevels: true,
		SubloggerHook:     levelsHook(c.Levels),
	}), closer, nil
}

// levelsHook sets the levels of parts of the daemon: a key of levels is the name
// of a logger, below the root, and holds for all loggers under it that have no
// level of their own.
func levelsHook(levels map[string]string) func(hclog.Logger) hclog.Logger {
	if len(levels) == 0 {
		return nil
	}
	return func(sub hclog.Logger) hclog.Logger {
		name := strings.TrimPrefix(sub.Name(), "iserd.")
		for name != "" {
			if l, ok := levels[name]; ok {
				sub.SetLevel(hclog.LevelFromString(l))
				break
			}
			name = name[:max(0, strings.LastIndexByte(name, '.'))]
		}
		return sub
	}
}
