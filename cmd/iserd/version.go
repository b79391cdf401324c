package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd/luns"
)

// versionInfo is what "iserd version" prints.
type versionInfo struct {
	Version    string   `json:"version"`          // tag or pseudo-version; "(devel)" when not known
	Commit     string   `json:"commit,omitempty"` // of the source, with "+dirty" when it was changed
	Time       string   `json:"time,omitempty"`   // of the commit
	Go         string   `json:"go"`               // release of the compiler
	Platform   string   `json:"platform"`         // operating system and architecture
	Tags       []string `json:"tags"`             // build tags
	Transports []string `json:"transports"`       // that this binary can listen on
	Backends   []string `json:"backends"`         // that this binary can open
}

func newVersion() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version and what is built in",
		Long:  `Version prints what a report of a bug should begin with.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printVersion(cmd.OutOrStdout(), output, readVersion())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`FORMAT`: text or json")
	return cmd
}

// readVersion asks the binary itself.
func readVersion() versionInfo {
	v := versionInfo{
		Version:    "(devel)",
		Go:         runtime.Version(),
		Platform:   runtime.GOOS + "/" + runtime.GOARCH,
		Tags:       []string{},
		Transports: []string{"tcp", "iser"},
		Backends:   luns.Kinds(),
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	dirty := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		case "-tags":
			v.Tags = strings.Split(s.Value, ",")
		}
	}
	if dirty && v.Commit != "" {
		v.Commit += "+dirty"
	}
	return v
}

func printVersion(w io.Writer, format string, v versionInfo) error {
	if format == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	commit := v.Commit
	if commit == "" {
		commit = "not recorded in this build"
	}
	tags := strings.Join(v.Tags, ", ")
	if tags == "" {
		tags = "none"
	}
	_, err := fmt.Fprintf(w, "iserd %s\ncommit:     %s\ngo:         %s %s\nbuild tags: %s\ntransports: %s\nbackends:   %s\n",
		v.Version, commit, v.Go, v.Platform, tags, strings.Join(v.Transports, ", "), strings.Join(v.Backends, ", "))
	return err
}
