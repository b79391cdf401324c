package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Diagnostics are what Load found wrong, in the order of the source. The zero
// value is an empty list. It never shows a secret.
type Diagnostics struct {
	list  hcl.Diagnostics
	files map[string]*hcl.File // with secrets masked
}

// Diagnostic is one entry in the form for editors and CI.
type Diagnostic struct {
	Severity string `json:"severity"` // "error" or "warning"
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
	File     string `json:"file"`
	Line     int    `json:"line"` // from 1; 0 when there is no place
	Col      int    `json:"col"`  // from 1
}

// HasErrors reports whether the configuration is unusable. Warnings alone do
// not make it so.
func (d Diagnostics) HasErrors() bool { return d.list.HasErrors() }

// Len returns the number of entries, warnings included.
func (d Diagnostics) Len() int { return len(d.list) }

// Entries returns the entries; the slice belongs to the caller.
func (d Diagnostics) Entries() []Diagnostic {
	out := make([]Diagnostic, 0, len(d.list))
	for _, h := range d.list {
		e := Diagnostic{Severity: "error", Summary: h.Summary, Detail: h.Detail}
		if h.Severity == hcl.DiagWarning {
			e.Severity = "warning"
		}
		if h.Subject != nil {
			e.File, e.Line, e.Col = h.Subject.Filename, h.Subject.Start.Line, h.Subject.Start.Column
		}
		out = append(out, e)
	}
	return out
}

// Error returns one line per error, "file:line:col: summary: detail".
func (d Diagnostics) Error() string {
	var b strings.Builder
	for _, e := range d.Entries() {
		if e.Severity != "error" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		if e.File != "" {
			fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Col)
		}
		fmt.Fprintf(&b, "%s: %s", e.Summary, e.Detail)
	}
	return b.String()
}

// WriteText writes the entries for people, with an excerpt of the source. Width
// wraps the text; 0 does not. Color adds terminal escapes.
func (d Diagnostics) WriteText(w io.Writer, width uint, color bool) error {
	var b bytes.Buffer
	tw := hcl.NewDiagnosticTextWriter(&b, d.files, width, color)
	if err := tw.WriteDiagnostics(d.list); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// MarshalJSON writes an array of Diagnostic.
func (d Diagnostics) MarshalJSON() ([]byte, error) { return json.Marshal(d.Entries()) }

// newDiagnostics orders the entries by place, in the order of the files, and
// takes out everything that may show a secret.
func newDiagnostics(list hcl.Diagnostics, order []string, files map[string]*hcl.File, secrets []string) Diagnostics {
	rank := make(map[string]int, len(order))
	for i, name := range order {
		rank[name] = i
	}
	slices.SortStableFunc(list, func(a, b *hcl.Diagnostic) int {
		switch {
		case a.Subject == nil && b.Subject == nil:
			return 0
		case a.Subject == nil:
			return -1
		case b.Subject == nil:
			return 1
		}
		if d := rank[a.Subject.Filename] - rank[b.Subject.Filename]; d != 0 {
			return d
		}
		if d := a.Subject.Start.Byte - b.Subject.Start.Byte; d != 0 {
			return d
		}
		return strings.Compare(a.Summary+a.Detail, b.Summary+b.Detail)
	})
	d := Diagnostics{files: make(map[string]*hcl.File, len(files))}
	for name, f := range files {
		d.files[name] = &hcl.File{Body: f.Body, Nav: f.Nav, Bytes: maskSource(f.Bytes, name, secrets)}
	}
	for _, h := range list {
		d.list = append(d.list, &hcl.Diagnostic{
			Severity: h.Severity,
			Summary:  maskText(h.Summary, secrets),
			Detail:   maskText(h.Detail, secrets),
			Subject:  h.Subject,
			Context:  h.Context,
			// Expression and EvalContext are left out: they would make the
			// writer print the values of variables.
		})
	}
	return d
}
