package api

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 string             `json:"type"`
	Format               string             `json:"format"`
	Properties           map[string]*schema `json:"properties"`
	Items                *schema            `json:"items"`
	AdditionalProperties *schema            `json:"additionalProperties"`
	Required             []string           `json:"required"`
}

type document struct {
	OpenAPI    string                                `json:"openapi"`
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas map[string]*schema `json:"schemas"`
	} `json:"components"`
}

func description(t *testing.T) *document {
	t.Helper()
	var d document
	if err := json.Unmarshal(Description, &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

// TestRoutesAreDescribed: what is served is described, and the other way round.
func TestRoutesAreDescribed(t *testing.T) {
	d := description(t)
	if d.OpenAPI != "3.1.0" {
		t.Error(d.OpenAPI)
	}
	var described, served []string
	for path, ops := range d.Paths {
		for method, op := range ops {
			described = append(described, strings.ToUpper(method)+" "+path)
			checkParameters(t, path, op)
		}
	}
	for _, r := range newServer(struct{ Daemon }{}, Admin).routes {
		served = append(served, strings.ReplaceAll(r, "...}", "}"))
	}
	slices.Sort(described)
	slices.Sort(served)
	if d := cmp.Diff(served, described); d != "" {
		t.Error("served (-) and described (+):\n", d)
	}
}

// checkParameters: each {name} of a path is described with each operation.
func checkParameters(t *testing.T, path string, raw json.RawMessage) {
	t.Helper()
	var op struct {
		OperationID string                     `json:"operationId"`
		Responses   map[string]json.RawMessage `json:"responses"`
		Parameters  []struct {
			Name, In string
			Required bool
		} `json:"parameters"`
	}
	if err := json.Unmarshal(raw, &op); err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
		want = append(want, m[1])
	}
	for _, p := range op.Parameters {
		if p.In == "path" && p.Required {
			got = append(got, p.Name)
		}
	}
	if d := cmp.Diff(want, got); d != "" || op.OperationID == "" || len(op.Responses) == 0 {
		t.Errorf("%s: %+v: %s", path, op, d)
	}
}

// TestSchemas: the schemas have the fields of the Go types.
func TestSchemas(t *testing.T) {
	d := description(t)
	types := map[string]reflect.Type{}
	for _, v := range []any{
		Access{},
		Status{},
		Config{},
		Portal{},
		Target{},
		LUN{},
		Reservations{},
		Registrant{},
		ALUA{},
		ALUAGroup{},
		ALUAChange{},
		ALUASpec{},
		ALUAGroupSpec{},
		Stats{},
		Latency{},
		Session{},
		SessionLUN{},
		Actor{},
		Fault{},
		Refusal{},
		ConfigEvent{},
		Trace{},
		TracedCommand{},
		Change{},
		Detail{},
		Plan{},
		Diagnostic{},
		TargetSpec{},
		InitiatorSpec{},
		LUNSpec{},
		BackendSpec{},
		LogLevels{},
		Problem{},
	} {
		types[reflect.TypeOf(v).Name()] = reflect.TypeOf(v)
	}
	for name, s := range d.Components.Schemas {
		typ := types[name]
		if typ == nil {
			t.Errorf("schema %s has no type", name)
			continue
		}
		delete(types, name)
		checkFields(t, name, typ, s)
	}
	for name := range types {
		t.Errorf("type %s has no schema", name)
	}
}

func checkFields(t *testing.T, name string, typ reflect.Type, s *schema) {
	t.Helper()
	for i := range typ.NumField() {
		field, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		p := s.Properties[field]
		delete(s.Properties, field)
		if p == nil {
			t.Errorf("%s.%s is not described", name, field)
			continue
		}
		if got := kind(p); got != kindOfType(typ.Field(i).Type) {
			t.Errorf("%s.%s is described as %s, is %s", name, field, got, kindOfType(typ.Field(i).Type))
		}
	}
	for field := range s.Properties {
		t.Errorf("%s.%s is described and does not exist", name, field)
	}
}

func kind(s *schema) string {
	switch {
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case s.Type == "array":
		return "[]" + kind(s.Items)
	case s.Type == "object" && s.AdditionalProperties != nil:
		return "map " + kind(s.AdditionalProperties)
	case s.Format == "date-time":
		return "time"
	default:
		return s.Type
	}
}

func kindOfType(t reflect.Type) string {
	if t == reflect.TypeFor[time.Time]() {
		return "time"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return kindOfType(t.Elem())
	case reflect.Slice:
		return "[]" + kindOfType(t.Elem())
	case reflect.Map:
		return "map " + kindOfType(t.Elem())
	case reflect.Struct:
		return t.Name()
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	case reflect.Float64:
		return "number"
	case reflect.Interface:
		return ""
	default:
		return "integer"
	}
}
