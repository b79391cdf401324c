package config

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/config.md")

// TestReference compares docs/config.md with what the types say.
func TestReference(t *testing.T) {
	head, err := os.ReadFile("testdata/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	r := &reference{docs: fieldDocs(t)}
	r.b.Write(head)
	r.blocks(reflect.TypeFor[Config](), "", 3)
	const name = "../docs/config.md"
	if *update {
		if err := os.WriteFile(name, []byte(r.b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r.b.String(), string(got)); d != "" {
		t.Errorf("docs/config.md is not what the types say; run go test ./config -run TestReference -update\n%s", d)
	}
	for _, m := range r.missing {
		t.Errorf("%s has no comment", m)
	}
}

// fieldDocs returns the comments of types ("T") and fields ("T.F").
func fieldDocs(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok {
				return true
			}
			for _, s := range decl.Specs {
				ts, ok := s.(*ast.TypeSpec)
				if !ok {
					continue
				}
				docs[ts.Name.Name] = decl.Doc.Text()
				if st, ok := ts.Type.(*ast.StructType); ok {
					for _, field := range st.Fields.List {
						for _, id := range field.Names {
							docs[ts.Name.Name+"."+id.Name] = field.Doc.Text()
						}
					}
				}
			}
			return false
		})
	}
	return docs
}

type reference struct {
	b       strings.Builder
	docs    map[string]string
	missing []string
}

// blocks writes a section for each block type in t.
func (r *reference) blocks(t reflect.Type, path string, level int) {
	for f := range t.Fields() {
		name, kind, _ := strings.Cut(f.Tag.Get("hcl"), ",")
		if kind != "block" {
			continue
		}
		bt := f.Type
		many := "At most one."
		if bt.Kind() == reflect.Slice {
			many = "Any number of them."
		}
		for bt.Kind() == reflect.Slice || bt.Kind() == reflect.Pointer {
			bt = bt.Elem()
		}
		r.block(bt, path+name, many, level)
	}
}

// block writes one block type's section, and those of the blocks inside.
func (r *reference) block(t reflect.Type, path, many string, level int) {
	header := path
	for field := range t.Fields() {
		name, kind, _ := strings.Cut(field.Tag.Get("hcl"), ",")
		if kind == "label" {
			header += fmt.Sprintf(" %q", strings.ToUpper(name))
		}
	}
	fmt.Fprintf(&r.b, "\n%s `%s`\n\n", strings.Repeat("#", level), header)
	fmt.Fprintf(&r.b, "%s (%s)\n", r.sentence(t.Name(), t.Name(), "is"), many)
	r.labels(t)
	r.arguments(t)
	if v, ok := reflect.TypeAssert[variant](reflect.New(t)); ok {
		r.variants(v, path, level)
	}
	r.blocks(t, path+" › ", min(level+1, 5))
}

// variants writes the sections of a block whose arguments depend on its label.
func (r *reference) variants(v variant, path string, level int) {
	kinds := []string{string(BackendFile), string(BackendBlock), string(BackendMemory), string(BackendNull)}
	if _, ok := v.(*Filter); ok {
		kinds = []string{string(FilterDelay), string(FilterFault), string(FilterStats)}
	}
	for _, kind := range kinds {
		p := reflect.New(reflect.TypeOf(v).Elem())
		p.Elem().FieldByName("Kind").SetString(kind)
		into, _ := p.Interface().(variant).body()
		t := reflect.TypeOf(into).Elem()
		fmt.Fprintf(&r.b, "\n%s `%s %q`\n\n%s\n", strings.Repeat("#", min(level+1, 5)), path, kind, r.sentence(t.Name(), t.Name(), "is"))
		r.arguments(t)
	}
}

