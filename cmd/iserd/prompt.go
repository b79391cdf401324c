package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/iserd/iserd/console"
)

func newConsole() *cobra.Command {
	c := &link{}
	cmd := c.flags(&cobra.Command{
		Use: "console", Short: "Operate the daemon from a prompt", Args: cobra.NoArgs,
		Long: `Console reads commands, without "iserd" before them, and runs them. Tab completes
commands, options, and the names of targets, LUNs, sessions and actors; the
arrows go through earlier lines that begin as the one typed does. Ctrl-C gives up
a line or ends the command that runs, Ctrl-D leaves.

When standard input is not a terminal, lines are read from it until one fails,
whose exit code the console ends with. What follows a # is a comment.

Options of the console, such as --console and --output, are those of all commands
in it. Lines are kept in $XDG_STATE_HOME/iserd/history, for you alone.`,
		Example: `  iserd console
  printf 'lun ls\nsession ls\n' | iserd console -o json`,
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		sh := &shell{link: c, flags: cmd.Flags(), out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr()}
		in := cmd.InOrStdin()
		if isTerminal(in) && isTerminal(sh.out) {
			return sh.interactive(cmd.Context(), in)
		}
		return sh.batch(cmd.Context(), in)
	}
	return cmd
}

// shell runs lines.
type shell struct {
	link      *link
	flags     *pflag.FlagSet // of the console
	out, errs io.Writer
}

// tree returns the commands there are, with the options of the console.
func (s *shell) tree(started *bool) *cobra.Command {
	root := newRoot(started)
	for _, cmd := range slices.Clone(root.Commands()) {
		switch cmd.Name() {
		case "serve", "console", "man":
			root.RemoveCommand(cmd)
		}
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(&cobra.Command{Use: "exit", Aliases: []string{"quit"}, Short: "Leave the console", Args: cobra.NoArgs, Run: func(*cobra.Command, []string) {}})
	s.inherit(root)
	return root
}

// inherit sets the options that were given to the console for all commands.
func (s *shell) inherit(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		s.inherit(sub)
	}
	s.flags.Visit(func(f *pflag.Flag) {
		if own := cmd.Flags().Lookup(f.Name); own != nil && own.Value.Type() == f.Value.Type() {
			_ = own.Value.Set(f.Value.String()) // it has been set before
		}
	})
}

// leaves reports whether a line ends the console.
func leaves(words []string) bool { return slices.Contains([]string{"exit", "quit"}, words[0]) }

// run runs one line. Ctrl-C ends it.
func (s *shell) run(ctx context.Context, words []string) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	if words[0] == "iserd" { // as typed into a shell
		words = words[1:]
	}
	started := false
	code := execute(ctx, s.tree(&started), &started, words, s.out, s.errs)
	if ctx.Err() != nil && code != exitOK {
		return exitRuntime
	}
	return code
}

// batch runs the lines of a file or pipe up to the first that fails.
func (s *shell) batch(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		words, err := splitLine(lines.Text())
		if err != nil {
			return usageError(fmt.Errorf("line %d: %w", n, err))
		}
		if len(words) == 0 {
			continue
		}
		if leaves(words) {
			return nil
		}
		if code := s.run(ctx, words); code != exitOK {
			return &exitError{code, fmt.Errorf("line %d failed; the lines after it were not run", n)}
		}
	}
	return lines.Err()
}

// interactive prompts until Ctrl-D.
func (s *shell) interactive(ctx context.Context, in io.Reader) error {
	// A command that ends by Ctrl-C does not take the console with it.
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, os.Interrupt)
	defer signal.Stop(ignored)
	name, err := s.greet(ctx)
	if err != nil {
		return err
	}
	history, err := console.OpenHistory(historyFile())
	if err != nil {
		fmt.Fprintf(s.errs, "iserd: earlier lines: %v\n", err)
	}
	p := &console.Prompt{Text: name + "> ", Complete: func(line string) []console.Candidate { return s.complete(ctx, line) }, History: history}
	for {
		line, err := p.Read(ctx, in, s.out)
		switch {
		case errors.Is(err, console.ErrInterrupted):
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := history.Add(line); err != nil {
			fmt.Fprintf(s.errs, "iserd: the line is not kept: %v\n", err)
		}
		words, err := splitLine(line)
		switch {
		case err != nil:
			fmt.Fprintf(s.errs, "iserd: %v\n", err)
		case len(words) == 0:
		case leaves(words):
			return nil
		default:
			s.run(ctx, words)
		}
	}
}

// greet says whose console it is.
func (s *shell) greet(ctx context.Context) (name string, err error) {
	cl, err := s.link.dial()
	if err != nil {
		return "", err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, s.link.timeout)
	defer cancel()
	st, err := cl.Status(ctx)
	if err != nil {
		return "", exitOf(err)
	}
	fmt.Fprintf(s.out, "iserd %s, up %s. \"help\" lists the commands, Tab completes, Ctrl-D leaves.\n", visible(st.Version), ago(st.Started, time.Now()))
	if st.Node == "" {
		return "iserd", nil
	}
	return visible(st.Node), nil
}

// historyFile is where lines are kept; empty when there is no such place.
func historyFile() string {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "iserd", "history")
}

// complete asks the command tree, as shells do.
func (s *shell) complete(ctx context.Context, line string) []console.Candidate {
	words, err := splitLine(line)
	if err != nil {
		return nil
	}
	word := ""
	if line != "" && line[len(line)-1] != ' ' && len(words) > 0 {
		word, words = words[len(words)-1], words[:len(words)-1]
	}
	var out bytes.Buffer
	started := false
	args := append([]string{cobra.ShellCompRequestCmd}, append(words, word)...)
	if execute(ctx, s.tree(&started), &started, args, &out, io.Discard) != exitOK {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var directive cobra.ShellCompDirective
	if _, err := fmt.Sscanf(lines[len(lines)-1], ":%d", &directive); err != nil {
		return nil
	}
	var all []console.Candidate
	for _, l := range lines[:len(lines)-1] {
		text, note, _ := strings.Cut(l, "\t")
		if strings.HasPrefix(text, word) {
			all = append(all, console.Candidate{Text: text, Note: note, Open: directive&cobra.ShellCompDirectiveNoSpace != 0})
		}
	}
	if len(all) == 0 && directive&(cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveError) == 0 {
		return files(word)
	}
	return all
}

// files completes the name of a file.
func files(word string) (all []console.Candidate) {
	names, err := filepath.Glob(word + "*")
	if err != nil {
		return nil
	}
	for _, n := range names {
		info, err := os.Stat(n)
		if err == nil && info.IsDir() {
			all = append(all, console.Candidate{Text: n + "/", Open: true})
		} else {
			all = append(all, console.Candidate{Text: n})
		}
	}
	return all
}

// splitLine takes a line apart as a shell does: words between blanks, with single
// and double quotes, backslashes, and comments.
func splitLine(line string) (words []string, err error) {
	var word strings.Builder
	var quote rune
	in, escaped := false, false
	for _, c := range line {
		switch {
		case escaped:
			escaped = false
			word.WriteRune(c)
		case c == '\\' && quote != '\'':
			in, escaped = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			in, quote = true, c
		case c == ' ' || c == '\t' || c == '\r':
			if in {
				words = append(words, word.String())
				word.Reset()
			}
			in = false
		case c == '#' && !in:
			return words, nil
		default:
			in = true
			word.WriteRune(c)
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("the line ends within quotes")
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}
