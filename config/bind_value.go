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
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/gocty"
)

// field is an argument's description.
type field struct {
	place string // of its block in the reference
	name  string
	tag   reflect.StructTag
}

func (f field) path() string { return f.place + "." + f.name }

// problem is a value that is refused.
type problem struct{ summary, detail string }

func problemf(summary, detail string, args ...any) *problem {
	return &problem{summary, fmt.Sprintf(detail, args...)}
}

// attribute decodes a, or the default when it was not written, into dst.
func (b *binder) attribute(a *hcl.Attribute, f field, dst reflect.Value, src *Source) {
	if a == nil {
		b.setDefault(f, dst)
		return
	}
	if src != nil {
		src.setAttr(f.name, a.Expr.Range())
	}
	if !b.value(a, f, dst) && src != nil {
		src.setBad(f.name)
	}
}

// setDefault stores the default tag's value.
func (b *binder) setDefault(f field, dst reflect.Value) {
	text, ok := f.tag.Lookup("default")
	if !ok {
		return
	}
	v := cty.StringVal(text)
	if dst.Kind() == reflect.Slice {
		var items []cty.Value
		for s := range strings.FieldsSeq(text) {
			items = append(items, cty.StringVal(s))
		}
		v = cty.TupleVal(items)
	}
	if p := store(v, f, dst); p != nil {
		// A default outside its own bounds is a mistake in the tags; the tests
		// load an empty configuration.
		b.diags = append(b.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: p.summary, Detail: f.path() + ": " + p.detail})
	}
}

// value evaluates a and stores it in dst.
func (b *binder) value(a *hcl.Attribute, f field, dst reflect.Value) bool {
	if ref, ok := reflect.TypeAssert[*BackendRef](dst.Addr()); ok {
		return b.backendRef(a, ref)
	}
	v, diags := a.Expr.Value(b.ctx)
	b.diags = append(b.diags, diags...)
	if diags.HasErrors() || !v.IsWhollyKnown() {
		return false
	}
	at := a.Expr.Range()
	plain, marks := v.UnmarkDeep()
	if secret, ok := reflect.TypeAssert[*Secret](dst.Addr()); ok {
		return b.secret(plain, f, secret, at)
	}
	if len(marks) > 0 {
		b.errorf(at, "Secret in a place that is shown",
			"What file() returns is a secret, and %q is shown in logs and listings: only arguments named secret take it.", f.name)
		return false
	}
	if plain.IsNull() {
		return b.null(f, dst, at)
	}
	if p := store(plain, f, dst); p != nil {
		b.errorf(at, p.summary, "%s", p.detail)
		return false
	}
	return true
}

// null treats an argument set to null as left out.
func (b *binder) null(f field, dst reflect.Value, at hcl.Range) bool {
	if !strings.HasSuffix(f.tag.Get("hcl"), ",optional") {
		b.errorf(at, "Missing required argument", "The argument %q is required: it cannot be null.", f.name)
		return false
	}
	b.setDefault(f, dst)
	return true
}

func (b *binder) secret(v cty.Value, f field, dst *Secret, at hcl.Range) bool {
	s, err := convert.Convert(v, cty.String)
	if err != nil || s.IsNull() {
		b.errorf(at, "Invalid secret", "The argument %q is a string.", f.name)
		return false
	}
	*dst = Secret{value: s.AsString()}
	b.secrets = append(b.secrets, dst.value)
	if dst.IsZero() {
		b.errorf(at, "Empty secret", "The secret is empty. %s", secretAdvice(f))
		return false
	}
	if p := checkLength(f, dst.Len(), "secret"); p != nil {
		b.errorf(at, p.summary, "%s %s", p.detail, secretAdvice(f))
		return false
	}
	return true
}

// secretAdvice says what makes a good secret.
func secretAdvice(f field) string {
	if f.tag.Get("ref") == "" {
		return "Make one with: openssl rand -base64 24"
	}
	return "A CHAP secret has at least 96 random bits (RFC 7143 §9.2.1)."
}

// backendRef decodes a reference to a backend block.
func (b *binder) backendRef(a *hcl.Attribute, dst *BackendRef) bool {
	at := a.Expr.Range()
	var all []string
	for _, r := range b.names.backends {
		all = append(all, r.String())
	}
	if t, diags := hcl.AbsTraversalForExpr(a.Expr); !diags.HasErrors() && t.RootName() == "backend" && len(t) == 3 {
		ref := BackendRef{Kind: BackendKind(stepName(t[1])), Name: stepName(t[2])}
		if slices.Contains(b.names.backends, ref) {
			*dst = ref
			return true
		}
		b.errorf(at, "Unknown backend", "There is no block backend %q %q.%s", string(ref.Kind), ref.Name,
			strings.ReplaceAll(didYouMean(ref.String(), all), `"`, ""))
		return false
	}
	v, diags := a.Expr.Value(b.ctx)
	b.diags = append(b.diags, diags...)
	if diags.HasErrors() || !v.IsWhollyKnown() {
		return false
	}
	if v, _ = v.Unmark(); v.IsNull() || !v.Type().Equals(backendType) {
		hint := ""
		if v.Type() == cty.String && !v.IsNull() {
			hint = strings.ReplaceAll(didYouMean("backend."+strings.TrimPrefix(v.AsString(), "backend."), all), `"`, "")
		}
		b.errorf(at, "Invalid backend", "A backend is named by a reference without quotes: backend.KIND.NAME.%s", hint)
		return false
	}
	*dst = *v.EncapsulatedValue().(*BackendRef)
	return true
}

