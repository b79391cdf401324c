package config

import "github.com/hashicorp/hcl/v2"

// Source tells where a block and its arguments stand in the files.
// It is embedded in every block's type.
type Source struct {
	block hcl.Range
	attrs map[string]hcl.Range
	bad   map[string]bool // arguments whose value was refused
}

// Header returns the range of the block's header: type and labels.
// For a block that was not written it is the zero Range.
func (s *Source) Header() hcl.Range { return s.block }

// At returns the range of the value of argument name, or, if it was not
// written, that of the block's header.
func (s *Source) At(name string) hcl.Range {
	if r, ok := s.attrs[name]; ok {
		return r
	}
	return s.block
}

// Has reports whether argument name was written, as opposed to defaulted.
func (s *Source) Has(name string) bool {
	_, ok := s.attrs[name]
	return ok
}

// good reports whether all of the arguments have a value that may be checked
// against others: a refused one was reported already.
func (s *Source) good(names ...string) bool {
	for _, n := range names {
		if s.bad[n] {
			return false
		}
	}
	return true
}

func (s *Source) setAttr(name string, r hcl.Range) {
	if s.attrs == nil {
		s.attrs = map[string]hcl.Range{}
	}
	s.attrs[name] = r
}

func (s *Source) setBad(name string) {
	if s.bad == nil {
		s.bad = map[string]bool{}
	}
	s.bad[name] = true
}

func (s *Source) source() *Source { return s }

// sourced is what every block type satisfies by embedding Source.
type sourced interface{ source() *Source }
