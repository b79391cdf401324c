package config

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// backendType is the type of the value of backend.KIND.NAME.
var backendType = cty.Capsule("backend", reflect.TypeFor[BackendRef]())

// evaluator is the first of the two passes: it learns the names of blocks that
// others refer to and evaluates the locals, and so makes the context in which
// the second pass evaluates arguments.
type evaluator struct {
	host     Host
	ctx      *hcl.EvalContext
	backends []BackendRef
	secrets  []string
	diags    hcl.Diagnostics
}

func newEvaluator(h Host) *evaluator {
	e := &evaluator{host: h}
	e.ctx = &hcl.EvalContext{Variables: map[string]cty.Value{}, Functions: e.functions()}
	return e
}

// prepare fills e.ctx from body, and returns what is left without the locals.
func (e *evaluator) prepare(body hcl.Body) hcl.Body {
	// Labels are read twice: here for the names, and in the second pass, which
	// reports what is wrong with them.
	labels, _, _ := body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "backend", LabelNames: []string{"kind", "name"}},
		{Type: "auth", LabelNames: []string{"name"}},
		{Type: "portal_group", LabelNames: []string{"name"}},
	}})
	kinds := map[string]map[string]cty.Value{}
	names := map[string]map[string]cty.Value{"auth": {}, "portal_group": {}}
	for _, b := range labels.Blocks {
		if b.Type != "backend" {
			names[b.Type][b.Labels[0]] = cty.StringVal(b.Labels[0])
			continue
		}
		ref := BackendRef{Kind: BackendKind(b.Labels[0]), Name: b.Labels[1]}
		if kinds[b.Labels[0]] == nil {
			kinds[b.Labels[0]] = map[string]cty.Value{}
		}
		kinds[b.Labels[0]][ref.Name] = cty.CapsuleVal(backendType, &ref)
		e.backends = append(e.backends, ref)
	}
	byKind := map[string]cty.Value{}
	for kind, refs := range kinds {
		byKind[kind] = cty.ObjectVal(refs)
	}
	e.ctx.Variables["backend"] = cty.ObjectVal(byKind)
	for typ, vals := range names {
		e.ctx.Variables[typ] = cty.ObjectVal(vals)
	}

	content, rest, diags := body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "locals"}}})
	e.diags = append(e.diags, diags...)
	e.locals(content.Blocks)
	return rest
}

// locals evaluates the arguments of the locals blocks, each after those that it
// refers to.
func (e *evaluator) locals(blocks hcl.Blocks) {
	attrs := map[string]*hcl.Attribute{}
	var order []string
	for _, b := range blocks {
		these, diags := b.Body.JustAttributes()
		e.diags = append(e.diags, diags...)
		for name, a := range these {
			if first, dup := attrs[name]; dup {
				e.diags = append(e.diags, duplicate("local value", name, a.NameRange, first.NameRange))
				continue
			}
			attrs[name] = a
			order = append(order, name)
		}
	}
	slices.Sort(order)
	w := localWalk{evaluator: e, attrs: attrs, done: map[string]bool{}, values: map[string]cty.Value{}}
	for _, name := range order {
		w.visit(name, nil)
	}
	e.ctx.Variables["local"] = cty.ObjectVal(w.values)
}

// localWalk visits the locals depth first.
type localWalk struct {
	*evaluator
	attrs  map[string]*hcl.Attribute
	done   map[string]bool
	values map[string]cty.Value
}

func (w *localWalk) visit(name string, path []string) {
	a, ok := w.attrs[name]
	if !ok || w.done[name] {
		return // an unknown name is reported where it is used
	}
	if slices.Contains(path, name) || len(path) > maxDepth {
		w.done[name] = true
		w.values[name] = cty.DynamicVal // uses of it are not reported again
		w.diags = append(w.diags, &hcl.Diagnostic{
			Severity: hcl.DiagError,
			Summary:  "Locals in a circle",
			Detail:   fmt.Sprintf("The value of local.%s depends on itself.", name),
			Subject:  a.Expr.Range().Ptr(),
		})
		return
	}
	for _, t := range a.Expr.Variables() {
		if t.RootName() == "local" && len(t) > 1 {
			w.visit(stepName(t[1]), append(path, name))
		}
	}
	if w.done[name] {
		return // found to be in a circle
	}
	w.done[name] = true
	w.ctx.Variables["local"] = cty.ObjectVal(w.values)
	v, diags := a.Expr.Value(w.ctx)
	w.diags = append(w.diags, diags...)
	if diags.HasErrors() {
		v = cty.DynamicVal
	}
	w.values[name] = v
}

// stepName returns the name that a step of a traversal selects.
func stepName(step hcl.Traverser) string {
	switch s := step.(type) {
	case hcl.TraverseAttr:
		return s.Name
	case hcl.TraverseIndex:
		if s.Key.Type() == cty.String && s.Key.IsKnown() && !s.Key.IsNull() && !s.Key.IsMarked() {
			return s.Key.AsString()
		}
	}
	return ""
}

// duplicate says that something was defined twice, and names both places.
func duplicate(what, name string, at, first hcl.Range) *hcl.Diagnostic {
	return &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  "Duplicate " + what,
		Detail:   fmt.Sprintf("The %s %q was already defined at %s.", what, name, place(first)),
		Subject:  &at,
	}
}

// place writes a range as file:line:col.
func place(r hcl.Range) string {
	return fmt.Sprintf("%s:%d:%d", r.Filename, r.Start.Line, r.Start.Column)
}
