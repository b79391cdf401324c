package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd/config"
)

// textWidth is where diagnostics are wrapped.
const textWidth = 78

func newCheck() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "check [FILE…]",
		Short: "Check configuration files without starting anything",
		Long: `Check reads the files as "iserd serve" does and tells what is wrong with them,
with the place in the file. A directory stands for its *.hcl files.

Without a FILE it reads ` + defaultConfig + ` and ` + defaultConfigDir + `/*.hcl.

It exits with 0 when the daemon would take the configuration (there may be
warnings) and with 3 when it would not.`,
		Example: `  iserd check /etc/iserd/iserd.hcl
  iserd check -o json ./iserd.hcl   # [{severity, summary, detail, file, line, col}]`,
		Args: func(*cobra.Command, []string) error { return checkOutput(output) },
		RunE: func(cmd *cobra.Command, files []string) error {
			return runCheck(cmd.OutOrStdout(), output, files)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`FORMAT` of the report: text or json")
	return cmd
}

func checkOutput(format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("unknown output format %q: it is text or json", format)
	}
	return nil
}

func runCheck(w io.Writer, format string, named []string) error {
	files, err := configFiles(named)
	if err != nil {
		return err
	}
	c, diags := config.Load(files...)
	if format == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(diags); err != nil {
			return err
		}
	} else if err := diags.WriteText(w, textWidth, false); err != nil {
		return err
	}
	if c == nil {
		return &exitError{exitConfig, nil}
	}
	if format == "text" {
		luns := 0
		for i := range c.Targets {
			luns += len(c.Targets[i].LUNs)
		}
		fmt.Fprintf(w, "The configuration is valid: %s, %s.\n", count(len(c.Targets), "target"), count(luns, "LUN"))
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// configFiles returns the files to load: those named, or the default ones.
func configFiles(named []string) ([]string, error) {
	if len(named) > 0 {
		return named, nil
	}
	if _, err := os.Stat(defaultConfig); errors.Is(err, os.ErrNotExist) {
		return nil, &exitError{exitConfig, fmt.Errorf("there is no %s: name a file, or try iserd serve --demo", defaultConfig)}
	}
	files := []string{defaultConfig}
	if info, err := os.Stat(defaultConfigDir); err == nil && info.IsDir() {
		files = append(files, defaultConfigDir)
	}
	return files, nil
}
