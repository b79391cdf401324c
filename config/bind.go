package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
)

// binder is the second pass: it decodes blocks into the exported types, by the
// tags of their fields:
//
//	hcl                 as in package gohcl, which derives the schema from it
//	default             the value when the argument is left out
//	kind                what a string or a number stands for: size, path, …
//	min, max, oneof     the values admitted
//	minlen, maxlen      the length admitted, in bytes
//	ref                 the standard's clause, for the reference
//
// gohcl itself decodes neither sizes, durations and marked values nor bounds.
type binder struct {
	ctx     *hcl.EvalContext
	names   *evaluator
	secrets []string
	diags   hcl.Diagnostics
}

// top decodes the whole merged body into c.
func (b *binder) top(body hcl.Body, c *Config) {
	b.block(body, "", reflect.ValueOf(c).Elem(), nil)
}

func (b *binder) add(d *hcl.Diagnostic) { b.diags = append(b.diags, d) }

func (b *binder) errorf(at hcl.Range, summary, detail string, args ...any) {
	b.add(&hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   fmt.Sprintf(detail, args...),
		Subject:  &at,
	})
}

// block decodes body into v, a struct. Place is its name in the reference, the
// path of block types; src is where it was written, if it has a Source.
func (b *binder) block(body hcl.Body, place string, v reflect.Value, src *Source) {
	content := b.content(body, place, v)
	t := v.Type()
	for i := range t.NumField() {
		name, kind, _ := strings.Cut(t.Field(i).Tag.Get("hcl"), ",")
		switch {
		case name == "":
		case kind == "block":
			b.blocks(content.Blocks, name, v.Field(i))
		case kind == "" || kind == "optional":
			b.attribute(content.Attributes[name], field{place: place, name: name, tag: t.Field(i).Tag}, v.Field(i), src)
		}
	}
}

// content applies the schema that v's type implies, and refuses what a later
// version may implement.
func (b *binder) content(body hcl.Body, place string, v reflect.Value) *hcl.BodyContent {
	schema, _ := gohcl.ImpliedBodySchema(v.Addr().Interface())
	attrs, blocks := later(place)
	for _, name := range attrs {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: name})
	}
	schema.Blocks = append(schema.Blocks, blocks...)
	content, diags := body.Content(schema)
	b.diags = append(b.diags, diags...)
	for _, name := range attrs {
		if a, ok := content.Attributes[name]; ok {
			b.add(notSupported(fmt.Sprintf("the argument %q", name), a.NameRange))
		}
	}
	for _, blk := range content.Blocks {
		if slices.ContainsFunc(blocks, func(s hcl.BlockHeaderSchema) bool { return s.Type == blk.Type }) {
			b.add(notSupported(fmt.Sprintf("%s blocks", blk.Type), blk.DefRange))
		}
	}
	return content
}

// blocks decodes the blocks of one type into dst: a slice takes any number, a
// struct one or its defaults, a pointer one or none.
func (b *binder) blocks(all hcl.Blocks, typ string, dst reflect.Value) {
	var these hcl.Blocks
	for _, blk := range all {
		if blk.Type == typ {
			these = append(these, blk)
		}
	}
	if dst.Kind() == reflect.Slice {
		for _, blk := range these {
			v := reflect.New(dst.Type().Elem())
			b.one(blk, typ, v)
			dst.Set(reflect.Append(dst, v.Elem()))
		}
		return
	}
	for _, blk := range these[min(1, len(these)):] {
		b.errorf(blk.DefRange, fmt.Sprintf("Duplicate %s block", typ),
			"There is one %s block only; it was already written at %s.", typ, place(these[0].DefRange))
	}
	switch {
	case len(these) > 0 && dst.Kind() == reflect.Pointer:
		dst.Set(reflect.New(dst.Type().Elem()))
		b.one(these[0], typ, dst)
	case len(these) > 0:
		b.one(these[0], typ, dst.Addr())
	case dst.Kind() == reflect.Struct:
		b.block(hcl.EmptyBody(), typ, dst, nil)
	}
}

// variant is a block whose arguments depend on its label.
type variant interface {
	// body returns a pointer to what takes the arguments, and its place in the
	// reference; nil when the label is unknown.
	body() (any, string)
}

// one decodes a block into what p points to.
func (b *binder) one(blk *hcl.Block, typ string, p reflect.Value) {
	src := p.Interface().(sourced).source()
	src.block = blk.DefRange
	label := 0
	for i := range p.Elem().NumField() {
		name, kind, _ := strings.Cut(p.Elem().Type().Field(i).Tag.Get("hcl"), ",")
		if kind == "label" {
			p.Elem().Field(i).SetString(blk.Labels[label])
			src.setAttr(name, blk.LabelRanges[label])
			label++
		}
	}
	v, ok := reflect.TypeAssert[variant](p)
	if !ok {
		b.block(blk.Body, typ, p.Elem(), src)
		return
	}
	into, where := v.body()
	if into == nil {
		b.unknownKind(blk, typ)
		return
	}
	inner := into.(sourced).source()
	inner.block = blk.DefRange
	b.block(blk.Body, where, reflect.ValueOf(into).Elem(), inner)
}

// unknownKind refuses the first label of a variant.
func (b *binder) unknownKind(blk *hcl.Block, typ string) {
	kind := blk.Labels[0]
	if laterValue(typ, kind) {
		b.add(notSupported(fmt.Sprintf("the %s kind %q", typ, kind), blk.LabelRanges[0]))
		return
	}
	kinds := []string{string(BackendFile), string(BackendBlock), string(BackendMemory), string(BackendNull)}
	if typ == "filter" {
		kinds = []string{string(FilterDelay), string(FilterFault), string(FilterStats)}
	}
	b.errorf(blk.LabelRanges[0], "Unknown "+typ+" kind", "There is no %s of kind %q; the kinds are %s.%s",
		typ, kind, strings.Join(kinds, ", "), didYouMean(kind, kinds))
}
