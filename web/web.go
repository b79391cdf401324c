package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed assets
var embedded embed.FS

// policy allows what the page needs: its own files, and no text that becomes markup
// or script.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// version stands in index.html for the digest of all files.
const version = "VERSION"

// Page is all files, ready to be sent.
type Page struct {
	digest string
	index  *file
	plain  *template.Template
	assets map[string]*file
}

// Load makes the page ready: it is to be done once.
func Load() (*Page, error) {
	p, err := load(embedded)
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	return p, nil
}

// Handler serves the page: index.html at "/", all other files below
// "/assets/DIGEST/". The digest is of all files, so what is below it never changes
// and may be kept for ever, and a new version of the program is a new page. At "/plain"
// are tables for browsers without JavaScript, made of what api answers.
func (p *Page) Handler(api http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", p.index)
	mux.Handle("GET /plain", &plain{api, p.plain})
	mux.Handle("GET /assets/{digest}/{file...}", http.HandlerFunc(p.asset))
	return mux
}

// file is one file as it is and compressed.
type file struct {
	kind, etag, cache string
	plain, zipped     []byte
}

func load(from fs.FS) (*Page, error) {
	p := &Page{assets: make(map[string]*file)}
	sum := sha256.New()
	err := fs.WalkDir(from, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(data))
		sum.Write(data)
		p.assets[strings.TrimPrefix(name, "assets/")], err = newFile(name, data, "public, max-age=31536000, immutable")
		return err
	})
	if err != nil {
		return nil, err
	}
	p.digest = hex.EncodeToString(sum.Sum(nil)[:8])
	if p.plain, err = template.New("plain").Parse(string(p.take("plain.html"))); err != nil {
		return nil, err
	}
	p.index, err = newFile("index.html", p.take("index.html"), "no-cache")
	return p, err
}

// take returns a file that is not an asset but refers to them.
func (p *Page) take(name string) []byte {
	f := p.assets[name]
	delete(p.assets, name)
	if f == nil {
		return nil
	}
	return bytes.ReplaceAll(f.plain, []byte(version), []byte(p.digest))
}

func newFile(name string, data []byte, cache string) (*file, error) {
	kind := mime.TypeByExtension(path.Ext(name))
	switch path.Ext(name) { // what the machine's tables say does not matter for these
	case ".html":
		kind = "text/html; charset=utf-8"
	case ".js":
		kind = "text/javascript; charset=utf-8"
	case ".css":
		kind = "text/css; charset=utf-8"
	case ".svg":
		kind = "image/svg+xml"
	case ".LICENSE":
		kind = "text/plain; charset=utf-8"
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return &file{kind: kind, etag: `"` + hex.EncodeToString(sum[:8]) + `"`, cache: cache, plain: data, zipped: b.Bytes()}, nil
}

// asset serves a file of this version; the files of others are not here any more.
func (p *Page) asset(w http.ResponseWriter, r *http.Request) {
	f := p.assets[r.PathValue("file")]
	if f == nil || r.PathValue("digest") != p.digest {
		http.NotFound(w, r)
		return
	}
	f.ServeHTTP(w, r)
}

// ServeHTTP implements http.Handler.
func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	headers(h, f.kind, f.cache)
	h.Set("Vary", "Accept-Encoding")
	data, etag := f.plain, f.etag
	if zips(r) {
		data, etag = f.zipped, strings.TrimSuffix(f.etag, `"`)+`-z"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", etag)
	if strings.Contains(r.Header.Get("If-None-Match"), etag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(data)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(data) // the browser is gone, or it is its turn
	}
}

// headers sets what all answers have.
func headers(h http.Header, kind, cache string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", cache)
}

// zips reports whether the client takes gzip, RFC 9110 12.5.3.
func zips(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) == "gzip" {
			weight, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(q), "q="), 64)
			return err != nil || weight > 0
		}
	}
	return false
}
