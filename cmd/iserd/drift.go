package main

import (
	"maps"
	"strconv"
	"strings"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/luns/scsi"
)

// drift lists what was changed while the daemon runs, by commands and by
// initiators, and is not as configured.
func (c *control) drift() []config.Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []config.Change
	for _, t := range c.d.server.Targets() {
		i := t.Info()
		cfg := targetOf(c.running, i.Name)
		if cfg == nil {
			continue
		}
		if i.Offline {
			out = append(out, config.Change{Action: config.Drift, Target: i.Name, OfTarget: true, Details: []config.Detail{{Name: "state", Old: "online", New: "offline"}}})
		}
		for k := range i.LUNs {
			if d := c.driftOfLUN(cfg, &i.LUNs[k]); len(d) > 0 {
				out = append(out, config.Change{Action: config.Drift, Target: i.Name, LUN: i.LUNs[k].Number, Details: d})
			}
		}
	}
	level, parts := c.levels.get()
	if level != c.running.Log.Level || !maps.Equal(parts, c.running.Log.Levels) {
		d := config.Detail{Name: "levels", Old: levelsText(c.running.Log.Level, c.running.Log.Levels), New: levelsText(level, parts)}
		out = append(out, config.Change{Action: config.Drift, Details: []config.Detail{d}})
	}
	return out
}

func (c *control) driftOfLUN(t *config.Target, l *iserd.LUNInfo) (out []config.Detail) {
	cfg := lunOf(t, l.Number)
	if cfg == nil {
		return nil
	}
	if l.State == "offline" {
		out = append(out, config.Detail{Name: "state", Old: "online", New: "offline"})
	}
	if b := c.running.Backend(cfg.Backend); b != nil && l.State == "online" {
		if size := int64(l.Blocks) * int64(l.BlockSize); b.Size() > 0 && size/int64(l.BlockSize) != b.Size()/int64(l.BlockSize) {
			out = append(out, config.Detail{Name: "backend.size", Old: config.FormatSize(b.Size()), New: config.FormatSize(size)})
		}
	}
	if t.ALUAOf(cfg) == nil {
		return out
	}
	want, err := targetPorts(c.running, t, cfg)
	if err != nil || len(want.Groups) != len(l.Ports.Groups) {
		return out
	}
	by := map[bool]string{true: "an initiator", false: "command"}
	for i, g := range want.Groups {
		name := "alua.group " + strconv.Quote(groupOfTag(c.running, g.ID))
		now := l.Ports.Groups[i]
		if now.State != g.State {
			out = append(out, config.Detail{Name: name + ".state", Old: g.State.String(), New: now.State.String() + ", by " + by[now.Cause == scsi.AccessExplicit]})
		}
		if now.Preferred != g.Preferred {
			out = append(out, config.Detail{Name: name + ".preferred", Old: strconv.FormatBool(g.Preferred), New: strconv.FormatBool(now.Preferred)})
		}
	}
	return out
}

func levelsText(level string, parts map[string]string) string {
	out := []string{level}
	for _, name := range sortedKeys(parts) {
		out = append(out, name+"="+parts[name])
	}
	return strings.Join(out, " ")
}
