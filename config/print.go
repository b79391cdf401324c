package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Print writes the configuration as it is in force: evaluated, merged, with
// defaults. Secrets are not shown, so what it writes cannot be loaded when
// there are any.
func Print(c *Config) []byte { return printed(c, false) }

// PrintGiven writes the arguments that are not at their zero value. It is for a
// Config that was made by a program, which is loaded afterwards and gets its
// defaults then. No text in it is evaluated.
func PrintGiven(c *Config) []byte { return printed(c, true) }

func printed(c *Config, sparse bool) []byte {
	f := hclwrite.NewEmptyFile()
	p := &printer{sparse: sparse}
	p.body(f.Body(), reflect.ValueOf(c).Elem())
	return hclwrite.Format(f.Bytes())
}

type printer struct{ sparse bool }

// body writes the arguments and blocks of a struct by the tags that the binder
// reads it by.
func (p *printer) body(to *hclwrite.Body, v reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		name, kind, _ := strings.Cut(t.Field(i).Tag.Get("hcl"), ",")
		switch {
		case name == "" || kind == "label":
		case kind == "block":
			p.blocks(to, name, v.Field(i))
		case !p.skips(v.Field(i)):
			p.attribute(to, name, t.Field(i).Tag, v.Field(i))
		}
	}
	if b, ok := reflect.TypeAssert[variant](v.Addr()); ok {
		p.variant(to, v, b)
	}
}

// skips reports whether an argument is left out: what is empty says nothing.
func (p *printer) skips(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
		return p.sparse && v.IsZero()
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	default:
		return v.IsZero()
	}
}

// variant writes the arguments of a block that depend on its label: the one
// field that is set.
func (p *printer) variant(to *hclwrite.Body, v reflect.Value, _ variant) {
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Kind() == reflect.Pointer && !f.IsNil() && v.Type().Field(i).Tag.Get("hcl") == "" {
			p.body(to, f.Elem())
		}
	}
}

func (p *printer) blocks(to *hclwrite.Body, name string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			p.block(to, name, v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			p.block(to, name, v.Elem())
		}
	default:
		if !p.sparse || !v.IsZero() {
			p.block(to, name, v)
		}
	}
}

func (p *printer) block(to *hclwrite.Body, name string, v reflect.Value) {
	var labels []string
	for i := range v.NumField() {
		if _, kind, _ := strings.Cut(v.Type().Field(i).Tag.Get("hcl"), ","); kind == "label" {
			labels = append(labels, v.Field(i).String())
		}
	}
	p.body(to.AppendNewBlock(name, labels).Body(), v)
}

func (p *printer) attribute(to *hclwrite.Body, name string, tag reflect.StructTag, v reflect.Value) {
	if ref, ok := reflect.TypeAssert[BackendRef](v); ok {
		to.SetAttributeTraversal(name, hcl.Traversal{
			hcl.TraverseRoot{Name: "backend"}, hcl.TraverseAttr{Name: string(ref.Kind)}, hcl.TraverseAttr{Name: ref.Name},
		})
		return
	}
	to.SetAttributeValue(name, valueOf(tag, v))
}

// valueOf returns an argument as it is written.
func valueOf(tag reflect.StructTag, v reflect.Value) cty.Value {
	switch x := v.Interface().(type) {
	case Secret:
		return cty.StringVal(x.String())
	case time.Duration:
		return cty.StringVal(x.String())
	case bool:
		return cty.BoolVal(x)
	case float64:
		return cty.NumberFloatVal(x)
	case []string:
		return listOf(len(x), func(i int) string { return x[i] })
	case []netip.Prefix:
		return listOf(len(x), func(i int) string { return x[i].String() })
	case []uint16:
		return listOf(len(x), func(i int) string { return strconv.Itoa(int(x[i])) })
	case map[string]string:
		return objectOf(x)
	case map[uint16]uint16:
		m := make(map[string]string, len(x))
		for k, n := range x {
			m[strconv.Itoa(int(k))] = strconv.Itoa(int(n))
		}
		return objectOf(m)
	}
	switch {
	case v.Kind() == reflect.String:
		return cty.StringVal(v.String())
	case tag.Get("kind") == "size":
		return cty.StringVal(FormatSize(v.Int()))
	default:
		return cty.NumberIntVal(v.Int())
	}
}

func listOf(n int, at func(int) string) cty.Value {
	if n == 0 {
		return cty.ListValEmpty(cty.String)
	}
	vals := make([]cty.Value, n)
	for i := range vals {
		vals[i] = cty.StringVal(at(i))
	}
	return cty.ListVal(vals)
}

func objectOf(m map[string]string) cty.Value {
	vals := make(map[string]cty.Value, len(m))
	for k, s := range m {
		vals[k] = cty.StringVal(s)
	}
	return cty.ObjectVal(vals)
}

// argument is one argument for people: a path of block types, and a value.
type argument struct{ name, value string }

// arguments lists the arguments of a block and of the blocks in it, but of those
// that skip names. Two lists are equal when the blocks mean the same, secrets
// included, which text does not show.
func arguments(prefix string, v reflect.Value, skip ...string) (out []argument) {
	t := v.Type()
	for i := range t.NumField() {
		name, kind, _ := strings.Cut(t.Field(i).Tag.Get("hcl"), ",")
		f := v.Field(i)
		switch {
		case slices.Contains(skip, name) && name != "" || kind == "label":
		case name == "":
			if f.Kind() == reflect.Pointer && !f.IsNil() && t.Field(i).IsExported() {
				out = append(out, arguments(prefix, f.Elem())...)
			}
		case kind == "block":
			out = append(out, blockArguments(prefix+name, f)...)
		default:
			if ref, ok := reflect.TypeAssert[BackendRef](f); ok {
				out = append(out, argument{prefix + name, ref.String()})
				continue
			}
			text := string(hclwrite.TokensForValue(valueOf(t.Field(i).Tag, f)).Bytes())
			out = append(out, argument{prefix + name, strings.Join(strings.Fields(text), " ")})
		}
	}
	return out
}

func blockArguments(name string, f reflect.Value) (out []argument) {
	one := func(b reflect.Value) {
		var at strings.Builder
		at.WriteString(name)
		for i := range b.NumField() {
			if _, kind, _ := strings.Cut(b.Type().Field(i).Tag.Get("hcl"), ","); kind == "label" {
				fmt.Fprintf(&at, " %q", b.Field(i).String())
			}
		}
		out = append(out, argument{at.String(), "{ … }"})
		out = append(out, arguments(at.String()+".", b)...)
	}
	switch {
	case f.Kind() == reflect.Slice:
		for i := range f.Len() {
			one(f.Index(i))
		}
	case f.Kind() == reflect.Pointer:
		if !f.IsNil() {
			one(f.Elem())
		}
	default:
		out = append(out, arguments(name+".", f)...)
	}
	return out
}
