package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd/api"
)

// namesTimeout is how long a completion waits for the daemon.
const namesTimeout = 2 * time.Second

// lister lists the names of what a daemon has, each with a description.
type lister func(context.Context, *api.Client) ([]cobra.Completion, error)

// listerOf is for what an argument names by its placeholder in the usage; nil for
// others.
func listerOf(placeholder string) lister {
	switch placeholder {
	case "TSIH":
		return sessionNames
	case "TARGET":
		return targetNames
	case "TARGET/NUMBER":
		return lunNames
	case "PATH":
		return actorNames
	case "INITIATOR":
		return initiatorNames
	default:
		return nil
	}
}

// completeNames has the shell, and the prompt of "iserd console", complete the
// names of what is there: the only argument of commands, and flags.
func completeNames(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		completeNames(sub)
	}
	if cmd.Flags().Lookup("console") == nil {
		return
	}
	if words := strings.Fields(cmd.Use); len(words) > 1 && cmd.ValidArgsFunction == nil {
		f := listerOf(strings.Trim(words[1], "[]"))
		if words[0] == "create" || words[0] == "attach" {
			f = nil // these name what is not there yet
		}
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if f == nil || len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return complete(cmd, f, word)
		}
	} else if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	for flag, what := range map[string]string{"session": "TSIH", "target": "TARGET", "lun": "TARGET/NUMBER", "initiator": "INITIATOR"} {
		if cmd.Flags().Lookup(flag) != nil {
			f := listerOf(what)
			_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
				return complete(cmd, f, word)
			}) // fails for unknown flags only
		}
	}
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]cobra.Completion{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// complete asks the daemon that the flags of a command name.
func complete(cmd *cobra.Command, names lister, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	c := &link{}
	for flag, into := range map[string]*string{"console": &c.at, "cert": &c.cert, "key": &c.key, "ca": &c.ca} {
		*into = cmd.Flags().Lookup(flag).Value.String()
	}
	cl, err := c.dial()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer cl.Close()
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, namesTimeout)
	defer cancel()
	all, err := names(ctx, cl)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	out := []cobra.Completion{}
	for _, x := range all {
		if strings.HasPrefix(x, word) {
			out = append(out, x)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func sessionNames(ctx context.Context, cl *api.Client) (out []cobra.Completion, err error) {
	all, err := cl.Sessions(ctx)
	for i := range all {
		s := &all[i]
		out = append(out, described(fmt.Sprintf("%#04x", s.TSIH), s.Initiator+" at "+orDash(s.Target)))
	}
	return out, err
}

func initiatorNames(ctx context.Context, cl *api.Client) (out []cobra.Completion, err error) {
	all, err := cl.Sessions(ctx)
	seen := map[string]bool{}
	for i := range all {
		if s := &all[i]; !seen[s.Initiator] {
			seen[s.Initiator] = true
			out = append(out, described(s.Initiator, "from "+s.Peer))
		}
	}
	return out, err
}

func targetNames(ctx context.Context, cl *api.Client) (out []cobra.Completion, err error) {
	all, err := cl.Targets(ctx)
	for i := range all {
		out = append(out, described(all[i].Name, all[i].Alias))
	}
	return out, err
}

func lunNames(ctx context.Context, cl *api.Client) (out []cobra.Completion, err error) {
	all, err := cl.Targets(ctx)
	for i := range all {
		for k := range all[i].LUNs {
			l := &all[i].LUNs[k]
			out = append(out, described(all[i].Name+"/"+number(l.Number), l.Backend+"  "+bytesText(l.Size)+"  "+l.State))
		}
	}
	return out, err
}

func actorNames(ctx context.Context, cl *api.Client) (out []cobra.Completion, err error) {
	all, err := cl.Actors(ctx)
	for i := range all {
		out = append(out, described(all[i].Path, all[i].State))
	}
	return out, err
}

// described is a completion with a description. Initiators choose their names:
// nothing of them may end the line or the word.
func described(name, what string) cobra.Completion {
	return cobra.CompletionWithDesc(visible(name), visible(what))
}