// store converts v, known and not null, to the type of dst and checks it against
// the tags.
func store(v cty.Value, f field, dst reflect.Value) *problem {
	switch p := dst.Addr().Interface().(type) {
	case *bool:
		c, err := convert.Convert(v, cty.Bool)
		if err != nil {
			return problemf("Invalid value", "The argument %q is true or false.", f.name)
		}
		*p = c.True()
		return nil
	case *float64:
		return storeFloat(v, f, p)
	case *time.Duration:
		return storeDuration(v, f, p)
	case *[]string:
		return storeStrings(v, f, p)
	case *[]netip.Prefix:
		return storePrefixes(v, f, p)
	case *map[string]string:
		return storeMap(v, f, p)
	case *map[uint16]uint16:
		return storeLUNMap(v, f, p)
	case *[]uint16:
		return storeLUNs(v, f, p)
	}
	switch {
	case dst.Kind() == reflect.String:
		s, p := stringOf(v, f)
		if p == nil {
			dst.SetString(s)
		}
		return p
	case f.tag.Get("kind") == "size":
		n, p := sizeOf(v, f)
		if p == nil {
			dst.SetInt(n)
		}
		return p
	default:
		n, p := intOf(v, f)
		if p == nil {
			dst.SetInt(n)
		}
		return p
	}
}

func stringOf(v cty.Value, f field) (string, *problem) {
	c, err := convert.Convert(v, cty.String)
	if err != nil || c.IsNull() {
		return "", problemf("Invalid value", "The argument %q is a string.", f.name)
	}
	s := c.AsString()
	if p := checkOneOf(f, s); p != nil {
		return "", p
	}
	if p := checkLength(f, len(s), fmt.Sprintf("argument %q", f.name)); p != nil {
		return "", p
	}
	return s, checkKind(f, s)
}

func intOf(v cty.Value, f field) (int64, *problem) {
	var n int64
	c, err := convert.Convert(v, cty.Number)
	if err != nil || gocty.FromCtyValue(c, &n) != nil {
		return 0, problemf("Invalid number", "The argument %q is a whole number.", f.name)
	}
	lo, _ := strconv.ParseInt(f.tag.Get("min"), 10, 64)
	hi, _ := strconv.ParseInt(f.tag.Get("max"), 10, 64)
	if n > hi && n <= laterMax(f.path()) {
		return 0, problemf("Not supported in this version", "This version of iserd does not implement %s above %d.", f.name, hi)
	}
	if n < lo || n > hi {
		if lo == hi {
			return 0, problemf("Value out of range", "The argument %q can only be %d; this is %d.", f.name, lo, n)
		}
		return 0, problemf("Value out of range", "The argument %q is from %d to %d; this is %d.", f.name, lo, hi, n)
	}
	return n, nil
}

func sizeOf(v cty.Value, f field) (int64, *problem) {
	c, err := convert.Convert(v, cty.String)
	if err != nil || c.IsNull() {
		return 0, problemf("Invalid size", "The argument %q is a size: %v.", f.name, errSize)
	}
	n, err := ParseSize(c.AsString())
	if err != nil {
		return 0, problemf("Invalid size", "%s.", upperFirst(err.Error()))
	}
	if list := f.tag.Get("oneof"); list != "" {
		return n, checkOneOf(f, strconv.FormatInt(n, 10))
	}
	lo, _ := ParseSize(f.tag.Get("min"))
	hi, _ := ParseSize(f.tag.Get("max"))
	if n < lo || n > hi {
		return 0, problemf("Value out of range", "The argument %q is from %s to %s; this is %s.", f.name, FormatSize(lo), FormatSize(hi), FormatSize(n))
	}
	return n, nil
}

func storeDuration(v cty.Value, f field, dst *time.Duration) *problem {
	const form = "Durations are numbers with units ms, s, m or h, such as \"15s\" or \"1m30s\"."
	if v.Type() == cty.Number {
		return problemf("Invalid duration", "The number has no unit. %s", form)
	}
	c, err := convert.Convert(v, cty.String)
	if err != nil || c.IsNull() {
		return problemf("Invalid duration", "The argument %q is a duration. %s", f.name, form)
	}
	d, err := time.ParseDuration(c.AsString())
	if err != nil {
		return problemf("Invalid duration", "%s", form)
	}
	lo, _ := time.ParseDuration(f.tag.Get("min"))
	hi, _ := time.ParseDuration(f.tag.Get("max"))
	if d < lo || d > hi {
		return problemf("Value out of range", "The argument %q is from %s to %s; this is %s.", f.name, f.tag.Get("min"), f.tag.Get("max"), d)
	}
	*dst = d
	return nil
}

func storeFloat(v cty.Value, f field, dst *float64) *problem {
	var n float64
	c, err := convert.Convert(v, cty.Number)
	if err != nil || gocty.FromCtyValue(c, &n) != nil {
		return problemf("Invalid number", "The argument %q is a number.", f.name)
	}
	lo, _ := strconv.ParseFloat(f.tag.Get("min"), 64)
	hi, _ := strconv.ParseFloat(f.tag.Get("max"), 64)
	if n < lo || n > hi {
		return problemf("Value out of range", "The argument %q is from %g to %g; this is %g.", f.name, lo, hi, n)
	}
	*dst = n
	return nil
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
