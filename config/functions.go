package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// secretMark marks values that came from file(): they may only be given to
// arguments that are secrets.
type secretMark struct{}

// functions returns what an expression may call.
func (e *evaluator) functions() map[string]function.Function {
	return map[string]function.Function{
		"env":    e.envFunc(),
		"file":   e.fileFunc(),
		"size":   sizeFunc(),
		"concat": stdlib.ConcatFunc,
		"format": formatFunc(),
		"lower":  stdlib.LowerFunc,
	}
}

// envFunc is env(NAME[, DEFAULT]).
func (e *evaluator) envFunc() function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "name", Type: cty.String}},
		VarParam: &function.Parameter{Name: "default", Type: cty.String},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if len(args) > 2 {
				return cty.NilVal, errors.New("env takes a name and one default")
			}
			if v, ok := e.host.Getenv(args[0].AsString()); ok {
				return cty.StringVal(v), nil
			}
			if len(args) == 2 {
				return args[1], nil
			}
			return cty.NilVal, function.NewArgErrorf(0, "the environment variable %s is not set, and there is no default", args[0].AsString())
		},
	})
}

// fileFunc is file(PATH): the content of a file, without the newline at its end,
// as a secret.
func (e *evaluator) fileFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			path := args[0].AsString()
			if !filepath.IsAbs(path) {
				return cty.NilVal, function.NewArgErrorf(0, "the path must be absolute")
			}
			data, info, err := e.host.ReadFile(path, maxSecretFile)
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(0, "%v", err)
			}
			if perm := info.Mode().Perm(); perm&0o007 != 0 {
				return cty.NilVal, function.NewArgErrorf(0, "%s is open to every user of this host (mode %04o); run chmod 0600 on it", path, perm)
			}
			text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
			e.secrets = append(e.secrets, text)
			return cty.StringVal(text).Mark(secretMark{}), nil
		},
	})
}

// sizeFunc is size("4GiB"): the number of bytes.
func sizeFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			n, err := ParseSize(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(0, "%v", err)
			}
			return cty.NumberIntVal(n), nil
		},
	})
}

// wideVerb finds format verbs whose width or precision has four digits or more.
var wideVerb = regexp.MustCompile(`[0-9]{4}`)

// formatFunc is format(), without widths that would take all memory.
func formatFunc() function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "format", Type: cty.String}},
		VarParam: &function.Parameter{Name: "args", Type: cty.DynamicPseudoType, AllowNull: true},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for _, verb := range strings.Split(args[0].AsString(), "%")[1:] {
				if end := strings.IndexFunc(verb, isLetter); end > 0 && wideVerb.MatchString(verb[:end]) {
					return cty.NilVal, function.NewArgErrorf(0, "widths have three digits at most: %%%s", verb[:end+1])
				}
			}
			v, err := stdlib.Format(args[0], args[1:]...)
			if err != nil {
				return cty.NilVal, fmt.Errorf("format: %w", err)
			}
			return v, nil
		},
	})
}

func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