func (r *reference) labels(t reflect.Type) {
	for f := range t.Fields() {
		name, kind, _ := strings.Cut(f.Tag.Get("hcl"), ",")
		if kind == "label" {
			fmt.Fprintf(&r.b, "\n* Label `%s`: %s%s\n", strings.ToUpper(name), r.sentence(t.Name()+"."+f.Name, f.Name, "is"), inBrackets(f.Tag.Get("ref")))
		}
	}
}

func inBrackets(ref string) string {
	if ref == "" {
		return ""
	}
	return " (" + ref + ")"
}

func (r *reference) arguments(t reflect.Type) {
	head := false
	for f := range t.Fields() {
		name, kind, _ := strings.Cut(f.Tag.Get("hcl"), ",")
		if name == "" || (kind != "" && kind != "optional") {
			continue
		}
		if !head {
			r.b.WriteString("\n| argument | type | default | range | meaning | standard |\n| --- | --- | --- | --- | --- | --- |\n")
			head = true
		}
		fmt.Fprintf(&r.b, "| `%s` | %s | %s | %s | %s | %s |\n",
			name, typeName(f), defaultText(f, kind == "optional"), rangeText(f),
			r.sentence(t.Name()+"."+f.Name, f.Name, ""), f.Tag.Get("ref"))
	}
}

// sentence returns a comment without the Go name that it begins with.
func (r *reference) sentence(key, name, verb string) string {
	text := strings.Join(strings.Fields(r.docs[key]), " ")
	if text == "" {
		r.missing = append(r.missing, key)
		return ""
	}
	if verb != "" {
		text = strings.TrimPrefix(text, name+" "+verb+" ")
	}
	for _, prefix := range []string{name + ": ", name + " is ", name + " are ", name + " ", ""} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			text = rest
			break
		}
	}
	if before, _, ok := strings.Cut(text, " Exactly one of "); ok {
		text = before
	}
	return strings.ReplaceAll(strings.ToUpper(text[:1])+text[1:], "|", `\|`)
}

func typeName(f reflect.StructField) string {
	switch reflect.New(f.Type).Interface().(type) {
	case *bool:
		return "bool"
	case *time.Duration:
		return "duration"
	case *[]string:
		return "list of strings"
	case *[]netip.Prefix:
		return "list of networks"
	case *[]uint16:
		return "list of LUNs"
	case *map[string]string:
		return "map of strings"
	case *map[uint16]uint16:
		return "map of LUNs"
	case *BackendRef:
		return "reference"
	case *Secret:
		return "secret"
	}
	switch {
	case f.Tag.Get("kind") == "size":
		return "size"
	case f.Type.Kind() == reflect.String:
		return "string"
	default:
		return "number"
	}
}

func defaultText(f reflect.StructField, optional bool) string {
	d, ok := f.Tag.Lookup("default")
	switch {
	case ok && f.Type == reflect.TypeFor[[]string]():
		return "`[\"" + strings.Join(strings.Fields(d), "\", \"") + "\"]`"
	case ok && (f.Type.Kind() == reflect.String || f.Type == reflect.TypeFor[time.Duration]() || f.Tag.Get("kind") == "size"):
		return "`\"" + d + "\"`"
	case ok:
		return "`" + d + "`"
	case optional:
		return "optional"
	default:
		return "**required**"
	}
}

func rangeText(f reflect.StructField) string {
	tag := f.Tag
	switch {
	case tag.Get("oneof") != "":
		return "`" + strings.ReplaceAll(tag.Get("oneof"), "|", "`, `") + "`"
	case tag.Get("min") != "" && tag.Get("min") == tag.Get("max"):
		return "only " + tag.Get("min") + " in this version"
	case tag.Get("max") == "9223372036854775807":
		return "from " + tag.Get("min")
	case tag.Get("min") != "":
		return tag.Get("min") + " … " + tag.Get("max")
	case tag.Get("minlen") != "":
		return tag.Get("minlen") + " … " + tag.Get("maxlen") + " bytes"
	case tag.Get("maxlen") != "":
		return "at most " + tag.Get("maxlen") + " bytes"
	default:
		return ""
	}
}
