package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
)

// maxFile bounds a configuration file and maxSecretFile what file() reads.
const (
	maxFile       = 4 << 20
	maxSecretFile = 64 << 10
)

// Option changes how a configuration is loaded.
type Option func(*loader)

// WithHost makes the loader look at h instead of the machine itself.
func WithHost(h Host) Option { return func(l *loader) { l.host = h } }

// WithSource adds text to the configuration, as if it were a file of that name
// after the others. It is not changed afterwards.
func WithSource(name string, text []byte) Option {
	return func(l *loader) { l.more = append(l.more, source{name, text}) }
}

// Load reads the files, merges them and checks the result. A directory stands
// for its *.hcl files in lexical order. When the Diagnostics have errors the
// Config is nil.
func Load(files ...string) (*Config, Diagnostics) { return LoadWith(nil, files...) }

// LoadWith is Load with options.
func LoadWith(opts []Option, files ...string) (*Config, Diagnostics) {
	l := newLoader(opts)
	for _, name := range files {
		l.addPath(name)
	}
	l.addMore()
	if len(l.order) == 0 && !l.diags.HasErrors() {
		l.errorf(nil, "No configuration", "No configuration file was given, or the directory holds no *.hcl file.")
	}
	return l.finish()
}

// Parse checks one configuration given as bytes; name stands for the file in
// diagnostics. It borrows src.
func Parse(name string, src []byte, opts ...Option) (*Config, Diagnostics) {
	l := newLoader(opts)
	l.addSource(name, src)
	l.addMore()
	return l.finish()
}

// loader gathers the files of one configuration.
type loader struct {
	host    Host
	parser  *hclparse.Parser
	order   []string
	public  map[string]bool // files that everybody may read
	more    []source
	secrets []string
	diags   hcl.Diagnostics
}

type source struct {
	name string
	text []byte
}

// addMore adds what WithSource gave.
func (l *loader) addMore() {
	for _, s := range l.more {
		l.addSource(s.name, s.text)
	}
}

func newLoader(opts []Option) *loader {
	l := &loader{host: osHost{}, parser: hclparse.NewParser(), public: map[string]bool{}}
	for _, o := range opts {
		o(l)
	}
	return l
}

func (l *loader) errorf(at *hcl.Range, summary, detail string, args ...any) {
	l.diags = append(l.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   fmt.Sprintf(detail, args...),
		Subject:  at,
	})
}

// addPath reads a file or the *.hcl files of a directory.
func (l *loader) addPath(name string) {
	info, err := l.host.Stat(name)
	if err != nil {
		l.errorf(nil, "Cannot read the configuration", "%v.", err)
		return
	}
	if !info.IsDir() {
		l.addFile(name)
		return
	}
	entries, err := l.host.ReadDir(name)
	if err != nil {
		l.errorf(nil, "Cannot read the configuration", "%v.", err)
		return
	}
	for _, e := range entries {
		if !e.IsDir() && strings.HasSuffix(e.Name(), ".hcl") {
			l.addFile(filepath.Join(name, e.Name()))
		}
	}
}

func (l *loader) addFile(name string) {
	src, info, err := l.host.ReadFile(name, maxFile)
	if err != nil {
		l.errorf(nil, "Cannot read the configuration", "%v.", err)
		return
	}
	l.public[name] = info.Mode().Perm()&0o004 != 0
	l.addSource(name, src)
}

func (l *loader) addSource(name string, src []byte) {
	if _, ok := l.parser.Files()[name]; ok {
		l.errorf(nil, "File given twice", "The file %s was given twice.", name)
		return
	}
	if len(src) > maxFile {
		l.errorf(nil, "File too long", "The file %s is longer than %d bytes.", name, maxFile)
		return
	}
	if at, ok := tooDeep(src, name); ok {
		l.errorf(&at, "Nested too deeply", "Brackets, templates and operators may be nested %d deep.", maxDepth)
		return
	}
	_, diags := l.parser.ParseHCL(src, name)
	l.diags = append(l.diags, diags...)
	l.order = append(l.order, name)
}

// finish evaluates and checks what was read.
func (l *loader) finish() (*Config, Diagnostics) {
	c := &Config{Files: l.order}
	if !l.diags.HasErrors() {
		l.build(c)
	}
	d := newDiagnostics(l.diags, l.order, l.parser.Files(), l.secrets)
	if d.HasErrors() {
		return nil, d
	}
	return c, d
}

// build fills c from the parsed files.
func (l *loader) build(c *Config) {
	files := make([]*hcl.File, 0, len(l.order))
	for _, name := range l.order {
		files = append(files, l.parser.Files()[name])
	}
	ev := newEvaluator(l.host)
	body := ev.prepare(hcl.MergeFiles(files))
	b := &binder{ctx: ev.ctx, names: ev}
	b.top(body, c)
	l.secrets = append(ev.secrets, b.secrets...)
	l.diags = append(l.diags, ev.diags...)
	l.diags = append(l.diags, b.diags...)
	k := &checker{Config: c, host: l.host, files: l.parser.Files(), public: l.public}
	k.run()
	l.diags = append(l.diags, k.diags...)
}
